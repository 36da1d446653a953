"""Each format gives one continuous file that does not depend on the pieces fed."""

import gc
import io
import itertools
import wave

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.audio.encode import FORMATS, audio_format
from chatterbox.audio.encoders import to_int16, wav_header
from chatterbox.errors import InvalidValue

LOSSLESS = ("wav", "pcm", "flac")


def encoder_for(name: str, **known: int):
    return audio_format(name, known.pop("sample_rate_hz", None)).encoder(**known)


def encode_whole(name: str, samples: np.ndarray) -> bytes:
    return audio_format(name).encode_whole(samples)


def speechlike(count: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=count)
    return (0.3 * np.sin(np.arange(count) * 0.05) + 0.05 * noise).astype(np.float32)


def streamed(name: str, samples: np.ndarray, cuts: list[int], **known: int) -> bytes:
    encoder = encoder_for(name, **known)
    pieces = np.split(samples, sorted(min(cut, len(samples)) for cut in cuts))
    return encoder.start() + b"".join(map(encoder.feed, pieces)) + encoder.finish()


def decoded(name: str, data: bytes) -> np.ndarray:
    if name == "pcm":
        return np.frombuffer(data, "<i2")
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.audio[0].rate == SAMPLE_RATE_HZ
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(frames)


@pytest.mark.parametrize("name", LOSSLESS)
def test_decoding_gives_the_samples_back(name: str) -> None:
    samples = speechlike(10_001)
    assert np.array_equal(decoded(name, encode_whole(name, samples)), to_int16(samples))
    assert np.array_equal(decoded(name, streamed(name, samples, [])), to_int16(samples))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_the_file_does_not_depend_on_the_cuts(name: str, cuts: list[int]) -> None:
    samples = speechlike(3000)
    assert streamed(name, samples, cuts) == streamed(name, samples, [])
    assert streamed(name, samples, cuts, total_samples=3000) == encode_whole(name, samples)


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_leave_while_samples_come(name: str) -> None:
    encoder = encoder_for(name)
    encoder.start()
    second = speechlike(SAMPLE_RATE_HZ)
    sizes = [len(encoder.feed(piece)) for piece in np.split(second, 10)]
    assert all(sizes[3:])  # a codec or a resampler may hold back its look-ahead, not more
    assert len(encoder.finish()) < sum(sizes) / 2


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_samples_is_still_a_file(name: str) -> None:
    nothing = np.zeros(0, np.float32)
    assert isinstance(encode_whole(name, nothing), bytes)
    assert isinstance(streamed(name, nothing, [0, 0]), bytes)


@pytest.mark.parametrize("closed", [True, False])
def test_an_unfinished_encoder_can_be_dropped(closed: bool) -> None:
    for name, fed in itertools.product(FORMATS, (None, 0, 1, 5000)):
        encoder = encoder_for(name)
        if fed is not None:
            encoder.start()
            encoder.feed(speechlike(fed))
        if closed:
            encoder.close()
            encoder.close()
        del encoder
    gc.collect()


@pytest.mark.parametrize("name", FORMATS)
def test_a_closed_encoder_holds_nothing(name: str) -> None:
    """Without garbage collection: a FLAC encoder holds 7 MiB."""

    def containers() -> int:
        found = gc.get_objects()
        return sum(isinstance(thing, av.container.OutputContainer) for thing in found)

    gc.disable()
    gc.freeze()  # ignore all earlier objects
    try:
        for ending in ("whole", "left", "unused"):
            encoder = encoder_for(name)
            if ending != "unused":
                encoder.start()
                encoder.feed(speechlike(5000))
            if ending == "whole":
                encoder.finish()
            else:
                encoder.close()
            del encoder
            assert containers() == 0, ending
    finally:
        gc.enable()


@pytest.mark.parametrize("name", FORMATS)
def test_a_wrong_total_is_a_bug(name: str) -> None:
    encoder = encoder_for(name, total_samples=6)
    encoder.start()
    encoder.feed(speechlike(3))
    with pytest.raises(AssertionError, match="samples, not"):
        encoder.finish()


def test_a_whole_wav_states_its_size() -> None:
    data = encode_whole("wav", speechlike(100))
    assert len(data) == 44 + 200
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with wave.open(io.BytesIO(data)) as reader:
        assert reader.getparams()[:4] == (1, 2, SAMPLE_RATE_HZ, 100)


def test_a_streamed_wav_states_no_size() -> None:
    data = streamed("wav", speechlike(100), [50])
    assert data[4:8] == data[40:44] == b"\xff\xff\xff\xff"


def test_a_wav_too_long_for_its_field_states_no_size() -> None:
    assert wav_header(SAMPLE_RATE_HZ, 2**31)[40:44] == b"\xff\xff\xff\xff"


def test_another_sample_rate() -> None:
    assert int.from_bytes(encoder_for("wav", sample_rate_hz=8000).start()[24:28], "little") == 8000


def test_a_whole_flac_states_its_length_and_a_streamed_one_does_not() -> None:
    samples = speechlike(SAMPLE_RATE_HZ)
    with av.open(io.BytesIO(encode_whole("flac", samples))) as container:
        assert container.duration == 1_000_000  # microseconds
    with av.open(io.BytesIO(streamed("flac", samples, []))) as container:
        assert container.duration is None


def test_a_flac_begins_small() -> None:
    assert len(encoder_for("flac").start()) < 200


def test_media_types() -> None:
    assert {name: audio_format(name).media_type for name in FORMATS} == {
        "wav": "audio/wav",
        "pcm": "audio/pcm",
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "ulaw": "audio/basic",
        "alaw": "audio/PCMA",
    }


def test_an_unknown_format_is_the_callers_error() -> None:
    with pytest.raises(InvalidValue, match="one of: wav, pcm, mp3, opus, aac, flac") as caught:
        audio_format("wma\n")
    assert caught.value.param == "response_format"
    assert "\n" not in caught.value.message
