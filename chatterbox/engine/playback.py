"""How much sound the listener of one request still has to play.

Counts what can be played without a break from where the listener is: a later segment's sound is
kept apart until every segment before it is complete. Times are the caller's, in seconds.
"""

import math
import threading
from collections import defaultdict


class PlaybackClock:
    """One for each request, shared by its segments and by the threads that work on them.

    The listener plays from the first sound on, and stops where there is none: after a silence the
    rest is played that much later.
    """

    def __init__(self, *, live: bool = True, speed: float = 1.0) -> None:
        """`live`: somebody hears the sound while it is made. `speed`: how fast they play it."""
        self.live = live
        self.speed = speed
        self._lock = threading.Lock()
        self._segment = 0  # the first that is not complete
        self._complete: set[int] = set()
        self._ahead_s: defaultdict[int, float] = defaultdict(float)  # of segments after that one
        self._plays_until_s: float | None = None
        self.next_window_s = 0.0
        """Seconds of work until more sound is there, as the vocoding loop expects."""

    @property
    def segment(self) -> int:
        """Index of the segment that is played, or that the listener waits for."""
        return self._segment

    @property
    def awaits_first(self) -> bool:
        """Whether somebody listens and has heard nothing yet."""
        return self.live and self._plays_until_s is None

    def add(self, index: int, seconds: float, now_s: float) -> float:
        """So much more of segment `index` is there, sound or the silence before it. Returns for how
        many seconds the listener had had nothing to play."""
        seconds /= self.speed
        with self._lock:
            if index == self._segment:
                return self._play(seconds, now_s)
            self._ahead_s[index] += seconds
            return 0.0

    def complete(self, index: int, now_s: float) -> None:
        """No more of segment `index` will come."""
        with self._lock:
            self._complete.add(index)
            while self._segment in self._complete:
                self._complete.remove(self._segment)
                self._segment += 1
                self._play(self._ahead_s.pop(self._segment, 0.0), now_s)

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
