"""Chooses the model of each request by name, and leases models to requests.

A leased model is not unloaded.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from contextvars import ContextVar
from functools import cached_property
from typing import Any, TypeVar

from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from chatterbox.config import ServerConfig
from chatterbox.engine.engine import State, TTSEngine
from chatterbox.engine.stats import EngineStats, total
from chatterbox.engine.threads import Heartbeat
from chatterbox.errors import (
    ChatterboxError,
    ModelNotFound,
    NotReady,
    StorageUnavailable,
    VoiceNotFound,
    excerpt,
)
from chatterbox.loading import Loading
from chatterbox.server.model_loader import Model, ModelLoader
from chatterbox.voices.library import VoiceLibrary

HOSTED = re.compile(r"(tts-1|gpt-|eleven_)", re.IGNORECASE)
"""Prefixes of hosted services' model names, which clients send by default. The default model
answers to them."""

MODEL_FIELDS = ("model", "model_id")
"""Fields that name the model: OpenAI's and ElevenLabs'."""

T = TypeVar("T")
REFRESH_INTERVAL_S = 0.1
"""Least time from the end of one look at the shared store to the beginning of the next."""
PAUSE_S = 2.0
"""Time after a failed look at the store in which further looks fail at once."""

current_model: ContextVar[Model | None] = ContextVar("current_model", default=None)
"""The model that the current request or socket uses. None: the default model."""

_leased_model: ContextVar[Model | None] = ContextVar("leased_model", default=None)
"""The model that this task leases. A nested lease must not wait for the first lease to end."""


class ModelPool(ModelLoader):
    """The server's models. One per server."""

    @classmethod
    def of(cls, served: "TTSEngine | ModelPool", limits: ServerConfig) -> "ModelPool":
        """Return `served` if it is a pool, else a pool of this one engine."""
        return served if isinstance(served, ModelPool) else cls({"": served.config}, limits, served)

    # --- choice of a model

    def find(self, name: str | None) -> Model:
        """Return the model of that name. The default model answers to no name, to names of hosted
        models, and, if it is the only model, to any name. Raises ModelNotFound."""
        if len(self.models) == 1 or not name:
            return self.default
        for model in self.models:
            if name.casefold() in (model.name.casefold(), model.config.model.casefold()):
                return model
        if HOSTED.match(name):
            return self.default
        names = ", ".join(model.name for model in self.models)
        raise ModelNotFound(
            f"There is no model '{excerpt(name)}'; the models are: {names}.", param="model"
        )

    def use(self, name: object) -> AbstractContextManager[None]:
        """Use the model of that name within the context and the tasks started in it; the current
        model if `name` is empty or not a string. Raises ModelNotFound."""
        return use_model(self.find(name) if name and isinstance(name, str) else self.current)

    @asynccontextmanager
    async def use_with_engine(self, name: object) -> AsyncIterator[None]:
        """Combine `use` and `ensure_engine`."""
        with self.use(name):
            async with self.ensure_engine():
                yield

    def use_cloning_model(self) -> AbstractContextManager[None]:
        """Use a cloning model within the context: the first, starting with the current model, that
        can clone voices or was never loaded."""
        models = (
            model
            for model in (self.current, *self.models)
            if model.engine is None or model.engine.cloning is not None
        )
        return use_model(next(models, self.current))

    @property
    def current(self) -> Model:
        """The model of the current request."""
        return current_model.get() or self.default

    @property
    def engine(self) -> TTSEngine:
        """The current model's engine, loaded or not: for its properties and its voices by name.
        Raises NotReady before the first load."""
        model = self.current
        if model.engine is None:
            raise self._not_ready(model)
        return model.engine

    def ensure_engine(self) -> AbstractAsyncContextManager[object]:
        """If the current model has no engine yet, load the model and keep it loaded within the
        context. Raises as `lease` does."""
        has_engine = self.current.engine is not None
        return nullcontext() if has_engine else self.lease(self._limits.first_audio_timeout_s)

    @asynccontextmanager
    async def lease(self, timeout_s: float, name: str | None = None) -> AsyncIterator[TTSEngine]:
        """Yield the engine of the named or the current model, which stays loaded within the
        context. If it is not loaded, load it, and unload others if there is no room.

        Raises ModelNotFound, ModelUnavailable, and NotReady if loading takes longer than
        `timeout_s` or too many requests wait for it.
        """
        model = self.find(name) if name else self.current
        if model.is_loaded and (not model.unloading or _leased_model.get() is model):
            model.users += 1
        else:
            await self._wait_for(model, timeout_s)
        token = _leased_model.set(model)
        try:
            assert model.engine is not None, "it is loaded"
            yield model.engine
        finally:
            _leased_model.reset(token)
            model.release()

    async def _wait_for(self, model: Model, timeout_s: float) -> None:
        """Wait until a model is loaded, and count one more user of it."""
        max_waiting = self.admission.capacity + self.admission.queue_capacity
        if (model.load_s and model.wait_s > timeout_s) or self._waiting >= max_waiting:
            self.start_loading(model)
            raise self._not_ready(model)
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while model.unloading:
                    await asyncio.shield(model.unloading)
                model.users += 1  # before the load, so that the model is not unloaded at once
                try:
                    await asyncio.shield(self.start_loading(model))
                except BaseException:
                    model.release()
                    raise
        except TimeoutError:
            raise self._not_ready(model) from None
        finally:
            self._waiting -= 1

    def _not_ready(self, model: Model) -> ChatterboxError:
        return NotReady(f"The model {model.name} is still loading.", retry_after_s=model.wait_s)

    async def load(self, name: str) -> Model:
        """Load a model. Raises ModelNotFound, NotReady and ModelUnavailable."""
        async with self.lease(self._limits.first_audio_timeout_s, name):
            return self.find(name)

    async def unload(self, name: str) -> Model:
        """Unload a model once no request uses it. Raises ModelNotFound."""
        await self.drop(model := self.find(name))
        return model

    # --- all models together

    @property
    def state(self) -> State:
        """The default model's state; `dead` if any model is. An unloaded model counts as ready."""
        states = [model.engine.state for model in self.models if model.engine]
        if "dead" in states:
            return "dead"
        return "ready" if self.default.unloading or states[0] == "unloaded" else states[0]

    @property
    def loading(self) -> Loading:
        """Progress of the current load, or of the last one."""
        opening = (model.opening_engine for model in self.models if model.opening_engine)
        engine = next(opening, self.default.engine)
        assert engine is not None, "the default model's is there from the beginning"
        return engine.loading

    @property
    def fault(self) -> str | None:
        """Why the default model cannot be loaded."""
        return self.default.fault

    @property
    def heartbeats(self) -> list[Heartbeat]:
        return [beat for engine in self.loaded_engines() for beat in engine.heartbeats]

    def loaded_engines(self) -> list[TTSEngine]:
        """Engines in memory, the default model's first."""
        engines = (model.engine for model in self.models)
        return [engine for engine in engines if engine and engine.state in ("ready", "dead")]

    def libraries(self) -> list[VoiceLibrary]:
        """Voice libraries of all models that have been loaded at least once."""
        return [m.engine.voices for m in self.models if m.engine and m.engine.state != "loading"]

    @cached_property
    def voice_refresher(self) -> "VoiceRefresher":
        return VoiceRefresher(self)

    def stats(self) -> EngineStats:
        """The sum of all models' statistics."""
        return total(model.engine.stats() for model in self.models if model.engine)


