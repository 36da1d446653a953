"""Queue of pending windows: which are decoded next, and which of them share a call.

First windows go first: those of the tenant with the least in work, then those who have waited
longest; after them the listener whose audio ends first. The most urgent window decides the bucket
of the call; others of that bucket join it, in the same order.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

GATHER_S = 0.003
"""How long a due window may wait for others where a call takes several rows: between the 2 and 5 ms
that cost no listener anything."""
LOOK_AGAIN_S = 0.01
"""How often streams are to be asked again without news: their audio runs on meanwhile."""
LOW_BUFFER_S = 2.0
"""Listeners with less audio than this count as load: their windows may want the decoder at once."""
PATIENCE_S = 5.0
"""A window that nobody waits for is as urgent after this long as one that is due now."""


@dataclass(frozen=True, slots=True, eq=False)
class PendingWindow(Generic[T]):
    """A window that could be decoded now."""

    what: T  # whatever the caller wants back
    bucket: Hashable  # windows of equal bucket can share a call
    first: bool  # its listener has heard nothing yet
    in_work: int  # of its tenant: of first windows, who has least goes first
    slack_s: float  # how long their audio lasts
    waited_s: float  # since the window could first have been decoded
    index: int = 0  # of the segment within its request: earlier ones go first

    @property
    def urgency(self) -> tuple[bool, int, float, int]:
        """The smallest goes first."""
        if self.first:
            return False, self.in_work, -self.waited_s, 0
        return True, 0, min(self.slack_s, PATIENCE_S - self.waited_s), self.index


def select_batch(due: Sequence[PendingWindow[T]], max_rows: int) -> list[PendingWindow[T]]:
    """The windows of the next call, most urgent first; at most `max_rows`."""
    ordered = sorted(due, key=lambda d: d.urgency)  # stable: equals in order of arrival
    return [d for d in ordered if d.bucket == ordered[0].bucket][:max_rows]


def should_wait_for_more(chosen: int, streams: int, max_rows: int) -> bool:
    """Whether waiting GATHER_S may fill the call: there is room, and somebody to fill it."""
    return chosen < max_rows and streams > chosen


def load(slacks_s: Iterable[float], max_rows: int) -> float:
    """How many calls' worth of listeners want the decoder; scales the expected cost."""
    return max(1.0, sum(slack_s < LOW_BUFFER_S for slack_s in slacks_s) / max_rows)
