"""Encoders that turn a stream of float32 samples at 24 kHz into a file, piece by piece."""

import struct
from collections.abc import Mapping
from types import MappingProxyType

import av
import av.container
import numpy as np
import soxr
from numpy.typing import NDArray

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

INT16_SCALE = 32767
"""Integer value of 1.0. -1.0 becomes -32767, so that negating a signal negates its samples."""
SAMPLE_BYTES = 2
UNKNOWN_SIZE = 0xFFFF_FFFF
"""Value of both size fields in a WAV of unknown length, which players read until its end."""
_RIFF_OVERHEAD_BYTES = 36  # between the RIFF size field and the first sample

USUAL_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
TELEPHONE_RATES_HZ = (8000,)  # ITU-T G.711


def to_int16(samples: F32) -> NDArray[np.int16]:
    """Convert [n] float32 samples to int16. NaN and infinities become silence; other values are
    clipped, since a cast would wrap around. No dither: equal samples give equal bytes."""
    assert samples.ndim == 1, f"mono samples expected, got shape {samples.shape}"
    finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    clipped = np.clip(finite, -1.0, 1.0)
    return np.rint(clipped * INT16_SCALE).astype("<i2")


def resampled_samples(samples: int, sample_rate_hz: int) -> int:
    """Return the number of samples after resampling from 24 kHz, with halves rounded down. soxr
    rounds halves up or down; a surplus sample can be dropped, a missing one cannot be added."""
    return (2 * samples * sample_rate_hz + SAMPLE_RATE_HZ - 1) // (2 * SAMPLE_RATE_HZ)


class Resampler:
    """Resamples a continuous signal from 24 kHz. The result does not depend on how the signal is
    cut into pieces, and has no delay: `finish` returns the samples that `feed` holds back."""

    def __init__(self, sample_rate_hz: int) -> None:
        # "HQ": linear phase, stop band below the resolution of 16 bits.
        self._stream = soxr.ResampleStream(
            SAMPLE_RATE_HZ, sample_rate_hz, 1, dtype="float32", quality="HQ"
        )
        self._rate_hz = sample_rate_hz
        self._fed = self._returned = 0  # numbers of samples

    def feed(self, samples: F32, *, last: bool = False) -> F32:
        """Add [n] samples. Returns the [m] resampled ones that are ready."""
        chunk = np.ascontiguousarray(samples, dtype=np.float32)
        resampled: F32 = self._stream.resample_chunk(chunk, last=last)
        self._fed += len(samples)
        self._returned += len(resampled)
        return resampled

    def finish(self) -> F32:
        """Return the remaining samples, so that the total is `resampled_samples`."""
        missing = resampled_samples(self._fed, self._rate_hz) - self._returned
        return self.feed(np.zeros(0, np.float32), last=True)[:missing]


class Encoder:
    """Encodes one file. Call `start`, then `feed` any number of times, then `finish` and `close`.
    The bytes that the first three return are the file.

    This class makes headerless signed 16-bit little-endian PCM; subclasses make other formats.
    """

    media_type = "audio/pcm"
    rates_hz: tuple[int, ...] = USUAL_RATES_HZ
    default_bit_rate: int | None = None  # bits per second; None if the format has only one

    def __init__(
        self, sample_rate_hz: int, total_samples: int | None, bit_rate: int | None = None
    ) -> None:
        """`total_samples` is the exact number at 24 kHz, or None if unknown."""
        self._sample_rate_hz = sample_rate_hz
        self._bit_rate = bit_rate or self.default_bit_rate
        self._resampler = None if sample_rate_hz == SAMPLE_RATE_HZ else Resampler(sample_rate_hz)
        self._total_samples = total_samples  # at the sample rate of the file
        if total_samples is not None:
            self._total_samples = resampled_samples(total_samples, sample_rate_hz)
        self._encoded_samples = 0

    def start(self) -> bytes:
        """Return the file's header."""
        return b""

    def feed(self, samples: F32) -> bytes:
        """Add [n] samples at 24 kHz. Returns the encoded bytes that are ready."""
        return self._encode_counted(self._resampler.feed(samples) if self._resampler else samples)

    def finish(self) -> bytes:
        """Return the bytes held back, and those that follow the last sample."""
        rest = self._encode_counted(self._resampler.finish()) if self._resampler else b""
        count, total = self._encoded_samples, self._total_samples
        assert total in (None, count), f"{count} samples, not {total}"
        return rest + self._flush()

    def close(self) -> None:
        """Release the codec's memory: megabytes that garbage collection would free late. Can be
        called at any time and repeatedly."""

    def _encode_counted(self, samples: F32) -> bytes:
        if len(samples) == 0:
            return b""
        data = self._encode(to_int16(samples))
        self._encoded_samples += len(samples)
        return data

    def _encode(self, samples: NDArray[np.int16]) -> bytes:
        return samples.tobytes()

    def _flush(self) -> bytes:
        return b""


