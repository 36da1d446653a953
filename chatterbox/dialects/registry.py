"""The list of dialects. A new one is a file (or folder) here and one more entry in `DIALECTS`.

Order matters only where two dialects have the same path: the first whose route matches answers.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from chatterbox.dialects import (
    elevenlabs,
    kyutai,
    llama_server,
    native_socket,
    openai,
    orpheus_sockets,
    sillytavern,
    wyoming,
)
from chatterbox.dialects.elevenlabs.socket import MULTI_PATH, SINGLE_PATH, Query
from chatterbox.dialects.elevenlabs.socket import Message as ToContext
from chatterbox.server.dialect import Dialect
from chatterbox.server.reference import Conversation, Fields

READ: Mapping[str, Mapping[str, Fields]] = {
    native_socket.PATH: {
        "session.config": native_socket.Config,
        "input.text": native_socket.Input,
    },
    SINGLE_PATH: {"query": Query, "text": ToContext},
    MULTI_PATH: {"query": Query, "text": ToContext},
    orpheus_sockets.YAP_PATH: {"text": orpheus_sockets.Message},
    orpheus_sockets.UNMUTE_PATH: dict.fromkeys(("Speak", "Text"), orpheus_sockets.TextMessage),
    kyutai.PATH: {"query": kyutai.Query, "Text": kyutai.TextMessage},
}
"""The fields of what clients send, by path and message, and of the address."""
_SAID = Path(__file__).with_name("conversations.toml").read_text(encoding="utf-8")
CONVERSATIONS: Mapping[str, Conversation] = {
    path: said | {"reads": READ[path]} for path, said in tomllib.loads(_SAID).items()
}
"""What is said on each WebSocket, by path: for the reference."""

DIALECTS: tuple[Dialect, ...] = (
    elevenlabs.DIALECT,
    openai.DIALECT,
    sillytavern.TAVERN,
    sillytavern.XTTS,
    native_socket.DIALECT,
    orpheus_sockets.DIALECT,
    llama_server.DIALECT,
    kyutai.DIALECT,
    wyoming.DIALECT,
    Dialect(conversations=CONVERSATIONS),
)
