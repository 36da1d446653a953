"""How much of the clients' bytes may lie here at once? Counted over all requests and by key.

Knows byte counts and keys' numbers; knows no request.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chatterbox.config import ServerConfig, key_list
from chatterbox.errors import ChatterboxError, Overloaded, StorageFull
from chatterbox.server.auth import holder
from chatterbox.server.quotas import SHARE

RETRY_S = 2.0
Take = Callable[[int], None]


class Room:
    """So many bytes, of which one of several keys has a share. Belongs to the event loop."""

    def __init__(
        self, limit_bytes: int, full: Callable[[], ChatterboxError], *, shared: bool
    ) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._full = full
        self._key_bytes = int(SHARE * limit_bytes) if shared else limit_bytes
        self._of_key: Counter[int | None] = Counter()

    @contextmanager
    def held(self) -> Iterator[Take]:
        """What one request takes, piece by piece; given back at the end. Taking raises what is said
        where there is no room; a request that finds the room empty always fits."""
        key, mine = holder.get(), 0

        def take(count: int) -> None:
            nonlocal mine
            for used, limit in (
                (self.used_bytes, self.limit_bytes),
                (self._of_key[key], self._key_bytes),
            ):
                if used + count > limit and used > mine:
                    raise self._full()
            mine += count
            self.used_bytes += count
            self._of_key[key] += count

        try:
            yield take
        finally:
            self.used_bytes -= mine
            self._of_key[key] -= mine


@dataclass(frozen=True, slots=True)
class Rooms:
    """One of each for a server."""

    memory: Room
    disk: Room

    @classmethod
    def of(cls, config: ServerConfig) -> "Rooms":
        """As large as is set."""
        shared = len(set(key_list(config.api_keys))) > 1

        def no_memory() -> ChatterboxError:
            return Overloaded(
                "Too many requests are being received; try again shortly.", retry_after_s=RETRY_S
            )

        def no_disk() -> ChatterboxError:
            return StorageFull(
                "Other uploads take all the room there is; try again shortly.",
                retry_after_s=RETRY_S,
            )

        return cls(
            Room(config.body_memory_mb * 2**20, no_memory, shared=shared),
            Room(config.upload_disk_mb * 2**20, no_disk, shared=shared),
        )
