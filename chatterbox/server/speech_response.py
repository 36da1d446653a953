"""How is a call for speech answered, whoever's words it came in? Read, checked, spoken, sent.

Knows no field: a dialect hands in how to read its body, and what its answer looks like.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatterbox.engine.speech_stream import SpeechReport
from chatterbox.runtime.contract import F32
from chatterbox.server.access_record import record_of
from chatterbox.server.body import Body, BodyLimits, read_body, read_query
from chatterbox.server.disconnect import until_disconnect
from chatterbox.server.framing import BARE, Framing, send_streamed
from chatterbox.server.speech_service import SpeechCall, SpeechService

Whole = Callable[[SpeechCall, F32, SpeechReport], Response]
"""Makes one answer of all the sound; runs in a thread."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A call, and the way its sound goes out: carried while it is made, unless `whole` is given."""

    call: SpeechCall
    carrier: Framing = BARE
    whole: Whole | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Read = Callable[[Body], Spoken]


class SpeechResponse(Response):
    """Reads the call and answers it, all inside one scope: an upload, a place and the engine's
    rows are given back when this returns, however it does."""

    def __init__(
        self,
        service: SpeechService,
        request: Request,
        read: Read,
        *,
        limits: BodyLimits | None = None,
        from_query: bool = False,
    ) -> None:
        super().__init__()
        self._service = service
        self._request = request
        self._read = read
        self._limits = limits or service.limits
        self._from_query = from_query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, record = self._service, record_of(scope)
        record.speech = True
        await service.check_room()
        async with self._body() as body:
            spoken = self._read(body)
            call = spoken.call
            service.check(call)
            if spoken.whole is None:
                await send_streamed(
                    service,
                    call,
                    record,
                    receive,
                    send,
                    carrier=spoken.carrier,
                    headers=spoken.headers,
                )
                return
            samples, report = await until_disconnect(receive, service.whole(call, record))
            answer = await asyncio.to_thread(spoken.whole, call, samples, report)
        answer.headers.update(spoken.headers)
        await answer(scope, receive, send)

    @asynccontextmanager
    async def _body(self) -> AsyncIterator[Body]:
        if self._from_query:
            yield read_query(self._request)
            return
        async with read_body(self._request, self._limits) as body:
            yield body
