"""Audio formats of answers: names, sample rates and bit rates."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio import encoders
from chatterbox.audio.encoders import Encoder
from chatterbox.errors import InvalidValue, excerpt

FORMATS: Mapping[str, type[Encoder]] = MappingProxyType(
    {
        "wav": encoders.WavEncoder,
        "pcm": Encoder,
        "mp3": encoders.Mp3Encoder,
        "opus": encoders.OpusEncoder,
        "aac": encoders.AacEncoder,
        "flac": encoders.FlacEncoder,
        "ulaw": encoders.MuLawEncoder,
        "alaw": encoders.ALawEncoder,
    }
)


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Format of one answer. Use `audio_format`, which checks the values."""

    name: str
    sample_rate_hz: int
    bit_rate: int | None = None  # bits per second; None for the format's default

    @property
    def media_type(self) -> str:
        """The Content-Type."""
        return FORMATS[self.name].media_type

    def encoder(self, total_samples: int | None = None) -> Encoder:
        """Return a new encoder of samples at 24 kHz. `total_samples`, their exact number if known,
        is stated in the header."""
        return FORMATS[self.name](self.sample_rate_hz, total_samples, self.bit_rate)

    def encode_whole(self, samples: F32) -> bytes:
        """Encode [n] samples at 24 kHz as one file."""
        with closing(self.encoder(total_samples=len(samples))) as encoder:
            return encoder.start() + encoder.feed(samples) + encoder.finish()


def audio_format(
    name: str, sample_rate_hz: int | None = None, bit_rate: int | None = None
) -> AudioFormat:
    """Return a format. The default sample rate is 24 kHz, at which nothing is resampled, or else
    the format's lowest. Raises InvalidValue for an unknown name or sample rate."""
    encoder = FORMATS.get(name)
    if encoder is None:
        raise InvalidValue(
            f"Unknown response_format '{excerpt(name)}'; one of: {', '.join(FORMATS)}.",
            param="response_format",
        )
    rates_hz = encoder.rates_hz
    if sample_rate_hz is None:
        sample_rate_hz = SAMPLE_RATE_HZ if SAMPLE_RATE_HZ in rates_hz else rates_hz[0]
    if sample_rate_hz not in rates_hz:
        raise InvalidValue(
            f"{name} is available at {', '.join(map(str, rates_hz))} Hz.", param="sample_rate"
        )
    return AudioFormat(name, sample_rate_hz, bit_rate)
