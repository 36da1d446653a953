"""What a dialect is, and what the server gives it: `Dialect` and `Services`.

A dialect translates one client family's protocol. The server knows dialects by this interface
only; `chatterbox/dialects/registry.py` lists them. docs/inside/new-dialect.md says how to add one.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from fastapi import APIRouter

from chatterbox.audio.encode import AudioFormat
from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import VoiceNotFound
from chatterbox.server.admission_control import AdmissionControl
from chatterbox.server.body import Body
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.reference import Conversation
from chatterbox.server.request_log import Ended, ErrorShape, ShapeOf, native_shape, shapes_below
from chatterbox.server.schemas import SEED_LIMIT, SamplingFields, random_seed
from chatterbox.server.socket_server import SocketServer
from chatterbox.server.speech_response import SpeechPlan
from chatterbox.server.speech_service import SpeechService
from chatterbox.server.voice_service import VoiceService
from chatterbox.text import CodeBlocks

AUDIO_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".webm")


@dataclass(frozen=True, slots=True)
class Services:
    """What a dialect calls; one for each server."""

    models: ModelPool
    config: ServerConfig
    admission: AdmissionControl
    speech: SpeechService
    voices: VoiceService
    sockets: SocketServer
    ended: Ended  # called with the record of each utterance, as of each request

    @property
    def engine(self) -> TTSEngine:
        """Of the model that this call speaks with, loaded or not: what it is, not what it does."""
        return self.models.engine

    def voice_id(self, name: str) -> str:
        """Resolve an id, a name, or the name of a recording's file. Raises VoiceNotFound."""
        library = self.voices.library
        try:
            return library.info(name).voice_id
        except VoiceNotFound:
            path = PurePosixPath(name.replace("\\", "/"))
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                raise
        return library.info(path.stem).voice_id

    def call(
        self,
        text: str,
        voice: str | None,
        form: AudioFormat,
        *,
        sampling: SamplingFields | None = None,
        seed: int | None = None,
        max_new_tokens: int | None = None,
        speed: float = 1.0,
        code_blocks: CodeBlocks | None = None,
        silence_if_wordless: bool = False,
        ignored: tuple[str, ...] = (),
        deterministic: bool = True,
    ) -> SpeechRequest:
        """Make a call. A seed may be any whole number; a cap above the server's own is dropped.
        `deterministic`: a seed that is given is the client's own, not one drawn for it."""
        ceiling = self.engine.max_tokens
        capped = max_new_tokens is not None and max_new_tokens < ceiling
        return SpeechRequest(
            text=text,
            voice=voice,
            sampling=self.engine.sampling({} if sampling is None else sampling.sampling()),
            seed=random_seed() if seed is None else seed % SEED_LIMIT,
            max_new_tokens=max_new_tokens if capped else None,
            format=form,
            speed=speed,
            code_blocks=code_blocks,
            silence_if_wordless=silence_if_wordless,
            deterministic=deterministic and seed is not None,
            ignored=ignored,
            model=self.models.chosen.name,
        )


Bind = Callable[[int, str], socket.socket]
"""(port, the flag that sets it) → a listening socket on the server's host. Raises ConfigError."""


class PortListener(Protocol):
    """A dialect's own port, opened and closed with the server."""

    async def open(self) -> None:
        """Begin to listen."""

    async def close(self) -> None:
        """Stop listening, and close what is still open."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One client family's entry points; all but one of them may be left out."""

    add_routes: Callable[[APIRouter, Services], None] | None = None
    """Adds its HTTP routes and WebSockets."""
    tag: str | None = None
    """The heading of its calls in `/docs`."""
    paths: tuple[str, ...] = ()
    """Where errors have `error_shape`: these paths and all below them."""
    error_shape: ErrorShape = native_shape
    sniff: Callable[[Services, Body], SpeechPlan | None] | None = None
    """Recognises this family's own JSON on the native `POST /tts`; None: it is not theirs."""
    conversations: Mapping[str, Conversation] = field(default_factory=dict)
    """What is said on sockets, by path: for the reference."""
    listener: Callable[[Services, Bind], PortListener | None] | None = None
    """Its own port; None: it is switched off. Raises ConfigError."""


def error_shapes(dialects: Sequence[Dialect]) -> ShapeOf:
    """Path → the error shape its clients read; the native one where the path is no dialect's."""
    return shapes_below({path: each.error_shape for each in dialects for path in each.paths})
