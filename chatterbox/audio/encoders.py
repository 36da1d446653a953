"""Encoders: float32 samples in, one file out, piece by piece, at any sample rate."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import av
import av.container
import numpy as np
import soxr
from numpy.typing import NDArray

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

INT16_SCALE = 32767
"""Full scale maps to ±32767, so that a signal and its negative stay mirror images."""
SAMPLE_BYTES = 2
UNKNOWN_SIZE = 0xFFFF_FFFF
"""Stands in both size fields of a WAV whose length is not known: read until the stream ends."""
_RIFF_OVERHEAD_BYTES = 36  # from after the RIFF size field to the first sample


def to_int16(samples: F32) -> NDArray[np.int16]:
    """[n] float32 → [n] int16: NaN and infinities become silence, the rest is clipped.

    A bare cast would turn 2.0 into -2 with a bang. No dither: equal samples give equal bytes.
    """
    assert samples.ndim == 1, f"mono samples expected, got shape {samples.shape}"
    finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    clipped = np.clip(finite, -1.0, 1.0)
    return np.rint(clipped * INT16_SCALE).astype("<i2")


class Encoder:
    """Samples in, one file out, in the order start, feed…, finish, close.

    The bytes returned, joined, are the file. One that was not finished must not be passed off as
    whole. This one's are signed 16-bit little-endian samples, nothing before and nothing after.
    """

    def __init__(
        self, sample_rate_hz: int, total_samples: int | None, bit_rate: int | None = None
    ) -> None:
        """`bit_rate`: bits per second, for a format that has one to choose."""
        self._sample_rate_hz = sample_rate_hz
        self._total_samples = total_samples
        self._bit_rate = bit_rate
        self._fed_samples = 0

    def start(self) -> bytes:
        """What stands before the first sample."""
        return b""

    def feed(self, samples: F32) -> bytes:
        """Take [n] more samples; returns what is ready to send, possibly nothing."""
        self._fed_samples += len(samples)
        return to_int16(samples).tobytes()

    def finish(self) -> bytes:
        """What was held back, and what stands after the last sample."""
        total = self._total_samples
        assert total in (None, self._fed_samples), f"{self._fed_samples} samples, not {total}"
        return b""

    def close(self) -> None:
        """Give back what it holds, at any time; twice is as good as once. A codec holds megabytes
        and is not freed by being dropped."""


def wav_header(sample_rate_hz: int, total_samples: int | None) -> bytes:
    """The 44 bytes before the first sample."""
    data_bytes = UNKNOWN_SIZE if total_samples is None else total_samples * SAMPLE_BYTES
    riff_bytes = data_bytes + _RIFF_OVERHEAD_BYTES
    if riff_bytes >= UNKNOWN_SIZE:  # unknown, or more than the 32-bit field can say
        data_bytes = riff_bytes = UNKNOWN_SIZE
    rates = (sample_rate_hz, sample_rate_hz * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    form = struct.pack("<IHHIIHH", 16, 1, 1, *rates)  # 16 bytes of integer PCM, one channel
    riff = struct.pack("<4sI4s4s", b"RIFF", riff_bytes, b"WAVE", b"fmt ")
    return riff + form + struct.pack("<4sI", b"data", data_bytes)


class WavEncoder(Encoder):
    """The same behind a WAV header, with the true sizes where the length is known."""

    def start(self) -> bytes:
        return wav_header(self._sample_rate_hz, self._total_samples)


@dataclass(frozen=True, slots=True)
class Coding:
    """What FFmpeg is asked for."""

    muxer: str
    codec: str
    codec_options: Mapping[str, str] = field(default_factory=dict)
    muxer_options: Mapping[str, str] = field(default_factory=dict)
    bit_rate: int | None = None  # bits per second where nobody asks for another; None: lossless


_EVERY_MUXER = {
    "flush_packets": "1",  # a packet goes out when it is made, not when a buffer is full
    "fflags": "+bitexact",  # no random serial numbers: equal samples give equal bytes
}
_EVERY_CODEC = {"flags": "+bitexact"}  # nor the library's version in the file

MP3 = Coding(
    "mp3",
    "libmp3lame",
    # 7 takes half the time of LAME's own 5 and has the same error: 26 dB below speech at any rate.
    {"compression_level": "7"},
    # Both would have to be filled in at the end, over what has long been sent.
    {"write_xing": "0", "id3v2_version": "0"},
    bit_rate=96_000,  # LAME takes the nearest that MPEG has at the sample rate
)
OPUS = Coding(
    "ogg",
    "libopus",
    {"application": "audio"},  # "voip" changes the wave's shape
    {"page_duration": "20000"},  # µs: a page for each packet; FFmpeg's own second is a long wait
    bit_rate=64_000,
)
AAC = Coding("adts", "aac", {"aac_coder": "fast"}, bit_rate=96_000)  # slower ones err more
MU_LAW = Coding("mulaw", "pcm_mulaw")
A_LAW = Coding("alaw", "pcm_alaw")
FLAC = Coding(
    "flac",
    "flac",
    # FFmpeg's own choice at 24 kHz is 96 ms, which a listener would wait for.
    {"frame_size": str(SAMPLE_RATE_HZ // 25)},
    {"metadata_header_padding": "0"},  # else 8 KiB of zeros lead the stream
)


class _Sink:
    """A file for FFmpeg that can only be written to: what cannot seek cannot be rewritten."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._pending)
        self._pending.clear()
        return taken


