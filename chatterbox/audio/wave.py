"""Samples as 16-bit integers, bare or behind a WAV header."""

import struct

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32

INT16_SCALE = 32767
"""Full scale maps to ±32767, so that a signal and its negative stay mirror images."""
SAMPLE_BYTES = 2
UNKNOWN_SIZE = 0xFFFF_FFFF
"""Stands in both size fields of a WAV whose length is not known: read until the stream ends."""
_RIFF_OVERHEAD_BYTES = 36  # from after the RIFF size field to the first sample


def to_int16(samples: F32) -> NDArray[np.int16]:
    """[n] float32 → [n] int16: NaN and infinities become silence, the rest is clipped.

    A bare cast would turn 2.0 into -2 with a bang. No dither: equal samples give equal bytes.
    """
    assert samples.ndim == 1, f"mono samples expected, got shape {samples.shape}"
    finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    clipped = np.clip(finite, -1.0, 1.0)
    return np.rint(clipped * INT16_SCALE).astype("<i2")


def wav_header(sample_rate_hz: int, total_samples: int | None) -> bytes:
    """The 44 bytes before the first sample."""
    data_bytes = UNKNOWN_SIZE if total_samples is None else total_samples * SAMPLE_BYTES
    riff_bytes = data_bytes + _RIFF_OVERHEAD_BYTES
    if riff_bytes >= UNKNOWN_SIZE:  # unknown, or more than the 32-bit field can say
        data_bytes = riff_bytes = UNKNOWN_SIZE
    rates = (sample_rate_hz, sample_rate_hz * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    form = struct.pack("<IHHIIHH", 16, 1, 1, *rates)  # 16 bytes of integer PCM, one channel
    riff = struct.pack("<4sI4s4s", b"RIFF", riff_bytes, b"WAVE", b"fmt ")
    return riff + form + struct.pack("<4sI", b"data", data_bytes)


class PcmEncoder:
    """Signed 16-bit little-endian samples, nothing before and nothing after."""

    def __init__(self, sample_rate_hz: int, total_samples: int | None) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._total_samples = total_samples
        self._fed_samples = 0

    def start(self) -> bytes:
        return b""

    def feed(self, samples: F32) -> bytes:
        self._fed_samples += len(samples)
        return to_int16(samples).tobytes()

    def finish(self) -> bytes:
        total = self._total_samples
        assert total in (None, self._fed_samples), f"{self._fed_samples} samples, not {total}"
        return b""

    def close(self) -> None:
        """Nothing is held."""


class WavEncoder(PcmEncoder):
    """The same behind a WAV header, with the true sizes where the length is known."""

    def start(self) -> bytes:
        return wav_header(self._sample_rate_hz, self._total_samples)
