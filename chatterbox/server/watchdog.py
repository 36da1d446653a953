"""Watchdog that ends the process if one of its threads hangs, and notifications for systemd.

The watchdog's thread checks heartbeats and ends the process with EXIT_STALLED. If some code holds
the interpreter's lock, no Python thread runs; faulthandler's timer, a C thread that does not need
the lock, then ends the process with exit code 1.
"""

import contextlib
import faulthandler
import logging
import math
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable

from chatterbox.engine.threads import Heartbeat, StallDetector
from chatterbox.errors import EXIT_STALLED

log = logging.getLogger(__name__)

LOOKS = 30
"""Least number of checks within `stall_timeout_s`; by default one a second."""
LONGEST_PAUSE_S = 5.0
"""Longest interval between checks, since each notifies the service manager."""
LAST_RESORT_S = 10.0
"""Time for the event loop to end the process after a stall; then the watchdog does."""


class Watchdog:
    """Checks heartbeats from `start` to `stop`, in its own thread. It calls `on_look` after every
    check without a stall, and `on_stall` with the name of the stalled thread, at most once.

    With `use_timer`, faulthandler's timer (one per process) watches the watchdog's own thread.
    """

    def __init__(
        self,
        heartbeats: Callable[[], Iterable[Heartbeat]],
        stall_s: float,
        on_stall: Callable[[str], None],
        *,
        on_look: Callable[[], None] = lambda: None,
        use_timer: bool = False,
        last_resort_s: float = LAST_RESORT_S,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self._heartbeats = heartbeats
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._on_look = on_look
        self._use_timer = use_timer
        self._last_resort_s = last_resort_s
        self._leave = leave
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self.start, self.stop = self._thread.start, self._stopped.set

    def _run(self) -> None:
        looks = max(LOOKS, math.ceil(self._stall_s / LONGEST_PAUSE_S))
        detector = StallDetector(looks)
        try:
            while not self._stopped.wait(self._stall_s / looks):
                if self._use_timer:
                    timeout_s = self._stall_s + self._last_resort_s
                    faulthandler.dump_traceback_later(timeout_s, exit=True, file=2)
                name = detector.check(self._heartbeats())
                if name is not None:
                    self._report(name)
                    return
                self._on_look()
        finally:
            if self._use_timer:
                faulthandler.cancel_dump_traceback_later()

    def _report(self, name: str) -> None:
        log.critical("the %s has hung for %g s; the process ends", name, self._stall_s)
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        self._on_stall(name)
        if not self._stopped.wait(self._last_resort_s):
            self._leave(EXIT_STALLED)


READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(state: str, address: str | None) -> None:
    """Send `state` to the service manager's socket at `address` (`NOTIFY_SOCKET`), if there is one
    (sd_notify(3)). Never raises and never blocks."""
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError, AttributeError),  # AttributeError: there is no AF_UNIX
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        sock.setblocking(False)
        sock.sendto(state.encode("ascii"), address)
