"""Which reader may open these bytes? Decided from their first bytes, before any decoder runs.

Knows no decoder: it only reads headers, and refuses every container that is not on its list.
"""

import struct
from dataclasses import dataclass
from typing import Literal

from chatterbox.errors import UnreadableAudio, UnsupportedAudio

ReaderName = Literal["libsndfile", "pyav"]

ACCEPTED = "WAV (PCM or float), FLAC, OGG (Vorbis or Opus), MP3, M4A/AAC and WebM"

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
ID3_HEADER_BYTES = 10


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
MP3 = Container("libsndfile", ("MP3", "MPEG"), ("MPEG_LAYER_III",))
MP4 = Container("pyav", ("mp4",), ("aac", "alac", "mp3", "mp3float", "opus", "libopus"))
ADTS = Container("pyav", ("aac",), ("aac",))
WEBM = Container("pyav", ("matroska",), ("opus", "libopus", "vorbis", "libvorbis"))


def _refused(what: str) -> UnsupportedAudio:
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
    if data[:3] == b"ID3":
        return _after_id3(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        _check_wave(data)
        return WAV
    if data[:4] == b"fLaC":
        return FLAC
    if data[:4] == b"OggS":
        return _ogg(data[:OGG_HEAD_BYTES])
    if data[4:8] == b"ftyp":
        return MP4
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return _ebml(data[:EBML_HEAD_BYTES])
    found = _mpeg_audio(data[:4])
    if found is None:
        raise _refused("This kind of file" if data else "An empty file")
    return found


def _mpeg_audio(head: bytes) -> Container | None:
    """MP3 or ADTS by the sync word, layer and the header values that no real frame has."""
    if len(head) < 3 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 == 0xF0:
        return ADTS if (head[2] >> 2) & 0xF < 13 else None  # 13 sample rates are defined
    version, layer = (head[1] >> 3) & 3, (head[1] >> 1) & 3
    bitrate, rate = head[2] >> 4, (head[2] >> 2) & 3
    is_mp3 = head[1] & 0xE0 == 0xE0 and version != 1 and layer == 1
    return MP3 if is_mp3 and bitrate != 15 and rate != 3 else None


def _after_id3(data: bytes) -> Container:
    """An ID3 tag stands before MP3, sometimes before AAC; what counts is what follows it."""
    if len(data) < ID3_HEADER_BYTES:
        raise UnreadableAudio("The file ends inside its tag.", param="voice_file")
    size = 0
    for byte in data[6:ID3_HEADER_BYTES]:
        size = size << 7 | byte & 0x7F
    body = data[ID3_HEADER_BYTES + size :][:4]
    if not body:
        raise UnreadableAudio("The file ends inside its tag.", param="voice_file")
    found = _mpeg_audio(body)
    if found is None:
        raise _refused("What follows this file's ID3 tag")
    return found


def _ogg(head: bytes) -> Container:
    if b"\x01vorbis" in head or b"OpusHead" in head:
        return OGG
    if len(head) < OGG_HEAD_BYTES:
        raise UnreadableAudio("The file ends inside its header.", param="voice_file")
    raise _refused("OGG with another codec than Vorbis or Opus")


def _ebml(head: bytes) -> Container:
    if b"webm" in head or b"matroska" in head:
        return WEBM
    raise _refused("This kind of file")


def _check_wave(data: bytes) -> None:
    """Raises unless there is exactly one `fmt ` before `data` and it says plain PCM or float."""
    fmt: bytes | None = None
    at = 12
    for _ in range(MAX_WAVE_CHUNKS):
        head = data[at : at + 8]
        if len(head) < 8:
            raise UnreadableAudio("The WAV file ends before its samples.", param="voice_file")
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            if fmt is None:
                raise UnreadableAudio("The WAV file has no format header.", param="voice_file")
            return
        if name == b"fmt ":
            if fmt is not None:
                raise _refused("A WAV file with two format headers")
            fmt = data[at + 8 : at + 8 + size]
            _check_wave_format(fmt)
        at += 8 + size + (size & 1)
    raise UnreadableAudio("The WAV file's samples were not found.", param="voice_file")


def _check_wave_format(fmt: bytes) -> None:
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
