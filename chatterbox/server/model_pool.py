"""The models of one server: which of them are in memory, and which one answers a call.

Belongs to the event loop; models are loaded and unloaded in threads, one at a time. Whoever speaks
holds a lease, and a model that is leased is not unloaded.
"""

import asyncio
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial

from chatterbox.config import ServerConfig, TTSConfig
from chatterbox.engine.engine import State, TTSEngine
from chatterbox.engine.stats import EngineStats, total
from chatterbox.engine.threads import Heartbeat
from chatterbox.errors import (
    ChatterboxError,
    ConfigError,
    ModelError,
    ModelNotFound,
    ModelUnavailable,
    NotReady,
    first_line,
    shown,
)
from chatterbox.loading import Loading
from chatterbox.server.memory import free_bytes, used_bytes
from chatterbox.server.model import Model, files_bytes, in_thread, keep_for_good, unload
from chatterbox.voices.library import VoiceLibrary

log = logging.getLogger(__name__)

HOSTED = re.compile(r"(tts-1|gpt-|eleven_)", re.IGNORECASE)
"""How the names of hosted services' models begin, which clients send unasked: the default model
answers to them."""
FAILED_RETRY_S = 30.0
"""So long a model that could not be loaded is not tried again."""
LONGEST_LOOK_S = 60.0
"""Between two looks for models that nobody uses."""

chosen_model: ContextVar[Model | None] = ContextVar("chosen_model", default=None)
"""What the current request, or this part of a socket, speaks with; None: the default model."""


