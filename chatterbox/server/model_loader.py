"""Loads and unloads models: at startup, on request, and to make room for others.

Used only from the event loop. The work runs in threads, one model at a time.
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
"""Time after a failed load in which the model is not loaded again."""
LOOK_S = 60.0
"""Longest interval between calls of `trim` (1 to 4 ms in a thread) and checks for idle models."""
ModelState = Literal["unloaded", "loading", "ready", "unloading", "failed", "dead", "closed"]
UNKNOWN_LOAD_S = 5.0
"""Retry-After for a model whose load time is not known yet."""


class Model:
    """One of the server's models, loaded or not. Changed only by its loader and pool."""

    def __init__(self, name: str, config: TTSConfig, engine: TTSEngine | None = None) -> None:
        self.config = config
        self.engine = engine
        """The engine, kept after the model is unloaded. None before the first load."""
        self.users = 0
        self.used_at = time.monotonic()
        self.memory_bytes = 0  # size of the files, or the most measured at a load if larger
        self.load_s: float | None = None  # duration of the last load
        self.loads = 0
        self.fault: str | None = None  # why the last load failed
        self.retry_at = 0.0
        self.load_started_at = 0.0
        self.opening_engine: TTSEngine | None = None  # while it loads
        self.loading: asyncio.Task[None] | None = None
        self.unloading: asyncio.Future[None] | None = None
        self.unused = asyncio.Event()
        self._name = name

    @property
    def name(self) -> str:
        """The configured name. Without one, the name that the engine reports."""
        if self._name or not self.engine or self.engine.state == "loading":
            return self._name or Path(self.config.model).name
        return self.engine.info.name

    @property
    def state(self) -> ModelState:
        if self.loading or self.unloading:
            return "loading" if self.loading else "unloading"
        if self.fault:
            return "failed"
        return self.engine.state if self.engine else "unloaded"

    @property
    def is_loaded(self) -> bool:
        """Whether there is an engine that accepts requests, or refuses them with its own error."""
        return self.engine is not None and self.engine.state != "unloaded"

    @property
    def idle_s(self) -> float:
        return 0.0 if self.users else time.monotonic() - self.used_at

    @property
    def wait_s(self) -> float:
        """Estimated time until the model is loaded."""
        load_s = self.load_s or UNKNOWN_LOAD_S
        is_running = self.loading and self.load_started_at
        elapsed_s = time.monotonic() - self.load_started_at if is_running else 0.0
        return max(1.0, math.ceil(load_s - elapsed_s))

    def as_json(self) -> dict[str, Any]:
        progress = {"loading": asdict(self.opening_engine.loading)} if self.opening_engine else {}
        return {
            "name": self.name,
            "state": self.state,
            "active": self.users,
            "idle_s": round(self.idle_s, 1),
            "loads": self.loads,
            "load_s": self.load_s and round(self.load_s, 2),
            "memory_mb": round(self.memory_bytes / 2**20),
            **progress,
        }

    def release(self) -> None:
        """Record that a request no longer uses the model."""
        self.users -= 1
        self.used_at = time.monotonic()
        if not self.users:
            self.unused.set()


