"""Decodes an untrusted audio file to mono float32 at 24 kHz, or refuses it with a clear error.

Files that were joined end to end (MP3, chained Ogg) are read whole. Runs in the guarded process of
`decode_child.py`.
"""

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np

from chatterbox.errors import ChatterboxError, UnreadableAudio, UnsupportedAudio
from chatterbox.voices import sniff
from chatterbox.voices.resampler import BoundedResampler, Cap, Decoded, Mix, join
from chatterbox.voices.sniff import Container, Frame

SHORTEST_FRAME_S = 0.024
"""576 samples at 24 kHz, or 1152 at 48 kHz; every other frame is longer."""
MAX_GAPS = 32
"""Gaps between frames that are looked through; what lies behind more of them is not read."""
XING = (b"Xing", b"Info")
OGG_FIRST_PAGE = re.compile(rb"OggS\0[\x02\x06]")
BLOCK_FRAMES = 4096
"""Read at once: what a decoder error in the middle of a damaged file costs at most."""
UNKNOWN_FRAMES = 2**62
"""libsndfile answers about 2**63 where a header does not say its length (streamed FLAC)."""
MAX_FILES = 500
"""Joined to one: more are not read."""
UNDECODABLE = "The file looks like audio but cannot be decoded."
Read = tuple[BoundedResampler, int | None]
"""What was read, and how many frames the header promises."""


def ogg_files(data: bytes) -> Iterator[bytes]:
    """Each begins with the first pages of its streams, one right behind the other."""
    start = expected = 0
    for page in OGG_FIRST_PAGE.finditer(data):
        at = page.start()
        if at != expected:
            yield data[start:at]
            start = at
        lengths_at = at + 27
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
    bit_rate = 9 << 4  # the index of one whose frames have room for a tag in every format
    header = frames[0][:2] + bytes((frames[0][2] & 0x0C | bit_rate, frames[0][3]))
    tag = sniff.frame_at(header)
    assert tag is not None
    if not promised or frames[0][tag.info_at :][:4] not in XING:
        count = max(promised, len(frames)).to_bytes(4, "big")
        body = header.ljust(tag.info_at, b"\0") + b"Info\0\0\0\1" + count
        frames = [body.ljust(tag.size, b"\0"), *frames]
    return b"".join(frames)


def _mp3_frames(data: bytes) -> Iterator[tuple[int, Frame]]:
    at = sniff.first_frame(data)
    gaps = 0
    while at is not None and gaps <= MAX_GAPS:
        frame = sniff.frame_at(data, at)
        if frame and frame.kind == "mp3" and frame.size:
            yield at, frame
            at += frame.size
        else:
            gaps += 1
            at = sniff.find_frames(data, at)


def _frames_by_tag(data: bytes, at: int, frame: Frame) -> int | None:
    """How many frames follow, by the tag in this one: 0 where it does not say, None: no tag."""
    xing = data[at + frame.info_at : at + frame.info_at + 12]
    vbri = data[at + 36 : at + 54]
    if xing[:4] in XING:
        return int.from_bytes(xing[8:], "big") if xing[7:8] and xing[7] & 1 else 0
    return int.from_bytes(vbri[14:], "big") if vbri[:4] == b"VBRI" else None


def decode_audio(data: bytes, *, max_seconds: float) -> Decoded:
    """The recording in `data`; of files that were joined, all of them.

    Raises UnsupportedAudio (not a container on the list), UnreadableAudio (damaged),
    AudioTooLong (beyond the cap, found before or while reading) or AudioNotFinite.
    """
    cap = Cap(max_seconds)
    container = sniff.sniff(data)
    if container is sniff.MP3:
        files = mp3_files(data, max_seconds)
    elif container in (sniff.OGG, sniff.OGG_FLAC):
        files = ogg_files(data)
    else:
        return _decode(data, container, cap)
    found: list[Decoded] = []
    refusal: ChatterboxError | None = None
    for file in islice(files, MAX_FILES):
        try:
            of = container if container is sniff.MP3 else sniff.sniff(file)
            found.append(_decode(file, of, cap))
        except (UnsupportedAudio, UnreadableAudio) as one:
            refusal = refusal or one
    if not found:
        raise refusal or sniff.unreadable(UNDECODABLE)
    return join(found, damaged=refusal is not None)


