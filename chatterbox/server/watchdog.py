"""Does everything get on? A thread of its own looks, and ends a process in which something hangs.

Knows pulses and nothing of what beats them.
"""

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable

from chatterbox.engine.pulse import Pulse, Watch
from chatterbox.errors import EXIT_STALLED

log = logging.getLogger(__name__)

LOOKS = 30
"""Within the time that a pulse may stand still: a look a second by default."""
LAST_RESORT_S = 10.0
"""After which the process ends even where whoever was told cannot end it: the event loop hangs."""


class Watchdog:
    """Looks from `start` to `stop`. `on_stall` is called at most once, from its thread."""

    def __init__(
        self,
        pulses: Callable[[], Iterable[Pulse]],
        stall_s: float,
        on_stall: Callable[[str], None],
        *,
        last_resort_s: float = LAST_RESORT_S,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self._pulses = pulses
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._last_resort_s = last_resort_s
        self._leave = leave
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def stop(self) -> None:
        """The process is ending as it should."""
        self._stopped.set()

    def _run(self) -> None:
        watch = Watch(LOOKS)
        while not self._stopped.wait(self._stall_s / LOOKS):
            name = watch.look(self._pulses())
            if name is not None:
                self._tell(name)
                return

    def _tell(self, name: str) -> None:
        log.critical("the %s has hung for %g s; the process ends", name, self._stall_s)
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        self._on_stall(name)
        if not self._stopped.wait(self._last_resort_s):
            self._leave(EXIT_STALLED)
