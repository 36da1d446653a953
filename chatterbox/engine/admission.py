"""Admission control: which requests start, wait or are refused, before any work is done.

Not thread-safe: used by the event loop alone.
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chatterbox.errors import ChatterboxError, DeadlineExceeded, Draining, Overloaded

RETRY_AFTER_MIN_S, RETRY_AFTER_MAX_S = 1, 30
"""Bounds of the `Retry-After` header, in seconds."""
SMOOTHING = 0.2
"""Weight of the newest request in the running mean of service times."""


class Admission:
    """Admits `capacity` requests at once; `queue_capacity` more wait, first come, first served."""

    def __init__(self, capacity: int, queue_capacity: int) -> None:
        self.capacity = capacity
        self.queue_capacity = queue_capacity
        self.active = 0
        self._parts: list[Admission] = []
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._service_s = 1.0  # running mean of a request's duration
        self._since: list[float] = []  # start times of the active requests

    @property
    def queued(self) -> int:
        """Number of requests waiting for a permit."""
        return len(self._waiters)

    @asynccontextmanager
    async def permit(
        self, *, timeout_s: float, unless: asyncio.Future[Any] | None = None
    ) -> AsyncIterator[None]:
        """Hold one place during the `async with`.

        Raises Overloaded if all places and the queue are full, Draining once closed, and
        DeadlineExceeded if no place is free within `timeout_s`. If `unless` fails while the request
        waits, its exception is raised.
        """
        await self._enter(timeout_s, unless)
        since = time.monotonic()
        self._since.append(since)
        try:
            yield
        finally:
            self._since.remove(since)
            held_s = time.monotonic() - since
            self._service_s += SMOOTHING * (held_s - self._service_s)
            self._leave()

    def half(self) -> "Admission":
        """Create an admission with half the places and half the queue, for one kind of work. It is
        closed with this one. Such work takes a place there first, and one here when it needs it."""
        part = Admission(max(1, self.capacity // 2), max(1, self.queue_capacity // 2))
        self._parts.append(part)
        return part

    def close(self) -> None:
        """Refuse new and waiting requests; active ones go on."""
        self._closed = True
        for part in self._parts:
            part.close()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(_draining())

    def retry_after_s(self) -> int:
        """Seconds until a place is likely to be free, from the queue's length and the recent rate.
        Random jitter spreads the retries of requests refused together."""
        wait_s = self._typical_s() * (self.queued + 1) / self.capacity
        jittered = wait_s * random.uniform(1.0, 1.5)
        return max(RETRY_AFTER_MIN_S, min(RETRY_AFTER_MAX_S, math.ceil(jittered)))

    def _typical_s(self) -> float:
        """Typical duration of a request: the recent mean, or the mean age of the active requests if
        that is longer."""
        ages_s = [time.monotonic() - since for since in self._since]
        return max(self._service_s, sum(ages_s) / max(len(ages_s), 1))

    async def _enter(self, timeout_s: float, unless: asyncio.Future[Any] | None) -> None:
        if self._closed:
            raise _draining()
        if self.active < self.capacity and not self._waiters:
            self.active += 1
            return
        if self.queued >= self.queue_capacity:
            raise Overloaded(
                "All places are taken and the queue is full; try again shortly.",
                retry_after_s=self.retry_after_s(),
            )
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)

        def fail(work: asyncio.Future[Any]) -> None:
            if not (waiter.done() or work.cancelled()) and (fault := work.exception()) is not None:
                waiter.set_exception(fault)

        if unless is not None:
            unless.add_done_callback(fail)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except BaseException as fault:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._leave()  # the place was given while the request was cancelled: hand it on
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            if isinstance(fault, TimeoutError):
                raise DeadlineExceeded(
                    "No place came free in time.", retry_after_s=self.retry_after_s()
                ) from None
            raise

    def _leave(self) -> None:
        self.active -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.active += 1
                waiter.set_result(None)
                return


def _draining() -> ChatterboxError:
    return Draining("The server is shutting down.", retry_after_s=RETRY_AFTER_MIN_S)