def wav_header(sample_rate_hz: int, total_samples: int | None) -> bytes:
    """Return the 44 bytes before the first sample."""
    data_bytes = UNKNOWN_SIZE if total_samples is None else total_samples * SAMPLE_BYTES
    riff_bytes = data_bytes + _RIFF_OVERHEAD_BYTES
    if riff_bytes >= UNKNOWN_SIZE:  # unknown, or too large for the field
        data_bytes = riff_bytes = UNKNOWN_SIZE
    rates = (sample_rate_hz, sample_rate_hz * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    form = struct.pack("<IHHIIHH", 16, 1, 1, *rates)  # 16 bytes of integer PCM, one channel
    riff = struct.pack("<4sI4s4s", b"RIFF", riff_bytes, b"WAVE", b"fmt ")
    return riff + form + struct.pack("<4sI", b"data", data_bytes)


class WavEncoder(Encoder):
    """PCM after a WAV header, which states the length if it is known."""

    media_type = "audio/wav"

    def start(self) -> bytes:
        return wav_header(self._sample_rate_hz, self._total_samples)


_EVERY_MUXER = {
    "flush_packets": "1",  # send each packet at once instead of filling a buffer
    "fflags": "+bitexact",  # no random serial numbers: equal samples give equal bytes
}
_EVERY_CODEC = {"flags": "+bitexact"}  # no library version in the file


class _Sink:
    """Write-only file for FFmpeg. Without `seek`, FFmpeg cannot rewrite bytes already sent."""

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
    """Encodes through PyAV. Subclasses name the codec and the container as FFmpeg does."""

    muxer: str
    codec: str
    muxer_options: Mapping[str, str] = {}
    codec_options: Mapping[str, str] = {}

    def __init__(
        self, sample_rate_hz: int, total_samples: int | None, bit_rate: int | None = None
    ) -> None:
        super().__init__(sample_rate_hz, total_samples, bit_rate)
        self._sink = _Sink()
        options = {**_EVERY_MUXER, **self.muxer_options}
        container = av.open(self._sink, "w", format=self.muxer, options=options)
        options = {**_EVERY_CODEC, **self.codec_options}
        stream = container.add_stream(
            self.codec, rate=sample_rate_hz, layout="mono", options=options
        )
        if self._bit_rate is not None:
            stream.bit_rate = self._bit_rate
        self._open: tuple[av.container.OutputContainer, av.AudioStream] | None = container, stream

    def start(self) -> bytes:
        assert self._open is not None, "the encoder is closed"
        self._open[0].start_encoding()
        return self._sink.take()

    def close(self) -> None:
        """Release container and codec. They refer to each other, so otherwise they keep up to 7 MiB
        and two threads until Python's garbage collector runs."""
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def _encode(self, samples: NDArray[np.int16]) -> bytes:
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
        frame.sample_rate = self._sample_rate_hz
        frame.pts = self._encoded_samples
        return self._packets(frame)

    def _flush(self) -> bytes:
        rest = self._packets(None)
        self.close()
        return rest + self._sink.take()

    def _packets(self, frame: av.AudioFrame | None) -> bytes:
        assert self._open is not None, "the encoder is closed"
        container, stream = self._open
        container.mux(stream.encode(frame))
        return self._sink.take()


class Mp3Encoder(ContainerEncoder):
    """MP3 by LAME."""

    media_type, muxer, codec = "audio/mpeg", "mp3", "libmp3lame"
    # FFmpeg would complete both headers at the end, in bytes already sent.
    muxer_options = MappingProxyType({"write_xing": "0", "id3v2_version": "0"})
    # Level 7 takes half the time of LAME's default, 5, with the same error: 26 dB below speech.
    codec_options = MappingProxyType({"compression_level": "7"})
    default_bit_rate = 96_000  # LAME takes the nearest bit rate of MPEG at the sample rate


class OpusEncoder(ContainerEncoder):
    """Opus in Ogg."""

    media_type, muxer, codec = "audio/ogg", "ogg", "libopus"
    rates_hz = (8000, 12000, 16000, 24000, 48000)  # RFC 6716, 2
    # In µs: one packet per page. FFmpeg's default of a second would delay the audio.
    muxer_options = MappingProxyType({"page_duration": "20000"})
    codec_options = MappingProxyType({"application": "audio"})  # "voip" filters the signal
    default_bit_rate = 64_000


class AacEncoder(ContainerEncoder):
    """AAC in ADTS."""

    media_type, muxer, codec = "audio/aac", "adts", "aac"
    codec_options = MappingProxyType({"aac_coder": "fast"})  # slower coders have larger errors
    default_bit_rate = 96_000


class MuLawEncoder(ContainerEncoder):
    """Headerless G.711 µ-law."""

    media_type, muxer, codec = "audio/basic", "mulaw", "pcm_mulaw"
    rates_hz = TELEPHONE_RATES_HZ


class ALawEncoder(ContainerEncoder):
    """Headerless G.711 A-law."""

    media_type, muxer, codec = "audio/PCMA", "alaw", "pcm_alaw"
    rates_hz = TELEPHONE_RATES_HZ


_FLAC_TOTAL = slice(21, 26)
"""Bytes of a FLAC header whose low 36 bits are the number of samples (RFC 9639, 8.2)."""


class FlacEncoder(ContainerEncoder):
    """FLAC with 16 bits."""

    media_type, muxer, codec = "audio/flac", "flac", "flac"
    muxer_options = MappingProxyType({"metadata_header_padding": "0"})  # else 8 KiB of zeros
    # 40 ms. FFmpeg's default at 24 kHz is 96 ms, which would delay the first audio.
    codec_options = MappingProxyType({"frame_size": str(SAMPLE_RATE_HZ // 25)})

    def start(self) -> bytes:
        """Return the header with the length, if known. FFmpeg would write the length at the end,
        into bytes already sent."""
        header = bytearray(super().start())
        assert header[:4] == b"fLaC", "the stream does not begin as FLAC"
        if self._total_samples is not None:
            field = int.from_bytes(header[_FLAC_TOTAL], "big") | self._total_samples
            header[_FLAC_TOTAL] = field.to_bytes(5, "big")
        return bytes(header)
