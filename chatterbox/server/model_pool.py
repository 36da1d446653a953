"""The models of one server: which of them are in memory, and which one answers a call.

Whoever speaks holds a lease, and a model that is leased is not unloaded.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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
from typing import TypeVar

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
"""How the names of hosted services' models begin, which clients send unasked: the default model
answers to them."""

T = TypeVar("T")
SPACING_S = 0.1
"""From the end of one look at the store to the begin of the next, however many ask."""
PAUSE_S = 2.0
"""After a look that failed, all who ask are told so at once, for so long."""

chosen_model: ContextVar[Model | None] = ContextVar("chosen_model", default=None)
"""What the current request, or this part of a socket, speaks with; None: the default model."""

_held: ContextVar[Model | None] = ContextVar("held", default=None)
"""Whose lease there is already: it never waits for itself to end."""


class ModelPool(ModelLoader):
    """One for each server. What the server asks of an engine without speaking, it asks here."""

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
            f"There is no model '{excerpt(name)}' here; there are: {names}.", param="model"
        )

    def choose(self, name: object) -> None:
        """Let the rest of this request, and the tasks it starts, speak with the model of that name.
        Raises ModelNotFound. What is no name is left to whoever checks the fields."""
        if len(self.models) > 1 and isinstance(name, str):
            chosen_model.set(self.find(name))

    def naming(self, name: str | None) -> AbstractContextManager[None]:
        """Choose, for the time of the context, the model of that name; None: the chosen one.
        Raises ModelNotFound."""
        return speaking_with(self.find(name) if name else self.chosen)

    def cloning(self) -> AbstractContextManager[None]:
        """Choose, for the time of the context, a model that learns voices from recordings: the
        chosen one if it does, else the first that does, or may."""
        learning = (
            model
            for model in (self.chosen, *self.models)
            if model.engine is None or model.engine.cloning is not None
        )
        return speaking_with(next(learning, self.chosen))

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

    def known(self) -> AbstractAsyncContextManager[object]:
        """Entered once `engine` answers; a model that has to be loaded for that is held. Raises
        what `lease` does."""
        ready = self.chosen.engine is not None
        return nullcontext() if ready else self.lease(self._limits.first_audio_timeout_s)

    @asynccontextmanager
    async def lease(self, timeout_s: float, name: str | None = None) -> AsyncIterator[TTSEngine]:
        """The engine of the model of that name, or of the chosen one. It stays loaded for the
        time of the context; where it is not, it is loaded first, and others make room.

        Raises NotReady where that takes longer than `timeout_s` or too many wait for it, and
        ModelUnavailable.
        """
        model = self.find(name) if name else self.chosen
        if model.loaded and (not model.leaving or _held.get() is model):
            model.users += 1
        else:
            await self._join(model, timeout_s)
        token = _held.set(model)
        try:
            assert model.engine is not None, "it is loaded"
            yield model.engine
        finally:
            _held.reset(token)
            model.leave()

    async def _join(self, model: Model, timeout_s: float) -> None:
        """Become a user of a model that is not loaded."""
        most = self.admission.capacity + self.admission.queue_capacity
        if (model.load_s and model.wait_s > timeout_s) or self._waiting >= most:
            self.bring(model)
            raise self._not_ready(model)
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while model.leaving:
                    await asyncio.shield(model.leaving)
                model.users += 1  # before it is there, so that it is not taken away at once
                try:
                    await asyncio.shield(self.bring(model))
                except BaseException:
                    model.leave()
                    raise
        except TimeoutError:
            raise self._not_ready(model) from None
        finally:
            self._waiting -= 1

    def _not_ready(self, model: Model) -> ChatterboxError:
        return NotReady(f"The model {model.name} is still loading.", retry_after_s=model.wait_s)

    async def load(self, name: str) -> Model:
        """Have a model loaded. Raises ModelNotFound, NotReady and ModelUnavailable."""
        async with self.lease(self._limits.first_audio_timeout_s, name):
            return self.find(name)

    async def unload(self, name: str) -> Model:
        """Unload a model once nobody speaks with it any more. Raises ModelNotFound."""
        await self.drop(model := self.find(name))
        return model

    # --- as one engine

    @property
    def state(self) -> State:
        """The default model's; any model's death is the process's. A model that is not in memory is
        as good as ready."""
        states = [model.engine.state for model in self.models if model.engine]
        if "dead" in states:
            return "dead"
        return "ready" if self.default.leaving or states[0] == "unloaded" else states[0]

    @property
    def loading(self) -> Loading:
        """What the load in work is busy with, or the last one was."""
        opening = (model.opening for model in self.models if model.opening)
        engine = next(opening, self.default.engine)
        assert engine is not None, "the default model's is there from the beginning"
        return engine.loading

    @property
    def fault(self) -> str | None:
        """Why the default model cannot be loaded."""
        return self.default.fault

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Of all threads that must get on."""
        return [beat for engine in self.loaded() for beat in engine.heartbeats]

    def loaded(self) -> list[TTSEngine]:
        """The engines of those in memory, the default model's first."""
        engines = (model.engine for model in self.models)
        return [one for one in engines if one and one.state in ("ready", "dead")]

    def libraries(self) -> list[VoiceLibrary]:
        """The voices of every model that was loaded, though it may be so no more."""
        return [m.engine.voices for m in self.models if m.engine and m.engine.state != "loading"]

    @cached_property
    def fresh(self) -> "FreshVoices":
        """Finds voices that are new in the store."""
        return FreshVoices(self)

    def stats(self) -> EngineStats:
        """Of all models together."""
        return total(model.engine.stats() for model in self.models if model.engine)


@contextmanager
def speaking_with(model: Model | None) -> Iterator[None]:
    """Choose it for the time of the context."""
    token = chosen_model.set(model)
    try:
        yield
    finally:
        chosen_model.reset(token)


class FreshVoices:
    """Of voices that another server has registered in the shared store a moment ago.

    Looks at the store again for who finds no voice: one look for all who have come before it
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
                    await asyncio.to_thread(library.refresh)
            except StorageUnavailable as failure:
                self._failure = failure
                raise
            finally:
                self._looked_at = time.monotonic()


class ModelChoice:
    """The layer that lets an address choose the model, in every call. A name that is none is left
    to those calls that speak."""

    def __init__(self, app: ASGIApp, models: ModelPool) -> None:
        self._app = app
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        model = None
        with suppress(ModelNotFound):
            query = QueryParams(scope["query_string"])
            model = self._models.find(query.get("model") or query.get("model_id"))
        with speaking_with(model):
            await self._app(scope, receive, send)
