"""Gives free memory back to the system once a minute, where glibc would keep it."""

import ctypes
import sys
import threading
from collections.abc import Callable

TRIM_EVERY_S = 60.0
"""Each time took 1 to 4 ms of one thread (docs/experiments.md), without the interpreter's lock."""

_C = ctypes.CDLL(None) if sys.platform == "linux" else None


def trim() -> None:
    """Hand back free pages in the middle of the heaps too: glibc by itself hands back only what is
    free at their ends, so that a long use leaves more and more holes (malloc_trim(3)). Other C
    libraries (musl, macOS, Windows) have no such call."""
    if (malloc_trim := getattr(_C, "malloc_trim", None)) is not None:
        malloc_trim(ctypes.c_size_t(0))


class MallocTrim:
    """Trims from `start` to `stop`, in a thread of its own."""

    def __init__(self, trim: Callable[[], None] = trim, every_s: float = TRIM_EVERY_S) -> None:
        self._trim = trim
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trimmer", daemon=True)
        self.start, self.stop = self._thread.start, self._stopped.set

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self._trim()
