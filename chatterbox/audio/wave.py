"""How are samples written as WAV, and as bare PCM?

Knows only 16-bit mono; for streams whose length is not known yet see `UNKNOWN_SIZE`.
"""

import struct

from chatterbox.arrays import F32
from chatterbox.audio.pcm import to_int16

SAMPLE_BYTES = 2
UNKNOWN_SIZE = 0xFFFF_FFFF
"""Stands in both size fields of a WAV whose length is not known: read until the stream ends."""
_RIFF_OVERHEAD_BYTES = 36  # from after the RIFF size field to the first sample


def wav_header(sample_rate_hz: int, total_samples: int | None) -> bytes:
    """The 44 bytes before the first sample."""
    data_bytes = UNKNOWN_SIZE if total_samples is None else total_samples * SAMPLE_BYTES
    riff_bytes = data_bytes + _RIFF_OVERHEAD_BYTES
    if riff_bytes >= UNKNOWN_SIZE:  # unknown, or more than the 32-bit field can say
        data_bytes = riff_bytes = UNKNOWN_SIZE
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff_bytes,
        b"WAVE",
        b"fmt ",
        16,  # bytes of the fmt chunk
        1,  # integer PCM
        1,  # channels
        sample_rate_hz,
        sample_rate_hz * SAMPLE_BYTES,
        SAMPLE_BYTES,
        8 * SAMPLE_BYTES,
        b"data",
        data_bytes,
    )


class PcmEncoder:
    """Signed 16-bit little-endian samples, nothing before and nothing after."""

    def __init__(self, sample_rate_hz: int, total_samples: int | None) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._total_samples = total_samples
        self._fed_samples = 0

    def start(self) -> bytes:
        """Nothing: bare samples have no header."""
        return b""

    def feed(self, samples: F32) -> bytes:
        """The same samples as bytes, at once."""
        self._fed_samples += len(samples)
        return to_int16(samples).tobytes()

    def finish(self) -> bytes:
        """Nothing is held back."""
        total = self._total_samples
        assert total in (None, self._fed_samples), f"{self._fed_samples} samples, not {total}"
        return b""

    def close(self) -> None:
        """Nothing is held."""


class WavEncoder(PcmEncoder):
    """The same behind a WAV header."""

    def start(self) -> bytes:
        """The header, with the true sizes where the length is known."""
        return wav_header(self._sample_rate_hz, self._total_samples)
