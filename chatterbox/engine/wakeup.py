"""How does one thread sleep until others have news for it?

Knows no news.
"""

import threading

from chatterbox.engine.heartbeat import Heartbeat


class Wakeup:
    """Rung by anybody, heard by one thread."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._rung = False

    def notify(self) -> None:
        """There is news; whoever sleeps wakes, and whoever does not will not sleep next time."""
        with self._change:
            self._rung = True
            self._change.notify()

    def wait(self, heartbeat: Heartbeat, timeout_s: float | None) -> None:
        """Until notified, `timeout_s` at most; not at all if notified since the last time.
        `heartbeat` idles meanwhile."""
        with self._change:
            if not self._rung:
                heartbeat.idle()
                self._change.wait(timeout_s)
            self._rung = False
