"""Tells a file's container from its first bytes, before any decoder runs; refuses unlisted ones.

Of MP3 and ADTS it knows what the headers of frames say, four to seven bytes each; decodes nothing.
"""

import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from chatterbox.errors import ChatterboxError, UnreadableAudio, UnsupportedAudio

ACCEPTED = "WAV (PCM or float), FLAC, OGG (Vorbis, Opus or FLAC), MP3, M4A/AAC and WebM"

MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8

WAVE_FORMATS = {*((1, bits) for bits in (8, 16, 24, 32)), (3, 32), (3, 64)}
"""(tag, bits): PCM and float."""
WAVE_EXTENSIBLE = 0xFFFE
WAVE_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
"""What follows the format tag in WAVE_FORMAT_EXTENSIBLE's sub-format GUID for PCM and float."""
MAX_WAVE_CHUNKS = 64
"""Chunks looked at before `data`; real files have fewer than ten."""
HEAD_BYTES = 64  # of OGG and EBML files, in which the codec is named
WAVE_UNKNOWN_BYTES = 1 << 30
"""A size of `data` from here on, or 0, says nothing: the writer did not know it yet."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container on the list: who reads it, and what the reader must find once it is open."""

    reader: Literal["libsndfile", "pyav"]
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


def unreadable(why: str) -> ChatterboxError:
    """The error for a file that is damaged or cut short."""
    return UnreadableAudio(why, param="voice_file")


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
            raise unreadable("The file ends inside its header.")
        raise _refused("OGG with another codec than Vorbis, Opus or FLAC")
    if head[4:8] == b"ftyp":
        return MP4
    if head[:4] == b"\x1a\x45\xdf\xa3":
        if b"webm" in head or b"matroska" in head:
            return WEBM
        raise _refused("This kind of file")
    return _mpeg_audio(data)


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
    frame_bytes = 0
    at = 12
    for _ in range(MAX_WAVE_CHUNKS):
        head = data[at : at + 8]
        if len(head) < 8:
            raise unreadable("The WAV file ends before its samples.")
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            if not frame_bytes:
                raise unreadable("The WAV file has no format header.")
            return WaveData(at + 8, size, frame_bytes)
        if name == b"fmt ":
            if frame_bytes:
                raise _refused("A WAV file with two format headers")
            frame_bytes = _wave_frame_bytes(data[at + 8 : at + 8 + size])
        at += 8 + size + (size & 1)
    raise unreadable("The WAV file's samples were not found.")


def _wave_frame_bytes(fmt: bytes) -> int:
    """Bytes of one sample of each channel. Raises unless the format is on the list."""
    if len(fmt) < 16:
        raise unreadable("The WAV file's format header is cut short.")
    tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", fmt[:16])
    if tag == WAVE_EXTENSIBLE and fmt[26:40] == WAVE_GUID_TAIL:
        tag = int.from_bytes(fmt[24:26], "little")
    if (tag, bits) not in WAVE_FORMATS:
        raise _refused("WAV with this codec")
    check_shape(rate_hz, channels)
    return int(channels * bits // 8)


SYNC = re.compile(rb"\xff[\xe0-\xff]")
NOT_ZERO = re.compile(rb"[^\0]")
MAX_JUNK_BYTES = 64 * 1024
"""Looked through for the next frame, zeros and tags not counted; a frame has at most 8 KiB."""
ID3_HEADER_BYTES = 10
MAX_TAGS = 16
"""One behind the other; real files have one or two."""

KBPS_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KBPS_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""By the header's two bits of version: MPEG-1, MPEG-2, MPEG-2.5."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the header of a frame of MP3 or ADTS says."""

    kind: Literal["mp3", "adts"]
    size: int  # bytes, the header included; 0 where it does not say ("free format")
    format: tuple[int, ...]  # equal in all frames of one file
    info_at: int = 0  # where the first frame of an MP3 file may have its Xing or Info tag


def _mpeg_audio(data: bytes) -> Container:
    """MP3 or ADTS, which may begin with a tag, zeros or the rest of a frame."""
    at = first_frame(data)
    if at is None:
        if data[:3] != b"ID3":
            raise _refused("This kind of file" if data else "An empty file")
        if not 0 < _after_id3(data) < len(data):
            raise unreadable("The file ends inside its tag.")
        raise _refused("What follows this file's ID3 tag")
    frame = frame_at(data, at)
    return ADTS if frame is not None and frame.kind == "adts" else MP3


def frame_at(data: bytes, at: int = 0) -> Frame | None:
    """The frame whose header is at `at`."""
    head = data[at : at + 7]
    if len(head) < 4 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 != 0xF0:
        return _mp3(head[1], head[2], head[3])
    rate = head[2] >> 2 & 0xF
    if rate > 12:
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if len(head) == 7 else 0
    return Frame("adts", size, (head[1], rate))


@lru_cache(4096)
def _mp3(second: int, third: int, fourth: int) -> Frame | None:
    version, layer = second >> 3 & 3, second >> 1 & 3
    bitrate, rate = third >> 4, third >> 2 & 3
    if second & 0xE0 != 0xE0 or version == 1 or layer != 1 or bitrate == 15 or rate == 3:
        return None
    first = version == 3
    kbps = (KBPS_V1 if first else KBPS_V2)[bitrate]
    mono = fourth >> 6 == 3
    size = (144 if first else 72) * 1000 * kbps // RATES_HZ[version][rate] + (third >> 1 & 1)
    side_info = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame("mp3", size if kbps else 0, (version, rate, mono), 4 + side_info)


def _after_id3(data: bytes, at: int = 0) -> int:
    """The end of the ID3 tags that begin at `at`; `at` where there are none."""
    for _ in range(MAX_TAGS):
        if data[at : at + 3] != b"ID3" or len(data) < at + ID3_HEADER_BYTES:
            break
        size = 0
        for byte in data[at + 6 : at + ID3_HEADER_BYTES]:
            size = size << 7 | byte & 0x7F
        at += ID3_HEADER_BYTES + size
    return at


def first_frame(data: bytes) -> int | None:
    """Where the sound begins: behind tags, zeros and the rest of a frame; None: nowhere."""
    at = _after_id3(data)
    found = at if _is_chain(data, at) else find_frames(data, at)
    return at if found is None and frame_at(data, at) else found


def find_frames(data: bytes, at: int) -> int | None:
    """Where, from `at` on, several frames follow each other; None where that is far or nowhere."""
    sound = NOT_ZERO.search(data, at)
    if sound is None:
        return None
    at = _after_id3(data, sound.start())
    syncs = (sync.start() for sync in SYNC.finditer(data, at, at + MAX_JUNK_BYTES))
    return next((sync for sync in syncs if _is_chain(data, sync)), None)


def _is_chain(data: bytes, at: int) -> bool:
    frame = first = frame_at(data, at)
    for _ in range(2):  # three frames in a row are no accident
        if frame is None or not frame.size:
            return False
        at += frame.size
        frame = frame_at(data, at)
    return frame is not None and first is not None and frame.format == first.format
