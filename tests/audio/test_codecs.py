"""Encoded files, decoded again, are compared with the samples."""

import io

import av
import numpy as np
import pytest
import soundfile
import soxr

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.audio.encode import FORMATS, audio_format
from chatterbox.audio.encoders import INT16_SCALE, resampled_samples, to_int16
from chatterbox.errors import InvalidValue
from chatterbox.voices.built_in import DIRECTORY

CODED = ("mp3", "opus", "aac")
DELAY_SAMPLES = {"mp3": 1105, "opus": 0, "aac": 1024}
"""Samples that a decoder returns before the sound: LAME's 576 and the decoder's 529 for MP3, one
frame for AAC. Opus states its delay, and the decoder drops it."""
FRAME_SAMPLES = {"mp3": 1152, "opus": 0, "aac": 1024}
"""Frame size of codecs whose files end with a whole frame."""
LEAST_SNR_DB = {"mp3": 20.0, "opus": 20.0, "aac": 25.0, "ulaw": 30.0, "alaw": 30.0}


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples, rate_hz = soundfile.read(DIRECTORY / "slt.flac", dtype="float32")
    assert rate_hz == SAMPLE_RATE_HZ
    return samples[: 2 * SAMPLE_RATE_HZ + 77]


def streamed(name: str, samples: np.ndarray, *, cut: int = 1777, **choice: int) -> bytes:
    encoder = audio_format(name, **choice).encoder()
    pieces = [samples[at : at + cut] for at in range(0, len(samples), cut)]
    return encoder.start() + b"".join(map(encoder.feed, pieces)) + encoder.finish()


def decoded(name: str, data: bytes, rate_hz: int) -> np.ndarray:
    """Decode to [samples] float32 at `rate_hz`."""
    raw = {"pcm": ("s16le", rate_hz), "ulaw": ("mulaw", rate_hz), "alaw": ("alaw", rate_hz)}
    muxer, rate = raw.get(name, (None, None))
    options = {"sample_rate": str(rate)} if rate else {}
    with av.open(io.BytesIO(data), format=muxer, options=options) as container:
        stream = container.streams.audio[0]
        assert stream.channels == 1
        to_float = av.AudioResampler(format="flt", layout="mono")
        frames = [
            part.to_ndarray().reshape(-1)
            for frame in container.decode(stream)
            for part in to_float.resample(frame)
        ]
        heard = np.concatenate(frames)
        if stream.rate != rate_hz:
            assert name == "opus"  # it always decodes at 48 kHz
            heard = soxr.resample(heard, stream.rate, rate_hz)
    return heard


def snr_db(wanted: np.ndarray, heard: np.ndarray) -> float:
    error = wanted - heard
    return float(10 * np.log10(np.sum(wanted**2) / np.sum(error**2)))


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000, 48000])
def test_a_streamed_file_decodes_to_its_samples(name: str, rate_hz: int, speech) -> None:
    wanted = soxr.resample(speech, SAMPLE_RATE_HZ, rate_hz) if rate_hz != 24000 else speech
    heard = decoded(name, streamed(name, speech, sample_rate_hz=rate_hz), rate_hz)
    delay = DELAY_SAMPLES[name]
    assert 0 <= len(heard) - delay - len(wanted) <= FRAME_SAMPLES[name] + 1
    assert snr_db(wanted, heard[delay:][: len(wanted)]) > LEAST_SNR_DB[name]


@pytest.mark.parametrize("name", ["mp3", "aac", "flac", "wav", "pcm"])
@pytest.mark.parametrize("rate_hz", [11025, 22050, 44100])
def test_the_rates_of_discs(name: str, rate_hz: int, speech) -> None:
    wanted = soxr.resample(speech, SAMPLE_RATE_HZ, rate_hz)
    heard = decoded(name, streamed(name, speech, sample_rate_hz=rate_hz), rate_hz)
    heard = heard[DELAY_SAMPLES.get(name, 0) :]
    if name in FRAME_SAMPLES:
        assert snr_db(wanted, heard[: len(wanted)]) > LEAST_SNR_DB[name]
    else:
        assert len(heard) == len(wanted)
        assert np.abs(heard - wanted).max() <= 1.5 / INT16_SCALE


@pytest.mark.parametrize("name", ["ulaw", "alaw"])
def test_telephone_samples_are_one_byte_each(name: str, speech) -> None:
    data = streamed(name, speech)
    assert len(data) == resampled_samples(len(speech), 8000)
    wanted = soxr.resample(speech, SAMPLE_RATE_HZ, 8000)
    assert snr_db(wanted, decoded(name, data, 8000)) > LEAST_SNR_DB[name]


@pytest.mark.parametrize("name", [*CODED, "flac"])
def test_the_first_bytes_need_little_sound(name: str, speech) -> None:
    encoder = audio_format(name).encoder()
    encoder.start()
    fed_ms = 0
    while not encoder.feed(speech[fed_ms * 24 : (fed_ms + 10) * 24]):
        fed_ms += 10
    assert fed_ms <= 130  # AAC needs two frames and the start of a third; others less


@pytest.mark.parametrize(("name", "bit_rate"), [("mp3", 32_000), ("mp3", 128_000)])
def test_the_requested_bit_rate_is_used(name: str, bit_rate: int, speech) -> None:
    data = streamed(name, speech, sample_rate_hz=44100, bit_rate=bit_rate)
    assert len(data) * 8 / (len(speech) / SAMPLE_RATE_HZ) == pytest.approx(bit_rate, rel=0.05)


def test_a_higher_bit_rate_makes_a_larger_file(speech) -> None:
    sizes = [len(streamed("opus", speech, bit_rate=rate)) for rate in (32_000, 64_000, 192_000)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("name", FORMATS)
def test_a_resampled_file_knows_its_length_beforehand(name: str, speech) -> None:
    rate_hz = 16_000 if 16_000 in FORMATS[name].rates_hz else 8000
    whole = audio_format(name, rate_hz).encode_whole(speech)
    if name in ("wav", "flac"):
        with soundfile.SoundFile(io.BytesIO(whole)) as file:
            assert len(file) == resampled_samples(len(speech), rate_hz)
    assert len(whole) > 100


def test_lossless_is_lossless(speech) -> None:
    for name in ("wav", "pcm", "flac"):
        heard = decoded(name, streamed(name, speech), SAMPLE_RATE_HZ)
        assert np.array_equal(np.rint(heard * 32768).astype(np.int16), to_int16(speech))


@pytest.mark.parametrize(
    ("name", "rate_hz"), [("opus", 44100), ("ulaw", 24000), ("wav", 44101), ("mp3", 0)]
)
def test_a_rate_that_a_format_lacks_is_the_callers_error(name: str, rate_hz: int) -> None:
    with pytest.raises(InvalidValue, match="is available at") as caught:
        audio_format(name, rate_hz)
    assert caught.value.param == "sample_rate"
