"""The sniff: what is on the list passes, everything else never meets a decoder."""

import struct
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

SOUND = babble(1.2, 48_000)


def wave(
    tag: int = 1, channels: int = 1, rate_hz: int = 24_000, bits: int = 16, extra: bytes = b""
) -> bytes:
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", 0)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


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

REFUSED = {
    "nothing": b"",
    "text": b"hello there, this is not audio at all",
    "playlist": b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/a.wav\n",
    "zip": b"PK\3\4" + bytes(60),
    "html": b"<!DOCTYPE html><html></html>",
    "aiff": encoded(SOUND, "AIFF"),
    "caf": encoded(SOUND, "CAF"),
    "au": encoded(SOUND, "AU"),
    "w64": encoded(SOUND, "W64"),
    "rf64": encoded(SOUND, "RF64"),
    "big-endian wav": b"RIFX" + encoded(SOUND)[4:],
    "ima adpcm": encoded(SOUND, "WAV", "IMA_ADPCM"),
    "ms adpcm": encoded(SOUND, "WAV", "MS_ADPCM"),
    "gsm": encoded(SOUND, "WAV", "GSM610"),
    "a-law": encoded(SOUND, "WAV", "ALAW"),
    "u-law": encoded(SOUND, "WAV", "ULAW"),
    "two headers": wave()[:36] + wave(tag=0x11)[12:],
    "extensible adpcm": wave(0xFFFE, extra=struct.pack("<HHIH", 22, 16, 4, 0x11) + wave()[:14]),
    "speex": b"OggS" + bytes(24) + b"Speex   " + bytes(60),
    "ebml of another kind": b"\x1a\x45\xdf\xa3" + bytes(60),
    "tagged text": b"ID3\4\0\0\0\0\0\4abcdhello",
    "two frames are no file": bytes(9) + b"\xff\xfb\x90\x00" + bytes(413) + b"\xff\xfb\x90\x00",
    "mp3 far behind other things": bytes(range(1, 256)) * 300 + encoded(SOUND, "MP3"),
    "layer two": b"\xff\xfd\x84\x00" + bytes(60),
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
def test_unlisted_containers_never_reach_a_decoder(name):
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
