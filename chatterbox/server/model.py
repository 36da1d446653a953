"""One of a server's models, in memory or not; and what is done to it in threads."""

import asyncio
import gc
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeVar

from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.families.load import find_model
from chatterbox.loading import begin
from chatterbox.server.watchdog import trim

log = logging.getLogger(__name__)

T = TypeVar("T")
ModelState = Literal["unloaded", "loading", "ready", "unloading", "failed", "dead", "closed"]
UNKNOWN_LOAD_S = 5.0
"""What a client is told to wait where no load has been timed yet."""


class Model:
    """One of the models, in memory or not. Changed by its pool alone."""

    def __init__(self, name: str, config: TTSConfig, engine: TTSEngine | None = None) -> None:
        self.config = config
        self.engine = engine
        """While it is loaded; after that, what is still known of it; None: it never was."""
        self.users = 0
        self.used_at = time.monotonic()
        self.nbytes = 0  # of memory, as measured when it was loaded
        self.load_s: float | None = None  # how long that took
        self.loads = 0
        self.fault: str | None = None  # why it could not be loaded
        self.retry_at = 0.0
        self.since = 0.0  # when the load in work began
        self.opening: TTSEngine | None = None  # while it is being loaded
        self.loading: asyncio.Task[None] | None = None
        self.leaving: asyncio.Future[None] | None = None
        self.drained = asyncio.Event()
        self._name = name

    @property
    def name(self) -> str:
        """What it is called by; an only model is called what it calls itself."""
        if self._name or not self.engine or self.engine.state == "loading":
            return self._name or Path(self.config.model).name
        return self.engine.info.name

    @property
    def state(self) -> ModelState:
        """Where it stands."""
        if self.loading or self.leaving:
            return "loading" if self.loading else "unloading"
        if self.fault:
            return "failed"
        return self.engine.state if self.engine else "unloaded"

    @property
    def loaded(self) -> bool:
        """Whether its engine takes requests, or says itself why not."""
        return self.engine is not None and self.engine.state != "unloaded"

    @property
    def idle_s(self) -> float:
        """How long nobody has used it."""
        return 0.0 if self.users else time.monotonic() - self.used_at

    @property
    def wait_s(self) -> float:
        """How long loading it is likely to take from now on."""
        whole_s = self.load_s or UNKNOWN_LOAD_S
        elapsed_s = time.monotonic() - self.since if self.loading and self.since else 0.0
        return max(1.0, math.ceil(whole_s - elapsed_s))

    def as_json(self) -> dict[str, Any]:
        """For an answer."""
        busy = {"loading": asdict(self.opening.loading)} if self.opening else {}
        return {
            "name": self.name,
            "state": self.state,
            "active": self.users,
            "idle_s": round(self.idle_s, 1),
            "loads": self.loads,
            "load_s": self.load_s and round(self.load_s, 2),
            "memory_mb": round(self.nbytes / 2**20),
            **busy,
        }

    def leave(self) -> None:
        """One user less."""
        self.users -= 1
        self.used_at = time.monotonic()
        if not self.users:
            self.drained.set()


def files_bytes(config: TTSConfig) -> int:
    """Of the model's graphs and weights, which are fetched where need be. Raises ModelError."""
    files = find_model(config, log.warning)
    paths = [
        path for graph in files.precisions for path in (files.graph(graph), *files.sidecars(graph))
    ]
    return sum(path.stat().st_size for path in paths)


def unload(engine: TTSEngine) -> None:
    """With the memory that it took given back to the system."""
    engine.unload()
    gc.unfreeze()
    keep_for_good()
    trim()


def keep_for_good() -> None:
    """What there is once everything is loaded stays: the garbage collector need not look through it
    again and again, a tenth of a second each time, with every thread waiting."""
    gc.collect()
    gc.freeze()


async def in_thread(work: Callable[[], T]) -> T:
    """What comes of `work`, which goes on where nobody waits for it any more."""
    return await asyncio.shield(asyncio.wrap_future(begin(work)))
