"""Decodes an untrusted audio file to mono float32 at 24 kHz, or raises a clear error.

If several files were joined end to end (MP3, chained Ogg), decodes all of them. Runs in the
sandboxed process of `decode_child.py`.
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
from chatterbox.voices.mpeg import mp3_files
from chatterbox.voices.recording import Downmix, LengthLimit, Recording, RecordingBuilder, join
from chatterbox.voices.sniff import Container

OGG_FIRST_PAGE = re.compile(rb"OggS\0[\x02\x06]")
BLOCK_FRAMES = 4096
"""Frames decoded at once, and so the most frames lost to an error in a damaged file."""
UNKNOWN_FRAMES = 2**62
"""At least this many frames mean an unknown length: libsndfile reports about 2**63 frames if the
header states none (streamed FLAC)."""
MAX_FILES = 500
"""Most joined files that are read; further files are ignored."""
UNDECODABLE = "The file looks like audio but cannot be decoded."
Reading = tuple[RecordingBuilder, int | None]
"""The decoded file, and its length in frames according to its header."""


def decode_audio(data: bytes, *, max_seconds: float) -> Recording:
    """Decode a file, or all files that were joined into one.

    Raises UnsupportedAudio (not an accepted container or codec), UnreadableAudio (damaged),
    AudioTooLong (before or while reading) or AudioNotFinite.
    """
    limit = LengthLimit(max_seconds)
    container = sniff.sniff(data)
    if container is sniff.MP3:
        files = mp3_files(data, max_seconds)
    elif container in (sniff.OGG, sniff.OGG_FLAC):
        files = _ogg_files(data)
    else:
        return _decode(data, container, limit)
    parts: list[Recording] = []
    refusal: ChatterboxError | None = None
    for file in islice(files, MAX_FILES):
        try:
            kind = container if container is sniff.MP3 else sniff.sniff(file)
            parts.append(_decode(file, kind, limit))
        except (UnsupportedAudio, UnreadableAudio) as failure:
            refusal = refusal or failure
    if not parts:
        raise refusal or UnreadableAudio(UNDECODABLE)
    return join(parts, damaged=refusal is not None)


def _ogg_files(data: bytes) -> Iterator[bytes]:
    """Split chained Ogg. Each file begins with the consecutive first pages of its streams."""
    start = expected = 0
    for page in OGG_FIRST_PAGE.finditer(data):
        at = page.start()
        if at != expected:
            yield data[start:at]
            start = at
        lengths_at = at + 27
        count = sum(data[lengths_at - 1 : lengths_at])  # of at most one byte
        expected = lengths_at + count + sum(data[lengths_at : lengths_at + count])
    yield data[start:]


def _decode(data: bytes, container: Container, limit: LengthLimit) -> Recording:
    """Decode one file; decode it again with other weights if averaging the channels loses the
    voice."""
    read = read_libsndfile if container.reader == "libsndfile" else read_pyav
    builder, stated_frames = read(data, container, limit, None)
    downmix = builder.better_downmix()
    if downmix is not None:
        builder, stated_frames = read(data, container, limit, downmix)
    return builder.finish(stated_frames)


def _check_codec(container: Container, format_: str, codec: str) -> None:
    """Raise UnsupportedAudio if the reader found a format or codec other than the header stated."""
    if format_ not in container.formats or codec not in container.codecs:
        raise UnsupportedAudio("This file's codec is not supported.")


def read_libsndfile(
    data: bytes, container: Container, limit: LengthLimit, downmix: Downmix | None
) -> Reading:
    """Decode with libsndfile. Raises as `decode_audio`."""
    import soundfile  # slow to import: only where audio is decoded

    stated: int | None = None
    if container is sniff.WAV:
        # libsndfile trusts a `data` size of 0, and does not report a cut file.
        wave = sniff.wave_data(data)
        stated = wave.frames
        if wave.size == 0:
            size = (len(data) - wave.at).to_bytes(4, "little")
            data = data[: wave.at - 4] + size + data[wave.at :]
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_codec(container, file.format, file.subtype)
            builder = RecordingBuilder(file.samplerate, file.channels, limit, downmix)
            frames = file.frames if 0 <= file.frames < UNKNOWN_FRAMES else 0
            builder.check_length(frames)
            block = np.zeros((BLOCK_FRAMES, file.channels), np.float32)
            with suppress(soundfile.SoundFileError):  # keep what precedes a damaged block
                while count := file.buffer_read_into(block, dtype="float32"):
                    builder.add(block[:count])
            return builder, stated or frames or None
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as failure:
        raise UnreadableAudio(UNDECODABLE) from failure


def read_pyav(
    data: bytes, container: Container, limit: LengthLimit, downmix: Downmix | None
) -> Reading:
    """Decode with FFmpeg. Raises as `decode_audio`."""
    import av  # slow to import: only where audio is decoded

    try:
        # One named demuxer, no probing; the input is a buffer, so no protocol is needed.
        with av.open(
            io.BytesIO(data),
            mode="r",
            format=container.formats[0],
            options={"protocol_whitelist": "", "enable_drefs": "0"},
        ) as file:
            if not file.streams.audio:
                raise UnsupportedAudio("This file has no audio track.")
            stream = file.streams.audio[0]
            codec = stream.codec_context  # None if FFmpeg has no decoder
            _check_codec(container, container.formats[0], codec.name if codec else "")
            codec.thread_count = 1
            return _read_stream(file, stream, limit, downmix)
    except (av.FFmpegError, RuntimeError, ValueError, OverflowError, MemoryError) as failure:
        raise UnreadableAudio(UNDECODABLE) from failure


def _read_stream(file: Any, stream: Any, limit: LengthLimit, downmix: Downmix | None) -> Reading:
    """Decode a PyAV stream. Uses the sample rate of the first frame, since AAC headers can be
    wrong."""
    import av

    to_float = av.AudioResampler(format="fltp")
    # 0 if not stated. Raw AAC has no header, so FFmpeg only guesses its duration.
    stated_s = (file.duration or 0) / 1_000_000  # av.time_base: microseconds
    if stream.duration and stream.time_base:
        stated_s = float(stream.duration * stream.time_base)
    if file.format.name == "aac":
        stated_s = 0.0
    builder: RecordingBuilder | None = None
    rate_hz = 0
    with suppress(av.FFmpegError, ValueError):  # keep what precedes a damaged packet
        for frame in file.decode(stream):
            if builder is None:
                rate_hz = frame.sample_rate
                builder = RecordingBuilder(rate_hz, frame.layout.nb_channels, limit, downmix)
                builder.check_length(int(stated_s * rate_hz))
            for piece in to_float.resample(frame):
                builder.add(piece.to_ndarray().T)
    if builder is None:
        raise UnreadableAudio(UNDECODABLE)
    return builder, int(stated_s * rate_hz) or None
