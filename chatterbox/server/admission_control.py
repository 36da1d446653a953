"""Admission control: the server's phase, quotas per API key, places, and bytes of request bodies.

A place lets one request run. Without API keys, only the totals over all clients are limited.
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
"""Share of a full queue at which readiness fails, so that a load balancer picks another server."""
LOADING_RETRY_S = 2.0
RESTART_RETRY_S = 10.0
"""Time for a supervisor to start the process again."""
SHARE = 0.75
"""Share of the places, sockets and bytes that one key may hold if there are several keys. The rest
stays free for the other keys."""
REFUSAL_DELAY_S = 1.0
"""Delay before a client that retries too early is refused again; also the shortest Retry-After."""
MAX_DELAYED_REFUSALS = 64
"""Limit per key, as delayed refusals hold connections. Above it, refusals are immediate."""
BYTES_RETRY_S = 2.0
_WORDS = {
    "requests": "running requests",
    "characters": "characters in running requests",
    "sockets": "open sockets",
    "uploads": "running uploads",
}


class Lifecycle:
    """Phase of the server's life. One per server. A draining server never becomes ready again."""

    def __init__(self, engine: TTSEngine | ModelPool) -> None:
        self._engine = engine
        self.is_draining = False
        self.is_warming_up = False
        """Requests are accepted, but readiness fails because the server is not warm yet."""
        self.is_leaving = False
        """Requests are accepted, but readiness fails because the server will drain soon."""

    @property
    def phase(self) -> Phase:
        if self._engine.state == "dead":
            return "dead"
        if self.is_draining or self._engine.state == "closed":
            return "draining"
        return "ready" if self._engine.state == "ready" else "loading"

    @property
    def is_ready(self) -> bool:
        """Whether new work should be sent to this server."""
        try:
            self.check_ready()
        except ChatterboxError:
            return False
        return True

    @property
    def is_loading(self) -> bool:
        """Whether the model is still being loaded or warmed up."""
        return self.phase == "loading" or (self.phase == "ready" and self.is_warming_up)

    def drain(self) -> None:
        """Refuse new work from now on. Running work continues."""
        self.is_draining = True
        self._engine.admission.close()

    def check_open(self) -> None:
        """Raises NotReady, Draining or EngineDead unless the server accepts requests."""
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
        if self.is_warming_up:
            raise NotReady("The server is warming up.", retry_after_s=LOADING_RETRY_S)
        if self.is_leaving:
            raise Draining("The server is shutting down.", retry_after_s=RESTART_RETRY_S)
        if self._engine.fault is not None:
            raise NotReady("The default model cannot be loaded.", retry_after_s=LOADING_RETRY_S)
        places = self._engine.admission
        if 0 < READY_QUEUE_SHARE * places.queue_capacity <= places.queued:
            raise NotReady("The queue is nearly full.", retry_after_s=places.retry_after_s())


class KeyQuotas:
    """Limits the requests, characters, sockets and uploads that each API key holds at a time. Used
    only from the event loop."""

    def __init__(
        self, limits: Mapping[str, int | None], retry_after_s: Callable[[], float]
    ) -> None:
        """`limits` are per key; None means unlimited."""
        self._limits = limits
        self._retry_after_s = retry_after_s
        self._held: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._retry_at: dict[int, float] = {}  # key → time in its last Retry-After
        self._delayed_refusals: Counter[int] = Counter()

    async def check(self, **amounts: int) -> None:
        """Raises KeyLimit if the amounts would exceed the current key's limits, and OriginForbidden
        for a page of another site.

        A key that holds nothing may exceed its limit, so that a long text is accepted at all.
        """
        refuse_foreign_page()
        key = current_key.get()
        if key is None:
            return
        for name, amount in amounts.items():
            held, limit = self._held[key][name], self._limits[name]
            if limit is not None and held > 0 and held + amount > limit:
                retry_after_s = self._retry_after_s()
                await self._delay_refusal(key, retry_after_s)
                raise KeyLimit(
                    f"This API key may have {limit} {_WORDS[name]} at once.",
                    retry_after_s=retry_after_s,
                )

    @asynccontextmanager
    async def reserve(self, **amounts: int) -> AsyncIterator[None]:
        """Count amounts, such as `requests=1`, against the current key. Raises as `check` does."""
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
        """Wait REFUSAL_DELAY_S if the client retries before its Retry-After has passed: a flood of
        refusals slows other clients too."""
        now = asyncio.get_running_loop().time()
        is_early = now < self._retry_at.get(key, 0.0)
        self._retry_at[key] = now + retry_after_s
        if is_early and self._delayed_refusals[key] < MAX_DELAYED_REFUSALS:
            self._delayed_refusals[key] += 1
            try:
                await asyncio.sleep(REFUSAL_DELAY_S)
            finally:
                self._delayed_refusals[key] -= 1


