"""The audio formats of answers. Each encoder makes one file."""

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
    """What a format is called in HTTP, how it is encoded, and at which sample rates."""

    media_type: str
    make: Callable[[int, int | None, int | None], Encoder]
    """(sample_rate_hz, total_samples, bit_rate)"""
    rates_hz: tuple[int, ...] = USUAL_RATES_HZ


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "wav": Format("audio/wav", WavEncoder),
        "pcm": Format("audio/pcm", Encoder),
        "mp3": Format("audio/mpeg", partial(ContainerEncoder, encoders.MP3)),
        "opus": Format("audio/ogg", partial(ContainerEncoder, encoders.OPUS), OPUS_RATES_HZ),
        "aac": Format("audio/aac", partial(ContainerEncoder, encoders.AAC)),
        "flac": Format("audio/flac", partial(FlacEncoder, encoders.FLAC)),
        "ulaw": Format(
            "audio/basic", partial(ContainerEncoder, encoders.MU_LAW), TELEPHONE_RATES_HZ
        ),
        "alaw": Format("audio/PCMA", partial(ContainerEncoder, encoders.A_LAW), TELEPHONE_RATES_HZ),
    }
)


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The format of one answer. `audio_format` makes it and checks the values."""

    name: str
    sample_rate_hz: int
    bit_rate: int | None = None  # bits per second; None: the format's default

    @property
    def media_type(self) -> str:
        """The Content-Type."""
        return FORMATS[self.name].media_type

    def encoder(self, total_samples: int | None = None) -> Encoder:
        """Return a new encoder of samples at 24 kHz. `total_samples`, their exact number if it is
        known, goes into the header."""
        return FORMATS[self.name].make(self.sample_rate_hz, total_samples, self.bit_rate)

    def encode_whole(self, samples: F32) -> bytes:
        """Encode [n] samples at 24 kHz as one file."""
        with closing(self.encoder(total_samples=len(samples))) as encoder:
            return encoder.start() + encoder.feed(samples) + encoder.finish()


def audio_format(
    name: str, sample_rate_hz: int | None = None, bit_rate: int | None = None
) -> AudioFormat:
    """Check and return a format. The default sample rate is 24 kHz if the format has it, so that
    nothing is resampled, else its lowest. Raises InvalidValue."""
    row = FORMATS.get(name)
    if row is None:
        raise InvalidValue(
            f"Unknown response_format '{excerpt(name)}'; one of: {', '.join(FORMATS)}.",
            param="response_format",
        )
    if sample_rate_hz is None:
        sample_rate_hz = SAMPLE_RATE_HZ if SAMPLE_RATE_HZ in row.rates_hz else row.rates_hz[0]
    if sample_rate_hz not in row.rates_hz:
        raise InvalidValue(
            f"{name} is made at {', '.join(map(str, row.rates_hz))} Hz.", param="sample_rate"
        )
    return AudioFormat(name, sample_rate_hz, bit_rate)
