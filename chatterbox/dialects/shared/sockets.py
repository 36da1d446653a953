"""Base classes of WebSockets with one audio stream or several, and functions to read messages."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import msgpack

from chatterbox.audio.encode import AudioFormat
from chatterbox.dialects.shared.incremental_speech import PCM, IncrementalSpeech
from chatterbox.errors import (
    Cancelled,
    ChatterboxError,
    InvalidBody,
    InvalidValue,
    Overloaded,
    UnsupportedMediaType,
    excerpt,
)
from chatterbox.server.body import Body, until_first
from chatterbox.server.dialect import Services
from chatterbox.server.schemas import LenientFields, parse_lenient_fields
from chatterbox.server.socket_server import Socket

M = TypeVar("M", bound=LenientFields)
C = TypeVar("C", bound=IncrementalSpeech)
MAX_CONTEXTS = 16
"""Most open contexts of one socket; more are refused as `overloaded`. ElevenLabs allows 5, which
clients with frequent interruptions exceed (livekit/agents-js #1985). An idle context costs almost
nothing here."""


class SocketSpeech(ABC, IncrementalSpeech):
    """A socket with one continuous audio stream. `take` adds each message to the queue; messages
    after the end of the queue are ignored."""

    def __init__(self, services: Services, socket: Socket, form: AudioFormat = PCM) -> None:
        super().__init__(services, form)
        self.socket = socket
        socket.busy = lambda: self.is_busy

    @abstractmethod
    async def take(self, message: str | bytes) -> None:
        """Handle a message from the client."""

    async def run(self) -> None:
        """Return once the queue is ended and spoken. Raises Cancelled when the client has left."""
        await until_first(self._read(), super().run())

    async def _read(self) -> None:
        while True:
            message = await self.socket.receive()
            if not self.queue.ended:
                await self.take(message)


class ContextSocket(ABC, Generic[C]):
    """A socket with several audio streams side by side, each a named context. An error in a context
    ends only that context, unless `on_error` raises."""

    def __init__(self, services: Services, socket: Socket) -> None:
        self.services = services
        self.socket = socket
        self.contexts: dict[str | None, C] = {}
        self._tasks: dict[C, asyncio.Task[None]] = {}
        socket.busy = lambda: any(context.is_busy for context in self.contexts.values())

    @abstractmethod
    async def read(self) -> None:
        """Read messages until one of them closes the socket."""

    @abstractmethod
    async def on_error(self, name: str | None, error: ChatterboxError) -> None:
        """Send the error of a failed context to the client, or raise it to end the socket."""

    async def run(self) -> None:
        """Run until `read` returns. Raises Cancelled when the client has left."""
        try:
            async with asyncio.TaskGroup() as self._group:
                await self.read()
                for task in self._tasks.values():
                    task.cancel()
        except BaseExceptionGroup as faults:
            raise faults.exceptions[0] from None
        finally:
            self.contexts.clear()

    def open(self, name: str | None, context: C) -> C:
        """Start a new context. Raises Overloaded at MAX_CONTEXTS."""
        assert name not in self.contexts, "a context is opened once"
        if len(self.contexts) >= MAX_CONTEXTS:
            raise Overloaded(
                f"A socket may have at most {MAX_CONTEXTS} contexts; close one first.",
                param="context",
            )
        self.contexts[name] = context
        self._tasks[context] = task = self._group.create_task(self._run(name, context))
        task.add_done_callback(lambda _: self._tasks.pop(context, None))
        return context

    async def drop(self, name: str | None) -> C | None:
        """Cancel a context and wait until it has released its place. Returns None if no context has
        the name."""
        context = self.contexts.pop(name, None)
        if context in self._tasks:
            task = self._tasks[context]
            task.cancel()
            await asyncio.wait({task})
        return context

    async def drain(self) -> None:
        """Wait until all contexts have finished."""
        await asyncio.gather(*self._tasks.values())

    async def _run(self, name: str | None, context: C) -> None:
        failure: ChatterboxError | None = None
        try:
            await context.run()
        except Cancelled:
            raise
        except ChatterboxError as error:
            failure = error
        if self.contexts.get(name) is context:
            del self.contexts[name]
        if failure is not None:
            await self.on_error(name, failure)


def query_fields(kind: type[M], socket: Socket) -> M:
    """Parse the query string of the socket's URL. Raises as `parse_lenient_fields` does."""
    return parse_lenient_fields(kind, Body(dict(socket.query)))[0]


def message_fields(kind: type[M], message: dict[str, Any]) -> M:
    """Parse a decoded message, ignoring unknown fields. Raises as `parse_lenient_fields` does."""
    return parse_lenient_fields(kind, Body(message, typed=True))[0]


def unknown_message(kind: object) -> ChatterboxError:
    """Return the error for a message whose `type` the protocol does not have."""
    return InvalidValue(f"Unknown message type '{excerpt(kind)}'.", param="type")


async def send_packed(socket: Socket, kind: str, **fields: Any) -> None:
    """Send a MessagePack message. Floats (samples and seconds) are single precision."""
    await socket.send(msgpack.packb({"type": kind, **fields}, use_single_float=True))


def unpack(message: str | bytes) -> dict[str, Any]:
    """Decode a MessagePack message. Raises UnsupportedMediaType and InvalidBody."""
    if isinstance(message, str):
        raise UnsupportedMediaType("This socket takes MessagePack in binary frames.")
    try:
        value = msgpack.unpackb(message)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise InvalidBody("The message is not MessagePack.") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidBody("The message must be a map with string keys.")
    return value
