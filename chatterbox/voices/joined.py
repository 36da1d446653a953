"""The files that one upload was joined from, end to end: MP3 files and chained Ogg.

Reads the headers of frames and pages; decodes nothing.
"""

import re
from collections.abc import Iterator
from itertools import islice

from chatterbox.voices.mpeg import Frame, find_frames, first_frame, frame_at

SHORTEST_FRAME_S = 0.024
"""576 samples at 24 kHz, or 1152 at 48 kHz; every other frame is longer."""
MAX_GAPS = 32
"""Gaps between frames that are looked through; what lies behind more of them is not read."""
XING = (b"Xing", b"Info")
XING_BYTES = 12
HAS_COUNT = b"\0\0\0\1"
VBRI_AT, VBRI_BYTES = 36, 18
TAG_BITRATE = 9
"""The index of a bit rate whose frames have room for a tag in every format."""
OGG_FIRST_PAGE = re.compile(rb"OggS\0[\x02\x06]")
OGG_PAGE_BYTES = 27


def ogg_files(data: bytes) -> Iterator[bytes]:
    """Each begins with the first pages of its streams, one right behind the other."""
    start = expected = 0
    for page in OGG_FIRST_PAGE.finditer(data):
        at = page.start()
        if at != expected:
            yield data[start:at]
            start = at
        lengths_at = at + OGG_PAGE_BYTES
        count = sum(data[lengths_at - 1 : lengths_at])  # one byte, or none at the end
        expected = lengths_at + count + sum(data[lengths_at : lengths_at + count])
    yield data[start:]


def mp3_files(data: bytes, max_seconds: float) -> Iterator[bytes]:
    """Each without what lies between its frames. One begins at every Xing, Info or VBRI tag, where
    the format changes, and where the tag before says that its file has ended. Much more than
    `max_seconds` is not looked for (decoders drop a frame or two of each file)."""
    found: list[bytes] = []
    format_, promised = None, 0  # what the present file's tag says; 0: nothing
    for at, frame in islice(_mp3_frames(data), 10 + int(2 * max_seconds / SHORTEST_FRAME_S)):
        tag = _frames_by_tag(data, at, frame)
        ended = promised and len(found) > promised  # the tag's own frame is not counted
        if found and (ended or tag is not None or frame.format != format_):
            yield _counted(found, promised)
            found, promised = [], 0
        promised = tag or promised
        found.append(data[at : at + frame.size])
        format_ = frame.format
    yield _counted(found, promised) if found else data  # frames of unknown size: as they are


def _counted(frames: list[bytes], promised: int) -> bytes:
    """A file with a tag in front: without one libsndfile takes the first frame's bit rate for that
    of all, and stops where such a file would end."""
    header = frames[0][:2] + bytes((frames[0][2] & 0x0C | TAG_BITRATE << 4, frames[0][3]))
    tag = frame_at(header)
    assert tag is not None
    if not promised or frames[0][tag.info_at :][:4] not in XING:
        count = max(promised, len(frames)).to_bytes(4, "big")
        body = header.ljust(tag.info_at, b"\0") + b"Info" + HAS_COUNT + count
        frames = [body.ljust(tag.size, b"\0"), *frames]
    return b"".join(frames)


def _mp3_frames(data: bytes) -> Iterator[tuple[int, Frame]]:
    at = first_frame(data)
    gaps = 0
    while at is not None:
        frame = frame_at(data, at)
        if frame and frame.kind == "mp3" and frame.size:
            yield at, frame
            at += frame.size
        elif gaps < MAX_GAPS:
            gaps += 1
            at = find_frames(data, at)
        else:
            return


def _frames_by_tag(data: bytes, at: int, frame: Frame) -> int | None:
    """How many frames follow, by the tag in this one: 0 where it does not say, None: no tag."""
    xing, vbri = (
        data[at + offset : at + offset + size]
        for offset, size in ((frame.info_at, XING_BYTES), (VBRI_AT, VBRI_BYTES))
    )
    if xing[:4] in XING:
        return int.from_bytes(xing[8:], "big") if xing[7:8] and xing[7] & 1 else 0
    return int.from_bytes(vbri[14:], "big") if vbri[:4] == b"VBRI" else None
