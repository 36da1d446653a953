"""Tells a file's container from its first bytes, before any decoder runs; refuses unlisted ones."""

import struct
from dataclasses import dataclass
from typing import Literal

from chatterbox.errors import ChatterboxError, UnreadableAudio, UnsupportedAudio
from chatterbox.voices.mpeg import after_id3, first_frame, frame_at

ReaderName = Literal["libsndfile", "pyav"]

ACCEPTED = "WAV (PCM or float), FLAC, OGG (Vorbis, Opus or FLAC), MP3, M4A/AAC and WebM"

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8

WAVE_PCM = 0x0001
WAVE_FLOAT = 0x0003
WAVE_EXTENSIBLE = 0xFFFE
WAVE_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format tag in WAVE_FORMAT_EXTENSIBLE's sub-format GUID for PCM and float."""
WAVE_FMT_BYTES = 16
WAVE_EXTENSIBLE_BYTES = 40
MAX_WAVE_CHUNKS = 64
"""Chunks looked at before `data`; real files have fewer than ten."""
OGG_HEAD_BYTES = 64
EBML_HEAD_BYTES = 64
WAVE_UNKNOWN_BYTES = 1 << 30
"""A size of `data` from here on, or 0, says nothing: the writer did not know it yet."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container on the list: who reads it, and what the reader must find once it is open."""

    reader: ReaderName
    formats: tuple[str, ...]  # libsndfile's names of it; PyAV: the one demuxer that may open it
    codecs: tuple[str, ...]  # libsndfile's subtypes; PyAV: codec names


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


def _refused(what: str) -> ChatterboxError:
    return UnsupportedAudio(f"{what} is not read here; send {ACCEPTED}.", param="voice_file")


def check_shape(rate_hz: int, channels: int) -> None:
    """Raises UnsupportedAudio unless the header's rate and channel count are within bounds."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise UnsupportedAudio(
            f"The sample rate must be between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz, "
            f"this file says {rate_hz}.",
            param="voice_file",
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnsupportedAudio(
            f"At most {MAX_CHANNELS} channels are read, this file says {channels}.",
            param="voice_file",
        )


def sniff(data: bytes) -> Container:
    """The container that `data` claims to be. Raises UnsupportedAudio or UnreadableAudio."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        wave_data(data)
        return WAV
    if data[:4] == b"fLaC":
        return FLAC
    if data[:4] == b"OggS":
        return _ogg(data[:OGG_HEAD_BYTES])
    if data[4:8] == b"ftyp":
        return MP4
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return _ebml(data[:EBML_HEAD_BYTES])
    return _mpeg_audio(data)


def _mpeg_audio(data: bytes) -> Container:
    """MP3 or ADTS, which may begin with a tag, zeros or the rest of a frame."""
    at = first_frame(data)
    if at is None:
        if data[:3] != b"ID3":
            raise _refused("This kind of file" if data else "An empty file")
        if not 0 < after_id3(data) < len(data):
            raise UnreadableAudio("The file ends inside its tag.", param="voice_file")
        raise _refused("What follows this file's ID3 tag")
    frame = frame_at(data, at)
    return ADTS if frame is not None and frame.kind == "adts" else MP3


def _ogg(head: bytes) -> Container:
    if b"\x01vorbis" in head or b"OpusHead" in head:
        return OGG
    if b"\x7fFLAC" in head:
        return OGG_FLAC
    if len(head) < OGG_HEAD_BYTES:
        raise UnreadableAudio("The file ends inside its header.", param="voice_file")
    raise _refused("OGG with another codec than Vorbis, Opus or FLAC")


def _ebml(head: bytes) -> Container:
    if b"webm" in head or b"matroska" in head:
        return WEBM
    raise _refused("This kind of file")


@dataclass(frozen=True, slots=True)
class WaveData:
    """A WAV file's samples."""

    at: int  # where the first one is
    size: int  # bytes by the header; it may say more than there are, or nothing
    frame_bytes: int

    @property
    def frames(self) -> int | None:
        """By the header; None where it says nothing."""
        return self.size // self.frame_bytes if 0 < self.size < WAVE_UNKNOWN_BYTES else None


def wave_data(data: bytes) -> WaveData:
    """Raises unless there is exactly one `fmt ` before `data` and it says plain PCM or float."""
    fmt: bytes | None = None
    frame_bytes = 0
    at = 12
    for _ in range(MAX_WAVE_CHUNKS):
        head = data[at : at + 8]
        if len(head) < 8:
            raise UnreadableAudio("The WAV file ends before its samples.", param="voice_file")
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            if fmt is None:
                raise UnreadableAudio("The WAV file has no format header.", param="voice_file")
            return WaveData(at + 8, size, frame_bytes)
        if name == b"fmt ":
            if fmt is not None:
                raise _refused("A WAV file with two format headers")
            fmt = data[at + 8 : at + 8 + size]
            frame_bytes = _wave_frame_bytes(fmt)
        at += 8 + size + (size & 1)
    raise UnreadableAudio("The WAV file's samples were not found.", param="voice_file")


def _wave_frame_bytes(fmt: bytes) -> int:
    """Bytes of one sample of each channel. Raises unless the format is on the list."""
    if len(fmt) < WAVE_FMT_BYTES:
        raise UnreadableAudio("The WAV file's format header is cut short.", param="voice_file")
    tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", fmt[:WAVE_FMT_BYTES])
    if tag == WAVE_EXTENSIBLE:
        if len(fmt) < WAVE_EXTENSIBLE_BYTES or fmt[26:40] != WAVE_GUID_TAIL:
            raise _refused("WAV with this codec")
        tag = int.from_bytes(fmt[24:26], "little")
    if (tag, bits) not in {
        *((WAVE_PCM, b) for b in (8, 16, 24, 32)),
        *((WAVE_FLOAT, b) for b in (32, 64)),
    }:
        raise _refused("WAV with this codec")
    check_shape(rate_hz, channels)
    return int(channels * bits // 8)
