"""A thread that looks whether other servers have changed a voice."""

import logging
import threading
from collections.abc import Callable

from chatterbox.voices.records import STORAGE_ERRORS
from chatterbox.voices.store import reason_of

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""What is deleted or renamed elsewhere is so here after at most this; what is new is asked for when
it is first missed."""


class StoreWatch:
    """Looks every LOOK_S seconds, until it is stopped, whatever fails meanwhile."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look from now on."""
        self._thread = threading.Thread(target=self._run, name="watching voices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; one look in work may go on."""
        self._stopping.set()

    def _run(self) -> None:
        failing = False
        while not self._stopping.wait(LOOK_S):
            try:
                self._look()
            except STORAGE_ERRORS as failure:
                if not failing:
                    log.warning("the voices' store cannot be reached: %s", reason_of(failure))
                failing = True
            except Exception:
                log.exception("looking for changed voices failed")
            else:
                if failing:
                    log.warning("the voices' store is back")
                failing = False
