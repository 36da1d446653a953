"""Voices that clients expect: OpenAI's, ElevenLabs' and Orpheus', mapped to built-in ones."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from chatterbox.errors import VoiceNotFound
from chatterbox.server.dialect import Services
from chatterbox.server.voice_service import VoiceService
from chatterbox.voices.names import VoiceInfo

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
LANGUAGES: Mapping[str, str] = _TABLES["languages"]
"""By ISO 639-1."""
OPENAI_VOICES, ELEVENLABS_VOICES, ORPHEUS_VOICES = (
    {name.lower(): voice for voice, names in _TABLES[whose].items() for name in names.split()}
    for whose in ("openai", "elevenlabs", "orpheus")
)
"""Their names, in small letters → the built-in voice that speaks."""


def voice_or_alias(services: Services, name: str | None, aliases: Mapping[str, str]) -> str | None:
    """The id of the voice meant by `name`; None: the default voice. Raises VoiceNotFound."""
    if name is None:
        return None
    try:
        return services.voices.resolve(name)
    except VoiceNotFound:
        alias = aliases.get(name.lower())
        if alias is None:
            raise
        try:
            return services.voices.library.info(alias).voice_id
        except VoiceNotFound:  # the built-in voice's recording is lost, or the model has its own
            if aliases is not ORPHEUS_VOICES:
                return None
        raise


async def orpheus_voice(services: Services, name: str | None) -> str | None:
    """The same on the sockets of Orpheus' servers, without blocking the event loop."""
    return await services.voices.ask(voice_or_alias, services, name or None, ORPHEUS_VOICES)


def names_of(voices: Iterable[VoiceInfo]) -> list[str]:
    """Every name and alias, for clients that know voices by name alone."""
    return [name for info in voices for name in info.names]


def ignored_of(
    voices: VoiceService, unknown: Iterable[str], language: str | None, name: str = "language"
) -> tuple[str, ...]:
    """What of a call is ignored: its unknown fields, and `name` where the model does not speak the
    language that it asks for."""
    code = (language or "").lower().replace("_", "-").split("-")[0]
    spoken = code in ("", "auto", *voices.languages)
    return tuple(unknown) if spoken else (*unknown, name)


def languages_of(voices: VoiceService) -> dict[str, str]:
    """What the model speaks: code → name."""
    return {code: LANGUAGES.get(code, code) for code in voices.languages}
