"""What was already computed of which voices? Least recently used out, bounded by bytes.

Knows no session and not what an entry holds, only how many bytes it is.
"""

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class ByteLru(Generic[Entry]):
    """Entries by voice key. Safe to use from several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[Entry, int]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now; never above the bound."""
        return self._bytes

    def get(self, key: str) -> Entry | None:
        """The entry, which is now the most recently used; None if it is not held."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def has_room(self, nbytes: int) -> bool:
        """Whether so many more could be held without dropping any."""
        return self._bytes + nbytes <= self._max_bytes

    def put(self, key: str, entry: Entry, nbytes: int) -> None:
        """Hold `entry`, dropping the least recently used ones; one above the bound is not held."""
        with self._lock:
            if key in self._entries:
                self._bytes -= self._entries.pop(key)[1]
            if nbytes > self._max_bytes:
                return
            self._entries[key] = entry, nbytes
            self._bytes += nbytes
            while self._bytes > self._max_bytes:
                self._bytes -= self._entries.popitem(last=False)[1][1]
