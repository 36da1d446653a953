"""Decoding: every listed format gives its sound; bounds hold before and while reading."""

import io

import av
import numpy as np
import pytest

from chatterbox.errors import AudioNotFinite, AudioTooLong, UnreadableAudio, UnsupportedAudio
from chatterbox.voices.audio_file import decode_audio

from .clips import babble, encoded, muxed

SOUND = babble(2.0, 48_000)
LOSSLESS = {
    "wav": encoded(SOUND, "WAV", "PCM_16", 48_000),
    "wav 24": encoded(SOUND, "WAV", "PCM_24", 48_000),
    "wav 32": encoded(SOUND, "WAV", "PCM_32", 48_000),
    "wav float": encoded(SOUND, "WAV", "FLOAT", 48_000),
    "wav double": encoded(SOUND, "WAV", "DOUBLE", 48_000),
    "wavex": encoded(SOUND, "WAVEX", "FLOAT", 48_000),
    "flac": encoded(SOUND, "FLAC", "PCM_16", 48_000),
    "flac 24": encoded(SOUND, "FLAC", "PCM_24", 48_000),
    "alac": muxed(SOUND, "ipod", "alac"),
}
LOSSY = {
    "wav 8": encoded(SOUND, "WAV", "PCM_U8", 48_000),
    "vorbis": encoded(SOUND, "OGG", "VORBIS", 48_000),
    "opus": encoded(SOUND, "OGG", "OPUS", 48_000),
    "mp3": encoded(SOUND, "MP3", None, 48_000),
    "m4a": muxed(SOUND, "ipod", "aac"),
    "aac": muxed(SOUND, "adts", "aac"),
    "webm": muxed(SOUND, "webm", "libopus"),
}


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_each_format_gives_the_same_sound(name):
    decoded = decode_audio((LOSSLESS | LOSSY)[name], max_seconds=10)
    expected = decode_audio(LOSSLESS["wav float"], max_seconds=10)
    assert decoded.audio.dtype == np.float32
    assert decoded.sample_rate_hz == 48_000
    assert not decoded.cut
    assert decoded.duration_s == pytest.approx(2.0, abs=0.06)  # AAC pads whole frames
    if name in LOSSLESS:
        assert np.abs(decoded.audio - expected.audio).max() < 1e-4
    else:  # aligned to a few codec frames: compare the loudness contour
        contour = [
            np.sqrt((one.audio[:48_000].reshape(10, -1) ** 2).mean(axis=1))
            for one in (decoded, expected)
        ]
        assert np.corrcoef(*contour)[0, 1] > 0.9


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 24_000, 44_100, 192_000])
def test_any_rate_becomes_24_khz(rate_hz):
    time_s = np.arange(rate_hz) / rate_hz
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)
    decoded = decode_audio(encoded(tone, "WAV", "FLOAT", rate_hz), max_seconds=2)
    assert len(decoded.audio) == 24_000
    middle = decoded.audio[6_000:18_000]
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(6_000, 18_000) / 24_000)
    assert np.abs(middle - expected).max() < 1e-3
    assert decoded.peak == pytest.approx(0.5, abs=1e-3)


def test_channels_are_mixed():
    left, right = babble(1, seed=1), babble(1, seed=2)
    stereo = encoded(np.stack([left, right], axis=1), "WAV", "FLOAT")
    decoded = decode_audio(stereo, max_seconds=2)
    assert decoded.channels == 2
    assert np.allclose(decoded.audio, (left + right) / 2, atol=1e-6)


def test_clipping_is_counted_before_mixing():
    square = np.where(np.arange(24_000) % 200 < 100, 1.0, -1.0)
    stereo = np.stack([square, np.zeros(24_000)], axis=1)
    assert decode_audio(encoded(stereo), max_seconds=2).clipped_share == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38, 1e300])
def test_samples_that_are_no_numbers(bad):
    audio = babble(1.5).astype(np.float64)
    audio[20_000] = bad
    with pytest.raises(AudioNotFinite):
        decode_audio(encoded(audio, "WAV", "DOUBLE"), max_seconds=2)


def test_floats_on_the_scale_of_integers_are_read():
    decoded = decode_audio(encoded(babble(1) * 32768, "WAV", "FLOAT"), max_seconds=2)
    assert decoded.peak > 1000


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_the_cap_holds_for_every_format(name):
    with pytest.raises(AudioTooLong):
        decode_audio((LOSSLESS | LOSSY)[name], max_seconds=1.9)


def test_exactly_the_cap_is_read():
    assert decode_audio(LOSSLESS["flac"], max_seconds=2.0).duration_s == 2.0


def test_a_small_file_that_holds_half_an_hour():
    bomb = encoded(np.zeros(1800 * 8_000, np.int16), "FLAC", "PCM_16", 8_000)
    assert len(bomb) < 131 * 1024
    with pytest.raises(AudioTooLong):
        decode_audio(bomb, max_seconds=300)


def without_length(flac: bytes) -> bytes:
    """A streamed FLAC does not know its length: 36 bits of the header are zero."""
    data = bytearray(flac)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def test_the_cap_holds_where_the_header_says_no_length():
    streamed = without_length(LOSSLESS["flac"])
    assert decode_audio(streamed, max_seconds=3).duration_s == pytest.approx(2.0, abs=0.05)
    with pytest.raises(AudioTooLong):
        decode_audio(streamed, max_seconds=1.9)


def test_a_streamed_wave_file_has_no_true_sizes():
    data = bytearray(LOSSLESS["wav"])
    data[4:8] = b"\xff" * 4
    at = data.index(b"data")
    data[at + 4 : at + 8] = b"\xff" * 4
    assert decode_audio(bytes(data), max_seconds=3).duration_s == 2.0


def test_what_comes_before_the_damage_counts():
    long = encoded(babble(4, 48_000), "FLAC", "PCM_16", 48_000)
    decoded = decode_audio(long[: len(long) * 3 // 4], max_seconds=10)
    assert decoded.cut
    assert 2.0 < decoded.duration_s < 3.5


def test_too_little_before_the_damage():
    with pytest.raises(UnreadableAudio):
        decode_audio(LOSSLESS["flac"][:2000], max_seconds=10)


def test_a_video_without_sound():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    with pytest.raises(UnsupportedAudio):
        decode_audio(buffer.getvalue(), max_seconds=10)


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "ac3"), ("matroska", "ac3")])
def test_codecs_that_are_not_listed(kind, codec):
    with pytest.raises(UnsupportedAudio):
        decode_audio(muxed(SOUND, kind, codec), max_seconds=10)
