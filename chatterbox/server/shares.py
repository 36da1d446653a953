"""How much may one key ask for at once? So that one who floods does not keep the others waiting.

Knows keys by their numbers; without keys nobody is told apart, and nothing is counted.
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from chatterbox.config import ServerConfig, key_list
from chatterbox.errors import KeyLimit
from chatterbox.server.access import holder

SHARE = 0.75
"""Of the places, for one of several keys: the others' requests then start at once."""


def limit_of(config: ServerConfig, places: int) -> int | None:
    """Requests that one key may have at once; None: as many as there are."""
    if config.max_requests_per_key is not None:
        return config.max_requests_per_key
    several = len(set(key_list(config.api_keys))) > 1
    return max(1, math.floor(SHARE * places)) if several else None


class Shares:
    """One for each server; belongs to the event loop."""

    def __init__(self, limit: int | None, retry_after_s: Callable[[], float]) -> None:
        self._limit = limit
        self._retry_after_s = retry_after_s
        self._held: Counter[int] = Counter()

    def check(self) -> None:
        """Raises KeyLimit where `hold` would."""
        key = holder.get()
        if key is not None and self._limit is not None and self._held[key] >= self._limit:
            raise KeyLimit(
                f"This key may have {self._limit} requests in work at once.",
                retry_after_s=self._retry_after_s(),
            )

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """One request of the current key's, waiting or in work. Raises KeyLimit."""
        self.check()
        key = holder.get()
        if key is None:
            yield
            return
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1
