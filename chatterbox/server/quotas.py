"""Quotas: how much one key, and all together, may have in work or in memory at once.

`KeyQuotas` counts requests, characters, sockets and uploads of each key; without keys nobody is
told apart, and nothing is counted. `Rooms` counts the bytes of all bodies and uploads.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from chatterbox.config import ServerConfig, key_list
from chatterbox.errors import ChatterboxError, KeyLimit, Overloaded, StorageFull
from chatterbox.server.auth import current_key
from chatterbox.server.origin_guard import refuse_foreign_page

SHARE = 0.75
"""Of the places and of the sockets, for one of several keys: the others find one at once."""
REFUSAL_DELAY_S = 1.0
"""A refusal of who comes again too soon; the shortest time that anybody is told to stay away."""
MAX_DELAYED_REFUSALS = 64
"""Of one key: they are connections that others may need. Beyond that a refusal comes at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one key at once; None: as many as there are."""

    requests: int | None
    characters: int | None
    sockets: int | None
    uploads: int | None = None


def limits_of(config: ServerConfig, places: int) -> Limits:
    """What is set; else, where there are several keys, a share for each."""
    several = len(set(key_list(config.api_keys))) > 1

    def share(of: int) -> int | None:
        return max(1, math.floor(SHARE * of)) if several else None

    return Limits(
        config.max_requests_per_key or share(places),
        config.max_characters_per_key,
        config.max_websockets_per_key or share(config.max_websockets),
        share(places // 2),
    )


class KeyQuotas:
    """One for each server; belongs to the event loop."""

    def __init__(self, limits: Limits, retry_after_s: Callable[[], float]) -> None:
        self._retry_after_s = retry_after_s
        self._requests = _Tally("requests in work", limits.requests)
        self._characters = _Tally("characters in work", limits.characters)
        self._sockets = _Tally("sockets open", limits.sockets)
        self._uploads = _Tally("uploads", limits.uploads)
        self._back_at: dict[int, float] = {}  # key → when it was told to come again
        self._delayed: Counter[int] = Counter()  # refusals of a key

    async def check(self) -> None:
        """Raises KeyLimit and OriginForbidden where `reserve` would, whatever the text."""
        refuse_foreign_page()
        await self._check(self._requests, 1)

    @asynccontextmanager
    async def reserve(self, characters: int = 0) -> AsyncIterator[None]:
        """One request of the current key's, waiting or in work. Raises KeyLimit, and
        OriginForbidden where a page of another site makes it."""
        refuse_foreign_page()
        async with self._held(self._requests, 1), self._held(self._characters, characters):
            yield

    @asynccontextmanager
    async def reserve_upload(self) -> AsyncIterator[None]:
        """One upload of the current key's, from its first byte. Raises KeyLimit."""
        async with self._held(self._uploads, 1):
            yield

    @asynccontextmanager
    async def reserve_socket(self) -> AsyncIterator[None]:
        """One socket of the current key's. Raises KeyLimit."""
        async with self._held(self._sockets, 1):
            yield

    async def _check(self, tally: "_Tally", amount: int) -> None:
        key = current_key.get()
        if key is None or not tally.refuses(key, amount):
            return
        retry_after_s = self._retry_after_s()
        await self._delay_refusal(key, retry_after_s)
        raise KeyLimit(
            f"This key may have {tally.limit} {tally.what} at once.", retry_after_s=retry_after_s
        )

    async def _delay_refusal(self, key: int, retry_after_s: float) -> None:
        """A second, whoever comes again before they were told to: a flood of refusals takes the
        others' time too."""
        now = asyncio.get_running_loop().time()
        early = now < self._back_at.get(key, 0.0)
        self._back_at[key] = now + retry_after_s
        if early and self._delayed[key] < MAX_DELAYED_REFUSALS:
            self._delayed[key] += 1
            try:
                await asyncio.sleep(REFUSAL_DELAY_S)
            finally:
                self._delayed[key] -= 1

    @asynccontextmanager
    async def _held(self, tally: "_Tally", amount: int) -> AsyncIterator[None]:
        await self._check(tally, amount)
        key = current_key.get()
        if key is None:
            yield
            return
        tally.held[key] += amount
        try:
            yield
        finally:
            tally.held[key] -= amount


class _Tally:
    """What each key holds of one thing."""

    def __init__(self, what: str, limit: int | None) -> None:
        self.what = what
        self.limit = limit
        self.held: Counter[int] = Counter()

    def refuses(self, key: int, amount: int) -> bool:
        """Whether so much more is too much; one that holds nothing is never refused, or a text
        longer than the limit would be for ever."""
        held = self.held[key]
        return self.limit is not None and held > 0 and held + amount > self.limit


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
        key, mine = current_key.get(), 0

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