Take = Callable[[int], None]
"""Reserves more bytes for a request."""


class ByteBudget:
    """A budget of bytes for all request bodies. Used only from the event loop."""

    def __init__(
        self, megabytes: int, full: Callable[[], ChatterboxError], *, shared: bool
    ) -> None:
        """`full` makes the error raised when the budget is exhausted. If `shared` by several keys,
        one key may use SHARE of it."""
        self.limit_bytes = megabytes * 2**20
        self.used_bytes = 0
        self._full = full
        self._key_limit_bytes = int(SHARE * self.limit_bytes) if shared else self.limit_bytes
        self._key_bytes: Counter[int | None] = Counter()

    @contextmanager
    def reservation(self) -> Iterator[Take]:
        """Yield a function that reserves bytes for one request until the context ends. While no
        other request holds bytes under a limit, that limit does not apply."""
        key, request_bytes = current_key.get(), 0

        def take(count: int) -> None:
            nonlocal request_bytes
            for used, limit in (
                (self.used_bytes, self.limit_bytes),
                (self._key_bytes[key], self._key_limit_bytes),
            ):
                if used + count > limit and used > request_bytes:
                    raise self._full()
            request_bytes += count
            self.used_bytes += count
            self._key_bytes[key] += count

        try:
            yield take
        finally:
            self.used_bytes -= request_bytes
            self._key_bytes[key] -= request_bytes


class AdmissionControl:
    """The limits on accepted work: phase, quotas, places and bytes. One per server."""

    def __init__(self, places: Admission, config: ServerConfig, lifecycle: Lifecycle) -> None:
        has_several_keys = len(set(config.keys)) > 1

        def share(total: int) -> int | None:
            return max(1, math.floor(SHARE * total)) if has_several_keys else None

        def budget(megabytes: int, full: type[ChatterboxError], reason: str) -> ByteBudget:
            error = partial(full, f"{reason}; try again shortly.", retry_after_s=BYTES_RETRY_S)
            return ByteBudget(megabytes, error, shared=has_several_keys)

        limits = {
            "requests": config.max_requests_per_key or share(places.capacity),
            "characters": config.max_characters_per_key,
            "sockets": config.max_websockets_per_key or share(config.max_websockets),
            "uploads": share(places.capacity // 2),
        }
        self.lifecycle = lifecycle
        self.places = places
        self.quotas = KeyQuotas(limits, places.retry_after_s)
        self.memory = budget(
            config.body_memory_mb, Overloaded, "Too many requests are being received"
        )
        self.disk = budget(
            config.upload_disk_mb, StorageFull, "Other uploads fill the space for uploads"
        )
        self._upload_places = places.half()
        self._wait_s = config.first_audio_timeout_s

    async def check_capacity(self) -> None:
        """Refuse a request before its body is read. Raises NotReady, Draining, EngineDead,
        KeyLimit, OriginForbidden, and Overloaded if the queue is full."""
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
        """Hold a place for work other than speech, such as encoding a voice. Raises KeyLimit,
        OriginForbidden, Overloaded, Draining and DeadlineExceeded."""
        async with self.quotas.reserve(requests=1), self.places.permit(timeout_s=self._wait_s):
            yield

    @asynccontextmanager
    async def upload_place(self) -> AsyncIterator[None]:
        """Hold an upload place, from a file's first byte until the file has been read. There are
        half as many upload places as places, so that uploads leave half of the server to speech
        (FAULTS F98). Raises as `place` does."""
        async with (
            self.quotas.reserve(uploads=1),
            self._upload_places.permit(timeout_s=self._wait_s),
        ):
            yield
