"""A socket with contexts: several sounds by name, each a task that can be cancelled by itself."""

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech
from chatterbox.errors import Cancelled, ChatterboxError, Overloaded
from chatterbox.server.dialect import Services
from chatterbox.server.socket_server import Socket, first_of

C = TypeVar("C", bound=IncrementalSpeech)
MOST_CONTEXTS = 16
"""Of one socket. ElevenLabs has 5, which clients that are interrupted often run into
(livekit/agents-js #1985); here a context that is silent costs next to nothing."""


class ContextSocket(ABC, Generic[C]):
    """A context's own error ends that context; an error of the socket ends the socket."""

    def __init__(self, services: Services, socket: Socket) -> None:
        self.services = services
        self.socket = socket
        self.contexts: dict[str | None, C] = {}
        self._tasks: dict[C, asyncio.Task[None]] = {}
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
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
            await first_of(self.read(), self._faults())
        finally:
            self.contexts.clear()
            await self._cancel(*self._tasks)
            self._fault.cancel()

    def open(self, name: str | None, context: C) -> C:
        """A new one begins to speak. Raises Overloaded."""
        assert name not in self.contexts, "a context is opened once"
        if len(self.contexts) >= MOST_CONTEXTS:
            raise Overloaded(f"A socket has {MOST_CONTEXTS} contexts at most.", param="context")
        self.contexts[name] = context
        self._tasks[context] = task = asyncio.create_task(self._run(name, context))
        task.add_done_callback(lambda _: self._tasks.pop(context, None))
        return context

    async def drop(self, name: str | None) -> C | None:
        """Cancel one; when this returns its place is free. None: there is no such context."""
        context = self.contexts.pop(name, None)
        if context is not None:
            await self._cancel(context)
        return context

    async def drained(self) -> None:
        """Wait until those that are left have ended by themselves."""
        await asyncio.gather(*self._tasks.values())

    async def _faults(self) -> None:
        await asyncio.shield(self._fault)

    async def _run(self, name: str | None, context: C) -> None:
        try:
            try:
                await context.run()
            except Cancelled:
                raise
            except ChatterboxError as error:
                self._forget(name, context)
                await self.failed(name, error)
            else:
                self._forget(name, context)
        except Exception as fault:  # noqa: BLE001 - ends the socket
            if not self._fault.done():
                self._fault.set_exception(fault)

    def _forget(self, name: str | None, context: C) -> None:
        if self.contexts.get(name) is context:
            del self.contexts[name]

    async def _cancel(self, *contexts: C) -> None:
        tasks = [self._tasks[context] for context in contexts if context in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
