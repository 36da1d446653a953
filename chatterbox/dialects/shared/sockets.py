"""What sockets have in common: one sound or several by name, and the messages that are read."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import msgpack

from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech
from chatterbox.errors import (
    Cancelled,
    ChatterboxError,
    InvalidBody,
    InvalidValue,
    Overloaded,
    UnsupportedMediaType,
    excerpt,
)
from chatterbox.server.body import Body, first_of
from chatterbox.server.dialect import Services
from chatterbox.server.schemas import LenientCall, lenient_fields_of
from chatterbox.server.socket_server import Socket

M = TypeVar("M", bound=LenientCall)
C = TypeVar("C", bound=IncrementalSpeech)
MOST_CONTEXTS = 16
"""Of one socket. ElevenLabs has 5, which clients that are interrupted often run into
(livekit/agents-js #1985); here a context that is silent costs next to nothing."""


class SocketSpeech(ABC, IncrementalSpeech):
    """A socket that is one sound: its messages go to `take` until the queue is ended."""

    def __init__(self, services: Services, socket: Socket) -> None:
        super().__init__(services)
        self.socket = socket
        socket.busy = lambda: self.busy

    @abstractmethod
    async def take(self, message: str | bytes) -> None:
        """A message from the client."""

    async def run(self) -> None:
        """Until everything is spoken, or the client has left."""
        await first_of(self._read(), super().run())

    async def _read(self) -> None:
        while True:
            message = await self.socket.receive()
            if not self.queue.ended:
                await self.take(message)


class ContextSocket(ABC, Generic[C]):
    """A context's own error ends that context; an error of the socket ends the socket."""

    def __init__(self, services: Services, socket: Socket) -> None:
        self.services = services
        self.socket = socket
        self.contexts: dict[str | None, C] = {}
        self._tasks: dict[C, asyncio.Task[None]] = {}
        socket.busy = lambda: any(context.busy for context in self.contexts.values())

    @abstractmethod
    async def read(self) -> None:
        """Take message after message, until one of them closes the socket."""

    @abstractmethod
    async def failed(self, name: str | None, error: ChatterboxError) -> None:
        """An error has ended this context: tell the client, or raise it to end the socket."""

    async def run(self) -> None:
        """Until `read` returns, or the client has left."""
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
        """A new one begins to speak. Raises Overloaded."""
        assert name not in self.contexts, "a context is opened once"
        if len(self.contexts) >= MOST_CONTEXTS:
            raise Overloaded(f"A socket has {MOST_CONTEXTS} contexts at most.", param="context")
        self.contexts[name] = context
        self._tasks[context] = task = self._group.create_task(self._run(name, context))
        task.add_done_callback(lambda _: self._tasks.pop(context, None))
        return context

    async def drop(self, name: str | None) -> C | None:
        """Cancel one; when this returns its place is free. None: there is no such context."""
        context = self.contexts.pop(name, None)
        if context in self._tasks:
            task = self._tasks[context]
            task.cancel()
            await asyncio.wait({task})
        return context

    async def drained(self) -> None:
        """Wait until those that are left have ended by themselves."""
        await asyncio.gather(*self._tasks.values())

    async def _run(self, name: str | None, context: C) -> None:
        try:
            await context.run()
        except Cancelled:
            raise
        except ChatterboxError as error:
            self._forget(name, context)
            await self.failed(name, error)
        else:
            self._forget(name, context)

    def _forget(self, name: str | None, context: C) -> None:
        if self.contexts.get(name) is context:
            del self.contexts[name]


def fields_of_message(model: type[M], message: dict[str, Any]) -> M:
    """A decoded message's fields; those that the model does not have are ignored. Raises what
    `lenient_fields_of` does."""
    return lenient_fields_of(model, Body(message, typed=True))[0]


def unknown_message(kind: object) -> ChatterboxError:
    """The error for a message whose `type` the protocol does not have."""
    return InvalidValue(f"There is no message '{excerpt(kind)}'.", param="type")


def packed(body: dict[str, Any]) -> bytes:
    """One MessagePack message. Floats are single precision: they are samples and seconds."""
    data: bytes = msgpack.packb(body, use_single_float=True)
    return data


async def send_packed(socket: Socket, kind: str, **fields: Any) -> None:
    """Send one MessagePack message."""
    await socket.send(packed({"type": kind, **fields}))


def unpacked(message: str | bytes) -> dict[str, Any]:
    """One MessagePack message. Raises UnsupportedMediaType and InvalidBody."""
    if isinstance(message, str):
        raise UnsupportedMediaType("Send MessagePack in binary frames here.")
    try:
        value = msgpack.unpackb(message)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise InvalidBody("The message is not MessagePack.") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidBody("The message must be a map with a 'type'.")
    return value
