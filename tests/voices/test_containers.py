"""Accepted containers are identified; no other file reaches a decoder."""

from contextlib import suppress

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.errors import UnreadableAudio, UnsupportedAudio
from chatterbox.voices import sniff as containers
from chatterbox.voices.audio_file import decode_audio
from chatterbox.voices.sniff import sniff

from .clips import babble, encoded, muxed
from .hostile import REFUSED, wave

SOUND = babble(1.2, 48_000)


ACCEPTED = {
    "wav": (encoded(SOUND, "WAV"), containers.WAV),
    "float wav": (encoded(SOUND, "WAV", "DOUBLE"), containers.WAV),
    "extensible": (encoded(SOUND, "WAVEX", "PCM_24"), containers.WAV),
    "flac": (encoded(SOUND, "FLAC"), containers.FLAC),
    "vorbis": (encoded(SOUND, "OGG", "VORBIS"), containers.OGG),
    "opus": (encoded(SOUND, "OGG", "OPUS", 48_000), containers.OGG),
    "ogg flac": (muxed(SOUND, "ogg", "flac"), containers.OGG_FLAC),
    "mp3": (encoded(SOUND, "MP3"), containers.MP3),
    "mp3 behind zeros": (bytes(200_000) + encoded(SOUND, "MP3"), containers.MP3),
    "mp3 from inside a frame": (encoded(SOUND, "MP3")[777:], containers.MP3),
    "mp3 behind junk": (bytes(range(256)) * 99 + encoded(SOUND, "MP3"), containers.MP3),
    "mp3 with padded tag": (
        b"ID3\4\0\0\0\0\0\4abcd" + bytes(999) + encoded(SOUND, "MP3"),
        containers.MP3,
    ),
    "aac from inside a frame": (muxed(SOUND, "adts", "aac")[99:], containers.ADTS),
    "mp3 with tag": (b"ID3\4\0\0\0\0\0\4abcd" + encoded(SOUND, "MP3"), containers.MP3),
    "m4a": (muxed(SOUND, "ipod", "aac"), containers.MP4),
    "mp4": (muxed(SOUND, "mp4", "aac"), containers.MP4),
    "aac": (muxed(SOUND, "adts", "aac"), containers.ADTS),
    "webm": (muxed(SOUND, "webm", "libopus"), containers.WEBM),
    "matroska": (muxed(SOUND, "matroska", "libopus"), containers.WEBM),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_listed_containers_are_recognised(name):
    data, container = ACCEPTED[name]
    assert sniff(data) is container


@pytest.fixture
def no_decoder(monkeypatch):
    def opened(*_args, **_kwargs):
        raise AssertionError("a decoder was opened")

    monkeypatch.setattr(soundfile, "SoundFile", opened)
    monkeypatch.setattr(av, "open", opened)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("no_decoder")
def test_f66_unlisted_containers_never_reach_a_decoder(name):
    with pytest.raises(UnsupportedAudio):
        decode_audio(REFUSED[name], max_seconds=10)


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(1, 1), (7_999, 1), (192_001, 1), (655_350, 8), (24_000, 9)]
)
@pytest.mark.usefixtures("no_decoder")
def test_wave_headers_out_of_bounds(rate_hz, channels):
    with pytest.raises(UnsupportedAudio):
        decode_audio(wave(rate_hz=rate_hz, channels=channels), max_seconds=10)


@pytest.mark.parametrize(("rate_hz", "channels"), [(7_000, 1), (24_000, 1024)])
def test_other_headers_out_of_bounds(rate_hz, channels):
    kind = "FLAC" if channels == 1 else "WAV"
    data = encoded(np.zeros((2400, channels), np.int16), kind, "PCM_16", rate_hz)
    with pytest.raises(UnsupportedAudio):
        decode_audio(data, max_seconds=10)


@pytest.mark.parametrize("size", [12, 20, 30, 40])
def test_a_wave_file_cut_in_its_header(size):
    with pytest.raises(UnreadableAudio):
        sniff(encoded(SOUND)[:size])


@given(st.binary(max_size=200), st.sampled_from([b"", *(d[:40] for d, _ in ACCEPTED.values())]))
def test_sniffing_any_bytes_gives_a_container_or_a_refusal(tail, head):
    with suppress(UnsupportedAudio, UnreadableAudio):
        assert isinstance(sniff(head + tail), containers.Container)