class ModelPool:
    """One for each server. What the server asks of an engine without speaking, it asks here."""

    def __init__(
        self,
        configs: Mapping[str, TTSConfig],
        limits: ServerConfig,
        own: TTSEngine | None = None,
    ) -> None:
        """The first one is the default. `own`: its engine, where it is there already. Raises
        what TTSEngine does."""
        self._limits = limits
        self._died: Callable[[], None] | None = None
        self._changing = asyncio.Lock()
        self._opening: TTSEngine | None = None
        self._waiting = 0  # requests, for models that are not loaded
        self.models = [Model(name, config) for name, config in configs.items()]
        self.default = self.models[0]
        self.default.engine = own or self._made(self.default)
        self.admission = self.default.engine.admission

    @classmethod
    def of(cls, served: "TTSEngine | ModelPool", limits: ServerConfig) -> "ModelPool":
        """A pool of one, where it is not one already."""
        return served if isinstance(served, ModelPool) else cls({"": served.config}, limits, served)

    # --- which one

    def find(self, name: str | None) -> Model:
        """The model of that name. An only model answers to any. Raises ModelNotFound."""
        if len(self.models) == 1 or not name:
            return self.default
        for model in self.models:
            if name.casefold() in (model.name.casefold(), model.config.model.casefold()):
                return model
        if HOSTED.match(name):
            return self.default
        names = ", ".join(model.name for model in self.models)
        raise ModelNotFound(
            f"There is no model '{shown(name)}' here; there are: {names}.", param="model"
        )

    def choose(self, name: object) -> None:
        """Let the rest of this request, and the tasks it starts, speak with the model of that name.
        Raises ModelNotFound. What is no name is left to whoever checks the fields."""
        if len(self.models) > 1 and isinstance(name, str):
            chosen_model.set(self.find(name))

    @contextmanager
    def cloning(self) -> Iterator[None]:
        """Choose, for the time of the context, a model that learns voices from recordings: the
        chosen one if it does, else the first that does, or may."""
        for model in (self.chosen, *self.models):
            if model.engine is None or model.engine.cloning is not None:
                break
        else:
            model = self.chosen
        with speaking_with(model):
            yield

    @property
    def chosen(self) -> Model:
        """The one that was chosen here."""
        return chosen_model.get() or self.default

    @property
    def engine(self) -> TTSEngine:
        """Of the chosen model, loaded or not: what it is, and its voices by name. Raises NotReady
        before it was ever loaded."""
        model = self.chosen
        if model.engine is None:
            raise self._not_ready(model)
        return model.engine

    async def known(self) -> None:
        """Wait until `engine` answers. Raises what `lease` does."""
        if self.chosen.engine is None:
            async with self.lease(self._limits.first_audio_timeout_s):
                pass

    @asynccontextmanager
    async def lease(self, timeout_s: float) -> AsyncIterator[TTSEngine]:
        """The chosen model's engine, which stays loaded for the time of the context; loaded first
        where it is not, with others unloaded where there is no room.

        Raises NotReady where that takes longer than `timeout_s` or too many wait for it, and
        ModelUnavailable.
        """
        model = self.chosen
        if model.loaded and not model.leaving:
            model.users += 1
        else:
            await self._join(model, timeout_s)
        try:
            assert model.engine is not None, "it is loaded"
            yield model.engine
        finally:
            model.leave()

    async def _join(self, model: Model, timeout_s: float) -> None:
        """Become a user of a model that is not loaded."""
        most = self.admission.capacity + self.admission.queue_capacity
        if (model.load_s and model.wait_s > timeout_s) or self._waiting >= most:
            self._load(model)
            raise self._not_ready(model)
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while model.leaving:
                    await asyncio.shield(model.leaving)
                model.users += 1  # before it is there, so that it is not taken away at once
                try:
                    await asyncio.shield(self._load(model))
                except BaseException:
                    model.leave()
                    raise
        except TimeoutError:
            raise self._not_ready(model) from None
        finally:
            self._waiting -= 1

    def _not_ready(self, model: Model) -> ChatterboxError:
        return NotReady(f"The model {model.name} is still loading.", retry_after_s=model.wait_s)

    # --- loading and unloading

    async def start(self) -> None:
        """Load the default model, then the others, as far as they are to be and there is room; of
        the rest, see that their files are there. Raises ModelError and ConfigError."""
        for model in self.models:
            try:
                if model is self.default:
                    await self._bring(model, rehearsed=True)
                elif self._limits.load_models == "start" and self._fits(model):
                    await self._load(model)
                else:
                    model.nbytes = await in_thread(partial(files_bytes, model.config))
            except ModelUnavailable as fault:
                raise fault.__cause__ or fault from None

    async def load(self, name: str) -> Model:
        """Have a model loaded. Raises ModelNotFound, NotReady and ModelUnavailable."""
        with speaking_with(model := self.find(name)):
            async with self.lease(self._limits.first_audio_timeout_s):
                return model

    async def unload(self, name: str) -> Model:
        """Unload a model once nobody speaks with it any more. Raises ModelNotFound."""
        model = self.find(name)
        async with self._changing:
            await self._drop(model)
        return model

    def _load(self, model: Model) -> "asyncio.Task[None]":
        if model.loading is None:
            model.loading = asyncio.create_task(self._loaded(model))
            model.loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return model.loading

    async def _loaded(self, model: Model) -> None:
        try:
            if model.fault and time.monotonic() < model.retry_at:
                raise self._unavailable(model)
            async with self._changing:
                if not model.loaded:
                    await self._make_room(model)
                    await self._bring(model)
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

    async def _bring(self, model: Model, *, rehearsed: bool = False) -> None:
        """Load it, whatever else is loaded."""
        model.since, before = time.monotonic(), used_bytes(model.config)
        engine, old = model.engine, model.engine
        if engine is None or engine.state == "unloaded":
            engine = self._made(model, old)
        self._opening = engine

        def bring() -> None:
            engine.load()
            engine.voices.check_default(own_instead=model is not self.default)
            if rehearsed:
                engine.rehearse()

        await in_thread(bring)
        if not model.loads:  # else its voices have been prepared
            engine.prepare_voices()
        keep_for_good()
        model.engine, model.fault, model.loads = engine, None, model.loads + 1
        model.nbytes = max(model.nbytes, used_bytes(model.config) - before)
        model.load_s, model.used_at = time.monotonic() - model.since, time.monotonic()
        self._opening = None

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

    async def _drop(self, model: Model) -> None:
        """Unload it, once its users are done; who comes now waits until it is loaded again."""
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
                if model.loaded and not model.users and model.idle_s >= idle_s:
                    log.info("the model %s is unloaded: nobody used it", model.name)
                    await self.unload(model.name)

    # --- as one engine

    @property
    def state(self) -> State:
        """The default model's; any model's death is the process's. A model that is not in memory is
        as good as ready."""
        states = [model.engine.state for model in self.models if model.engine]
        return "dead" if "dead" in states else "ready" if states[0] == "unloaded" else states[0]

    @property
    def loading(self) -> Loading:
        """What the load in work is busy with, or the last one was."""
        engine = self._opening or self.default.engine
        assert engine is not None, "the default model's is there from the beginning"
        return engine.loading

    @property
    def fault(self) -> str | None:
        """Why the default model cannot be loaded."""
        return self.default.fault

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Of all threads that must get on."""
        return [beat for model in self.models if model.engine for beat in model.engine.heartbeats]

    def loaded(self) -> list[TTSEngine]:
        """The engines of those in memory, the default model's first."""
        engines = (model.engine for model in self.models)
        return [one for one in engines if one and one.state in ("ready", "dead")]

    def libraries(self) -> list[VoiceLibrary]:
        """The voices of every model that was loaded, though it may be so no more."""
        return [m.engine.voices for m in self.models if m.engine and m.engine.state != "loading"]

    def stats(self) -> EngineStats:
        """Of all models together."""
        return total(model.engine.stats() for model in self.models if model.engine)

    def on_death(self, tell: Callable[[], None]) -> None:
        """`tell` is called, from any thread, once an engine has died."""
        self._died = tell
        for engine in self._engines():
            engine.on_death = tell

    def give_up(self, reason: str) -> None:
        """No engine is of any use any more."""
        for engine in self._engines():
            engine.give_up(reason)

    def close(self, timeout_s: float) -> None:
        """Stop all of them; blocking."""
        for engine in self._engines():
            engine.close(timeout_s)

    def _engines(self) -> list[TTSEngine]:
        engines = [self._opening, *(model.engine for model in self.models)]
        return [one for one in dict.fromkeys(engines) if one and one.state != "unloaded"]


@contextmanager
def speaking_with(model: Model | None) -> Iterator[None]:
    """Choose it for the time of the context."""
    token = chosen_model.set(model)
    try:
        yield
    finally:
        chosen_model.reset(token)
