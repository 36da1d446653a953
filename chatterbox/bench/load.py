"""Load patterns, measurement of levels, and the search for the largest concurrency.

A closed loop keeps a fixed number of requests running. An open loop sends requests at Poisson
times.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from chatterbox.bench.report import Level, Outcome, SearchResult

LOG_INTERVAL_S = 10.0
"""Time between lines of the progress bar if standard error is not a terminal."""
Speak = Callable[[int, float], Coroutine[Any, Any, Outcome]]
"""Sends a request, given its number and due time (`time.perf_counter`). Never raises."""


@dataclass(frozen=True, slots=True)
class Bound:
    """When a level stops sending: after a number of requests or a duration, whichever is first."""

    requests: int | None
    duration_s: float | None

    def __post_init__(self) -> None:
        assert self.requests is not None or self.duration_s is not None, "a level must end"

    def allows(self, number: int, elapsed_s: float) -> bool:
        """Return whether request `number` (from 0) may be sent at this time."""
        in_count = self.requests is None or number < self.requests
        return in_count and (self.duration_s is None or elapsed_s < self.duration_s)


async def closed_loop(speak: Speak, concurrency: int, bound: Bound) -> None:
    """Run `concurrency` clients, each of which sends a request when its previous one is
    answered."""
    started_s = time.perf_counter()
    sent = 0

    async def client() -> None:
        nonlocal sent
        while bound.allows(sent, (due_s := time.perf_counter()) - started_s):
            number, sent = sent, sent + 1
            await speak(number, due_s)

    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(client())


def poisson_arrivals(rate_hz: float, bound: Bound, seed: int) -> Iterator[float]:
    """Yield the seconds after the start at which requests are due. A seed always gives the same
    times."""
    gaps_s = np.random.default_rng(seed)
    at_s = 0.0
    number = 0
    while bound.allows(number, at_s):
        yield at_s
        at_s += gaps_s.exponential(1 / rate_hz)
        number += 1


async def open_loop(speak: Speak, rate_hz: float, bound: Bound, seed: int) -> None:
    """Send requests when they are due, however many are still running.

    Times count from when a request was due, so that a slow client does not improve the results.
    """
    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        for number, at_s in enumerate(poisson_arrivals(rate_hz, bound, seed)):
            await asyncio.sleep(started_s + at_s - time.perf_counter())
            requests.create_task(speak(number, started_s + at_s))


@dataclass(slots=True)
class Runner:
    """Measures levels one after another. `levels` holds the finished ones, also after an
    interrupt."""

    speak: Speak
    bound: Bound
    warmup: int  # uncounted requests before each level
    seed: int
    on_level: Callable[[Level], None]  # called with each finished level
    levels: list[Level] = field(default_factory=list)

    async def at_concurrency(self, concurrency: int, *, rounds: int = 1) -> Level:
        """Measure a closed-loop level of at least `rounds` requests per client."""
        bound = self.bound
        if bound.requests is not None:
            bound = replace(bound, requests=max(bound.requests, rounds * concurrency))
        load = partial(closed_loop, concurrency=concurrency, bound=bound)
        outcomes = await self._outcomes(load, concurrency, f"concurrency {concurrency}", bound)
        return self._keep(Level(outcomes, concurrency=concurrency))

    async def at_rate(self, rate_hz: float) -> Level:
        """Measure an open-loop level."""
        load = partial(open_loop, rate_hz=rate_hz, bound=self.bound, seed=self.seed)
        outcomes = await self._outcomes(load, 1, f"rate {rate_hz:g}/s", self.bound)
        return self._keep(Level(outcomes, rate_hz=rate_hz))

    async def _outcomes(
        self, load: Callable[[Speak], Awaitable[None]], warm: int, name: str, bound: Bound
    ) -> list[Outcome]:
        """Run a load after a warm-up by `warm` clients, with a progress bar on standard error."""
        if self.warmup:
            await closed_loop(self.speak, warm, Bound(self.warmup, None))
        outcomes: list[Outcome] = []
        interval_s = 0.1 if sys.stderr.isatty() else LOG_INTERVAL_S
        with tqdm(
            total=bound.requests, desc=name, unit="req", leave=False, mininterval=interval_s
        ) as bar:

            async def speak(number: int, due_s: float) -> Outcome:
                outcomes.append(outcome := await self.speak(number, due_s))
                if outcome.error is not None:
                    errors = sum(o.error is not None for o in outcomes)
                    bar.set_postfix(errors=errors, refresh=False)
                bar.update()
                return outcome

            await load(speak)
        return outcomes

    def _keep(self, level: Level) -> Level:
        self.levels.append(level)
        self.on_level(level)
        return level


def verdict(level: Level) -> str | None:
    """Return why a level fails, or None if it passes (p95 RTF < 1 and no errors)."""
    if level.errors:
        return f"errors ({level.errors_text})"
    if not level.realtime_p95:
        assert level.rtf is not None, "a level without errors has successes"
        return f"RTF (p95 {level.rtf.p95:.3f})"
    return None


async def find_largest(measure: Callable[[int], Awaitable[Level]], limit: int) -> SearchResult:
    """Find the largest concurrency in 1..limit that passes, assuming that more load never helps.

    Measures about 2·log2(answer) levels.
    """
    best, stopped_at, reason = 0, None, f"the limit of {limit}"
    candidate = 1
    while candidate > best:
        if (failure := verdict(await measure(candidate))) is None:
            best = candidate
        else:
            stopped_at, reason = candidate, failure
        candidate = min(2 * best, limit) if stopped_at is None else (best + stopped_at) // 2
    return SearchResult(best, stopped_at, reason)