def model_name(*sources: Mapping[str, Any]) -> Any:
    """Return the first model name in `sources`, which are sets of fields, or None."""
    names = (fields.get(name) for fields in sources for name in MODEL_FIELDS)
    return next(filter(None, names), None)


@contextmanager
def use_model(model: Model | None) -> Iterator[None]:
    """Use the model within the context; None: the default model."""
    token = current_model.set(model)
    try:
        yield
    finally:
        current_model.reset(token)


class VoiceRefresher:
    """Finds voices that another server has just registered in the shared store.

    A lookup that finds no voice triggers a look at the store. All lookups waiting when the look
    begins share it, so that clients cannot cause more than one look per REFRESH_INTERVAL_S.
    """

    def __init__(self, models: ModelPool) -> None:
        self._models = models
        self._next_look: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._looked_at = -PAUSE_S
        self._failure: ChatterboxError | None = None

    async def retry(self, lookup: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `lookup`, repeated after a look at the store if it raises
        VoiceNotFound. Raises the errors of `lookup`, and StorageUnavailable if a look fails."""
        try:
            return await lookup()
        except VoiceNotFound:
            if not self._models.engine.voices.shared:
                raise
        await self.refresh()
        return await lookup()

    async def refresh(self) -> None:
        """Wait for the next look at the store. Raises StorageUnavailable."""
        if self._failure and time.monotonic() < self._looked_at + PAUSE_S:
            raise StorageUnavailable(self._failure.message, retry_after_s=PAUSE_S)
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look())
            self._next_look.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._next_look)

    async def _look(self) -> None:
        async with self._lock:
            await asyncio.sleep(self._looked_at + REFRESH_INTERVAL_S - time.monotonic())
            self._next_look = None  # later lookups need another look
            self._failure = None
            try:
                for library in self._models.libraries():
                    await asyncio.to_thread(library.refresh)
            except StorageUnavailable as failure:
                self._failure = failure
                raise
            finally:
                self._looked_at = time.monotonic()


class ModelChoice:
    """Middleware that uses the model named in the query. An unknown name is ignored here: routes
    that speak refuse it."""

    def __init__(self, app: ASGIApp, models: ModelPool) -> None:
        self._app = app
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        model = None
        with suppress(ModelNotFound):
            model = self._models.find(model_name(QueryParams(scope["query_string"])))
        with use_model(model):
            await self._app(scope, receive, send)
