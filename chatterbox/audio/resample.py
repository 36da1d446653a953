"""Gives sound another sample rate, piece by piece and without a seam."""

import numpy as np
import soxr

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

QUALITY = "HQ"
"""soxr's quality for 16-bit sound: linear phase, stop band below what 16 bit can hold."""


def resampled_samples(samples: int, sample_rate_hz: int) -> int:
    """How many samples `samples` of them at 24 kHz become: the nearest whole number, halves down
    (soxr takes now the one, now the other; what is not there cannot be added)."""
    return (2 * samples * sample_rate_hz + SAMPLE_RATE_HZ - 1) // (2 * SAMPLE_RATE_HZ)


class Resampler:
    """One continuous signal; the pieces it is cut into change no sample of the result.

    The filter's delay is taken off, so that a moment stays the moment it was: what `feed` holds
    back, `finish` returns.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._stream = soxr.ResampleStream(
            SAMPLE_RATE_HZ, sample_rate_hz, 1, dtype="float32", quality=QUALITY
        )
        self._rate_hz = sample_rate_hz
        self._fed = self._given = 0  # samples

    def feed(self, samples: F32) -> F32:
        """What of [n] more samples is settled, as [m]."""
        if len(samples) == 0:
            return samples
        return self._out(np.ascontiguousarray(samples, dtype=np.float32), last=False)

    def finish(self) -> F32:
        """The rest: as many as `resampled_samples` says in all."""
        missing = resampled_samples(self._fed, self._rate_hz) - self._given
        return self._out(np.zeros(0, np.float32), last=True)[:missing]

    def _out(self, samples: F32, *, last: bool) -> F32:
        resampled: F32 = self._stream.resample_chunk(samples, last=last)
        self._fed += len(samples)
        self._given += len(resampled)
        return resampled
