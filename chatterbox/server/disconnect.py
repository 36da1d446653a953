"""Clients that leave or stop reading: nobody works for them any longer.

`until_disconnect` cancels the work of a client that has left; `WriteTimeout` cuts off one that
takes nothing for too long. To a client that reads, an answer may take as long as it needs.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatterbox.errors import Cancelled, SlowClient
from chatterbox.server.request_log import record_of

T = TypeVar("T")


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; if the client leaves first, `work` is cancelled, has ended, and
    Cancelled is raised. The request's body must have been read."""
    task = asyncio.ensure_future(work)
    departure = asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait({task, departure}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Cancelled("The client left.")
        return task.result()
    finally:
        departure.cancel()
        task.cancel()
        await asyncio.gather(task, departure, return_exceptions=True)


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


STALL_S = 30.0
"""A reader that takes nothing for so long is gone (FAULTS F25). Who listens while it comes reads at
least at the speed of speech: by then the 3 MB that a connection may hold have moved on (PCM: 48 kB
a second), and an answer in a smaller format fits into them."""
PART_BYTES = 64 * 1024
"""Of an answer that is handed over in one piece: it would otherwise all be waited for at once, and
lie in the connection's memory meanwhile."""


class WriteTimeout:
    """A layer around the application; HTTP only, sockets have their own limit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gone: SlowClient | None = None

        async def patiently(message: Message) -> None:
            nonlocal gone
            if gone is not None:
                raise gone
            try:
                for part in _parts(message):
                    async with asyncio.timeout(STALL_S):
                        await send(part)
            except TimeoutError:
                gone = SlowClient("The client stopped reading.")
                raise gone from None

        try:
            await self._app(scope, receive, patiently)
        except Exception:
            if gone is None:
                raise
        if gone is not None:
            record_of(scope).failed(gone)  # and no last chunk: the connection is cut


def _parts(message: Message) -> Iterator[Message]:
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= PART_BYTES:
        yield message
        return
    for start in range(0, len(body), PART_BYTES):
        more = message.get("more_body", False) or start + PART_BYTES < len(body)
        yield {**message, "body": body[start : start + PART_BYTES], "more_body": more}