def _decode(data: bytes, container: Container, cap: Cap) -> Decoded:
    """One file. Where the plain mix of its channels would lose the voice, it is read again."""
    read = _read_libsndfile if container.reader == "libsndfile" else _read_pyav
    intake, declared = read(data, container, cap, None)
    mix = intake.better_mix()
    if mix is not None:
        intake, declared = read(data, container, cap, mix)
    return intake.finish(declared)


def _check_codec(container: Container, found_format: str, codec: str) -> None:
    """The reader may see another thing than the header showed; what it sees must be listed too."""
    if found_format not in container.formats or codec not in container.codecs:
        raise UnsupportedAudio("This file's codec is not read here.", param="voice_file")


def _read_libsndfile(data: bytes, container: Container, cap: Cap, mix: Mix | None) -> Read:
    import soundfile  # slow to import: only where audio is decoded

    declared: int | None = None
    if container is sniff.WAV:
        # libsndfile believes an empty `data`, and does not tell of a cut one.
        wave = sniff.wave_data(data)
        declared = wave.frames
        if wave.size == 0:
            size = (len(data) - wave.at).to_bytes(4, "little")
            data = data[: wave.at - 4] + size + data[wave.at :]
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_codec(container, file.format, file.subtype)
            intake = BoundedResampler(file.samplerate, file.channels, cap, mix)
            frames = file.frames if 0 <= file.frames < UNKNOWN_FRAMES else 0
            intake.check_length(frames)
            block = np.zeros((BLOCK_FRAMES, file.channels), np.float32)
            with suppress(soundfile.SoundFileError):  # what came before a damaged block counts
                while count := file.buffer_read_into(block, dtype="float32"):
                    intake.add(block[:count])
            return intake, declared or frames or None
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as failure:
        raise sniff.unreadable(UNDECODABLE) from failure


def _read_pyav(data: bytes, container: Container, cap: Cap, mix: Mix | None) -> Read:
    import av  # slow to import: only where audio is decoded

    try:
        # One named demuxer, no probing; the only input is the buffer, so no protocol is needed.
        with av.open(
            io.BytesIO(data),
            mode="r",
            format=container.formats[0],
            options={"protocol_whitelist": "", "enable_drefs": "0"},
        ) as file:
            if not file.streams.audio:
                raise UnsupportedAudio("This file has no sound.", param="voice_file")
            stream = file.streams.audio[0]
            codec = stream.codec_context  # None where FFmpeg knows no decoder
            _check_codec(container, container.formats[0], codec.name if codec else "")
            codec.thread_count = 1
            return _read_stream(file, stream, cap, mix)
    except (av.FFmpegError, RuntimeError, ValueError, OverflowError, MemoryError) as failure:
        raise sniff.unreadable(UNDECODABLE) from failure


def _read_stream(file: Any, stream: Any, cap: Cap, mix: Mix | None) -> Read:
    """All frames of one PyAV stream. The first frame says the true rate: AAC headers may not."""
    import av

    to_float = av.AudioResampler(format="fltp")
    # The header's length, 0 where it says none. Raw AAC has no header: FFmpeg would guess.
    declared_s = (file.duration or 0) / 1_000_000  # av.time_base: microseconds
    if stream.duration and stream.time_base:
        declared_s = float(stream.duration * stream.time_base)
    if file.format.name == "aac":
        declared_s = 0.0
    intake: BoundedResampler | None = None
    rate_hz = 0
    with suppress(av.FFmpegError, ValueError):  # what came before a damaged packet counts
        for frame in file.decode(stream):
            if intake is None:
                rate_hz = frame.sample_rate
                intake = BoundedResampler(rate_hz, frame.layout.nb_channels, cap, mix)
                intake.check_length(int(declared_s * rate_hz))
            for piece in to_float.resample(frame):
                intake.add(piece.to_ndarray().T)
    if intake is None:
        raise sniff.unreadable(UNDECODABLE)
    return intake, int(declared_s * rate_hz) or None
