"""How is the same slow work done once when many ask for it together? One lock for each key.

Does not know what the work is.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class KeyedLocks:
    """Locks made at first use and dropped after the last: their number does not grow."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    def __len__(self) -> int:
        with self._guard:
            return len(self._locks)

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """Alone with `key` inside the block."""
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                users = self._locks[key][1] - 1
                if users:
                    self._locks[key] = (lock, users)
                else:
                    del self._locks[key]
