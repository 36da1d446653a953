"""Limits connections: no more than there is room for, and none that only waits.

It knows what each connection waits for and since when. One sweep a second takes the place of a
timer for each connection.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from chatterbox.server.request_log import Ended


class Waits(Enum):
    """What the other side lets us wait for; the limit of each is in `Timeouts`."""

    HEAD = "head_s"  # the rest of a request's head, or a request at all
    REST = "rest_s"  # the rest of a body whose request has been answered
    READING = "reading_s"  # the last bytes to be read, on a connection that is closing


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long. A sweep may come one round late, and another one passes before it is seen that
    nothing has changed: a head may take 10 s in all (FAULTS F51)."""

    head_s: float = 8.0
    rest_s: float = 28.0
    reading_s: float = 28.0
    round_s: float = 1.0


class Connection(Protocol):
    """What the limiter must know of one."""

    def waits(self) -> tuple[Waits | None, object]:
        """For what, and in the course of which request: the same pair is the same waiting."""

    def give_up(self, waits: Waits) -> None:
        """It took too long."""


class ConnectionLimiter:
    """One for each server; belongs to the event loop. `ended` is told of what was refused before
    it was a request."""

    def __init__(
        self, limit: int, ended: Ended, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.ended = ended
        self.timeouts = Timeouts()
        self._limit = limit
        self._now = now
        self._since: dict[Connection, tuple[tuple[Waits | None, object], float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    @property
    def over_limit(self) -> bool:
        """Whether more are in than there is room for. Who comes now is answered, but only probes
        are served."""
        return len(self) > self._limit

    @property
    def idle(self) -> list[Connection]:
        """Those without a request."""
        return [who for who in self._since if who.waits()[0] is Waits.HEAD]

    def add(self, connection: Connection) -> None:
        """Somebody came. Where it is crowded, who waited longest without a request must go."""
        self._since[connection] = (connection.waits(), self._now())
        if self._timer is None:
            self._sweep_later()
        idle = self.idle if self.over_limit else []
        if len(idle) > 1:  # not the one that has just come
            oldest = min(idle, key=lambda who: self._since[who][1])
            oldest.give_up(Waits.HEAD)
            self.remove(oldest)

    def remove(self, connection: Connection) -> None:
        """Its connection is closed, or goes on as another one."""
        self._since.pop(connection, None)

    def sweep(self) -> None:
        """Give up on those that took too long."""
        now = self._now()
        for connection, (known, since) in list(self._since.items()):
            waits = connection.waits()
            if waits != known:
                self._since[connection] = (waits, now)
            elif waits[0] and now - since >= getattr(self.timeouts, waits[0].value):
                connection.give_up(waits[0])

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.timeouts.round_s, self._round)

    def _round(self) -> None:
        self._timer = None
        self.sweep()
        if self._since:
            self._sweep_later()
