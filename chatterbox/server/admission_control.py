"""What may come in: by the server's phase, by each key's quota, and by room for bodies.

Without keys nobody is told apart, and only what all have together is bounded.
"""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Literal

from chatterbox.config import ServerConfig
from chatterbox.engine.admission import Admission
from chatterbox.engine.engine import TTSEngine
from chatterbox.errors import (
    ChatterboxError,
    Draining,
    EngineDead,
    KeyLimit,
    NotReady,
    Overloaded,
    StorageFull,
)
from chatterbox.server.auth import current_key, refuse_foreign_page
from chatterbox.server.model_pool import ModelPool

Phase = Literal["loading", "ready", "draining", "dead"]

READY_QUEUE_SHARE = 0.95
"""A queue this full makes readiness fail, so that a balancer looks elsewhere (FAULTS: health)."""
LOADING_RETRY_S = 2.0
RESTART_RETRY_S = 10.0
"""When a supervisor will have started the process again."""
SHARE = 0.75
"""Of the places and of the sockets, for one of several keys: the others find one at once."""
REFUSAL_DELAY_S = 1.0
"""A refusal of who comes again too soon; the shortest time that anybody is told to stay away."""
MAX_DELAYED_REFUSALS = 64
"""Of one key: they are connections that others may need. Beyond that a refusal comes at once."""
BYTES_RETRY_S = 2.0
_WORDS = {
    "requests": "requests in work",
    "characters": "characters in work",
    "sockets": "sockets open",
    "uploads": "uploads",
}


class Lifecycle:
    """One for each server. Draining begins once and never ends."""

    def __init__(self, engine: TTSEngine | ModelPool) -> None:
        self._engine = engine
        self.draining = False
        self.warming_up = False
        """Requests are taken, but nobody should be sent here yet."""
        self.leaving = False
        """They are taken still, but nobody should be sent here any more."""

    @property
    def phase(self) -> Phase:
        if self._engine.state == "dead":
            return "dead"
        if self.draining or self._engine.state == "closed":
            return "draining"
        return "ready" if self._engine.state == "ready" else "loading"

    @property
    def ready(self) -> bool:
        """Whether new work should be sent here."""
        try:
            self.check_ready()
        except ChatterboxError:
            return False
        return True

    @property
    def loading(self) -> bool:
        """Whether the model is not there yet, or not warm."""
        return self.phase == "loading" or (self.phase == "ready" and self.warming_up)

    def drain(self) -> None:
        """No new work from here on; what is running goes on."""
        self.draining = True
        self._engine.admission.close()

    def check_open(self) -> None:
        """Raises NotReady, Draining or EngineDead unless requests are taken."""
        match self.phase:
            case "loading":
                raise NotReady("The model is still loading.", retry_after_s=LOADING_RETRY_S)
            case "draining":
                raise Draining("The server is shutting down.", retry_after_s=RESTART_RETRY_S)
            case "dead":
                raise EngineDead(
                    "The engine stopped on a fault; the server is about to restart.",
                    retry_after_s=RESTART_RETRY_S,
                )

    def check_ready(self) -> None:
        """Raises NotReady, Draining or EngineDead unless new work should be sent here."""
        self.check_open()
        if self.warming_up:
            raise NotReady("The server is warming up.", retry_after_s=LOADING_RETRY_S)
        if self.leaving:
            raise Draining("The server is shutting down.", retry_after_s=RESTART_RETRY_S)
        if self._engine.fault is not None:
            raise NotReady("The default model cannot be loaded.", retry_after_s=LOADING_RETRY_S)
        places = self._engine.admission
        if 0 < READY_QUEUE_SHARE * places.queue_capacity <= places.queued:
            raise NotReady("The queue is nearly full.", retry_after_s=places.retry_after_s())


