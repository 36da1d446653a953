"""Decoding: all accepted formats, channels, joined files, and limits before and while reading."""

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
    "ogg flac": muxed(SOUND, "ogg", "flac"),
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
def test_samples_that_are_not_finite_are_refused(bad):
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


def test_a_small_file_with_half_an_hour_of_silence_is_refused():
    bomb = encoded(np.zeros(1800 * 8_000, np.int16), "FLAC", "PCM_16", 8_000)
    assert len(bomb) < 131 * 1024
    with pytest.raises(AudioTooLong):
        decode_audio(bomb, max_seconds=300)


def without_length(flac: bytes) -> bytes:
    """Clear the 36 bits of the header that state the length, as in a streamed FLAC."""
    data = bytearray(flac)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def test_the_cap_holds_if_the_header_states_no_length():
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


def test_sound_before_the_damage_is_used():
    long = encoded(babble(4, 48_000), "FLAC", "PCM_16", 48_000)
    decoded = decode_audio(long[: len(long) * 3 // 4], max_seconds=10)
    assert decoded.cut
    assert 2.0 < decoded.duration_s < 3.5


def test_too_little_sound_before_the_damage_is_refused():
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


# --- channels


def stereo(*channels, rate_hz=24_000):
    return encoded(np.stack(channels, axis=1), "WAV", "FLOAT", rate_hz)


VOICE = babble(2.0)
NOISE = (np.random.default_rng(1).standard_normal(len(VOICE)) * 0.001).astype(np.float32)


@pytest.mark.parametrize(
    "channels",
    [
        (VOICE, -VOICE),
        (VOICE, -0.9 * VOICE),
        (-0.5 * VOICE, VOICE),
        (VOICE + 0.2, -VOICE + 0.2),
        (VOICE + NOISE, NOISE[::-1] - VOICE),
        (VOICE, VOICE, -VOICE),
        (0 * VOICE, VOICE, NOISE, -0.8 * VOICE),
        (VOICE, -VOICE) * 4,
    ],
)
def test_the_loudest_of_opposite_channels_is_used(channels):
    decoded = decode_audio(stereo(*channels), max_seconds=3)
    assert decoded.opposite_polarity
    loudest = max(channels, key=lambda channel: channel.std())
    assert np.abs(decoded.audio).max() == pytest.approx(np.abs(loudest).max(), rel=1e-3)
    centred = decoded.audio - decoded.audio.mean()
    assert abs(np.corrcoef(centred, VOICE)[0, 1]) > 0.999


@pytest.mark.parametrize(
    "channels",
    [
        (VOICE, VOICE),
        (VOICE, 0 * VOICE),
        (VOICE, babble(2.0, seed=3)),
        (VOICE + 0.3, VOICE - 0.3),
        (VOICE, -0.01 * VOICE),
        (VOICE, np.roll(VOICE, 12)),
        (NOISE, -NOISE[::-1]),
        (0 * VOICE, 0 * VOICE),
    ],
)
def test_other_channels_are_mixed_to_their_mean(channels):
    decoded = decode_audio(stereo(*channels), max_seconds=3)
    assert not decoded.opposite_polarity
    assert np.allclose(decoded.audio, np.mean(channels, axis=0), atol=1e-6)


@pytest.mark.parametrize("rest", [0 * VOICE, NOISE, 0.05 * babble(2.0, seed=5)])
@pytest.mark.parametrize("count", [3, 6, 8])
def test_one_voice_among_many_channels_is_as_loud_as_alone(rest, count):
    decoded = decode_audio(stereo(*[rest] * (count - 1), VOICE), max_seconds=3)
    assert not decoded.opposite_polarity
    assert decoded.audio.std() == pytest.approx(VOICE.std(), rel=0.02)


def test_many_microphones_are_as_loud_as_the_loudest():
    mixed = decode_audio(stereo(*[babble(2.0, seed=n) for n in range(8)]), max_seconds=3)
    assert mixed.audio.std() == pytest.approx(VOICE.std(), rel=0.1)


# --- sizes


def sized(data: bytes, size: int) -> bytes:
    """Change the size of the samples in a WAV header."""
    at = data.index(b"data") + 4
    return data[:at] + size.to_bytes(4, "little") + data[at + 4 :]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_cut_wave_file_is_reported(subtype, channels):
    sound = np.stack([babble(6.0)] * channels, axis=1)
    whole = encoded(sound, "WAV", subtype)
    assert not decode_audio(whole, max_seconds=10).cut
    cut = decode_audio(whole[: len(whole) // 2], max_seconds=10)
    assert cut.cut
    assert cut.duration_s == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(
    "size", [0, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000, 2_000_000_000, 0xFFFFFFFF, 0xFFFFFFDB]
)
@pytest.mark.parametrize("riff", [None, 0])
def test_files_with_meaningless_sizes_are_read_to_the_end(size, riff):
    data = sized(encoded(VOICE, "WAV", "PCM_16"), size)
    if riff is not None:
        data = data[:4] + riff.to_bytes(4, "little") + data[8:]
    decoded = decode_audio(data, max_seconds=10)
    assert decoded.duration_s == 2.0
    assert not decoded.cut


def test_a_wave_file_without_samples():
    with pytest.raises(UnreadableAudio):
        decode_audio(encoded(np.zeros(0, np.int16)), max_seconds=10)


@pytest.mark.parametrize(("rate_hz", "channels", "seconds"), [(192_000, 8, 8), (96_000, 8, 16)])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_samples_of_all_channels_are_bounded(monkeypatch, kind, rate_hz, channels, seconds):
    data = encoded(np.zeros((seconds * rate_hz, channels), np.int16), kind, "PCM_16", rate_hz)
    monkeypatch.setattr(
        "chatterbox.voices.recording.RecordingBuilder.add", None
    )  # the header is enough
    with pytest.raises(AudioTooLong, match=f"{channels} channels at {rate_hz} Hz"):
        decode_audio(data, max_seconds=30)


def test_samples_are_bounded_if_the_header_states_no_length():
    silence = np.zeros((2 * 192_000, 8), np.int16)
    data = without_length(encoded(silence, "FLAC", "PCM_16", 192_000))
    with pytest.raises(AudioTooLong, match="too many samples"):
        decode_audio(data, max_seconds=10)


# --- files that were joined

A, B = babble(1.5, 48_000, seed=1), babble(2.5, 48_000, seed=2)
HALF_RATE = babble(2.5, 24_000, seed=2)


def untagged(mp3: bytes) -> bytes:
    """Remove the first frame, which states the number of frames."""
    assert b"Xing" in mp3[:200] or b"Info" in mp3[:200]
    return mp3[mp3.index(mp3[:2], 4) :]


JOINED = {
    "mp3": encoded(A, "MP3", None, 48_000) + encoded(B, "MP3", None, 48_000),
    "mp3, tags between": encoded(A, "MP3", None, 48_000)
    + b"TAG".ljust(128)
    + b"ID3\4\0\0\0\0\x7f\x7f"
    + bytes(0x3FFF)
    + encoded(B, "MP3", None, 48_000),
    "mp3, the second without a tag": encoded(A, "MP3", None, 48_000)
    + untagged(encoded(B, "MP3", None, 48_000)),
    "mp3, no tags": untagged(encoded(A, "MP3", None, 48_000))
    + untagged(encoded(B, "MP3", None, 48_000)),
    "mp3 of two rates": encoded(A, "MP3", None, 48_000) + encoded(HALF_RATE, "MP3", None, 24_000),
    "mp3 of two rates, no tags": untagged(encoded(A, "MP3", None, 48_000))
    + untagged(encoded(HALF_RATE, "MP3", None, 24_000)),
    "mp3, stereo then mono": encoded(np.stack([A, A], 1), "MP3", None, 48_000)
    + encoded(B, "MP3", None, 48_000),
    "vorbis": encoded(A, "OGG", "VORBIS", 48_000) + encoded(B, "OGG", "VORBIS", 48_000),
    "opus": encoded(A, "OGG", "OPUS", 48_000) + encoded(B, "OGG", "OPUS", 48_000),
    "ogg flac": muxed(A, "ogg", "flac") + muxed(B, "ogg", "flac"),
    "vorbis of two rates": encoded(A, "OGG", "VORBIS", 48_000)
    + encoded(HALF_RATE, "OGG", "VORBIS", 24_000),
    "vorbis, then opus": encoded(A, "OGG", "VORBIS", 48_000) + encoded(B, "OGG", "OPUS", 48_000),
    "aac": muxed(A, "adts", "aac") + muxed(B, "adts", "aac"),
}


@pytest.mark.parametrize("name", JOINED)
def test_joined_files_are_read_to_their_end(name):
    decoded = decode_audio(JOINED[name], max_seconds=10)
    assert not decoded.cut
    assert decoded.duration_s == pytest.approx(4.0, abs=0.15)
    assert len(decoded.audio) == pytest.approx(decoded.duration_s * 24_000, abs=10)
    first, second = decoded.audio[: 24_000 * 5 // 4], decoded.audio[24_000 * 7 // 4 :]
    assert first.std() > 0.03
    assert second.std() > 0.03


@pytest.mark.parametrize("name", JOINED)
def test_the_cap_holds_over_joined_files(name):
    with pytest.raises(AudioTooLong, match=r"longer than 3.5 s"):
        decode_audio(JOINED[name], max_seconds=3.5)


@pytest.mark.parametrize("kind", ["MP3", "OGG"])
def test_a_cut_joined_file_is_reported(kind):
    one = encoded(B, kind, None, 48_000)
    decoded = decode_audio((one + one)[: len(one) * 3 // 2], max_seconds=10)
    assert 3.0 < decoded.duration_s < 4.5
    if kind == "MP3":  # the header of Vorbis states no length
        assert decoded.cut


@pytest.mark.parametrize("start", [1, 500, 1111, 5000])
def test_mp3_that_begins_inside_a_frame_is_read(start):
    whole = encoded(B, "MP3", None, 48_000)
    decoded = decode_audio(whole[start:], max_seconds=10)
    lost_s = start / len(whole) * 2.5
    assert decoded.duration_s == pytest.approx(2.5 - lost_s, abs=0.15)
    assert not decoded.cut


def test_noise_between_mp3_frames_is_skipped():
    one = encoded(B, "MP3", None, 48_000)
    noise = np.random.default_rng(0).bytes(20_000)
    decoded = decode_audio(one + noise + one, max_seconds=10)
    assert decoded.duration_s == pytest.approx(5.0, abs=0.1)


def test_ten_thousand_streams_in_one_file_cost_no_more_than_their_bytes():
    page = encoded(A, "OGG", "VORBIS", 48_000)[:58]
    with pytest.raises(UnreadableAudio):
        decode_audio(page * 50_000, max_seconds=10)
    header = b"\xff\xfb\x90\x00" + bytes(2)
    with pytest.raises(UnsupportedAudio):
        decode_audio(bytes(range(1, 99)) + header * 500_000, max_seconds=10)
