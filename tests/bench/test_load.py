"""Tests of the load patterns: when requests are sent."""

import asyncio
import itertools
import time

import numpy as np
import pytest

from chatterbox.bench.load import Bound, closed_loop, open_loop, poisson_arrivals
from chatterbox.bench.report import Outcome


class Speaker:
    """Counts running requests. Every response takes one iteration of the event loop."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.dues_s: list[float] = []
        self.now = 0
        self.most = 0

    async def __call__(self, number: int, due_s: float) -> Outcome:
        self.numbers.append(number)
        self.dues_s.append(due_s)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return Outcome(due_s, time.perf_counter(), audio_s=1.0)


def test_the_closed_loop_keeps_its_concurrency_and_its_count() -> None:
    speaker = Speaker()
    asyncio.run(closed_loop(speaker, 3, Bound(10, None)))
    assert sorted(speaker.numbers) == list(range(10))
    assert speaker.most == 3


def test_a_duration_ends_the_closed_loop() -> None:
    speaker = Speaker()
    asyncio.run(closed_loop(speaker, 2, Bound(None, 0.02)))
    assert len(speaker.numbers) >= 2
    assert max(speaker.dues_s) - min(speaker.dues_s) < 0.02


def test_poisson_arrivals_repeat_by_seed() -> None:
    bound = Bound(50, None)
    first = list(poisson_arrivals(2.0, bound, 7))
    assert first == list(poisson_arrivals(2.0, bound, 7))
    assert first != list(poisson_arrivals(2.0, bound, 8))
    assert first[0] == 0.0
    assert first == sorted(first)


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    gaps_s = np.diff(list(poisson_arrivals(5.0, Bound(20_000, None), 0)))
    assert np.mean(gaps_s) == pytest.approx(0.2, rel=0.05)
    assert np.std(gaps_s) == pytest.approx(0.2, rel=0.05)  # exponential: both are equal


def test_a_duration_ends_the_arrivals() -> None:
    arrivals = list(poisson_arrivals(10.0, Bound(None, 3.0), 0))
    assert arrivals[-1] < 3.0
    assert len(list(poisson_arrivals(10.0, Bound(4, 3.0), 0))) == 4


def test_the_open_loop_does_not_wait_for_replies() -> None:
    release = asyncio.Event()
    under_way = itertools.count(1)

    async def speak(number: int, due_s: float) -> Outcome:
        if next(under_way) == 20:  # only reached if nobody waits for anybody
            release.set()
        await release.wait()
        return Outcome(due_s, time.perf_counter(), audio_s=1.0)

    asyncio.run(open_loop(speak, 2000.0, Bound(20, None), 0))
    assert next(under_way) == 21


def test_time_counts_from_when_a_request_was_due() -> None:
    speaker = Speaker()
    asyncio.run(open_loop(speaker, 1000.0, Bound(20, None), 3))
    due = np.diff(sorted(speaker.dues_s))
    planned = np.diff(list(poisson_arrivals(1000.0, Bound(20, None), 3)))
    np.testing.assert_allclose(due, planned, atol=1e-6)


def test_a_level_without_an_end_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Bound(None, None)
