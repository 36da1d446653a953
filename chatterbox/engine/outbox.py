"""How does a segment's audio get from the threads that make it to the one that reads it?

A bounded mailbox, one for each segment. Knows no event loop, no socket and no model.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import ChatterboxError

FinishReason = Literal["stop", "length", "guard"]
"""The model ended it; its cap did; the guard did, since it was no speech of its text any more."""

CAPACITY_SAMPLES = 20 * SAMPLE_RATE_HZ
"""A reader this far behind is slow: its row is not scheduled until it has caught up. One piece
may overshoot it, so a mailbox holds at most this plus one segment (a segment is ≤ 41 s)."""


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """The segment is whole."""

    codes: tuple[int, ...]
    finish_reason: FinishReason
    retries: int = 0  # attempts that the guard threw away
    at_s: float = field(default_factory=time.monotonic, compare=False)  # when it was made


Terminal = SegmentEnd | ChatterboxError


class Outbox:
    """Pieces of one segment in order, then exactly one terminal, which is never lost.

    The producer puts, then finishes or fails. The consumer takes, and closes when it leaves:
    `closed` is all the producer ever learns of it. `closed` and `ended` are written here only; they
    are plain attributes since both loops read them for every segment at every step.
    """

    __slots__ = ("_listener", "_lock", "_pieces", "_samples", "_terminal", "closed", "ended")

    def __init__(self, listener: Callable[[], None] | None = None) -> None:
        """`listener` is called, from the producer's thread, whenever there is something new."""
        self._lock = threading.Lock()
        self._pieces: deque[F32] = deque()
        self._samples = 0
        self._terminal: Terminal | None = None
        self.closed = False  # the reader has left
        self.ended = False  # the terminal is in
        self._listener = listener

    # --- producer

    def put(self, samples: F32) -> None:
        """Add a piece [samples]; dropped when the consumer has left or an error has ended it."""
        with self._lock:
            if self.closed or self._terminal is not None:
                return
            self._pieces.append(samples)
            self._samples += len(samples)
        self._notify()

    def end(self, terminal: Terminal) -> None:
        """The segment is whole, or it failed. The first terminal stands."""
        with self._lock:
            if self._terminal is None:
                self._terminal = terminal
                self.ended = True
        self._notify()

    @property
    def full(self) -> bool:
        """Whether the reader is so far behind that its row should wait."""
        return self._samples >= CAPACITY_SAMPLES

    # --- consumer

    def take(self) -> F32 | Terminal | None:
        """The next piece; after the last one the terminal; None when there is nothing yet."""
        with self._lock:
            if self._pieces:
                piece = self._pieces.popleft()
                self._samples -= len(piece)
                return piece
            return self._terminal

    def close(self) -> None:
        """The reader leaves; what was not read is dropped."""
        with self._lock:
            self.closed = True
            self._pieces.clear()
            self._samples = 0

    def _notify(self) -> None:
        if self._listener is not None:
            self._listener()
