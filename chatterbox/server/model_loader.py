"""Loads and unloads models: at the start, when they are asked for, when others need the room.

Belongs to the event loop; the work is done in threads, one model at a time.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial

from chatterbox.config import ServerConfig, TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.errors import (
    ChatterboxError,
    ConfigError,
    ModelError,
    ModelUnavailable,
    first_line,
)
from chatterbox.server.memory import free_bytes, used_bytes
from chatterbox.server.model import Model, files_bytes, in_thread, keep_for_good, unload
from chatterbox.server.watchdog import map_large_blocks

log = logging.getLogger(__name__)

FAILED_RETRY_S = 30.0
"""So long a model that could not be loaded is not tried again."""
LONGEST_LOOK_S = 60.0
"""Between two looks for models that nobody uses."""


class ModelLoader:
    """One for each server."""

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
        engine, old = model.engine, model.engine
        if engine is None or engine.state == "unloaded":
            engine = self._made(model, old)
        model.opening = engine

        def opened() -> None:
            try:
                engine.load()
                engine.voices.check_default(own_instead=model is not self.default)
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

    def _made(self, model: Model, old: TTSEngine | None = None) -> TTSEngine:
        first, since = self.default.engine, old.stats() if old else None
        admission = first.admission if first else None
        engine = TTSEngine(model.config, admission=admission, since=since)
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
        """Unload, for ever, whatever nobody has used for `idle_unload_minutes`."""
        idle_s = self._limits.idle_unload_minutes * 60
        while idle_s:
            await asyncio.sleep(min(idle_s / 4, LONGEST_LOOK_S))
            for model in self.models:
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
        """Stop all of them; blocking."""
        for engine in self._engines():
            engine.close(timeout_s)

    def _engines(self) -> list[TTSEngine]:
        engines = [engine for model in self.models for engine in (model.opening, model.engine)]
        return [one for one in dict.fromkeys(engines) if one and one.state != "unloaded"]
