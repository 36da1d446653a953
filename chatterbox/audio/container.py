"""Encoders of the formats that need a codec and a container, through PyAV."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import av
import av.container

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.wave import PcmEncoder, to_int16


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


class ContainerEncoder(PcmEncoder):
    """Samples go in as frames, packets come out as they are made."""

    def __init__(
        self,
        coding: Coding,
        sample_rate_hz: int,
        total_samples: int | None,
        bit_rate: int | None = None,
    ) -> None:
        super().__init__(sample_rate_hz, total_samples)
        self._sink = _Sink()
        options = {**_EVERY_MUXER, **coding.muxer_options}
        container = av.open(self._sink, "w", format=coding.muxer, options=options)
        stream = container.add_stream(
            coding.codec,
            rate=sample_rate_hz,
            layout="mono",
            options={**_EVERY_CODEC, **coding.codec_options},
        )
        if (wanted := bit_rate or coding.bit_rate) is not None:
            stream.bit_rate = wanted
        self._open: tuple[av.container.OutputContainer, av.AudioStream] | None = container, stream

    def start(self) -> bytes:
        """The container's header."""
        container, _ = self._opened()
        container.start_encoding()
        return self._sink.take()

    def feed(self, samples: F32) -> bytes:
        """Packets that became complete; the rest waits for more samples."""
        if len(samples) == 0:
            return b""
        frame = av.AudioFrame.from_ndarray(to_int16(samples)[None, :], format="s16", layout="mono")
        frame.sample_rate = self._sample_rate_hz
        frame.pts = self._fed_samples
        self._fed_samples += len(samples)
        container, stream = self._opened()
        container.mux(stream.encode(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        """The last packets and the container's trailer."""
        super().finish()
        container, stream = self._opened()
        container.mux(stream.encode(None))
        self.close()
        return self._sink.take()

    def close(self) -> None:
        """Container and codec refer to each other: left alone they stay, with 7 MiB for FLAC and
        two threads, until Python's garbage collector comes by."""
        opened, self._open = self._open, None
        if opened is not None:
            opened[0].close()

    def _opened(self) -> tuple[av.container.OutputContainer, av.AudioStream]:
        assert self._open is not None, "a closed encoder takes nothing"
        return self._open


_FLAC_TOTAL_OFFSET = 21
"""Byte of a FLAC file in whose low half the 36-bit count of samples begins (RFC 9639, 8.2)."""
_FLAC_TOTAL_LIMIT = 1 << 36


class FlacEncoder(ContainerEncoder):
    """Lossless at 16 bit."""

    def __init__(self, sample_rate_hz: int, total_samples: int | None) -> None:
        super().__init__(FLAC, sample_rate_hz, total_samples)

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
