"""The formats that speech can be sent in, each with its encoder: one encoder makes one file."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio import encoders
from chatterbox.audio.encoders import ContainerEncoder, Encoder, FlacEncoder, WavEncoder
from chatterbox.errors import InvalidValue, excerpt

USUAL_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)  # RFC 6716, 2
TELEPHONE_RATES_HZ = (8000,)  # ITU-T G.711


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table of formats."""

    media_type: str
    make: Callable[[int, int | None, int | None], Encoder]
    """(sample_rate_hz, total_samples, bit_rate)"""
    rates_hz: tuple[int, ...] = USUAL_RATES_HZ


_coded = partial(partial, ContainerEncoder)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "wav": Format("audio/wav", WavEncoder),
        "pcm": Format("audio/pcm", Encoder),
        "mp3": Format("audio/mpeg", _coded(encoders.MP3)),
        "opus": Format("audio/ogg", _coded(encoders.OPUS), OPUS_RATES_HZ),
        "aac": Format("audio/aac", _coded(encoders.AAC)),
        "flac": Format("audio/flac", partial(FlacEncoder, encoders.FLAC)),
        "ulaw": Format("audio/basic", _coded(encoders.MU_LAW), TELEPHONE_RATES_HZ),
        "alaw": Format("audio/PCMA", _coded(encoders.A_LAW), TELEPHONE_RATES_HZ),
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
        if total_samples is not None:
            total_samples = encoders.resampled_samples(total_samples, rate_hz)
        return encoders.ResampledEncoder(make(rate_hz, total_samples, self.bit_rate), rate_hz)

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
            f"Unknown response_format '{excerpt(name)}'; one of: {', '.join(FORMATS)}.",
            param="response_format",
        )
    rate_hz = sample_rate_hz
    if rate_hz is None:  # the model's own where the format has it: then nothing is resampled
        rate_hz = SAMPLE_RATE_HZ if SAMPLE_RATE_HZ in row.rates_hz else row.rates_hz[0]
    if rate_hz not in row.rates_hz:
        raise InvalidValue(
            f"{name} is made at {', '.join(map(str, row.rates_hz))} Hz.", param="sample_rate"
        )
    return AudioFormat(name, rate_hz, bit_rate)
