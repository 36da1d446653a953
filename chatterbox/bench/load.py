"""Load patterns, the levels that are measured with them, and the search for the largest one.

A closed loop keeps so many requests under way, an open loop sends them when they are due (Poisson).
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from chatterbox.bench.summary import Level, Outcome, summarise

LOG_INTERVAL_S = 10.0
"""Where standard error is a file, the bar is written as a line this often."""
Speak = Callable[[int, float], Awaitable[Outcome]]
"""(number of the request, when it was due by `time.perf_counter`) → outcome; raises nothing."""
Done = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Bound:
    """When a level stops sending: after so many requests, so much time, or whichever is first."""

    requests: int | None
    duration_s: float | None

    def __post_init__(self) -> None:
        assert self.requests is not None or self.duration_s is not None, "a level must end"

    def allows(self, number: int, elapsed_s: float) -> bool:
        """Whether request `number` (from 0) may still be sent at this time."""
        in_count = self.requests is None or number < self.requests
        return in_count and (self.duration_s is None or elapsed_s < self.duration_s)


async def closed_loop(speak: Speak, concurrency: int, bound: Bound, done: Done) -> list[Outcome]:
    """`concurrency` clients, each sending its next request when its last one has been answered."""
    outcomes: list[Outcome] = []
    started_s = time.perf_counter()
    sent = 0

    async def client() -> None:
        nonlocal sent
        while bound.allows(sent, (due_s := time.perf_counter()) - started_s):
            number, sent = sent, sent + 1
            outcome = await speak(number, due_s)
            outcomes.append(outcome)
            done(outcome)

    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(client())
    return outcomes


def poisson_arrivals(rate_hz: float, bound: Bound, seed: int) -> Iterator[float]:
    """Seconds after the start at which requests are due; the same seed gives the same times."""
    gaps_s = np.random.default_rng(seed)
    at_s = 0.0
    number = 0
    while bound.allows(number, at_s):
        yield at_s
        at_s += gaps_s.exponential(1 / rate_hz)
        number += 1


async def open_loop(
    speak: Speak, rate_hz: float, bound: Bound, seed: int, done: Done
) -> list[Outcome]:
    """Requests sent when they are due, however many are still under way.

    Time counts from when a request was due, so a client that falls behind cannot flatter.
    """
    outcomes: list[Outcome] = []
    started_s = time.perf_counter()

    async def one(number: int, due_s: float) -> None:
        outcome = await speak(number, due_s)
        outcomes.append(outcome)
        done(outcome)

    async with asyncio.TaskGroup() as requests:
        for number, at_s in enumerate(poisson_arrivals(rate_hz, bound, seed)):
            due_s = started_s + at_s
            await asyncio.sleep(due_s - time.perf_counter())
            requests.create_task(one(number, due_s))
    return outcomes


@dataclass(slots=True)
class Runner:
    """Measures levels one after another and keeps them, also when the rest is interrupted."""

    speak: Speak
    bound: Bound
    warmup: int  # requests before each level that are not counted
    seed: int
    shown: Callable[[Level], None]  # called with each level as soon as it is done
    levels: list[Level] = field(default_factory=list)

    async def at_concurrency(self, concurrency: int, *, rounds: int = 1) -> Level:
        """A closed-loop level of at least `rounds` requests for each client."""
        bound = self.bound
        if bound.requests is not None:
            bound = replace(bound, requests=max(bound.requests, rounds * concurrency))
        await self._warm(concurrency)
        outcomes = await _watched(
            lambda done: closed_loop(self.speak, concurrency, bound, done),
            f"concurrency {concurrency}",
            bound,
        )
        return self._keep(summarise(outcomes, concurrency=concurrency))

    async def at_rate(self, rate_hz: float) -> Level:
        """An open-loop level."""
        await self._warm(1)
        outcomes = await _watched(
            lambda done: open_loop(self.speak, rate_hz, self.bound, self.seed, done),
            f"rate {rate_hz:g}/s",
            self.bound,
        )
        return self._keep(summarise(outcomes, rate_hz=rate_hz))

    async def _warm(self, concurrency: int) -> None:
        if self.warmup:
            bound = Bound(self.warmup, None)
            await closed_loop(self.speak, concurrency, bound, lambda _: None)

    def _keep(self, level: Level) -> Level:
        self.levels.append(level)
        self.shown(level)
        return level


async def _watched(
    load: Callable[[Callable[[Outcome], None]], Awaitable[list[Outcome]]], name: str, bound: Bound
) -> list[Outcome]:
    """The load, with a progress bar on standard error."""
    interval_s = 0.1 if sys.stderr.isatty() else LOG_INTERVAL_S
    with tqdm(
        total=bound.requests, desc=name, unit="req", leave=False, mininterval=interval_s
    ) as bar:
        errors = 0

        def done(outcome: Outcome) -> None:
            nonlocal errors
            bar.update()
            if outcome.error is not None:
                errors += 1
                bar.set_postfix(errors=errors, refresh=False)

        return await load(done)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer, and what stands in the way of more."""

    best: int  # 0: not even one at a time
    stopped_at: int | None  # the lowest concurrency that failed; None: the limit was reached
    stopped_by: str


def verdict(level: Level) -> str | None:
    """Why a level does not pass; None where it does (p95 RTF < 1 and no errors)."""
    if level.errors:
        listed = ", ".join(f"{count} x {code}" for code, count in level.errors.items())
        return f"errors ({listed})"
    if not level.realtime_p95:
        assert level.rtf is not None, "a level without errors has successes"
        return f"RTF (p95 {level.rtf.p95:.3f})"
    return None


async def find_largest(measure: Callable[[int], Awaitable[Level]], limit: int) -> SearchResult:
    """The largest concurrency in 1..limit that passes, taking it that more load is never easier.

    Needs about 2·log2 of the answer levels, where a scan would need the answer itself.
    """
    best, failed, reason = 0, limit + 1, f"the limit of {limit}"
    candidate = 1
    while candidate > best:
        why = verdict(await measure(candidate))
        if why is None:
            best = candidate
        else:
            failed, reason = candidate, why
        doubling = failed > limit
        candidate = min(2 * best, limit) if doubling else (best + failed) // 2
    return SearchResult(best, failed if failed <= limit else None, reason)
