"""How long does a listener's sound last? One for each request, shared by its segments.

Knows no clock of its own and no decoder: sample counts and times in, seconds out.
"""

import math
import threading

from chatterbox.model.contract import SAMPLE_RATE_HZ


class Playback:
    """The listener is taken to play from the moment the first sound leaves."""

    def __init__(self, *, listening: bool = True) -> None:
        """`listening`: see the property."""
        self._listening = listening
        self._lock = threading.Lock()
        self._began_s: float | None = None
        self._samples = 0

    @property
    def listening(self) -> bool:
        """Whether anybody hears the sound while it is made."""
        return self._listening

    @property
    def silent(self) -> bool:
        """Whether somebody listens and has heard nothing yet."""
        return self._listening and self._began_s is None

    def sent(self, samples: int, now_s: float) -> None:
        """So many samples have left."""
        with self._lock:
            if self._began_s is None and samples:
                self._began_s = now_s
            self._samples += samples

    def slack_s(self, now_s: float) -> float:
        """Seconds of sound still to be played: 0 when nothing has left yet, below 0 when it has
        run out, infinite when nobody listens."""
        if not self._listening:
            return math.inf
        if self._began_s is None:
            return 0.0
        return self._samples / SAMPLE_RATE_HZ - (now_s - self._began_s)
