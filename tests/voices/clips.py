"""Synthetic recordings, and fakes of the encoder and the disk."""

import errno
import hashlib
import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from chatterbox.arrays import F32
from chatterbox.families.turbo.voice import TurboVoices, VoiceTensors
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.library import VoiceLibrary
from chatterbox.voices.sandbox import AudioDecoder

MODEL = "model-a"


def babble(seconds: float, rate_hz: int = 24_000, seed: int = 0, level: float = 0.2) -> F32:
    """Something like speech: syllables of a buzzing voice, a pause every second and a half."""
    count = int(seconds * rate_hz)
    time_s = np.arange(count) / rate_hz
    pitch_hz = 110 + 17 * (seed % 7) + 10 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    buzz = sum(np.sin(k * phase) / k for k in range(1, 8))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time_s), 0.1, 1)
    pause = (time_s % 1.5) < 1.25
    noise = np.random.default_rng(seed).standard_normal(count) * 0.002
    return (level * (buzz * syllables * pause + noise)).astype(np.float32)


def encoded(
    audio: NDArray[Any], kind: str = "WAV", subtype: str | None = None, rate_hz: int = 24_000
) -> bytes:
    """Encode with libsndfile; `audio` is [samples] or [samples, channels]."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def muxed(audio: F32, kind: str, codec: str, rate_hz: int = 48_000) -> bytes:
    """Encode with PyAV; `audio` is [samples] at `rate_hz`."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(format=stream.codec_context.format.name)
        frames = [*resampler.resample(frame), *resampler.resample(None)]
        for piece in [*frames, None]:
            for packet in stream.encode(piece):
                if packet.size:  # FLAC's encoder ends with an empty one, which Ogg does not take
                    file.mux(packet)
    return buffer.getvalue()


class FakeEncoder:
    """Turbo's voices, with tensors computed from a hash of the audio. Counts its calls. `before`,
    called first, can make it wait or fail."""

    rules = TurboVoices.rules
    to_arrays, from_arrays, is_compatible = (
        TurboVoices.to_arrays,
        TurboVoices.from_arrays,
        TurboVoices.is_compatible,
    )

    def __init__(self, rows: int = 8, hidden: int = 4, before: Callable[[], None] | None = None):
        self.rows = rows
        self.hidden = hidden
        self.before = before
        self.heard: list[F32] = []
        self.key = MODEL
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        return len(self.heard)

    def encode(self, audio: F32, _transcript: str | None = None) -> VoiceTensors:
        with self._lock:
            self.heard.append(audio)
        if self.before:
            self.before()
        rng = np.random.default_rng(list(hashlib.sha256(audio.tobytes()).digest()))
        return VoiceTensors(
            features=rng.standard_normal((self.rows, self.hidden)).astype(np.float32),
            prompt_codes=rng.integers(0, 6561, 5),
            speaker=rng.standard_normal(6).astype(np.float32),
            prompt_mel=rng.standard_normal((10, 3)).astype(np.float32),
        )


class FaultyFileSystem(FileSystem):
    """Fails from operation `first` to operation `last`; a failing write writes half of the file."""

    def __init__(self, first: int, last: int, code: int = errno.ENOSPC) -> None:
        self.first = first
        self.last = last
        self.code = code
        self.count = 0
        self.paths: list[Path] = []

    def _operate(self, *paths: Path) -> None:
        self.paths.extend(paths)
        self.count += 1
        if self.first <= self.count <= self.last:
            raise OSError(self.code, "injected")

    def make_directory(self, path: Path) -> None:
        self._operate(path)
        super().make_directory(path)

    def make_directories(self, path: Path) -> None:
        self._operate(path)
        super().make_directories(path)

    def write_file(self, path: Path, data: bytes) -> None:
        try:
            self._operate(path)
        except OSError:
            path.write_bytes(data[: len(data) // 2])
            raise
        super().write_file(path, data)

    def sync_directory(self, path: Path) -> None:
        self._operate(path)
        super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._operate(source, target)
        super().rename(source, target)

    def remove_file(self, path: Path) -> None:
        self._operate(path)
        super().remove_file(path)

    def remove_directory(self, path: Path) -> None:
        self._operate(path)
        super().remove_directory(path)

    def read_file(self, path: Path, limit_bytes: int) -> bytes:
        self._operate(path)
        return super().read_file(path, limit_bytes)

    def names(self, path: Path) -> Sequence[str]:
        self._operate(path)
        return super().names(path)


def healthy() -> FaultyFileSystem:
    """A file system that counts and records operations and never fails."""
    return FaultyFileSystem(0, -1)


def open_library(
    directory: Path, encoder: FakeEncoder | None = None, **options: Any
) -> VoiceLibrary:
    """Start a library that decodes in this process."""
    encoder = encoder or FakeEncoder()
    encoder.key = options.pop("model_key", MODEL)
    settings: dict[str, Any] = {
        "cloned": encoder,
        "cache_size": 100,
        "cache_bytes": 1 << 20,
        "max_seconds": 30,
        "default_voice": "slt",
        "decoder": AudioDecoder(),
    }
    files = options.pop("files", None)
    store = options.pop("store", None) or FolderStore(directory, files)
    library = VoiceLibrary(store, **(settings | options))
    library.start()
    return library
