"""A least-recently-used cache bounded by bytes and optionally by entries, and locks by key."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

Entry = TypeVar("Entry")


class ByteLru(Generic[Entry]):
    """Least-recently-used entries by voice key. Thread-safe."""

    def __init__(self, max_bytes: int, max_entries: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[Entry, int]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Size of all entries; never above the bound."""
        return self._bytes

    def get(self, key: str) -> Entry | None:
        """Return the entry and mark it as the most recently used, or return None."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def has_room(self, nbytes: int | None = None) -> bool:
        """Return whether an entry of this size fits without dropping others. None: an entry of mean
        size."""
        with self._lock:
            count = len(self._entries)
            size = self._bytes / max(count, 1) if nbytes is None else nbytes
            return self._bytes + size <= self._max_bytes and count != self._max_entries

    def put(self, key: str, entry: Entry, nbytes: int) -> None:
        """Add an entry and drop the least recently used ones. Ignores an entry above the bound."""
        with self._lock:
            self._remove(key)
            if nbytes > self._max_bytes:
                return
            self._entries[key] = entry, nbytes
            self._bytes += nbytes
            most = len(self._entries) if self._max_entries is None else self._max_entries
            while self._bytes > self._max_bytes or len(self._entries) > most:
                self._remove(next(iter(self._entries)))

    def drop(self, key: str) -> None:
        """Remove an entry if present."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: str) -> None:
        if key in self._entries:
            self._bytes -= self._entries.pop(key)[1]


class KeyedLocks:
    """One lock for each key in use."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, Lock] = WeakValueDictionary()
        self._guard = Lock()

    def __len__(self) -> int:
        return len(self._locks)

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            yield
