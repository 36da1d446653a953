"""Maps the voice names of OpenAI, ElevenLabs and Orpheus to built-in voices; lists names and
languages for answers."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from chatterbox.errors import VoiceNotFound
from chatterbox.server.dialect import Services
from chatterbox.server.voice_service import VoiceService
from chatterbox.voices.names import VoiceInfo

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
LANGUAGES: Mapping[str, str] = _TABLES["languages"]
"""ISO 639-1 code → name."""
OPENAI_VOICES, ELEVENLABS_VOICES, ORPHEUS_VOICES = (
    {name.lower(): voice for voice, names in _TABLES[service].items() for name in names.split()}
    for service in ("openai", "elevenlabs", "orpheus")
)
"""Lower-case name → built-in voice used in its place."""


def resolve_voice(services: Services, name: str | None, aliases: Mapping[str, str]) -> str | None:
    """Return the id of the voice with this name or alias; None means the default voice. Blocks on
    the disk. Raises VoiceNotFound."""
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
        except VoiceNotFound:  # the model has its own voices, or the recording is missing
            if aliases is not ORPHEUS_VOICES:
                return None
        raise


async def find_voice(
    services: Services, name: str | None, aliases: Mapping[str, str]
) -> str | None:
    """Call `resolve_voice` without blocking the event loop."""
    return await services.voices.run(resolve_voice, services, name, aliases)


def all_names(voices: Iterable[VoiceInfo]) -> list[str]:
    """Return every name and alias, for clients that identify voices by name."""
    return [name for info in voices for name in info.names]


def ignored_fields(
    voices: VoiceService, unknown: Iterable[str], language: str | None, name: str = "language"
) -> tuple[str, ...]:
    """Return the `unknown` fields, and the field `name` if the model does not speak `language`."""
    code = (language or "").lower().replace("_", "-").split("-")[0]
    is_spoken = code in ("", "auto", *voices.languages)
    return tuple(unknown) if is_spoken else (*unknown, name)


def spoken_languages(voices: VoiceService) -> dict[str, str]:
    """Return the model's languages: ISO 639-1 code → name."""
    return {code: LANGUAGES.get(code, code) for code in voices.languages}
