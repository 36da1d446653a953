"""Engine loop and decode loop together, in any order of what can happen (FAULTS §4).

Whatever comes: slots are conserved, no two rows share one, first segments begin in order of
arrival, a faulty row fails alone, everybody else's sound is that of a solo run to the last bit, and
in the end everybody has been told.
"""

import numpy as np
import pytest
from fakes import FakeDecoder, FakePrompts, fake_voice, turbo_sampling, window_settings
from faults.harness import Model
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatterbox.engine.generation_loop import GenerationLoop
from chatterbox.engine.sequence import (
    CAPACITY_SAMPLES,
    Outbox,
    PlaybackClock,
    SegmentEnd,
    Sequence,
)
from chatterbox.engine.stats import Counters
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.errors import GenerationFailed, OutOfMemory
from chatterbox.families.turbo.spec import TURBO

SLOTS = 3
NO_MEMORY = RuntimeError("Failed to allocate memory for requested buffer of size 1")
GOOD = ("a", "b")
BAD = ("poisoned", "undecodable")


class Bench:
    """Both loops, stepped by hand."""

    def __init__(self) -> None:
        self.model = Model(SLOTS)
        self.decoder = FakeDecoder(max_rows=3)
        self.model.poison.add("poisoned")
        self.decoder.fail_for.add("undecodable")
        self.counters = Counters()
        self.decoding = VocodingLoop(self.decoder, window_settings(), self.counters)
        self.loop = GenerationLoop(self.model, self.decoding, self.counters, TURBO)
        self.most_rows = 99  # that there is memory for
        self.model.on_step = self._remember
        run = self.decoder.run
        self.decoder.run = lambda jobs: (self._remember(jobs), run(jobs))[1]

    def _remember(self, rows) -> None:
        if len(rows) > self.most_rows:
            raise NO_MEMORY

    def rest(self) -> None:
        for _ in range(20_000):
            if not (self.loop.step() | self.decoding.step()):
                return
        raise AssertionError("they do not come to rest")


def job(words: int, key: str, seed: int, index: int) -> Sequence:
    return Sequence(
        voice=fake_voice(key),
        prompt=FakePrompts().prompt("w" * words, fake_voice(key)),
        text_chars=words,
        sampling=turbo_sampling(top_k=50),
        max_tokens=200,
        seed=seed,
        index=index,
        outbox=Outbox(),
        playback=PlaybackClock(live=False),
    )


class Heard:
    """A segment and what its reader has got of it."""

    def __init__(self, words: int, key: str, seed: int, index: int) -> None:
        self.made_of = words, key, seed, index
        self.job = job(*self.made_of)
        self.key = key
        self.pieces: list[np.ndarray] = []
        self.end = None

    def read(self) -> None:
        while self.end is None:
            item = self.job.outbox.take()
            if item is None:
                return
            if isinstance(item, np.ndarray):
                self.pieces.append(item)
            else:
                self.end = item

    @property
    def sound(self) -> bytes:
        return b"".join(piece.tobytes() for piece in self.pieces)


def solo(made_of) -> bytes:
    bench, one = Bench(), Heard(*made_of)
    bench.loop.submit(one.job)
    bench.rest()
    one.read()
    assert isinstance(one.end, SegmentEnd)
    return one.sound


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.open: list[Heard] = []
        self.stalled: list[Heard] = []
        self.arrived: list[int] = []  # seeds of first segments, in order of arrival
        self.begun: list[int] = []
        self.submitted = 0
        self.scarce = False  # memory was so short that rows may have failed of it
        open_take = self.bench.decoding.open

        def opened(sequence):
            if sequence.index == 0 and sequence.seed not in self.begun:
                self.begun.append(sequence.seed)
            return open_take(sequence)

        self.bench.decoding.open = opened

    @rule(
        keys=st.lists(st.sampled_from(GOOD + GOOD + BAD), min_size=1, max_size=5),
        words=st.integers(1, 6),
        later=st.booleans(),
    )
    def submit(self, keys: list[str], words: int, later: bool) -> None:
        for key in keys:
            one = Heard(words, key, self.submitted, int(later))
            self.submitted += 1
            self.bench.loop.submit(one.job)
            self.open.append(one)
            if not later:
                self.arrived.append(one.job.seed)

    @rule(count=st.integers(1, 8))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.bench.loop.step()

    @rule()
    def decode(self) -> None:
        self.bench.decoding.step()

    @rule()
    def read(self) -> None:
        for one in self.open:
            if one not in self.stalled:
                one.read()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data) -> None:
        one = data.draw(st.sampled_from(self.open))
        one.job.outbox.close()
        self.open.remove(one)
        if one in self.stalled:
            self.stalled.remove(one)
        if one.job.seed in self.arrived and one.job.seed not in self.begun:
            self.arrived.remove(one.job.seed)

    @precondition(lambda self: [one for one in self.open if one not in self.stalled])
    @rule(data=st.data())
    def stall(self, data) -> None:
        """Its reader does not read, and what is unread is more than it may be."""
        one = data.draw(st.sampled_from([one for one in self.open if one not in self.stalled]))
        one.read()
        if one.end is None:
            one.job.outbox.put(np.zeros(CAPACITY_SAMPLES, np.float32))
            self.stalled.append(one)

    @precondition(lambda self: self.stalled)
    @rule()
    def go_on(self) -> None:
        one = self.stalled.pop()
        full = one.job.outbox.take()
        assert full is not None
        one.read()

    @rule(most=st.sampled_from([1, 2, 99, 99]))
    def memory(self, most: int) -> None:
        self.bench.most_rows = most
        self.scarce = self.scarce or most == 1

    @rule()
    def drain(self) -> None:
        while self.stalled:
            self.go_on()
        self.bench.rest()
        for one in self.open:
            one.read()
            self.check(one)
        self.open.clear()
        assert not self.bench.model.held
        assert not self.bench.decoding.open_sequences
        stats = self.bench.counters.snapshot()
        assert (stats.running_rows, stats.waiting_rows) == (0, 0)

    def check(self, one: Heard) -> None:
        assert one.end is not None, "nobody was told"
        if self.scarce and isinstance(one.end, OutOfMemory):
            return
        if one.key in BAD:
            assert isinstance(one.end, GenerationFailed)
        else:
            assert isinstance(one.end, SegmentEnd), one.end
            assert one.sound == solo(one.made_of)

    @invariant()
    def slots_are_conserved_and_nobody_shares_one(self) -> None:
        assert self.bench.loop.used_slots == set(self.bench.model.held)
        assert len(self.bench.loop.used_slots) <= SLOTS

    @invariant()
    def first_come_first_served(self) -> None:
        known = [seed for seed in self.begun if seed in self.arrived]
        assert known == self.arrived[: len(known)]

    def teardown(self) -> None:
        self.drain()


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


@pytest.mark.slow
class TestEngineMachineLonger(EngineMachine.TestCase):
    settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
