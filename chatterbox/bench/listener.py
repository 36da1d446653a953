"""Simulates a listener who plays a streamed response while it arrives, and finds the gaps.

Uses neither network nor clock: the caller passes the arrival time of each piece.
"""

import struct
from typing import NamedTuple

import numpy as np

AUDIBLE_DBFS = -50.0
"""Level above which a sample is audible. Leading silence and the start of a fade-in are below
it."""
PLAYER_BUFFER_S = 0.005
"""Delay between the first samples and the start of playback, so that the client's own scheduling
jitter does not count as an underrun."""

_AUDIBLE_INT16 = int(32768 * 10 ** (AUDIBLE_DBFS / 20))
_SAMPLE_BYTES = 2
_INTEGER_PCM = 1
_UNKNOWN_SIZE = 0xFFFF_FFFF


class BadAudio(Exception):
    """The response is not a complete mono 16-bit WAV. The message is an error code."""


class WavHeader(NamedTuple):
    """The header of a WAV file."""

    sample_rate_hz: int
    announced_samples: int | None  # None if not known when the header was sent
    size_bytes: int


def parse_header(data: bytes) -> WavHeader | None:
    """Parse the header of a mono 16-bit WAV. Returns None while it is incomplete; raises BadAudio
    for other data."""
    if not b"RIFF".startswith(data[:4]) or not b"WAVE".startswith(data[8:12]):
        raise BadAudio("not_wav")
    offset = 12
    sample_rate_hz = 0
    while len(data) >= offset + 8:
        name, size = struct.unpack_from("<4sI", data, offset)
        body = offset + 8
        if name == b"data":
            if not sample_rate_hz:
                raise BadAudio("not_wav")
            announced = None if size == _UNKNOWN_SIZE else size // _SAMPLE_BYTES
            return WavHeader(sample_rate_hz, announced, body)
        if name == b"fmt ":
            if len(data) < body + 16:
                return None
            kind, channels, sample_rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", data, body)
            if (kind, channels, bits) != (_INTEGER_PCM, 1, 8 * _SAMPLE_BYTES):
                raise BadAudio("not_wav")
        offset = body + size + size % 2
    return None


class Player:
    """Simulates playback of one stream, which pauses whenever no samples are left."""

    def __init__(self) -> None:
        self.silences_s: list[float] = []  # each underrun's length
        self._plays_until_s: float | None = None

    def play(self, sound_s: float, at_s: float) -> None:
        """Add `sound_s` seconds of audio that arrived at `at_s`."""
        if self._plays_until_s is None:
            self._plays_until_s = at_s + PLAYER_BUFFER_S
        elif at_s > self._plays_until_s:
            self.silences_s.append(at_s - self._plays_until_s)
            self._plays_until_s = at_s + PLAYER_BUFFER_S
        self._plays_until_s += sound_s


class Listener:
    """Parses one response as it arrives and measures its first audible sample and its gaps."""

    def __init__(self) -> None:
        self.samples = 0
        self.first_audible_s: float | None = None  # arrival of the first audible sample
        self._header: WavHeader | None = None
        self._pending = b""
        self._player = Player()
        self.silences_s = self._player.silences_s

    @property
    def audio_s(self) -> float:
        """Duration of the audio that has arrived."""
        return self.samples / self._header.sample_rate_hz if self._header else 0.0

    def feed(self, data: bytes, at_s: float) -> None:
        """Add bytes of the response. Raises BadAudio if they are not a mono 16-bit WAV."""
        self._pending += data
        if self._header is None:
            self._header = parse_header(self._pending)
            if self._header is None:
                return
            self._pending = self._pending[self._header.size_bytes :]
        whole_bytes = len(self._pending) - len(self._pending) % _SAMPLE_BYTES
        samples = np.frombuffer(self._pending[:whole_bytes], "<i2")
        self._pending = self._pending[whole_bytes:]
        if not len(samples):
            return
        self._player.play(len(samples) / self._header.sample_rate_hz, at_s)
        self.samples += len(samples)
        # int32: the absolute value of -32768 does not fit 16 bit
        if self.first_audible_s is None and np.abs(samples.astype(np.int32)).max() > _AUDIBLE_INT16:
            self.first_audible_s = at_s

    def finish(self) -> None:
        """End the response. Raises BadAudio if there was no audio or less than announced."""
        if self._header is None or self.samples == 0:
            raise BadAudio("no_audio")
        if self._header.announced_samples not in (None, self.samples):
            raise BadAudio("short_audio")
