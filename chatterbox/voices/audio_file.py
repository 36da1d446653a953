"""What sound is in these untrusted bytes? Mono float32 at 24 kHz, or a clear refusal.

Does not know where it runs: `decode_child.py` runs it in a guarded process.
"""

import io
from contextlib import suppress
from typing import Any

import numpy as np

from chatterbox.errors import UnreadableAudio, UnsupportedAudio
from chatterbox.voices.containers import Container, sniff
from chatterbox.voices.intake import Decoded, Intake

BLOCK_FRAMES = 4096
"""Read at once: what a decoder error in the middle of a damaged file costs at most."""
UNKNOWN_FRAMES = 2**62
"""libsndfile answers about 2**63 where a header does not say its length (streamed FLAC)."""


def decode_audio(data: bytes, *, max_seconds: float) -> Decoded:
    """The recording in `data`.

    Raises UnsupportedAudio (not a container on the list), UnreadableAudio (damaged),
    AudioTooLong (over `max_seconds`, found before or while reading) or AudioNotFinite.
    """
    container = sniff(data)
    if container.reader == "libsndfile":
        return _read_libsndfile(data, container, max_seconds)
    return _read_pyav(data, container, max_seconds)


def _unreadable() -> UnreadableAudio:
    return UnreadableAudio("The file looks like audio but cannot be decoded.", param="voice_file")


def _check_codec(container: Container, found_format: str, codec: str) -> None:
    """The reader may see another thing than the header showed; what it sees must be listed too."""
    if found_format not in container.formats or codec not in container.codecs:
        raise UnsupportedAudio("This file's codec is not read here.", param="voice_file")


def _read_libsndfile(data: bytes, container: Container, max_seconds: float) -> Decoded:
    import soundfile  # slow to import: only where audio is decoded

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_codec(container, file.format, file.subtype)
            intake = Intake(file.samplerate, file.channels, max_seconds=max_seconds)
            declared = file.frames if 0 <= file.frames < UNKNOWN_FRAMES else None
            intake.check_length(declared or 0)
            block = np.zeros((BLOCK_FRAMES, file.channels), np.float32)
            with suppress(soundfile.SoundFileError):  # what came before a damaged block counts
                while frames := file.buffer_read_into(block, dtype="float32"):
                    intake.add(block[:frames])
            return intake.finish(declared)
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError) as failure:
        raise _unreadable() from failure


def _read_pyav(data: bytes, container: Container, max_seconds: float) -> Decoded:
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
            return _read_stream(file, stream, max_seconds)
    except (av.FFmpegError, RuntimeError, ValueError, OverflowError, MemoryError) as failure:
        raise _unreadable() from failure


def _read_stream(file: Any, stream: Any, max_seconds: float) -> Decoded:
    """All frames of one PyAV stream. The first frame says the true rate: AAC headers may not."""
    import av

    to_float = av.AudioResampler(format="fltp")
    declared_s = _declared_seconds(file, stream)
    intake: Intake | None = None
    rate_hz = 0
    with suppress(av.FFmpegError, ValueError):  # what came before a damaged packet counts
        for frame in file.decode(stream):
            if intake is None:
                rate_hz = frame.sample_rate
                intake = Intake(rate_hz, frame.layout.nb_channels, max_seconds=max_seconds)
                intake.check_length(int(declared_s * rate_hz))
            for piece in to_float.resample(frame):
                intake.add(piece.to_ndarray().T)
    if intake is None:
        raise _unreadable()
    return intake.finish(int(declared_s * rate_hz) or None)


def _declared_seconds(file: Any, stream: Any) -> float:
    """The header's length, 0 where it says none. Raw AAC has no header: FFmpeg would guess."""
    if file.format.name == "aac":
        return 0.0
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (file.duration or 0) / 1_000_000  # av.time_base: microseconds
