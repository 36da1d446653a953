"""Voices that another server has registered in the shared store a moment ago."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chatterbox.errors import ChatterboxError, StorageUnavailable, VoiceNotFound
from chatterbox.server.model_pool import ModelPool

T = TypeVar("T")
SPACING_S = 0.1
"""From the end of one look at the store to the begin of the next, however many ask."""
PAUSE_S = 2.0
"""After a look that failed, all who ask are told so at once, for so long."""


class FreshVoices:
    """Looks at the store again for who finds no voice: one look for all who have come before it
    begins, so that no names that clients make up cause more traffic than SPACING_S allows."""

    def __init__(self, models: ModelPool) -> None:
        self._models = models
        self._next: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._looked_at = -PAUSE_S
        self._failure: ChatterboxError | None = None

    async def found(self, find: Callable[[], Awaitable[T]]) -> T:
        """What `find` finds, now or after a look. Raises what it raises, and StorageUnavailable
        where it finds no voice and the store cannot be asked."""
        try:
            return await find()
        except VoiceNotFound:
            library = self._models.engine.voices
            if not library.shared:
                raise
        await self.look()
        return await find()

    async def look(self) -> None:
        """One look for all who wait for it. Raises StorageUnavailable."""
        if self._failure and time.monotonic() < self._looked_at + PAUSE_S:
            raise StorageUnavailable(self._failure.message, retry_after_s=PAUSE_S)
        if self._next is None:
            self._next = asyncio.create_task(self._look())
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._next)

    async def _look(self) -> None:
        async with self._one_at_a_time:
            await asyncio.sleep(self._looked_at + SPACING_S - time.monotonic())
            self._next = None  # who comes from now on waits for another one
            self._failure = None
            try:
                for library in self._models.libraries():
                    await asyncio.to_thread(library.look)
            except StorageUnavailable as failure:
                self._failure = failure
                raise
            finally:
                self._looked_at = time.monotonic()