class ModelLoader:
    """Loads and unloads the server's models within its limits."""

    def __init__(
        self,
        configs: Mapping[str, TTSConfig],
        limits: ServerConfig,
        engine: TTSEngine | None = None,
    ) -> None:
        """The first model is the default; `engine` is its engine, if already made. Raises the
        errors of TTSEngine."""
        self._limits = limits
        self._on_death: Callable[[], None] | None = None
        self._changing = asyncio.Lock()
        self._waiting = 0  # requests that wait for a model to be loaded
        self.models = [Model(name, config) for name, config in configs.items()]
        self.default = self.models[0]
        self.default.engine = engine or self._make_engine(self.default)
        self.admission = self.default.engine.admission

    async def start(self) -> None:
        """Download all models' files if needed, load the default model, then the others if
        `load_models` is `start` and there is room. Raises ModelError and ConfigError."""
        if len(self.models) > 1 or self._limits.idle_unload_minutes:
            map_large_blocks()
        others = self.models[1:]
        for model in others:
            model.memory_bytes = await run_shielded(partial(files_bytes, model.config))
        await self._open(self.default, rehearse=True)
        for model in others:
            if self._limits.load_models == "start" and self._fits(model):
                try:
                    await self.start_loading(model)
                except ModelUnavailable as fault:
                    raise fault.__cause__ or fault from None

    def start_loading(self, model: Model) -> "asyncio.Task[None]":
        """Return the task that loads a model, unloading others if there is no room. All callers
        share one task. The task raises ModelUnavailable."""
        if model.loading is None:
            model.loading = asyncio.create_task(self._load(model))
            model.loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return model.loading

    async def _load(self, model: Model) -> None:
        try:
            if model.fault and time.monotonic() < model.retry_at:
                raise self._unavailable(model)
            async with self._changing:
                if not model.is_loaded:
                    await self._make_room(model)
                    await self._open(model)
        except ChatterboxError:
            raise
        except Exception as fault:
            is_expected = isinstance(fault, ModelError | ConfigError)
            log.error(
                "the model %s cannot be loaded: %s", model.name, fault, exc_info=not is_expected
            )
            model.fault = first_line(fault)
            model.retry_at = time.monotonic() + FAILED_RETRY_S
            raise self._unavailable(model) from fault
        finally:
            model.loading = None
            model.load_started_at = 0.0

    def _unavailable(self, model: Model) -> ChatterboxError:
        return ModelUnavailable(
            f"The model {model.name} cannot be loaded; the server's log says why.",
            retry_after_s=max(1.0, math.ceil(model.retry_at - time.monotonic())),
        )

    async def _open(self, model: Model, *, rehearse: bool = False) -> None:
        """Load a model beside those already loaded."""
        model.load_started_at, before = time.monotonic(), used_bytes(model.config)
        engine = model.engine
        if engine is None or engine.state == "unloaded":
            engine = self._make_engine(model)
        model.opening_engine = engine

        def load() -> None:
            try:
                engine.load()
                engine.voices.check_default(fall_back=model is not self.default)
                if rehearse:
                    engine.warm_up()
            except BaseException:
                engine.close()
                raise

        try:
            await run_shielded(load)
        finally:
            model.opening_engine = None
        if not model.loads:  # later loads find the voices prepared
            engine.prepare_voices()
        freeze_objects()
        model.engine, model.fault, model.loads = engine, None, model.loads + 1
        model.memory_bytes = max(model.memory_bytes, used_bytes(model.config) - before)
        model.load_s = time.monotonic() - model.load_started_at
        model.used_at = time.monotonic()

    def _make_engine(self, model: Model) -> TTSEngine:
        first, since = self.default.engine, model.engine.stats() if model.engine else None
        engine = TTSEngine(model.config, admission=first.admission if first else None, since=since)
        engine.on_death = self._on_death
        engine.voice_store.shared |= len(self.models) > 1  # by the models of this process
        return engine

    def _fits(self, model: Model) -> bool:
        """Whether the model may be loaded beside those already loaded."""
        limits, loaded = self._limits, [other for other in self.models if other.is_loaded]
        if limits.max_loaded_models and len(loaded) >= limits.max_loaded_models:
            return False
        needed = model.memory_bytes + sum(other.memory_bytes for other in loaded)
        if limits.models_memory_mb and needed > limits.models_memory_mb * 2**20:
            return False
        return model.memory_bytes < free_bytes(model.config)

    async def _make_room(self, model: Model) -> None:
        """Unload models, the longest idle first, until `model` fits or no model is loaded."""
        while not self._fits(model) and (loaded := [m for m in self.models if m.is_loaded]):
            await self._unload(min(loaded, key=lambda m: (m.users > 0, m.used_at)))

    async def drop(self, model: Model, idle_s: float = 0.0) -> None:
        """Unload a model once no request uses it; with `idle_s`, only if idle for that time."""
        async with self._changing:
            if not idle_s or (model.is_loaded and model.idle_s >= idle_s):
                await self._unload(model)

    async def _unload(self, model: Model) -> None:
        """Unload a model. Requests that arrive meanwhile wait until it is loaded again."""
        if model.engine is None or not model.is_loaded:
            return
        model.unloading = asyncio.get_running_loop().create_future()
        model.unused.clear()
        try:
            if model.users:
                await model.unused.wait()
            await run_shielded(partial(unload_engine, model.engine))
        finally:
            model.unloading.set_result(None)
            model.unloading = None

    async def watch(self) -> None:
        """Return free memory to the system and unload idle models, until cancelled."""
        idle_s = self._limits.idle_unload_minutes * 60
        while True:
            await asyncio.sleep(min(idle_s / 4, LOOK_S) if idle_s else LOOK_S)
            await asyncio.to_thread(trim)
            for model in self.models if idle_s else ():
                await self.drop(model, idle_s)

    def on_death(self, callback: Callable[[], None]) -> None:
        """Call `callback`, from any thread, when an engine dies."""
        self._on_death = callback
        for engine in self._engines():
            engine.on_death = callback

    def give_up(self, reason: str) -> None:
        """Mark all engines as dead."""
        for engine in self._engines():
            engine.give_up(reason)

    def close(self, timeout_s: float = 5.0) -> None:
        for engine in self._engines():
            engine.close(timeout_s)

    def _engines(self) -> list[TTSEngine]:
        engines = [e for model in self.models for e in (model.opening_engine, model.engine)]
        return [each for each in dict.fromkeys(engines) if each and each.state != "unloaded"]


def files_bytes(config: TTSConfig) -> int:
    """Return the size of a model's graphs and weights, downloaded if needed. Raises ModelError."""
    files = find_model(config, log.warning)
    paths = [
        path for graph in files.precisions for path in (files.graph(graph), *files.sidecars(graph))
    ]
    return sum(path.stat().st_size for path in paths)


def unload_engine(engine: TTSEngine) -> None:
    """Unload an engine and return its memory to the system."""
    engine.unload()
    gc.unfreeze()
    freeze_objects()
    trim()


def freeze_objects() -> None:
    """Exclude all current objects from garbage collection. Most live as long as the model, and each
    collection that scans them stops all threads for 0.1 s."""
    gc.collect()
    gc.freeze()


async def run_shielded(work: Callable[[], T]) -> T:
    """Run `work` in a thread and return its result. Cancelling the caller does not stop `work`."""
    return await asyncio.shield(asyncio.wrap_future(run_in_thread(work)))
