"""Which rows run, in which slots, and who is next?

Knows no model, no audio and no thread: rows in, slots out. A row is waiting, running or gone.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from chatterbox.engine.outbox import Outbox
from chatterbox.engine.playback import PlaybackClock
from chatterbox.engine.sampler import Sampling
from chatterbox.families.base import Prompt, Voice

KEPT_SHARE = 8
"""One slot in so many is for first segments: what others say ahead may not keep a listener, who has
heard nothing yet, waiting for one of their segments to end."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRequest:
    """One segment to be spoken."""

    voice: Voice
    prompt: Prompt
    text_chars: int
    sampling: Sampling
    max_tokens: int  # never more than so many
    seed: int
    index: int  # place within its request: first segments go first
    outbox: Outbox
    playback: PlaybackClock  # of its request
    tenant: Hashable = None  # who asks, where askers are told apart
    deterministic: bool = False  # nothing about its sound depends on time


@dataclass(slots=True, eq=False)
class Row:
    """A segment that waits or runs."""

    job: SegmentRequest
    slot: int = -1


class Scheduler:
    """Waiting rows and a fixed number of slots. First segments are admitted before later ones, and
    some slots are kept for them; then those of the party with the fewest rows running; then in
    order of arrival. Nobody starves, since a request holds its permit, and so keeps newcomers out,
    until its last segment is done."""

    def __init__(self, slots: int) -> None:
        self._kept = slots // KEPT_SHARE
        self._free = list(range(slots))  # a heap: low slots first keeps the running ones together
        self._waiting: list[Row] = []  # in order of arrival
        self._running: dict[int, Row] = {}  # slot → row, in order of admission

    @property
    def waiting(self) -> int:
        """Rows without a slot."""
        return len(self._waiting)

    @property
    def running(self) -> tuple[Row, ...]:
        """Rows with a slot, in order of admission."""
        return tuple(self._running.values())

    @property
    def free_slots(self) -> int:
        """Slots without a row."""
        return len(self._free)

    def submit(self, job: SegmentRequest) -> Row:
        """Queue a segment."""
        row = Row(job)
        self._waiting.append(row)
        return row

    def admit(self, aside: Callable[[SegmentRequest], bool]) -> Row | None:
        """Give the next waiting row a slot; None when there is no row or no slot for it. Whoever
        stands `aside` goes on waiting."""
        fit = [row for row in self.admissible() if not aside(row.job)]
        if not fit:
            return None
        running = Counter(row.job.tenant for row in self._running.values())
        row = min(fit, key=lambda row: (row.job.index > 0, running[row.job.tenant]))
        self._waiting.remove(row)
        row.slot = heapq.heappop(self._free)
        self._running[row.slot] = row
        return row

    def admissible(self) -> list[Row]:
        """Waiting rows for which there is a slot."""
        if not (self._waiting and self._free):
            return []
        later_too = len(self._free) > self._kept
        return [
            row
            for row in self._waiting
            if (later_too or not row.job.index) and not row.job.outbox.closed
        ]

    def runnable(self) -> list[Row]:
        """Running rows whose reader keeps up."""
        return [row for row in self._running.values() if not row.job.outbox.full]

    def left(self) -> list[Row]:
        """Running rows whose reader has left."""
        return [row for row in self._running.values() if row.job.outbox.closed]

    def drop_waiting(self) -> None:
        """Forget waiting rows whose reader has left."""
        self._waiting = [row for row in self._waiting if not row.job.outbox.closed]

    def release(self, row: Row) -> int:
        """Take a running row's slot back; returns the slot."""
        slot = row.slot
        assert self._running.get(slot) is row, "a slot is released by the row that holds it"
        del self._running[slot]
        row.slot = -1
        heapq.heappush(self._free, slot)
        return slot

    def jobs(self) -> list[SegmentRequest]:
        """Of every row there is, running and waiting. May be asked by another thread."""
        return [row.job for row in (*self.running, *list(self._waiting))]

    def clear(self) -> list[Row]:
        """Every row there is, waiting and running; afterwards there is none."""
        rows = [*self._running.values(), *self._waiting]
        for row in list(self._running.values()):
            self.release(row)
        self._waiting.clear()
        return rows
