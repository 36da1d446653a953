"""A socket's contexts by name: each is a task that can be cancelled without the others.

A context's own error ends that context; an error of the socket ends the socket.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from chatterbox.errors import Cancelled, ChatterboxError, Overloaded

C = TypeVar("C")
Work = Callable[[], Coroutine[Any, Any, None]]
MOST_CONTEXTS = 16
"""Of one socket. ElevenLabs has 5, which clients that are interrupted often run into
(livekit/agents-js #1985); here a context that is silent costs next to nothing."""


class Contexts(Generic[C]):
    """`failed` is called with a context's name and the error that ended it. It tells the client, or
    raises an error to end the whole socket."""

    def __init__(self, failed: Callable[[str | None, ChatterboxError], Awaitable[None]]) -> None:
        self._failed = failed
        self._open: dict[str | None, tuple[C, asyncio.Task[None]]] = {}
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __iter__(self) -> Iterator[C]:
        return iter([context for context, _ in self._open.values()])

    def items(self) -> list[tuple[str | None, C]]:
        """All, by name."""
        return [(name, context) for name, (context, _) in self._open.items()]

    def get(self, name: str | None) -> C | None:
        """The context of that name."""
        return self._open[name][0] if name in self._open else None

    def open(self, name: str | None, context: C, work: Work) -> C:
        """A new one, whose `work` begins. Raises Overloaded."""
        assert name not in self._open, "a context is opened once"
        if len(self._open) >= MOST_CONTEXTS:
            raise Overloaded(f"A socket has {MOST_CONTEXTS} contexts at most.", param="context")
        task = asyncio.create_task(self._run(name, context, work))
        self._open[name] = (context, task)
        return context

    async def drop(self, name: str | None) -> C | None:
        """Cancel one; when this returns its place is free. None: there is no such context."""
        if name not in self._open:
            return None
        context, task = self._open.pop(name)
        await _end([task])
        return context

    async def drained(self) -> None:
        """Wait until those that are left have ended by themselves."""
        await asyncio.gather(*(task for _, task in self._open.values()))

    async def close(self) -> None:
        """Cancel all."""
        tasks = [task for _, task in self._open.values()]
        self._open.clear()
        await _end(tasks)
        self._fault.cancel()

    async def fault(self) -> None:
        """Waits for an error that ends the socket, and raises it."""
        await asyncio.shield(self._fault)

    async def _run(self, name: str | None, context: C, work: Work) -> None:
        try:
            try:
                await work()
            except Cancelled:
                raise
            except ChatterboxError as error:
                self._forget(name, context)
                await self._failed(name, error)
            else:
                self._forget(name, context)
        except Exception as fault:  # noqa: BLE001 - carried to whoever waits in `fault`
            if not self._fault.done():
                self._fault.set_exception(fault)

    def _forget(self, name: str | None, context: C) -> None:
        if self.get(name) is context:
            del self._open[name]


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
