"""Recordings become voices of the model that is loaded, by its rules; what it cannot do is refused.

All methods block (decoder, encoder); any thread may call them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import CloningUnavailable, GenerationFailed, InvalidValue
from chatterbox.families.base import Voice
from chatterbox.families.voices import Arrays, ClonedVoices, FixedVoices, UnusableVoice
from chatterbox.voices.reference import Reference, prepare_reference
from chatterbox.voices.sandbox import AudioDecoder
from chatterbox.voices.voice_file import digest_of

Encode = Callable[[F32, str | None], Any]


@dataclass(frozen=True, slots=True)
class VoiceEncoder:
    """Of one model."""

    may_clone: ClonedVoices | None
    fixed: FixedVoices | None
    decoder: AudioDecoder
    max_seconds: float  # of a recording
    instead: Encode | None = None  # called in place of the model's own `encode`

    @property
    def cloned(self) -> ClonedVoices:
        """How the model clones. Raises CloningUnavailable."""
        if self.may_clone is None:
            names = [voice.name for voice in self.fixed.voices] if self.fixed else []
            raise CloningUnavailable(
                "This model speaks only in the voices it was trained with, and learns none from a "
                f"recording. Choose one of them: {', '.join(names)}."
            )
        return self.may_clone

    def prepared(self, data: bytes, transcript: str | None) -> Reference:
        """A recording as it will be encoded. Raises CloningUnavailable, and what
        `prepare_reference` does."""
        rules, most = self.cloned.rules, self.max_seconds
        return prepare_reference(self.decoder, data, rules, max_seconds=most, transcript=transcript)

    def encode(self, key: str, reference: Reference) -> Voice:
        """The voice of the id `key`. Raises GenerationFailed, and InvalidValue for a reference that
        came without the words that the model needs."""
        rules = self.cloned.rules
        if rules.transcript == "required" and not reference.transcript:
            raise InvalidValue(
                "This model needs to know what is said in the recording, and this voice came "
                "without it. Register it again, with 'transcript'.",
                param="voice_id",
            )
        longest = int(rules.max_s * SAMPLE_RATE_HZ)  # one that was kept for another model
        encode = self.instead or self.cloned.encode
        data = encode(reference.audio[:longest], reference.transcript)
        try:
            return self.made(key, self.cloned.to_arrays(data))
        except UnusableVoice as fault:
            raise GenerationFailed(f"The model could not encode this recording: {fault}.") from None

    def made(self, key: str, arrays: Arrays) -> Voice:
        """The voice of these arrays. Raises UnusableVoice."""
        return Voice(voice_key(key, arrays), self.cloned.from_arrays(arrays))

    def arrays(self, voice: Voice) -> Arrays:
        """A voice as it is kept."""
        return self.cloned.to_arrays(voice.data)


def voice_key(key: str, arrays: Arrays) -> str:
    """Equal for equal arrays of one voice, and for no others."""
    return f"{key}.{digest_of(arrays)[:12]}"
