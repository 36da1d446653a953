"""How much may one key ask for at once? So that one who floods does not keep the others waiting.

Knows keys by their numbers; without keys nobody is told apart, and nothing is counted.
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from chatterbox.config import ServerConfig, key_list
from chatterbox.errors import KeyLimit
from chatterbox.server.access import holder

SHARE = 0.75
"""Of the places and of the sockets, for one of several keys: the others find one at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one key at once; None: as many as there are."""

    requests: int | None
    characters: int | None
    sockets: int | None


def limits_of(config: ServerConfig, places: int) -> Limits:
    """What is set; else, where there are several keys, a share for each."""
    several = len(set(key_list(config.api_keys))) > 1

    def share(of: int) -> int | None:
        return max(1, math.floor(SHARE * of)) if several else None

    return Limits(
        config.max_requests_per_key or share(places),
        config.max_characters_per_key,
        config.max_sockets_per_key or share(config.max_sockets),
    )


class Shares:
    """One for each server; belongs to the event loop."""

    def __init__(self, limits: Limits, retry_after_s: Callable[[], float]) -> None:
        self._retry_after_s = retry_after_s
        self._requests = _Tally("requests in work", limits.requests)
        self._characters = _Tally("characters in work", limits.characters)
        self._sockets = _Tally("sockets open", limits.sockets)

    def check(self) -> None:
        """Raises KeyLimit where `hold` would, whatever the text."""
        self._check(self._requests, 1)

    @asynccontextmanager
    async def hold(self, characters: int = 0) -> AsyncIterator[None]:
        """One request of the current key's, waiting or in work. Raises KeyLimit."""
        with self._held(self._requests, 1), self._held(self._characters, characters):
            yield

    @contextmanager
    def hold_socket(self) -> Iterator[None]:
        """One socket of the current key's. Raises KeyLimit."""
        with self._held(self._sockets, 1):
            yield

    def _check(self, tally: "_Tally", amount: int) -> None:
        key = holder.get()
        if key is not None and tally.refuses(key, amount):
            raise KeyLimit(
                f"This key may have {tally.limit} {tally.what} at once.",
                retry_after_s=self._retry_after_s(),
            )

    @contextmanager
    def _held(self, tally: "_Tally", amount: int) -> Iterator[None]:
        self._check(tally, amount)
        key = holder.get()
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
