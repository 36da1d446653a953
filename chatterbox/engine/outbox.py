"""Between the loops and a listener: a bounded mailbox for each segment's sound, and a clock for how
much of a request's sound is still to be played."""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import ChatterboxError

FinishReason = Literal["stop", "length", "guard"]
"""The model ended it; its cap did; the guard did, since it was no speech of its text any more."""

LOW_BUFFER_S = 2.0
"""A listener with less sound than this has no time to give to others."""
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
    `closed` and `full` are all the producer ever learns of it. `closed`, `ended` and `full` are
    written here only; they are plain attributes since both loops read them at every step.
    """

    def __init__(self, listener: Callable[[], None] | None = None) -> None:
        """`listener` is called, from the producer's thread, whenever there is something new."""
        self._lock = threading.Lock()
        self._pieces: deque[F32] = deque()
        self._samples = 0
        self._terminal: Terminal | None = None
        self.closed = False  # the reader has left
        self.ended = False  # the terminal is in
        self.full = False  # the reader is so far behind that its sequence should wait
        self.codes: tuple[int, ...] = ()  # of the pieces put so far; written before each
        self._listener = listener

    # --- producer

    def put(self, samples: F32) -> None:
        """Add a piece [samples]; dropped when the consumer has left or an error has ended it."""
        with self._lock:
            if self.closed or self._terminal is not None:
                return
            self._pieces.append(samples)
            self._count(len(samples))
        self._notify()

    def end(self, terminal: Terminal) -> None:
        """The segment is whole, or it failed. The first terminal stands."""
        with self._lock:
            if self._terminal is None:
                self._terminal = terminal
                self.ended = True
        self._notify()

    # --- consumer

    def take(self) -> F32 | Terminal | None:
        """The next piece; after the last one the terminal; None when there is nothing yet."""
        with self._lock:
            if self._pieces:
                piece = self._pieces.popleft()
                self._count(-len(piece))
                return piece
            return self._terminal

    def close(self) -> None:
        """The reader leaves; what was not read is dropped."""
        with self._lock:
            self.closed = True
            self._pieces.clear()
            self._count(-self._samples)

    def _count(self, samples: int) -> None:
        self._samples += samples
        self.full = self._samples >= CAPACITY_SAMPLES

    def _notify(self) -> None:
        if self._listener is not None:
            self._listener()


class PlaybackClock:
    """How much sound the listener of one request still has to play; shared by its segments and by
    the threads that work on them. Times are the caller's, in seconds.

    Counts what can be played without a break from where the listener is: a later segment's sound is
    kept apart until every segment before it is complete. The listener plays from the first sound
    on, and stops where there is none: after a silence the rest is played that much later.
    """

    def __init__(self, *, live: bool = True, speed: float = 1.0) -> None:
        """`live`: somebody hears the sound while it is made. `speed`: how fast they play it."""
        self.live = live
        self.speed = speed
        self._lock = threading.Lock()
        self.segment = 0  # the first that is not complete: played, or waited for
        self._complete: set[int] = set()
        self._ahead_s: defaultdict[int, float] = defaultdict(float)  # of segments after that one
        self._plays_until_s: float | None = None
        self.next_window_s = 0.0
        """Seconds of work until more sound is there, as the vocoding loop expects."""

    @property
    def awaits_first(self) -> bool:
        """Whether somebody listens and has heard nothing yet."""
        return self.live and self._plays_until_s is None

    def add(self, index: int, seconds: float, now_s: float) -> float:
        """So much more of segment `index` is there, sound or the silence before it. Returns for how
        many seconds the listener had had nothing to play."""
        seconds /= self.speed
        with self._lock:
            if index == self.segment:
                return self._play(seconds, now_s)
            self._ahead_s[index] += seconds
            return 0.0

    def complete(self, index: int, now_s: float) -> None:
        """No more of segment `index` will come."""
        with self._lock:
            self._complete.add(index)
            while self.segment in self._complete:
                self._complete.remove(self.segment)
                self.segment += 1
                self._play(self._ahead_s.pop(self.segment, 0.0), now_s)

    def buffered_s(self, now_s: float) -> float:
        """Seconds until the listener has nothing to play: 0 before the first sound, below 0 since
        it ran out, infinite when nobody listens."""
        if not self.live:
            return math.inf
        return 0.0 if self._plays_until_s is None else self._plays_until_s - now_s

    def spare_s(self, now_s: float) -> float:
        """Seconds that may go to anything else before the listener has nothing to play."""
        return self.buffered_s(now_s) - self.next_window_s

    def _play(self, seconds: float, now_s: float) -> float:
        if not seconds:
            return 0.0
        until_s = now_s if self._plays_until_s is None else self._plays_until_s
        self._plays_until_s = max(until_s, now_s) + seconds
        return max(now_s - until_s, 0.0)
