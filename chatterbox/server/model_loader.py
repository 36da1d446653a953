"""Loads and unloads models: at the start, when they are asked for, when others need the room.

Belongs to the event loop; the work is done in threads, one model at a time.
"""

import asyncio
import gc
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from chatterbox.config import ServerConfig, TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.errors import ChatterboxError, ConfigError, ModelError, ModelUnavailable, first_line
from chatterbox.families.load import find_model
from chatterbox.loading import run_in_thread
from chatterbox.server.memory import free_bytes, map_large_blocks, trim, used_bytes

log = logging.getLogger(__name__)

T = TypeVar("T")
FAILED_RETRY_S = 30.0
"""So long a model that could not be loaded is not tried again."""
LOOK_S = 60.0
"""Between two looks for memory that is free (1 to 4 ms of a thread) and models that nobody uses."""
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
        return 0.0 if self.users else time.monotonic() - self.used_at

    @property
    def wait_s(self) -> float:
        """How long loading it is likely to take from now on."""
        whole_s = self.load_s or UNKNOWN_LOAD_S
        elapsed_s = time.monotonic() - self.since if self.loading and self.since else 0.0
        return max(1.0, math.ceil(whole_s - elapsed_s))

    def as_json(self) -> dict[str, Any]:
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
        self.users -= 1
        self.used_at = time.monotonic()
        if not self.users:
            self.drained.set()


class ModelLoader:
    def __init__(
        self, configs: Mapping[str, TTSConfig], limits: ServerConfig, own: TTSEngine | None = None
    ) -> None:
        """The first one is the default. `own`: its engine, where it is there. Raises what TTSEngine
        does."""
        self._limits = limits
        self._died: Callable[[], None] | None = None
        self._changing = asyncio.Lock()
        self._waiting = 0  # requests, for models that are not loaded
        self.models = [Model(name, config) for name, config in configs.items()]
        self.default = self.models[0]
        self.default.engine = own or self._made(self.default)
        self.admission = self.default.engine.admission

    async def start(self) -> None:
        """See that the files of all models are there; load the default one, then the others, as far
        as they are to be and there is room. Raises ModelError and ConfigError."""
        if len(self.models) > 1 or self._limits.idle_unload_minutes:
            map_large_blocks()
        others = self.models[1:]
        for model in others:
            model.nbytes = await in_thread(partial(files_bytes, model.config))
        await self._open(self.default, rehearsed=True)
        for model in others:
            if self._limits.load_models == "start" and self._fits(model):
                try:
                    await self.bring(model)
                except ModelUnavailable as fault:
                    raise fault.__cause__ or fault from None

    def bring(self, model: Model) -> "asyncio.Task[None]":
        """Load it, with others unloaded where there is no room; one task for all who ask. It raises
        ModelUnavailable."""
        if model.loading is None:
            model.loading = asyncio.create_task(self._brought(model))
            model.loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return model.loading

    async def _brought(self, model: Model) -> None:
        try:
            if model.fault and time.monotonic() < model.retry_at:
                raise self._unavailable(model)
            async with self._changing:
                if not model.loaded:
                    await self._make_room(model)
                    await self._open(model)
        except ChatterboxError:
            raise
        except Exception as fault:
            known = isinstance(fault, ModelError | ConfigError)
            log.error("the model %s cannot be loaded: %s", model.name, fault, exc_info=not known)
            model.fault = first_line(fault)
            model.retry_at = time.monotonic() + FAILED_RETRY_S
            raise self._unavailable(model) from fault
        finally:
            model.loading = None
            model.since = 0.0

    def _unavailable(self, model: Model) -> ChatterboxError:
        return ModelUnavailable(
            f"The model {model.name} cannot be loaded; the server's log says why.",
            retry_after_s=max(1.0, math.ceil(model.retry_at - time.monotonic())),
        )

    async def _open(self, model: Model, *, rehearsed: bool = False) -> None:
        """Load it, whatever else is loaded."""
        model.since, before = time.monotonic(), used_bytes(model.config)
        engine = model.engine
        if engine is None or engine.state == "unloaded":
            engine = self._made(model)
        model.opening = engine

        def opened() -> None:
            try:
                engine.load()
                engine.voices.check_default(fall_back=model is not self.default)
                if rehearsed:
                    engine.rehearse()
            except BaseException:
                engine.close()
                raise

        try:
            await in_thread(opened)
        finally:
            model.opening = None
        if not model.loads:  # else its voices have been prepared
            engine.prepare_voices()
        keep_for_good()
        model.engine, model.fault, model.loads = engine, None, model.loads + 1
        model.nbytes = max(model.nbytes, used_bytes(model.config) - before)
        model.load_s, model.used_at = time.monotonic() - model.since, time.monotonic()

    def _made(self, model: Model) -> TTSEngine:
        first, since = self.default.engine, model.engine.stats() if model.engine else None
        engine = TTSEngine(model.config, admission=first.admission if first else None, since=since)
        engine.on_death = self._died
        engine.voice_store.shared |= len(self.models) > 1  # by the models of this process
        return engine

    def _fits(self, model: Model) -> bool:
        """Whether it may be loaded beside those that are."""
        limits, loaded = self._limits, [one for one in self.models if one.loaded]
        if limits.max_loaded_models and len(loaded) >= limits.max_loaded_models:
            return False
        needed = model.nbytes + sum(one.nbytes for one in loaded)
        if limits.models_memory_mb and needed > limits.models_memory_mb * 2**20:
            return False
        return model.nbytes < free_bytes(model.config)

    async def _make_room(self, model: Model) -> None:
        """Unload whoever has been idle longest, until it fits or nobody is left."""
        while not self._fits(model) and (loaded := [one for one in self.models if one.loaded]):
            await self._drop(min(loaded, key=lambda one: (one.users > 0, one.used_at)))

    async def drop(self, model: Model, idle_s: float = 0.0) -> None:
        """Unload it once nobody uses it any more. `idle_s`: not unless nobody has for so long."""
        async with self._changing:
            if not idle_s or (model.loaded and model.idle_s >= idle_s):
                await self._drop(model)

    async def _drop(self, model: Model) -> None:
        """Who comes now waits until it is loaded again."""
        if model.engine is None or not model.loaded:
            return
        model.leaving = asyncio.get_running_loop().create_future()
        model.drained.clear()
        try:
            if model.users:
                await model.drained.wait()
            await in_thread(partial(unload, model.engine))
        finally:
            model.leaving.set_result(None)
            model.leaving = None

    async def watch(self) -> None:
        """Hand back free memory, and unload whatever nobody has used for `idle_unload_minutes`: for
        ever."""
        idle_s = self._limits.idle_unload_minutes * 60
        while True:
            await asyncio.sleep(min(idle_s / 4, LOOK_S) if idle_s else LOOK_S)
            await asyncio.to_thread(trim)
            for model in self.models if idle_s else ():
                await self.drop(model, idle_s)

    def on_death(self, tell: Callable[[], None]) -> None:
        """`tell` is called, from any thread, once an engine has died."""
        self._died = tell
        for engine in self._engines():
            engine.on_death = tell

    def give_up(self, reason: str) -> None:
        """No engine is of any use any more."""
        for engine in self._engines():
            engine.give_up(reason)

    def close(self, timeout_s: float = 5.0) -> None:
        for engine in self._engines():
            engine.close(timeout_s)

    def _engines(self) -> list[TTSEngine]:
        engines = [engine for model in self.models for engine in (model.opening, model.engine)]
        return [one for one in dict.fromkeys(engines) if one and one.state != "unloaded"]


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
    return await asyncio.shield(asyncio.wrap_future(run_in_thread(work)))
