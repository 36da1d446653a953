"""How do a decoder's blocks become mono float32 at 24 kHz of bounded length?

Knows no container and no file; it watches length, levels and finiteness while blocks come in.
"""

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from chatterbox.errors import AudioNotFinite, AudioTooLong, UnreadableAudio
from chatterbox.voices.containers import check_shape

F32 = NDArray[np.float32]
ENCODER_RATE_HZ = 24_000
"""The contract's SAMPLE_RATE_HZ (a test compares them), not imported from there: the model room
loads all settings, which would nearly double the decode child's start."""
CLIPPED_AT = 0.999
"""A sample at full scale or next to it counts as clipped (16-bit files clip at 0.99997)."""
MAX_AMPLITUDE = 1e6
"""Float files are sometimes scaled to ±32768; what is far beyond that is a broken file."""
COMPLETE_SHARE = 0.98
COMPLETE_MISSING_S = 0.5
"""Headers of compressed files over-state their length a little (a browser's recording of 6 s by
0.12 s); a file is cut when it lacks more than this share and more than this time."""
MIN_CUT_S = 1.0
"""Of a file that ends early, less than this is too little to be called readable."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A whole recording, ready for preparation, with what only its original samples show."""

    audio: F32  # [samples] mono at 24 kHz
    duration_s: float
    sample_rate_hz: int  # of the file
    channels: int  # of the file
    peak: float
    clipped_share: float
    cut: bool  # the file says that it is longer than what could be read


class Intake:
    """Takes blocks of one recording. Raises as soon as one is out of bounds."""

    def __init__(self, rate_hz: int, channels: int, *, max_seconds: float) -> None:
        check_shape(rate_hz, channels)
        self._rate_hz = rate_hz
        self._channels = channels
        self._max_seconds = max_seconds
        self._resampler = (
            None
            if rate_hz == ENCODER_RATE_HZ
            else soxr.ResampleStream(rate_hz, ENCODER_RATE_HZ, 1, dtype="float32", quality="HQ")
        )
        self._samples = bytearray()  # grows in place: joining blocks would double the peak
        self._frames = 0
        self._clipped = 0
        self._peak = 0.0

    def check_length(self, frames: int) -> None:
        """Raises AudioTooLong where `frames` of this file are over the cap."""
        if frames > self._max_seconds * self._rate_hz:
            raise AudioTooLong(
                f"The recording is longer than {self._max_seconds:g} s, the most that is read; "
                "10 to 15 s of clear speech are enough.",
                param="voice_file",
            )

    def add(self, block: F32) -> None:  # [frames, channels]
        """Take the next block."""
        self._frames += len(block)
        self.check_length(self._frames)
        levels = np.abs(block)
        # NaN fails every comparison, so this one line refuses NaN, infinity and nonsense.
        if not bool((levels <= MAX_AMPLITUDE).all()):
            raise AudioNotFinite(
                "The recording contains samples that are not numbers (NaN, infinite or absurdly "
                "large); export it again.",
                param="voice_file",
            )
        if levels.size:
            self._peak = max(self._peak, float(levels.max()))
        self._clipped += int(np.count_nonzero(levels >= CLIPPED_AT))
        mono = block.mean(axis=1, dtype=np.float32)
        self._samples += (self._resampler.resample_chunk(mono) if self._resampler else mono).data

    def finish(self, declared_frames: int | None) -> Decoded:
        """The recording. `declared_frames` is the header's word, None where it says nothing."""
        duration_s = self._frames / self._rate_hz
        missing = 0 if declared_frames is None else declared_frames - self._frames
        cut = missing > COMPLETE_MISSING_S * self._rate_hz and (
            self._frames < COMPLETE_SHARE * (self._frames + missing)
        )
        if self._frames == 0 or (cut and duration_s < MIN_CUT_S):
            raise UnreadableAudio(
                "No sound could be decoded from this file; it seems damaged or cut short.",
                param="voice_file",
            )
        if self._resampler:
            self._samples += self._resampler.resample_chunk(np.zeros(0, np.float32), last=True).data
        return Decoded(
            audio=np.frombuffer(self._samples, np.float32),
            duration_s=duration_s,
            sample_rate_hz=self._rate_hz,
            channels=self._channels,
            peak=self._peak,
            clipped_share=self._clipped / (self._frames * self._channels),
            cut=cut,
        )
