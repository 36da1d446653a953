"""The interface between the server and its dialects: `Dialect` and `Services`.

A dialect translates one client family's protocol. The server knows dialects only by this interface;
`chatterbox/dialects/registry.py` lists them. docs/inside/new-dialect.md explains how to add one.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import APIRouter

from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.admission_control import AdmissionControl
from chatterbox.server.body import Body
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.reference import Conversation
from chatterbox.server.request_log import ErrorShape, OnRequestEnd, native_shape
from chatterbox.server.socket_server import SocketServer
from chatterbox.server.speech_response import SpeechPlan
from chatterbox.server.speech_service import SpeechService
from chatterbox.server.voice_service import VoiceService


@dataclass(frozen=True, slots=True)
class Services:
    """Objects that the server provides to dialects. One per server."""

    models: ModelPool
    config: ServerConfig
    admission: AdmissionControl
    speech: SpeechService
    voices: VoiceService
    sockets: SocketServer
    on_request_end: OnRequestEnd  # called for each request and each utterance on a socket

    @property
    def engine(self) -> TTSEngine:
        """The current model's engine, loaded or not, for its properties. Raises NotReady."""
        return self.models.engine


Bind = Callable[[int, str], socket.socket]
"""(port, name of the flag that sets it) → a socket that listens on the server's host. Raises
ConfigError."""


class PortListener(Protocol):
    """A listener on a dialect's own port, opened and closed with the server."""

    async def open(self) -> None:
        """Start listening."""

    async def close(self) -> None:
        """Stop listening and close all connections."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Entry points of one client family. Every field is optional."""

    add_routes: Callable[[APIRouter, Services], None] | None = None
    """Adds HTTP routes and WebSockets."""
    tag: str | None = None
    """Heading of the dialect's calls in `/docs`."""
    paths: tuple[str, ...] = ()
    """Paths that, with all paths below them, send errors in `error_shape`."""
    error_shape: ErrorShape = native_shape
    read_tts_json: Callable[[Services, Body], SpeechPlan | None] | None = None
    """Reads this dialect's own JSON sent to the native `POST /tts`. Returns None for other JSON."""
    conversations: Mapping[str, Conversation] = field(default_factory=dict)
    """Path → description of the WebSocket's messages, for the reference."""
    listener: Callable[[Services, Bind], PortListener | None] | None = None
    """Returns the listener on the dialect's own port, or None if disabled. Raises ConfigError."""


def error_shapes(dialects: Sequence[Dialect]) -> Callable[[str], ErrorShape]:
    """Return a function from a request's path to the error shape that its clients expect."""
    shapes = {path: dialect.error_shape for dialect in dialects for path in dialect.paths}

    def shape_of(path: str) -> ErrorShape:
        for prefix, shape in shapes.items():
            if path == prefix or path.startswith(prefix + "/"):
                return shape
        return native_shape

    return shape_of
