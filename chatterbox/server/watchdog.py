"""Ends the process when part of it hangs: a thread looks at heartbeats, a timer at the thread.

The thread finds what makes no step and ends the process with EXIT_STALLED. Where something holds
the interpreter's lock, no Python thread runs, this one included; then faulthandler's timer, which
is a C thread and needs no lock, ends the process with its own exit code, 1.

Beside that, a service manager is told of the process.
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
"""Within the time that a heartbeat may stand still: a look a second by default."""
LONGEST_PAUSE_S = 5.0
"""Between two looks: a service manager waits for a sign of life."""
LAST_RESORT_S = 10.0
"""After which the process ends even where whoever was told cannot end it: the event loop hangs."""


class LockFreeTimer:
    """Writes all stacks to standard error and ends the process with exit code 1, unless it is set
    again in time. One for a process: faulthandler has no more."""

    def set(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)

    def cancel(self) -> None:
        faulthandler.cancel_dump_traceback_later()


class Watchdog:
    """Looks from `start` to `stop`. `on_stall` is called at most once, from its thread; `on_look`
    after every look that found nothing."""

    def __init__(
        self,
        heartbeats: Callable[[], Iterable[Heartbeat]],
        stall_s: float,
        on_stall: Callable[[str], None],
        *,
        on_look: Callable[[], None] = lambda: None,
        timer: LockFreeTimer | None = None,
        last_resort_s: float = LAST_RESORT_S,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self._pulses = heartbeats
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._on_look = on_look
        self._timer = timer
        self._last_resort_s = last_resort_s
        self._leave = leave
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self.start, self.stop = self._thread.start, self._stopped.set

    def _run(self) -> None:
        looks = max(LOOKS, math.ceil(self._stall_s / LONGEST_PAUSE_S))
        watch = StallDetector(looks)
        try:
            while not self._stopped.wait(self._stall_s / looks):
                if self._timer is not None:
                    self._timer.set(self._stall_s + self._last_resort_s)
                name = watch.check(self._pulses())
                if name is not None:
                    self._tell(name)
                    return
                self._on_look()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _tell(self, name: str) -> None:
        log.critical("the %s has hung for %g s; the process ends", name, self._stall_s)
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        self._on_stall(name)
        if not self._stopped.wait(self._last_resort_s):
            self._leave(EXIT_STALLED)


READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(state: str, address: str | None) -> None:
    """Send `state` to the datagram socket at `address` (`NOTIFY_SOCKET`); without one nothing
    happens (sd_notify(3)). Never raises and never waits: the server runs the same if nobody
    listens."""
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError, AttributeError),  # AttributeError: there is no AF_UNIX
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        sock.setblocking(False)
        sock.sendto(state.encode("ascii"), address)
