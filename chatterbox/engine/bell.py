"""How does one thread sleep until others have news for it?

Knows no news.
"""

import threading

from chatterbox.engine.pulse import Pulse


class Bell:
    """Rung by anybody, heard by one thread."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._rung = False

    def ring(self) -> None:
        """There is news; whoever sleeps wakes, and whoever does not will not sleep next time."""
        with self._change:
            self._rung = True
            self._change.notify()

    def sleep(self, pulse: Pulse, timeout_s: float | None) -> None:
        """Until it rings, so long at most; not at all if it has rung since the last time. `pulse`
        rests meanwhile."""
        with self._change:
            if not self._rung:
                pulse.rest()
                self._change.wait(timeout_s)
            self._rung = False
