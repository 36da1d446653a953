"""MP3 and ADTS frames: what their headers say, and where the first one is.

Reads four to seven bytes of each frame; decodes nothing.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

FrameKind = Literal["mp3", "adts"]

SYNC = re.compile(rb"\xff[\xe0-\xff]")
NOT_ZERO = re.compile(rb"[^\0]")
CHAIN_FRAMES = 3
"""So many frames in a row are no accident."""
MAX_JUNK_BYTES = 64 * 1024
"""Looked through for the next frame, zeros and tags not counted; a frame has at most 8 KiB."""
ID3_HEADER_BYTES = 10
MAX_TAGS = 16
"""One behind the other; real files have one or two."""

KBPS_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KBPS_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""By the header's two bits of version: MPEG-1, MPEG-2, MPEG-2.5."""
MONO = 3
ADTS_RATES = 13
ADTS_HEADER_BYTES = 7


@dataclass(frozen=True, slots=True)
class Frame:
    """What a frame's header says."""

    kind: FrameKind
    size: int  # bytes, the header included; 0 where it does not say ("free format")
    format: tuple[int, ...]  # equal in all frames of one file
    info_at: int = 0  # where the first frame of an MP3 file may have its Xing or Info tag


def frame_at(data: bytes, at: int = 0) -> Frame | None:
    """The frame whose header is at `at`."""
    head = data[at : at + ADTS_HEADER_BYTES]
    if len(head) < 4 or head[0] != 0xFF:
        return None
    return _adts(head) if head[1] & 0xF6 == 0xF0 else _mp3(head[1], head[2], head[3])


def _adts(head: bytes) -> Frame | None:
    rate = head[2] >> 2 & 0xF
    if rate >= ADTS_RATES:
        return None
    size = 0
    if len(head) == ADTS_HEADER_BYTES:
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return Frame("adts", size, (head[1], rate))


@lru_cache(4096)
def _mp3(second: int, third: int, fourth: int) -> Frame | None:
    version, layer = second >> 3 & 3, second >> 1 & 3
    bitrate, rate = third >> 4, third >> 2 & 3
    if second & 0xE0 != 0xE0 or version == 1 or layer != 1 or bitrate == 15 or rate == 3:
        return None
    first = version == 3
    kbps = (KBPS_V1 if first else KBPS_V2)[bitrate]
    mono = fourth >> 6 == MONO
    size = (144 if first else 72) * 1000 * kbps // RATES_HZ[version][rate] + (third >> 1 & 1)
    side_info = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame("mp3", size if kbps else 0, (version, rate, mono), 4 + side_info)


def after_id3(data: bytes, at: int = 0) -> int:
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
    at = after_id3(data)
    found = at if _is_chain(data, at) else find_frames(data, at)
    return at if found is None and frame_at(data, at) else found


def find_frames(data: bytes, at: int) -> int | None:
    """Where, from `at` on, several frames follow each other; None where that is far or nowhere."""
    sound = NOT_ZERO.search(data, at)
    if sound is None:
        return None
    at = after_id3(data, sound.start())
    for sync in SYNC.finditer(data, at, at + MAX_JUNK_BYTES):
        if _is_chain(data, sync.start()):
            return sync.start()
    return None


def _is_chain(data: bytes, at: int) -> bool:
    first = frame_at(data, at)
    frame = first
    for _ in range(CHAIN_FRAMES - 1):
        if first is None or frame is None or not frame.size:
            return False
        at += frame.size
        frame = frame_at(data, at)
    return frame is not None and first is not None and frame.format == first.format
