"""What sound is in these untrusted bytes? Mono float32 at 24 kHz, or a clear refusal.

Does not know where it runs: `decode_child.py` runs it in a guarded process.
"""

import io
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np

from chatterbox.errors import ChatterboxError, UnreadableAudio, UnsupportedAudio
from chatterbox.voices.joined import mp3_files, ogg_files
from chatterbox.voices.resampler import BoundedResampler, Cap, Decoded, Mix, join
from chatterbox.voices.sniff import MP3, OGG, OGG_FLAC, WAV, Container, sniff, wave_data

BLOCK_FRAMES = 4096
"""Read at once: what a decoder error in the middle of a damaged file costs at most."""
UNKNOWN_FRAMES = 2**62
"""libsndfile answers about 2**63 where a header does not say its length (streamed FLAC)."""
MAX_FILES = 500
"""Joined to one: more are not read."""


def decode_audio(data: bytes, *, max_seconds: float) -> Decoded:
    """The recording in `data`; of files that were joined, all of them.

    Raises UnsupportedAudio (not a container on the list), UnreadableAudio (damaged),
    AudioTooLong (beyond the cap, found before or while reading) or AudioNotFinite.
    """
    cap = Cap(max_seconds)
    container = sniff(data)
    if container is MP3:
        files = mp3_files(data, max_seconds)
    elif container in (OGG, OGG_FLAC):
        files = ogg_files(data)
    else:
        return _decode(data, container, cap)
    found: list[Decoded] = []
    refusal: ChatterboxError | None = None
    for file in islice(files, MAX_FILES):
        try:
            found.append(_decode(file, container if container is MP3 else sniff(file), cap))
        except (UnsupportedAudio, UnreadableAudio) as one:
            refusal = refusal or one
    if not found:
        raise refusal or _unreadable()
    return join(found, damaged=refusal is not None)


def _decode(data: bytes, container: Container, cap: Cap) -> Decoded:
    """One file. Where the plain mix of its channels would lose the voice, it is read again."""
    read = _read_libsndfile if container.reader == "libsndfile" else _read_pyav
    intake, declared = read(data, container, cap, None)
    mix = intake.better_mix()
    if mix is not None:
        intake, declared = read(data, container, cap, mix)
    return intake.finish(declared)


def _unreadable() -> UnreadableAudio:
    return UnreadableAudio("The file looks like audio but cannot be decoded.", param="voice_file")


def _check_codec(container: Container, found_format: str, codec: str) -> None:
    """The reader may see another thing than the header showed; what it sees must be listed too."""
    if found_format not in container.formats or codec not in container.codecs:
        raise UnsupportedAudio("This file's codec is not read here.", param="voice_file")


def _read_libsndfile(
    data: bytes, container: Container, cap: Cap, mix: Mix | None
) -> tuple[BoundedResampler, int | None]:
    """What was read, and how many frames the header promises."""
    import soundfile  # slow to import: only where audio is decoded

    declared: int | None = None
    if container is WAV:  # libsndfile believes an empty `data`, and does not tell of a cut one
        wave = wave_data(data)
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
        raise _unreadable() from failure


def _read_pyav(
    data: bytes, container: Container, cap: Cap, mix: Mix | None
) -> tuple[BoundedResampler, int | None]:
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
        raise _unreadable() from failure


def _read_stream(
    file: Any, stream: Any, cap: Cap, mix: Mix | None
) -> tuple[BoundedResampler, int | None]:
    """All frames of one PyAV stream. The first frame says the true rate: AAC headers may not."""
    import av

    to_float = av.AudioResampler(format="fltp")
    declared_s = _declared_seconds(file, stream)
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
        raise _unreadable()
    return intake, int(declared_s * rate_hz) or None


def _declared_seconds(file: Any, stream: Any) -> float:
    """The header's length, 0 where it says none. Raw AAC has no header: FFmpeg would guess."""
    if file.format.name == "aac":
        return 0.0
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (file.duration or 0) / 1_000_000  # av.time_base: microseconds