class KeyQuotas:
    """Counts what each key holds: requests, characters, sockets and uploads. Belongs to the event
    loop."""

    def __init__(
        self, limits: Mapping[str, int | None], retry_after_s: Callable[[], float]
    ) -> None:
        """`limits`: how much one API key may have in work at once; None: no bound."""
        self._limits = limits
        self._retry_after_s = retry_after_s
        self._held: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._back_at: dict[int, float] = {}  # key → when it was told to come again
        self._delayed: Counter[int] = Counter()  # refusals of a key

    async def check(self, **amounts: int) -> None:
        """Raises KeyLimit where `reserve` would, and OriginForbidden where a page of another site
        calls. Who holds nothing is never refused, or a text longer than the limit would be for
        ever."""
        refuse_foreign_page()
        key = current_key.get()
        if key is None:
            return
        for what, amount in amounts.items():
            held, limit = self._held[key][what], self._limits[what]
            if limit is not None and held > 0 and held + amount > limit:
                retry_after_s = self._retry_after_s()
                await self._delay_refusal(key, retry_after_s)
                raise KeyLimit(
                    f"This key may have {limit} {_WORDS[what]} at once.",
                    retry_after_s=retry_after_s,
                )

    @asynccontextmanager
    async def reserve(self, **amounts: int) -> AsyncIterator[None]:
        """So much for the current key, as `reserve(requests=1)`."""
        await self.check(**amounts)
        key = current_key.get()
        if key is None:
            yield
            return
        held = self._held[key]
        held.update(amounts)
        try:
            yield
        finally:
            held.subtract(amounts)

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


Take = Callable[[int], None]


class Room:
    """So many bytes, of which one of several keys has a share. Belongs to the event loop."""

    def __init__(
        self, megabytes: int, full: Callable[[], ChatterboxError], *, shared: bool
    ) -> None:
        self.limit_bytes = megabytes * 2**20
        self.used_bytes = 0
        self._full = full
        self._key_bytes = int(SHARE * self.limit_bytes) if shared else self.limit_bytes
        self._of_key: Counter[int | None] = Counter()

    @contextmanager
    def held(self) -> Iterator[Take]:
        """What one request takes, piece by piece; given back at the end. Taking raises what
        `full` makes where there is no room; a request that finds the room empty always fits."""
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


class AdmissionControl:
    """What may come in: whether the server takes work, what each key may have, places, room for
    bodies. One for each server."""

    def __init__(self, places: Admission, config: ServerConfig, lifecycle: Lifecycle) -> None:
        several = len(set(config.keys)) > 1

        def share(of: int) -> int | None:
            return max(1, math.floor(SHARE * of)) if several else None

        def room(megabytes: int, full: type[ChatterboxError], why: str) -> Room:
            error = partial(full, f"{why}; try again shortly.", retry_after_s=BYTES_RETRY_S)
            return Room(megabytes, error, shared=several)

        limits = {
            "requests": config.max_requests_per_key or share(places.capacity),
            "characters": config.max_characters_per_key,
            "sockets": config.max_websockets_per_key or share(config.max_websockets),
            "uploads": share(places.capacity // 2),
        }
        self.lifecycle = lifecycle
        self.places = places
        self.quotas = KeyQuotas(limits, places.retry_after_s)
        self.memory = room(
            config.body_memory_mb, Overloaded, "Too many requests are being received"
        )
        self.disk = room(
            config.upload_disk_mb, StorageFull, "Other uploads take all the room there is"
        )
        self._uploads = places.half()
        self._wait_s = config.first_audio_timeout_s

    async def check_room(self) -> None:
        """What can be refused before a body is read, so that a refusal costs next to nothing:
        raises what `Lifecycle.check_open` does, Overloaded where a place could not even be waited
        for, and KeyLimit."""
        self.lifecycle.check_open()
        places = self.places
        if places.active >= places.capacity and places.queued >= places.queue_capacity:
            raise Overloaded(
                "All places are taken and the queue is full; try again shortly.",
                retry_after_s=places.retry_after_s(),
            )
        await self.quotas.check(requests=1)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for what may run the speech encoder: when the server is full, it is refused as
        speech is. Raises KeyLimit, Overloaded, Draining and DeadlineExceeded."""
        async with self.quotas.reserve(requests=1), self.places.permit(timeout_s=self._wait_s):
            yield

    @asynccontextmanager
    async def upload_place(self) -> AsyncIterator[None]:
        """Uploads wait for each other: so many are taken in at once, from their first byte until
        they have been read, that half of the server is free for speech (FAULTS F98). Raises as
        `place` does."""
        async with self.quotas.reserve(uploads=1), self._uploads.permit(timeout_s=self._wait_s):
            yield
