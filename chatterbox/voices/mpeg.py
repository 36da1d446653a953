"""Finds MP3 and ADTS frames by their headers, and splits joined MP3 files.

Reads only the headers, of four to seven bytes; decodes no audio.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

SYNC = re.compile(rb"\xff[\xe0-\xff]")
NOT_ZERO = re.compile(rb"[^\0]")
MAX_JUNK_BYTES = 64 * 1024
"""Most bytes searched for the next frame, not counting zeros and tags; a frame has up to 8 KiB."""
ID3_HEADER_BYTES = 10
MAX_TAGS = 16
"""Most consecutive ID3 tags that are skipped; real files have one or two."""
MAX_GAPS = 32
"""Most gaps between frames in one file; frames after further gaps are not read."""
SHORTEST_FRAME_S = 0.024
"""Duration of the shortest frame: 576 samples at 24 kHz, or 1152 at 48 kHz."""
XING = (b"Xing", b"Info")

KBPS_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KBPS_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates by the version bits of the header: MPEG-1, MPEG-2, MPEG-2.5."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The header of a frame."""

    kind: Literal["mp3", "adts"]
    size: int  # bytes, header included; 0 if unknown ("free format")
    format: tuple[int, ...]  # equal in all frames of a file
    info_at: int = 0  # offset of the Xing or Info tag, in the first frame of an MP3 file


def frame_at(data: bytes, at: int = 0) -> Frame | None:
    """Parse the frame header at an offset. Returns None if there is no header."""
    head = data[at : at + 7]
    if len(head) < 4 or head[0] != 0xFF:
        return None
    if head[1] & 0xF6 != 0xF0:
        return _mp3_frame(head[1], head[2], head[3])
    rate = head[2] >> 2 & 0xF
    if rate > 12:
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if len(head) == 7 else 0
    return Frame("adts", size, (head[1], rate))


@lru_cache(4096)
def _mp3_frame(second: int, third: int, fourth: int) -> Frame | None:
    version, layer = second >> 3 & 3, second >> 1 & 3
    bitrate, rate = third >> 4, third >> 2 & 3
    if second & 0xE0 != 0xE0 or version == 1 or layer != 1 or bitrate == 15 or rate == 3:
        return None
    mpeg1, mono = version == 3, fourth >> 6 == 3
    kbps = (KBPS_V1 if mpeg1 else KBPS_V2)[bitrate]
    size = (144 if mpeg1 else 72) * 1000 * kbps // RATES_HZ[version][rate] + (third >> 1 & 1)
    side_info = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    return Frame("mp3", size if kbps else 0, (version, rate, mono), 4 + side_info)


def first_frame(data: bytes) -> int | None:
    """Return the offset of the first frame, after tags, zeros and the rest of a cut frame, or
    None."""
    at = skip_id3(data)
    found = at if _is_chain(data, at) else find_frames(data, at)
    return at if found is None and frame_at(data, at) else found


def skip_id3(data: bytes, at: int = 0) -> int:
    """Return the end of the ID3 tags that begin at an offset, or the offset if there are none."""
    for _ in range(MAX_TAGS):
        if data[at : at + 3] != b"ID3" or len(data) < at + ID3_HEADER_BYTES:
            break
        size = 0
        for byte in data[at + 6 : at + ID3_HEADER_BYTES]:
            size = size << 7 | byte & 0x7F
        at += ID3_HEADER_BYTES + size
    return at


def find_frames(data: bytes, at: int) -> int | None:
    """Return the offset of the next three frames in a row, or None if there are none within
    MAX_JUNK_BYTES."""
    content = NOT_ZERO.search(data, at)
    if content is None:
        return None
    at = skip_id3(data, content.start())
    syncs = (sync.start() for sync in SYNC.finditer(data, at, at + MAX_JUNK_BYTES))
    return next((sync for sync in syncs if _is_chain(data, sync)), None)


def _is_chain(data: bytes, at: int) -> bool:
    """Return whether three frames of one format follow each other; fewer can be a coincidence."""
    frame = first = frame_at(data, at)
    for _ in range(2):
        if frame is None or not frame.size:
            return False
        at += frame.size
        frame = frame_at(data, at)
    return frame is not None and first is not None and frame.format == first.format


def mp3_files(data: bytes, max_seconds: float) -> Iterator[bytes]:
    """Split joined MP3 files, and drop everything between the frames.

    A file begins at a Xing, Info or VBRI tag, at a change of format, and after the number of frames
    in the previous tag. Stops at twice `max_seconds`, since decoders drop a few frames of each
    file."""
    frames: list[bytes] = []
    format_, promised = None, 0  # promised: frames according to the file's tag; 0 if unknown
    for at, frame in islice(_mp3_frames(data), 10 + int(2 * max_seconds / SHORTEST_FRAME_S)):
        tag = _frames_by_tag(data, at, frame)
        ended = promised and len(frames) > promised  # the tag's own frame is not counted
        if frames and (ended or tag is not None or frame.format != format_):
            yield _with_tag(frames, promised)
            frames, promised = [], 0
        promised = tag or promised
        frames.append(data[at : at + frame.size])
        format_ = frame.format
    yield _with_tag(frames, promised) if frames else data  # unchanged if the sizes are unknown


def _mp3_frames(data: bytes) -> Iterator[tuple[int, Frame]]:
    at = first_frame(data)
    gaps = 0
    while at is not None and gaps <= MAX_GAPS:
        frame = frame_at(data, at)
        if frame and frame.kind == "mp3" and frame.size:
            yield at, frame
            at += frame.size
        else:
            gaps += 1
            at = find_frames(data, at)


def _frames_by_tag(data: bytes, at: int, frame: Frame) -> int | None:
    """Return the number of following frames according to the tag in this frame; 0 if the tag does
    not state the number, None if there is no tag."""
    xing = data[at + frame.info_at : at + frame.info_at + 12]
    vbri = data[at + 36 : at + 54]
    if xing[:4] in XING:
        return int.from_bytes(xing[8:], "big") if xing[7:8] and xing[7] & 1 else 0
    return int.from_bytes(vbri[14:], "big") if vbri[:4] == b"VBRI" else None


def _with_tag(frames: list[bytes], promised: int) -> bytes:
    """Join frames after an Info tag. Without the tag, libsndfile assumes the first frame's bit rate
    for all frames, and stops where a file of that rate would end."""
    bit_rate = 9 << 4  # an index whose frames have room for a tag in every format
    header = frames[0][:2] + bytes((frames[0][2] & 0x0C | bit_rate, frames[0][3]))
    tag = frame_at(header)
    assert tag is not None
    if not promised or frames[0][tag.info_at :][:4] not in XING:
        count = max(promised, len(frames)).to_bytes(4, "big")
        body = header.ljust(tag.info_at, b"\0") + b"Info\0\0\0\1" + count
        frames = [body.ljust(tag.size, b"\0"), *frames]
    return b"".join(frames)
