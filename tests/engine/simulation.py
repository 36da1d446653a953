"""A simulation in virtual time: the real loops drive a model and a decoder that only take time.

One thread runs both loops in the order that `CpuLock` gives to two threads on one CPU: a window
that is due goes first. No real time passes, so every run is the same.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from fakes import (
    FakeDecoder,
    FakeLanguageModel,
    FakePrompts,
    fake_voice,
    turbo_sampling,
    window_settings,
)

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.engine import generation_loop as loop
from chatterbox.engine import vocoding_loop as decoding
from chatterbox.engine.fairness import FairScheduler
from chatterbox.engine.generation_loop import GenerationLoop
from chatterbox.engine.sequence import Outbox, PlaybackClock, SegmentEnd, Sequence
from chatterbox.engine.stats import Counters
from chatterbox.engine.threads import CpuLock
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.errors import ChatterboxError
from chatterbox.families.turbo.spec import TURBO
from chatterbox.runtime.decoder.s3gen import CODE_RATE_HZ


class Clock:
    """The virtual clock, in place of the module `time` in both loops."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass(frozen=True)
class Machine:
    """The durations of model steps and decoder calls."""

    step_s: float = 0.009  # of the language model, and for each row in it
    row_s: float = 0.003
    prefill_s: float = 0.1
    window_s: float = 0.06  # of the decoder, and for each token that it is fed
    token_s: float = 0.0145

    def slower(self, times: float) -> "Machine":
        return Machine(*(times * cost for cost in vars(self).values()))


class CostlyModel(FakeLanguageModel):
    def __init__(self, machine: Machine, clock: Clock, tokens: int, slots: int = 16) -> None:
        super().__init__(slots)
        self._machine, self._clock, self._tokens = machine, clock, tokens

    def prefill(self, slot, prompt):
        self._clock.now_s += self._machine.prefill_s
        self.held[slot] = (
            1 + len(prompt.ids) + self._tokens,
            [prompt.prefix_key, *prompt.ids.tolist()],
        )
        return self.logits(slot)

    def decode(self, slots, tokens):
        self._clock.now_s += self._machine.step_s + self._machine.row_s * len(slots)
        return super().decode(slots, tokens)

    def _noise(self, history):
        logits = np.full(6563, -100.0, np.float32)
        logits[len(history) % 6000] = 0.0
        return logits


class CostlyDecoder(FakeDecoder):
    def __init__(self, machine: Machine, clock: Clock) -> None:
        super().__init__(1)
        self._machine, self._clock = machine, clock

    def start(self, jobs):
        def finish():
            fed = sum(job.window.fed_frames for job in jobs)
            self._clock.now_s += self._machine.window_s + self._machine.token_s * fed
            return self.run(jobs)

        return finish


@dataclass
class Listener:
    """A listener that plays audio as it arrives, starting with the first sound."""

    segments: int
    speed: float = 1.0
    pause_s: float = 0.12
    ahead: int = 3
    began_s: float = 0.0
    first_s: float | None = None
    audio_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    until_s: float = 0.0
    ended_s: float = 0.0
    outboxes: list[Outbox] = field(default_factory=list)
    reading: int = 0

    def __post_init__(self) -> None:
        self.playback = PlaybackClock(speed=self.speed)

    @property
    def rtf(self) -> float:
        return (self.ended_s - self.began_s) / self.audio_s

    @property
    def done(self) -> bool:
        return self.reading == self.segments

    def read(self, now_s: float) -> None:
        while not self.done and self.reading < len(self.outboxes):
            item = self.outboxes[self.reading].take()
            if item is None:
                return
            if isinstance(item, SegmentEnd):
                self.reading += 1
                self.ended_s = now_s
                if not self.done:
                    self._play(self.pause_s / self.speed, now_s)
                continue
            assert not isinstance(item, ChatterboxError), item
            self._play(len(item) / SAMPLE_RATE_HZ / self.speed, now_s)

    def _play(self, seconds: float, now_s: float) -> None:
        if self.first_s is None:
            self.first_s, self.until_s = now_s - self.began_s, now_s
        if now_s > self.until_s:
            self.gaps_s.append(now_s - self.until_s)
            self.until_s = now_s
        self.until_s += seconds
        self.audio_s += seconds


def simulate(
    patch: pytest.MonkeyPatch,
    listeners: list[Listener],
    machine: Machine,
    *,
    segment_s: float = 6.2,
) -> list[Listener]:
    """Run until every listener has received all its audio."""
    clock = Clock()
    patch.setattr(loop, "time", clock)
    patch.setattr(decoding, "time", clock)
    cpu, fairness, counters = CpuLock(shared=True), FairScheduler(shared=True), Counters()
    vocoder = VocodingLoop(
        CostlyDecoder(machine, clock), window_settings(), counters, cpu=cpu, fairness=fairness
    )
    model = CostlyModel(machine, clock, round(segment_s * CODE_RATE_HZ))
    engine = GenerationLoop(
        model, vocoder, counters, TURBO, cpu=cpu, fairness=fairness, guarded=False
    )
    for listener in listeners:
        listener.began_s = clock.now_s
    while not all(one.done for one in listeners):
        for one in listeners:
            one.read(clock.now_s)
            _submit(engine, one, clock.now_s)
        if not (vocoder.step() or engine.step()):
            clock.now_s += 0.01
        assert clock.now_s < 2000, "the loops stand still"
    return list(listeners)


def _submit(engine: GenerationLoop, one: Listener, now_s: float) -> None:
    while len(one.outboxes) < min(one.reading + one.ahead, one.segments):
        one.outboxes.append(Outbox())
        if len(one.outboxes) > 1:
            one.playback.add(len(one.outboxes) - 1, one.pause_s, now_s)
        engine.submit(
            Sequence(
                voice=fake_voice("v"),
                prompt=FakePrompts().prompt("w", fake_voice("v")),
                text_chars=100,
                sampling=turbo_sampling(temperature=0.0, repetition_penalty=1.0),
                max_tokens=1000,
                seed=0,
                index=len(one.outboxes) - 1,
                outbox=one.outboxes[-1],
                playback=one.playback,
            )
        )
