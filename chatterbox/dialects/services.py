"""What does a dialect stand on? The service that speaks, the voices, and calls made of its words.

Knows no dialect.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from chatterbox.audio.encode import AudioFormat
from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import VoiceNotFound
from chatterbox.server.schemas import SEED_LIMIT, SamplingFields, random_seed
from chatterbox.server.speech_service import SpeechService
from chatterbox.server.voice_service import VoiceService
from chatterbox.text import CodeBlocks
from chatterbox.voices.names import VoiceInfo

AUDIO_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".webm")


@dataclass(frozen=True, slots=True)
class Services:
    """One for each server."""

    engine: TTSEngine
    config: ServerConfig
    service: SpeechService
    voices: VoiceService

    def voice_id(self, name: str) -> str:
        """Of the voice that is meant by an id, a name, or the name of a recording's file. Raises
        VoiceNotFound."""
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
        """A call in our words. A seed may be any whole number, and a cap above the server's own
        is none. `deterministic`: a seed that is given is the client's own, not one drawn for it."""
        ceiling = self.engine.config.max_new_tokens
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
        )


def names_of(voices: Iterable[VoiceInfo]) -> list[str]:
    """Everything that one of them can be asked for by, for clients that know names alone."""
    return [name for info in voices for name in info.names]


def is_english(language: str | None) -> bool:
    """Whether a language code asks for what the model speaks; none asks for nothing else."""
    return language is None or language.lower().replace("_", "-").split("-")[0] in (
        "",
        "en",
        "auto",
    )
