"""Deterministic fakes of language model, decoder, encoder and prompts, which assert correct use."""

import hashlib
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.windows import WindowSettings
from chatterbox.families.base import DecodeJob, Rendered, Voice
from chatterbox.families.turbo.spec import STOP_CODE, TURBO
from chatterbox.families.turbo.voice import TurboVoices, VoiceTensors
from chatterbox.runtime.decoder.s3gen import CODEC, SAMPLES_PER_CODE, TAIL_SILENCE_CODES

VOCAB = 6563


def window_settings(
    look_ahead_frames: int = 5, left_context_frames: int = 8, **changes: Any
) -> WindowSettings:
    """Return window settings of Turbo's codec, with changes."""
    codec = replace(
        CODEC, look_ahead_frames=look_ahead_frames, left_context_frames=left_context_frames
    )
    return replace(WindowSettings.of(codec), **changes)


CODES_PER_ID = 2


def turbo_sampling(**given: Any) -> Sampling:
    """Return the sampling parameters of Turbo's authors, with changes."""
    return Sampling(**{**TURBO.sampling, **given})


def fake_voice(key: str = "someone", rows: int = 4) -> Voice:
    rng = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
    tensors = VoiceTensors(
        features=rng.standard_normal((rows, 8)).astype(np.float32),
        prompt_codes=rng.integers(0, 6561, 5),
        speaker=rng.standard_normal(192).astype(np.float32),
        prompt_mel=rng.standard_normal((10, 80)).astype(np.float32),
    )
    return Voice(key, tensors)


@dataclass(frozen=True, eq=False)
class FakePrompt:
    """A prompt: the voice's rows, then the text's ids."""

    voice: Voice
    ids: I64

    def __len__(self) -> int:
        return len(self.voice.data.features) + len(self.ids)

    @property
    def text_tokens(self) -> int:
        return len(self.ids)

    @property
    def prefix_key(self) -> str:
        return self.voice.key


class FakeLanguageModel:
    """A language model whose logits are a hash of the row's history: mixing up rows changes codes.

    A row stops by itself after CODES_PER_ID codes for each text id.
    """

    def __init__(self, slots: int = 4, capacity: int = 4096) -> None:
        self._slots = slots
        self._capacity = capacity
        self.held: dict[int, tuple[int, list[object]]] = {}  # slot → (stop after, history)
        self.steps = 0
        self.begun = 0
        self.warmed: list[str] = []
        self.fail_at_step: int | None = None
        self.poison: set[str] = set()  # keys of voices whose logits are NaN from the third code on
        self.endless: set[str] = set()  # keys of voices that never stop
        self.loop_period: int | None = None  # every row repeats so many codes for ever
        self.thread: int | None = None

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def vocab(self) -> int:
        return VOCAB

    def prefill(self, slot: int, prompt: FakePrompt) -> F32:
        self._own_thread()
        assert slot not in self.held, "a slot is begun twice"
        self.begun += 1
        history: list[object] = [prompt.voice.key, *prompt.ids.tolist()]
        self.held[slot] = (len(history) + CODES_PER_ID * len(prompt.ids), history)
        return self.logits(slot)

    def decode(self, slots: Sequence[int], codes: I64) -> F32:
        self._own_thread()
        assert len(set(slots)) == len(slots) == len(codes)
        self.steps += 1
        if self.steps == self.fail_at_step:
            raise RuntimeError("the device is gone")
        for slot, code in zip(slots, codes.tolist(), strict=True):
            self.held[slot][1].append(code)
        return np.stack([self.logits(slot) for slot in slots])

    def free(self, slot: int) -> None:
        del self.held[slot]

    def cache_prefix(self, prompt: FakePrompt) -> None:
        self.warmed.append(prompt.voice.key)

    def logits(self, slot: int) -> F32:
        stop_at, history = self.held[slot]
        if self.loop_period:
            logits = np.full(VOCAB, -100.0, np.float32)
            logits[1000 + len(history) % self.loop_period] = 100.0
            return logits
        logits = self._noise(history)
        stops = len(history) >= stop_at and history[0] not in self.endless
        logits[STOP_CODE] = 100.0 if stops else -100.0
        if history[0] in self.poison and len(history) >= stop_at - 3:
            logits[17] = np.nan
        return logits

    def _noise(self, history: list[object]) -> F32:
        digest = hashlib.sha256(repr(history).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        return rng.standard_normal(VOCAB).astype(np.float32)

    def _own_thread(self) -> None:
        """Assert that all calls come from one thread."""
        self.thread = self.thread or threading.get_ident()
        assert self.thread == threading.get_ident(), "the language model has one owner"


@dataclass(slots=True, eq=False)
class FakeStream:
    voice: Voice
    seed: int
    decoded: int = 0


class FakeDecoder:
    """A decoder that turns each code into 960 samples of a level that identifies the code."""

    codec = replace(CODEC, look_ahead_frames=3)
    window_frames = ()

    def __init__(self, max_rows: int = 1) -> None:
        self.max_rows = max_rows
        self.calls: list[int] = []  # rows of each
        self.on_start: Callable[[], None] = lambda: None  # in the middle of each
        self.fail_for: set[str] = set()
        self.warmed: list[str] = []

    def warm(self, voice: Voice) -> None:
        self.warmed.append(voice.key)
        if voice.key in self.fail_for:
            raise ValueError(voice.key)

    def open(self, voice: Voice, seed: int) -> FakeStream:
        return FakeStream(voice, seed)

    def bucket(self, job: DecodeJob) -> Hashable:
        return None

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        self.on_start()
        return lambda: self.run(jobs)

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        self.calls.append(len(jobs))
        if any(job.stream.voice.key in self.fail_for for job in jobs):
            raise ValueError("no")  # before any stream has moved on
        return [self._run(job) for job in jobs]

    def _run(self, job: DecodeJob) -> Rendered:
        stream, window = job.stream, job.window
        assert isinstance(stream, FakeStream)
        assert window.fresh == stream.decoded, "windows come in order, each once"
        assert len(job.tokens) == window.stop - window.begin
        stream.decoded = window.end
        levels = np.append(job.tokens, np.zeros(TAIL_SILENCE_CODES, np.int64)) / VOCAB
        samples = np.repeat(levels.astype(np.float32), SAMPLES_PER_CODE)
        at = window.begin * SAMPLES_PER_CODE
        return Rendered(samples[: window.end_sample - at], at)


class FakeEncoder:
    """Encodes voices as Turbo does, with tensors computed from a hash of the audio."""

    key, rules = "fake", TurboVoices.rules
    to_arrays, from_arrays, is_compatible = (
        TurboVoices.to_arrays,
        TurboVoices.from_arrays,
        TurboVoices.is_compatible,
    )

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, audio: F32, _transcript: str | None = None) -> VoiceTensors:
        self.calls += 1
        return fake_voice(hashlib.sha256(audio.tobytes()).hexdigest()).data


class FakePrompts:
    """Prompts whose ids are the text's bytes and two end ids."""

    def prompt(self, text: str, voice: Voice) -> FakePrompt:
        return FakePrompt(voice, self.encode(text))

    def prefix(self, voice: Voice) -> FakePrompt:
        return FakePrompt(voice, np.zeros(0, np.int64))

    def encode(self, text: str) -> I64:
        return np.array([*text.encode(), 256, 256], dtype=np.int64)
