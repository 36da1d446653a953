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

from chatterbox.server.access_record import AccessRecord


class Waits(Enum):
    """What the other side lets us wait for."""

    HEAD = "the rest of a request's head, or a request at all"
    REST = "the rest of a body whose request has been answered"
    READING = "the last bytes to be read, on a connection that is closing"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long. A look around may come one round late, and another one passes before it is seen
    that nothing has changed: a head may take 10 s in all (FAULTS F51)."""

    head_s: float = 8.0
    rest_s: float = 28.0
    reading_s: float = 28.0
    round_s: float = 1.0

    def of(self, waits: Waits) -> float:
        """The limit of one of them."""
        return {
            Waits.HEAD: self.head_s,
            Waits.REST: self.rest_s,
            Waits.READING: self.reading_s,
        }[waits]


class Connection(Protocol):
    """What the limiter must know of one."""

    def waits(self) -> tuple[Waits | None, object]:
        """For what, and in the course of which request: the same pair is the same waiting."""
        ...

    def give_up(self, waits: Waits) -> None:
        """It took too long."""
        ...


class ConnectionLimiter:
    """One for each server; belongs to the event loop."""

    def __init__(
        self,
        most: int,
        ended: Callable[[AccessRecord], None],
        *,
        patience: Timeouts | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = most
        self.ended = ended  # told of what was refused before it was a request
        self.patience = patience or Timeouts()
        self._now = now
        self._since: dict[Connection, tuple[tuple[Waits | None, object], float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    @property
    def crowded(self) -> bool:
        """Whether more are in than there is room for. Who comes now is answered, but only probes
        are served."""
        return len(self) > self.most

    def enter(self, connection: Connection) -> None:
        """Somebody came. Where it is crowded, who waited longest without a request must go."""
        self._since[connection] = (connection.waits(), self._now())
        if self._timer is None:
            self._look_around_later()
        if self.crowded:
            self._make_room()

    def leave(self, connection: Connection) -> None:
        """Its connection is closed, or goes on as another one."""
        self._since.pop(connection, None)

    def sweep(self) -> None:
        """Give up on those that took too long."""
        now = self._now()
        for connection, (known, since) in list(self._since.items()):
            waits = connection.waits()
            if waits != known:
                self._since[connection] = (waits, now)
            elif waits[0] is not None and now - since >= self.patience.of(waits[0]):
                connection.give_up(waits[0])

    @property
    def idle(self) -> list[Connection]:
        """Those without a request."""
        return [who for who in self._since if who.waits()[0] is Waits.HEAD]

    def _make_room(self) -> None:
        idle = self.idle
        if len(idle) > 1:  # not the one that has just come
            oldest = min(idle, key=lambda who: self._since[who][1])
            oldest.give_up(Waits.HEAD)
            self.leave(oldest)

    def _look_around_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.patience.round_s, self._round)

    def _round(self) -> None:
        self._timer = None
        self.sweep()
        if self._since:
            self._look_around_later()
