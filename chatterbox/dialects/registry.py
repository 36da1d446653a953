"""Which dialects are there, whose paths are whose, and what shape have the errors on them?

Knows each dialect's entry points and nothing of its fields.
"""

from collections.abc import Sequence

from fastapi import APIRouter

from chatterbox.dialects import models, sillytavern, xtts
from chatterbox.dialects.elevenlabs import http as elevenlabs
from chatterbox.dialects.elevenlabs import voices as elevenlabs_voices
from chatterbox.dialects.openai import speech as openai
from chatterbox.dialects.openai import voices as openai_voices
from chatterbox.dialects.services import Services
from chatterbox.server.errors import ErrorShape, native_shape
from chatterbox.server.speech_routes import BodySniffer

_DIALECTS = (openai, openai_voices, elevenlabs, elevenlabs_voices, models, sillytavern, xtts)

_SHAPES: tuple[tuple[Sequence[str], ErrorShape], ...] = (
    (openai.PATHS, openai.shape),
    (elevenlabs.PATHS, elevenlabs.shape),
    (sillytavern.PATHS, sillytavern.shape),
    (xtts.PATHS, sillytavern.shape),
)


def routers(backend: Services) -> tuple[APIRouter, ...]:
    """Every dialect's routes."""
    return tuple(dialect.router(backend) for dialect in _DIALECTS)


def body_sniffers(backend: Services) -> tuple[BodySniffer, ...]:
    """Those that send their own JSON to `/tts`."""
    return (sillytavern.body_sniffer(backend), xtts.body_sniffer(backend))


def error_shape(path: str) -> ErrorShape:
    """The shape that clients of `path` read; the native one where it is nobody's."""
    for paths, shape in _SHAPES:
        if any(path == own or path.startswith(own + "/") for own in paths):
            return shape
    return native_shape
