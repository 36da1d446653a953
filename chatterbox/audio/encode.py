"""In which formats can speech be sent, and which encoder makes each of them?

Knows nothing of HTTP: one encoder makes one continuous file, whoever carries its bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from chatterbox.audio.container import FlacEncoder
from chatterbox.audio.wave import PcmEncoder, WavEncoder
from chatterbox.errors import InvalidValue, shown
from chatterbox.model.contract import F32, SAMPLE_RATE_HZ


class Encoder(Protocol):
    """Samples in, one file out, in the order start, feed…, finish.

    The bytes returned, joined, are the file. An encoder that is dropped before `finish` leaves
    nothing behind, and a file that was not finished must not be passed off as whole.
    """

    def start(self) -> bytes:
        """What stands before the first sample."""
        ...

    def feed(self, samples: F32) -> bytes:
        """Take [n] more samples; returns what is ready to send, possibly nothing."""
        ...

    def finish(self) -> bytes:
        """What was held back, and what stands after the last sample."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats."""

    media_type: str
    make: Callable[[int, int | None], Encoder]  # (sample_rate_hz, total_samples)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "wav": Format("audio/wav", WavEncoder),
        "pcm": Format("audio/pcm", PcmEncoder),
        "flac": Format("audio/flac", FlacEncoder),
    }
)


def _format(name: str) -> Format:
    try:
        return FORMATS[name]
    except KeyError:
        raise InvalidValue(
            f"Unknown response_format '{shown(name)}'; one of: {', '.join(FORMATS)}.",
            param="response_format",
        ) from None


def media_type(name: str) -> str:
    """The Content-Type of a format; InvalidValue for an unknown name."""
    return _format(name).media_type


def encoder_for(
    name: str, *, sample_rate_hz: int = SAMPLE_RATE_HZ, total_samples: int | None = None
) -> Encoder:
    """A fresh encoder; InvalidValue for an unknown name.

    `total_samples` is the exact length where it is known beforehand: it goes into the header.
    """
    return _format(name).make(sample_rate_hz, total_samples)


def encode_whole(name: str, samples: F32) -> bytes:
    """One complete file of [n] samples at 24 kHz; InvalidValue for an unknown name."""
    encoder = encoder_for(name, total_samples=len(samples))
    return encoder.start() + encoder.feed(samples) + encoder.finish()
