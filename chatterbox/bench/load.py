"""Load patterns: closed loop (so many requests at once) and open loop (Poisson arrivals).

`speak` is whatever sends a request and returns its outcome.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import numpy as np

from chatterbox.bench.summary import Outcome

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
