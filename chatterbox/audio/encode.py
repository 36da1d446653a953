"""The formats that speech can be sent in, each with its encoder: one encoder makes one file."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.container import A_LAW, AAC, MP3, MU_LAW, OPUS, ContainerEncoder, FlacEncoder
from chatterbox.audio.resample import Resampler, resampled_samples
from chatterbox.audio.wave import PcmEncoder, WavEncoder
from chatterbox.errors import InvalidValue, shown


class Encoder(Protocol):
    """Samples in, one file out, in the order start, feed…, finish, close.

    The bytes returned, joined, are the file. One that was not finished must not be passed off as
    whole.
    """

    def start(self) -> bytes:
        """What stands before the first sample."""

    def feed(self, samples: F32) -> bytes:
        """Take [n] more samples; returns what is ready to send, possibly nothing."""

    def finish(self) -> bytes:
        """What was held back, and what stands after the last sample."""

    def close(self) -> None:
        """Give back what it holds, at any time; twice is as good as once. A codec holds megabytes
        and is not freed by being dropped."""


USUAL_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)  # RFC 6716, 2
TELEPHONE_RATES_HZ = (8000,)  # ITU-T G.711

Make = Callable[[int, int | None, int | None], Encoder]
"""(sample_rate_hz, total_samples, bit_rate)"""


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats."""

    media_type: str
    make: Make
    rates_hz: tuple[int, ...] = USUAL_RATES_HZ

    @property
    def default_rate_hz(self) -> int:
        """The model's own rate where the format has it: then nothing is resampled."""
        return SAMPLE_RATE_HZ if SAMPLE_RATE_HZ in self.rates_hz else self.rates_hz[0]


def _plain(make: Callable[[int, int | None], Encoder]) -> Make:
    """For a format that has no bit rate to choose."""
    return lambda sample_rate_hz, total_samples, _bit_rate: make(sample_rate_hz, total_samples)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "wav": Format("audio/wav", _plain(WavEncoder)),
        "pcm": Format("audio/pcm", _plain(PcmEncoder)),
        "mp3": Format("audio/mpeg", partial(ContainerEncoder, MP3)),
        "opus": Format("audio/ogg", partial(ContainerEncoder, OPUS), OPUS_RATES_HZ),
        "aac": Format("audio/aac", partial(ContainerEncoder, AAC)),
        "flac": Format("audio/flac", _plain(FlacEncoder)),
        "ulaw": Format("audio/basic", partial(ContainerEncoder, MU_LAW), TELEPHONE_RATES_HZ),
        "alaw": Format("audio/PCMA", partial(ContainerEncoder, A_LAW), TELEPHONE_RATES_HZ),
    }
)


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a listener is sent; made by `audio_format`, which checks it."""

    name: str
    sample_rate_hz: int
    bit_rate: int | None = None  # bits per second; None: the format's own

    @property
    def media_type(self) -> str:
        """Its Content-Type."""
        return FORMATS[self.name].media_type

    def encoder(self, total_samples: int | None = None) -> Encoder:
        """A fresh encoder of samples at 24 kHz. `total_samples` is their exact number where it is
        known beforehand: it goes into the header."""
        rate_hz, make = self.sample_rate_hz, FORMATS[self.name].make
        if rate_hz == SAMPLE_RATE_HZ:
            return make(rate_hz, total_samples, self.bit_rate)
        total = None if total_samples is None else resampled_samples(total_samples, rate_hz)
        return _Resampled(make(rate_hz, total, self.bit_rate), rate_hz)

    def encode_whole(self, samples: F32) -> bytes:
        """One complete file of [n] samples at 24 kHz."""
        with closing(self.encoder(total_samples=len(samples))) as encoder:
            return encoder.start() + encoder.feed(samples) + encoder.finish()


def audio_format(
    name: str, sample_rate_hz: int | None = None, bit_rate: int | None = None
) -> AudioFormat:
    """The format of that name, at the rate that suits it where none is given. Raises InvalidValue
    for a name or a rate that it does not have."""
    row = FORMATS.get(name)
    if row is None:
        raise InvalidValue(
            f"Unknown response_format '{shown(name)}'; one of: {', '.join(FORMATS)}.",
            param="response_format",
        )
    rate_hz = row.default_rate_hz if sample_rate_hz is None else sample_rate_hz
    if rate_hz not in row.rates_hz:
        raise InvalidValue(
            f"{name} is made at {', '.join(map(str, row.rates_hz))} Hz.", param="sample_rate"
        )
    return AudioFormat(name, rate_hz, bit_rate)


class _Resampled:
    """An encoder that is fed at another rate than its own."""

    def __init__(self, encoder: Encoder, sample_rate_hz: int) -> None:
        self._encoder = encoder
        self._resampler = Resampler(sample_rate_hz)
        self.start, self.close = encoder.start, encoder.close

    def feed(self, samples: F32) -> bytes:
        return self._encoder.feed(self._resampler.feed(samples))

    def finish(self) -> bytes:
        rest = self._encoder.feed(self._resampler.finish())
        return rest + self._encoder.finish()
