"""What is said on each WebSocket, for the reference: `conversations.toml`."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatterbox.dialects import kyutai, native_socket, orpheus_sockets
from chatterbox.dialects.elevenlabs import socket as elevenlabs
from chatterbox.server.reference import Conversation, Fields, Message

FIELDS: Mapping[str, Mapping[str, Fields]] = {
    native_socket.PATH: {
        "session.config": native_socket.Config,
        "input.text": native_socket.Input,
    },
    elevenlabs.PATH: {"query": elevenlabs.Query, "text": elevenlabs.Message},
    elevenlabs.MULTI_PATH: {"query": elevenlabs.Query, "text": elevenlabs.Message},
    orpheus_sockets.YAP_PATH: {"text": orpheus_sockets.Message},
    orpheus_sockets.UNMUTE_PATH: dict.fromkeys(("Speak", "Text"), orpheus_sockets.TextMessage),
    kyutai.PATH: {"query": kyutai.Query, "Text": kyutai.TextMessage},
}
"""Of the address and of what clients send, by path and message."""


def _conversation(said: Mapping[str, Any], fields: Mapping[str, Fields]) -> Conversation:
    def messages(side: str, fields: Mapping[str, Fields]) -> list[Message]:
        return [Message(name, does, fields.get(name, {})) for name, does in said[side].items()]

    lines = (line.split(" ", 1) for line in said["example"].splitlines())
    return Conversation(
        messages("client", fields),
        messages("server", said.get("fields", {})),
        [(who, b"" if what == "(sound)" else json.loads(what)) for who, what in lines],
        fields.get("query", said.get("query", {})),
        said.get("packed", False),
    )


CONVERSATIONS: Mapping[str, Conversation] = {
    path: _conversation(said, FIELDS[path])
    for path, said in tomllib.loads(
        Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    ).items()
}
"""By path."""
