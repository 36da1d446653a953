"""Encodes references with one model, and checks arrays that were stored or imported."""

from collections.abc import Callable
from typing import Any

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import CloningUnavailable, GenerationFailed, InvalidValue
from chatterbox.families.base import Voice
from chatterbox.families.voices import Arrays, ClonedVoices, FixedVoices, UnusableVoice
from chatterbox.voices.reference import Reference
from chatterbox.voices.voice_file import digest_of

Encode = Callable[[F32, str | None], Any]


class VoiceEncoder:
    """The speech encoder of a model. Thread-safe."""

    def __init__(
        self, cloned: ClonedVoices | None, fixed: FixedVoices | None, encode: Encode | None
    ) -> None:
        """`cloned` and `fixed` are the model's voices. `encode` replaces `cloned.encode`."""
        self._cloned, self._fixed, self._encode = cloned, fixed, encode

    @property
    def cloned(self) -> ClonedVoices:
        """The model's cloned voices. Raises CloningUnavailable if the model cannot clone."""
        if self._cloned is None:
            names = [voice.name for voice in self._fixed.voices] if self._fixed else []
            raise CloningUnavailable(
                "This model speaks only in the voices it was trained with and cannot clone others. "
                f"Choose one of them: {', '.join(names)}."
            )
        return self._cloned

    def encode(self, voice_id: str, reference: Reference) -> Voice:
        """Encode a reference. Raises GenerationFailed, and InvalidValue if the model needs a
        transcript and the reference has none."""
        rules = self.cloned.rules
        if rules.transcript == "required" and not reference.transcript:
            raise InvalidValue(
                "This model needs a transcript of the recording, and this voice has none. Register "
                "it again, with 'transcript'.",
                param="voice_id",
            )
        longest = int(rules.max_s * SAMPLE_RATE_HZ)  # longer if prepared for another model
        encode = self._encode or self.cloned.encode
        data = encode(reference.audio[:longest], reference.transcript)
        try:
            return self.from_arrays(voice_id, self.cloned.to_arrays(data))
        except UnusableVoice as fault:
            raise GenerationFailed(f"The model could not encode this recording: {fault}.") from None

    def from_arrays(self, voice_id: str, arrays: Arrays) -> Voice:
        """Build a voice. Its key is a hash of the arrays. Raises UnusableVoice."""
        return Voice(f"{voice_id}.{digest_of(arrays)[:12]}", self.cloned.from_arrays(arrays))

    def unload(self) -> None:
        """Release the model. Afterwards no voice can be encoded."""
        self._cloned = self._encode = None
