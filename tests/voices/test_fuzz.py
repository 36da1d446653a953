"""Any bytes give a recording with finite samples or one of four refusals."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatterbox.errors import AudioNotFinite, AudioTooLong, UnreadableAudio, UnsupportedAudio
from chatterbox.voices.sandbox import SandboxedDecoder

from .clips import babble, encoded, muxed

SOUND = babble(1.2, 48_000)
FILES = {
    "wav": encoded(SOUND, "WAV", "FLOAT", 48_000),
    "flac": encoded(SOUND, "FLAC", None, 48_000),
    "vorbis": encoded(SOUND, "OGG", "VORBIS", 48_000),
    "opus": encoded(SOUND, "OGG", "OPUS", 48_000),
    "mp3": encoded(SOUND, "MP3", None, 48_000),
    "m4a": muxed(SOUND, "ipod", "aac"),
    "aac": muxed(SOUND, "adts", "aac"),
    "webm": muxed(SOUND, "webm", "libopus"),
}
REFUSALS = (UnsupportedAudio, UnreadableAudio, AudioTooLong, AudioNotFinite)


@pytest.fixture(scope="module")
def child():
    decoder = SandboxedDecoder()
    yield decoder
    decoder.close()


def check(decoder: SandboxedDecoder, data: bytes) -> bool:
    """Decode; return whether the file was readable."""
    try:
        decoded = decoder.decode(data, max_seconds=5)
    except REFUSALS:
        return False
    assert np.isfinite(decoded.audio).all()
    assert decoded.audio.size <= 24_000 * 6
    return True


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere(child, name):
    data = FILES[name]
    readable = [check(child, data[: len(data) * part // 50]) for part in range(51)]
    assert readable[-1]
    assert not readable[0]


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(draw=st.data())
def test_a_file_with_damage(child, name, draw):
    data = bytearray(FILES[name])
    in_header = st.integers(0, min(400, len(data) - 1))
    anywhere = st.integers(0, len(data) - 1)
    for at, value in draw.draw(
        st.lists(st.tuples(st.one_of(in_header, anywhere), st.integers(0, 255)), max_size=12)
    ):
        data[at] = value
    check(child, bytes(data))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    head=st.sampled_from([b"", *(data[:64] for data in FILES.values())]),
    tail=st.binary(max_size=2000),
)
def test_random_bytes(child, head, tail):
    check(child, head + tail)
