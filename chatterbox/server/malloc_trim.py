"""Gives free memory back to the system once a minute, where glibc would keep it."""

import ctypes
import sys
import threading
from collections.abc import Callable

TRIM_EVERY_S = 60.0
"""Each time took 1 to 4 ms of one thread (docs/experiments.md), without the interpreter's lock."""


def _found() -> Callable[[int], int] | None:
    """The C library's own; None where it has none (musl, macOS, Windows)."""
    if sys.platform != "linux":
        return None
    found = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if found is not None:
        found.argtypes = [ctypes.c_size_t]
    return found


_malloc_trim = _found()


def trim() -> None:
    """Hand back free pages in the middle of the heaps too: glibc by itself hands back only what is
    free at their ends, so that a long use leaves more and more holes (malloc_trim(3))."""
    if _malloc_trim is not None:
        _malloc_trim(0)


class MallocTrim:
    """Trims from `start` to `stop`, in a thread of its own."""

    def __init__(self, trim: Callable[[], None] = trim, every_s: float = TRIM_EVERY_S) -> None:
        self._trim = trim
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trimmer", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def stop(self) -> None:
        """The process is ending."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self._trim()