class ContainerEncoder(Encoder):
    """A codec in a container, through PyAV: packets come out as they are made."""

    def __init__(
        self,
        coding: Coding,
        sample_rate_hz: int,
        total_samples: int | None,
        bit_rate: int | None = None,
    ) -> None:
        super().__init__(sample_rate_hz, total_samples, bit_rate or coding.bit_rate)
        self._sink = _Sink()
        options = {**_EVERY_MUXER, **coding.muxer_options}
        container = av.open(self._sink, "w", format=coding.muxer, options=options)
        stream = container.add_stream(
            coding.codec,
            rate=sample_rate_hz,
            layout="mono",
            options={**_EVERY_CODEC, **coding.codec_options},
        )
        if self._bit_rate is not None:
            stream.bit_rate = self._bit_rate
        self._open: tuple[av.container.OutputContainer, av.AudioStream] | None = container, stream

    def start(self) -> bytes:
        self._opened()[0].start_encoding()
        return self._sink.take()

    def feed(self, samples: F32) -> bytes:
        if len(samples) == 0:
            return b""
        frame = av.AudioFrame.from_ndarray(to_int16(samples)[None, :], format="s16", layout="mono")
        frame.sample_rate = self._sample_rate_hz
        frame.pts = self._fed_samples
        self._fed_samples += len(samples)
        return self._packets(frame)

    def finish(self) -> bytes:
        super().finish()
        rest = self._packets(None)
        self.close()
        return rest + self._sink.take()

    def close(self) -> None:
        """Container and codec refer to each other: left alone they stay, with 7 MiB for FLAC and
        two threads, until Python's garbage collector comes by."""
        opened, self._open = self._open, None
        if opened is not None:
            opened[0].close()

    def _packets(self, frame: av.AudioFrame | None) -> bytes:
        container, stream = self._opened()
        container.mux(stream.encode(frame))
        return self._sink.take()

    def _opened(self) -> tuple[av.container.OutputContainer, av.AudioStream]:
        assert self._open is not None, "a closed encoder takes nothing"
        return self._open


_FLAC_TOTAL_OFFSET = 21
"""Byte of a FLAC file in whose low half the 36-bit count of samples begins (RFC 9639, 8.2)."""
_FLAC_TOTAL_LIMIT = 1 << 36


class FlacEncoder(ContainerEncoder):
    """Lossless at 16 bit."""

    def start(self) -> bytes:
        """The header; with the length where it is known, for FFmpeg would write it at the end,
        over the zeros that have long been sent."""
        header = bytearray(super().start())
        assert header[:4] == b"fLaC", "the stream does not begin as FLAC"
        if self._total_samples is not None and self._total_samples < _FLAC_TOTAL_LIMIT:
            high, low = divmod(self._total_samples, 1 << 32)
            header[_FLAC_TOTAL_OFFSET] |= high
            header[_FLAC_TOTAL_OFFSET + 1 : _FLAC_TOTAL_OFFSET + 5] = low.to_bytes(4, "big")
        return bytes(header)


def resampled_samples(samples: int, sample_rate_hz: int) -> int:
    """How many samples `samples` of them at 24 kHz become: the nearest whole number, halves down
    (soxr takes now the one, now the other; what is not there cannot be added)."""
    return (2 * samples * sample_rate_hz + SAMPLE_RATE_HZ - 1) // (2 * SAMPLE_RATE_HZ)


class Resampler:
    """Another sample rate for one continuous signal; where it is cut changes no sample of it.

    The filter's delay is taken off, so that a moment stays the moment it was: what `feed` holds
    back, `finish` returns.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        # "HQ", for 16-bit sound: linear phase, stop band below what 16 bit can hold.
        self._stream = soxr.ResampleStream(
            SAMPLE_RATE_HZ, sample_rate_hz, 1, dtype="float32", quality="HQ"
        )
        self._rate_hz = sample_rate_hz
        self._fed = self._given = 0  # samples

    def feed(self, samples: F32) -> F32:
        """What of [n] more samples is settled, as [m]."""
        if len(samples) == 0:
            return samples
        return self._out(np.ascontiguousarray(samples, dtype=np.float32), last=False)

    def finish(self) -> F32:
        """The rest: as many as `resampled_samples` says in all."""
        missing = resampled_samples(self._fed, self._rate_hz) - self._given
        return self._out(np.zeros(0, np.float32), last=True)[:missing]

    def _out(self, samples: F32, *, last: bool) -> F32:
        resampled: F32 = self._stream.resample_chunk(samples, last=last)
        self._fed += len(samples)
        self._given += len(resampled)
        return resampled


class ResampledEncoder(Encoder):
    """An encoder that is fed samples at 24 kHz and makes a file of another rate."""

    def __init__(self, encoder: Encoder, sample_rate_hz: int) -> None:
        self._encoder = encoder
        self._resampler = Resampler(sample_rate_hz)
        self.start, self.close = encoder.start, encoder.close  # type: ignore[method-assign]

    def feed(self, samples: F32) -> bytes:
        return self._encoder.feed(self._resampler.feed(samples))

    def finish(self) -> bytes:
        rest = self._encoder.feed(self._resampler.finish())
        return rest + self._encoder.finish()
