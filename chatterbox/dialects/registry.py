"""The list of dialects. A new dialect is a file or folder here and an entry in `DIALECTS`.

If two dialects have the same path, the first in `DIALECTS` whose route matches answers.
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
from chatterbox.dialects.elevenlabs.socket import MULTI_PATH, SINGLE_PATH, Message, Query
from chatterbox.server.dialect import Dialect
from chatterbox.server.reference import Conversation, Fields

CLIENT_FIELDS: Mapping[str, Mapping[str, Fields]] = {
    native_socket.PATH: {
        "session.config": native_socket.Config,
        "input.text": native_socket.InputText,
    },
    **{path: {"query": Query, "text": Message} for path in (SINGLE_PATH, MULTI_PATH)},
    orpheus_sockets.YAP_PATH: {"text": orpheus_sockets.Message},
    orpheus_sockets.UNMUTE_PATH: dict.fromkeys(("Speak", "Text"), orpheus_sockets.TextMessage),
    kyutai.PATH: {"query": kyutai.Query, "Text": kyutai.TextMessage},
}
"""Path of a WebSocket → type of a client's message, or `query` → class with the fields."""
_TABLES = Path(__file__).with_name("conversations.toml").read_text(encoding="utf-8")
CONVERSATIONS: Mapping[str, Conversation] = {
    path: tables | {"reads": CLIENT_FIELDS[path]} for path, tables in tomllib.loads(_TABLES).items()
}
"""Path of a WebSocket → its messages, for `/docs` and docs/reference."""

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
