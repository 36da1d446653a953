"""Identifies a file's container by its first bytes, before any decoder runs."""

import struct
from dataclasses import dataclass
from typing import Literal

from chatterbox.errors import ChatterboxError, UnreadableAudio, UnsupportedAudio
from chatterbox.voices.mpeg import first_frame, frame_at, skip_id3

ACCEPTED = "WAV (PCM or float), FLAC, OGG (Vorbis, Opus or FLAC), MP3, M4A/AAC and WebM"

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8

WAVE_FORMATS = {*((1, bits) for bits in (8, 16, 24, 32)), (3, 32), (3, 64)}
"""Accepted (tag, bits): PCM and float."""
WAVE_EXTENSIBLE = 0xFFFE
WAVE_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""Rest of the sub-format GUID of WAVE_FORMAT_EXTENSIBLE after the tag, for PCM and float."""
MAX_WAVE_CHUNKS = 64
"""Most chunks before `data`; real files have fewer than ten."""
HEAD_BYTES = 64  # the part of OGG and EBML files that names the codec
WAVE_UNKNOWN_BYTES = 1 << 30
"""A stated size of `data` of this or more, or of 0, means that the true size was not known."""


@dataclass(frozen=True, slots=True)
class Container:
    """An accepted container, its reader, and the accepted formats and codecs."""

    reader: Literal["libsndfile", "pyav"]
    formats: tuple[str, ...]  # libsndfile: names of the container; PyAV: the demuxer
    codecs: tuple[str, ...]  # libsndfile: subtypes; PyAV: codec names


WAV = Container(
    "libsndfile",
    ("WAV", "WAVEX"),
    ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
)
FLAC = Container("libsndfile", ("FLAC",), ("PCM_S8", "PCM_16", "PCM_24"))
OGG = Container("libsndfile", ("OGG",), ("VORBIS", "OPUS"))
OGG_FLAC = Container("pyav", ("ogg",), ("flac",))
MP3 = Container("libsndfile", ("MP3", "MPEG"), ("MPEG_LAYER_III",))
MP4 = Container("pyav", ("mp4",), ("aac", "alac", "mp3", "mp3float", "opus", "libopus"))
ADTS = Container("pyav", ("aac",), ("aac",))
WEBM = Container("pyav", ("matroska",), ("opus", "libopus", "vorbis", "libvorbis"))


def _unsupported(kind: str) -> ChatterboxError:
    return UnsupportedAudio(f"{kind} is not supported; send {ACCEPTED}.")


def check_shape(rate_hz: int, channels: int) -> None:
    """Raise UnsupportedAudio if the sample rate or the number of channels is out of bounds."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise UnsupportedAudio(
            f"The sample rate must be between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz, "
            f"this file has {rate_hz} Hz."
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnsupportedAudio(
            f"At most {MAX_CHANNELS} channels are supported, this file has {channels}."
        )


def sniff(data: bytes) -> Container:
    """Identify the container. Raises UnsupportedAudio or UnreadableAudio."""
    head = data[:HEAD_BYTES]
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        wave_data(data)
        return WAV
    if head[:4] == b"fLaC":
        return FLAC
    if head[:4] == b"OggS":
        if b"\x01vorbis" in head or b"OpusHead" in head:
            return OGG
        if b"\x7fFLAC" in head:
            return OGG_FLAC
        if len(head) < HEAD_BYTES:
            raise UnreadableAudio("The file ends inside its header.")
        raise _unsupported("OGG with another codec than Vorbis, Opus or FLAC")
    if head[4:8] == b"ftyp":
        return MP4
    if head[:4] == b"\x1a\x45\xdf\xa3":
        if b"webm" in head or b"matroska" in head:
            return WEBM
        raise _unsupported("This kind of file")
    return _sniff_mpeg(data)


def _sniff_mpeg(data: bytes) -> Container:
    at = first_frame(data)
    if at is None:
        if data[:3] != b"ID3":
            raise _unsupported("This kind of file" if data else "An empty file")
        if not 0 < skip_id3(data) < len(data):
            raise UnreadableAudio("The file ends inside its tag.")
        raise _unsupported("The data after this file's ID3 tag")
    frame = frame_at(data, at)
    return ADTS if frame is not None and frame.kind == "adts" else MP3


@dataclass(frozen=True, slots=True)
class WaveData:
    """The `data` chunk of a WAV file."""

    at: int  # offset of the first sample
    size: int  # bytes according to the header, which may be wrong
    frame_bytes: int

    @property
    def frames(self) -> int | None:
        """Length according to the header; None if the header states none."""
        return self.size // self.frame_bytes if 0 < self.size < WAVE_UNKNOWN_BYTES else None


def wave_data(data: bytes) -> WaveData:
    """Find the samples of a WAV file. Raises UnsupportedAudio or UnreadableAudio unless exactly one
    `fmt ` chunk, of PCM or float, precedes the samples."""
    frame_bytes = 0
    at = 12
    for _ in range(MAX_WAVE_CHUNKS):
        head = data[at : at + 8]
        if len(head) < 8:
            raise UnreadableAudio("The WAV file ends before its samples.")
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            if not frame_bytes:
                raise UnreadableAudio("The WAV file has no format header.")
            return WaveData(at + 8, size, frame_bytes)
        if name == b"fmt ":
            if frame_bytes:
                raise _unsupported("A WAV file with two format headers")
            frame_bytes = _wave_frame_bytes(data[at + 8 : at + 8 + size])
        at += 8 + size + (size & 1)
    raise UnreadableAudio("The WAV file's samples were not found.")


def _wave_frame_bytes(fmt: bytes) -> int:
    """Return the bytes per frame, one sample of each channel. Raises as `wave_data` does."""
    if len(fmt) < 16:
        raise UnreadableAudio("The WAV file's format header is cut short.")
    tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", fmt[:16])
    if tag == WAVE_EXTENSIBLE and fmt[26:40] == WAVE_GUID_TAIL:
        tag = int.from_bytes(fmt[24:26], "little")
    if (tag, bits) not in WAVE_FORMATS:
        raise _unsupported("WAV with this codec")
    check_shape(rate_hz, channels)
    return int(channels * bits // 8)
