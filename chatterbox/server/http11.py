"""HTTP/1.1 on uvicorn's parser, with bounds on time, bytes and connections before any request."""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, Protocol

import h11
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from chatterbox.errors import (
    ChatterboxError,
    HeadersTooLarge,
    HeadTimeout,
    InvalidHttp,
    TooManyConnections,
)
from chatterbox.server.request_log import (
    GUARDS,
    MAX_HEAD_BYTES,
    OVER_LIMIT,
    OVER_LIMIT_RETRY_S,
    PEER,
    TINY_CHUNKS,
    AccessRecord,
    OnRequestEnd,
    request_id,
)

LAST_CHUNK = b"0\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEAD_END = re.compile(rb"\n\r?\n")
_AMBIGUOUS = re.compile(
    rb"\n[ \t]|\ncontent-length[ \t]*:(?:[^\n]*,|(?:[^\n]*\n)+content-length[ \t]*:)", re.IGNORECASE
)
"""A folded line, a list of lengths, a second length."""
LINE_SLACK_BYTES = 32
"""Method, version and blanks of a line."""

SLICE_BYTES = 16 * 1024
"""So much is parsed at a time: bounds what is looked at between two checks."""
CHUNK_OVERHEAD_BYTES = 256 * 1024
"""A chunked body may have so much more framing than content: a chunk costs 7 µs to parse (measured
with h11 0.16), whether it holds one byte or thousands (FAULTS F55)."""


class Waits(Enum):
    """What the other side lets us wait for; the limit of each is in `Timeouts`."""

    HEAD = "head_s"  # the rest of a request's head, or a request at all
    REST = "rest_s"  # the rest of a body whose request has been answered
    READING = "reading_s"  # the last bytes to be read, on a connection that is closing


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long. A sweep may come one round late, and another one passes before it is seen that
    nothing has changed: a head may take 10 s in all (FAULTS F51)."""

    head_s: float = 8.0
    rest_s: float = 28.0
    reading_s: float = 28.0
    round_s: float = 1.0


class Connection(Protocol):
    """What the limiter must know of one."""

    def waits(self) -> tuple[Waits | None, object]:
        """For what, and in the course of which request: the same pair is the same waiting."""

    def give_up(self, waits: Waits) -> None:
        """It took too long."""


class ConnectionLimiter:
    """Limits connections: no more than there is room for, and none that only waits. It knows what
    each waits for and since when; one sweep a second takes the place of a timer for each.

    One for each server; belongs to the event loop. `ended` is told of what was refused before it
    was a request."""

    def __init__(
        self, limit: int, on_refusal: OnRequestEnd, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.on_refusal = on_refusal
        self.timeouts = Timeouts()
        self._limit = limit
        self._now = now
        self._since: dict[Connection, tuple[tuple[Waits | None, object], float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    @property
    def over_limit(self) -> bool:
        """Whether more are in than there is room for. Who comes now is answered, but only probes
        are served."""
        return len(self) > self._limit

    @property
    def idle(self) -> list[Connection]:
        """Those without a request."""
        return [who for who in self._since if who.waits()[0] is Waits.HEAD]

    def add(self, connection: Connection) -> None:
        """Somebody came. Where it is crowded, who waited longest without a request must go."""
        self._since[connection] = (connection.waits(), self._now())
        if self._timer is None:
            self._sweep_later()
        idle = self.idle if self.over_limit else []
        if len(idle) > 1:  # not the one that has just come
            oldest = min(idle, key=lambda who: self._since[who][1])
            oldest.give_up(Waits.HEAD)
            self.remove(oldest)

    def remove(self, connection: Connection) -> None:
        """Its connection is closed, or goes on as another one."""
        self._since.pop(connection, None)

    def sweep(self) -> None:
        """Give up on those that took too long."""
        now = self._now()
        for connection, (known, since) in list(self._since.items()):
            waits = connection.waits()
            if waits != known:
                self._since[connection] = (waits, now)
            elif waits[0] and now - since >= getattr(self.timeouts, waits[0].value):
                connection.give_up(waits[0])

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.timeouts.round_s, self._round)

    def _round(self) -> None:
        self._timer = None
        self.sweep()
        if self._since:
            self._sweep_later()


class HttpConfig(uvicorn.Config):
    """uvicorn's, and the limiter."""

    def __init__(self, app: ASGIApp, limiter: ConnectionLimiter, **more: Any) -> None:
        super().__init__(app, http=HttpProtocol, **more)
        self.limiter = limiter


class _Connection(h11.Connection):
    """h11 takes lines of a head that end in LF alone or go on in the next one, and a length that is
    given twice, as RFC 9112 lets it; what stands before us may read them in another way, and see
    another request behind them (FAULTS F54, F104)."""

    def next_event(self) -> Any:
        if self.their_state is h11.IDLE:
            data, _ = self.trailing_data
            end = _HEAD_END.search(data)
            if _BARE_LF.search(data, 0, end.end() if end else len(data)):
                raise h11.RemoteProtocolError("a line of the head ends in LF alone")
            if end and _AMBIGUOUS.search(data, 0, end.end()):
                raise h11.RemoteProtocolError("the head can be read in two ways")
        return super().next_event()


class HttpProtocol(H11Protocol):
    """One connection. Its head must come soon, and its chunks must be worth their framing."""

    def __init__(self, config: uvicorn.Config, *arguments: Any, **more: Any) -> None:
        super().__init__(config, *arguments, **more)
        self.conn = _Connection(h11.SERVER, config.h11_max_incomplete_event_size or MAX_HEAD_BYTES)
        assert isinstance(config, HttpConfig)
        self._limiter = config.limiter
        self._discarding = False  # what comes is not parsed any more
        self._tail = b""  # of that
        self._framing_bytes = 0  # of the current request's body, beyond its content
        self._counted: object = None  # the request that this is of

    def waits(self) -> tuple[Waits | None, object]:
        waits = None
        if self.transport.is_closing():
            waits = Waits.READING
        elif self.conn.their_state is h11.IDLE:
            waits = Waits.HEAD
        elif self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            waits = Waits.REST
        return waits, self.cycle

    def give_up(self, waits: Waits) -> None:
        """Close it; where a head had begun, with an answer."""
        if waits is Waits.READING:
            self.transport.abort()
        elif waits is Waits.HEAD and self.conn.trailing_data[0]:
            self._refuse(HeadTimeout("The request's head did not arrive in time."))
        else:
            self.transport.close()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._limiter.add(self)
        known = {PEER: self.client, OVER_LIMIT: self._limiter.over_limit}
        self.app_state = {**self.app_state, **known}

    def connection_lost(self, exc: Exception | None) -> None:
        self._limiter.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if self._discarding:
                self._drop(data[start:])
                return
            if self.transport.is_closing():
                return
            part = data[start : start + SLICE_BYTES]
            waiting = self._unread_bytes
            super().data_received(part)
            self._count(len(part), waiting)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._discarding = True
        if self._limiter.over_limit:
            full = TooManyConnections("Too many connections.", retry_after_s=OVER_LIMIT_RETRY_S)
            self._refuse(full)
        elif not _fits(self.headers, event.target):
            self._refuse(HeadersTooLarge("The handshake's head is too large."))
        else:
            self._limiter.remove(self)
            super().handle_websocket_upgrade(event)

    def send_400_response(self, _msg: str) -> None:
        """Called while h11's refusal is being handled."""
        fault = sys.exc_info()[1]
        too_large = isinstance(fault, h11.RemoteProtocolError) and fault.error_status_hint == 431
        self._refuse(
            HeadersTooLarge("The request's head is too large.")
            if too_large
            else InvalidHttp("This is not a request of HTTP/1.1.")
        )

    @property
    def _unread_bytes(self) -> int:
        return len(self.cycle.body) if self.cycle is not None else 0

    def _count(self, part_bytes: int, waiting_bytes: int) -> None:
        """Of a chunked body: compare what came with what of it is content."""
        if self.cycle is None or self.conn.their_state is not h11.SEND_BODY:
            return
        if b"transfer-encoding" not in {name for name, _ in self.headers}:
            return
        if self.conn.our_state is h11.DONE:
            self._discarding = True
            return
        if self._counted is not self.cycle:
            self._counted, self._framing_bytes = self.cycle, 0
            return  # this part has its head in it
        content_bytes = self._unread_bytes - waiting_bytes
        self._framing_bytes += part_bytes - 2 * content_bytes
        if self._framing_bytes > CHUNK_OVERHEAD_BYTES:
            self._discarding = True
            scope: Scope = self.scope  # type: ignore[assignment]  # it is a dict
            scope[TINY_CHUNKS] = True  # whoever reads the body says so
            self.cycle.message_event.set()

    def _drop(self, data: bytes) -> None:
        """Chunks that nobody reads are not worth parsing; but a client may send all of them before
        it looks at the answer."""
        self._unset_keepalive_if_required()  # the limiter will not wait for ever
        self._tail = (self._tail + data[-len(LAST_CHUNK) :])[-len(LAST_CHUNK) :]
        if self._tail == LAST_CHUNK and self.conn.our_state is h11.DONE:
            self.transport.close()

    def _refuse(self, error: ChatterboxError) -> None:
        """Answer where there is still a way to, and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            record = AccessRecord(id=request_id(None), method="-", status=error.status)
            headers = {"Connection": "close", "X-Request-ID": record.id, **GUARDS}
            answer = record.answer(error, headers)
            for event in (
                h11.Response(
                    status_code=error.status,
                    headers=answer.raw_headers,
                    reason=HTTPStatus(error.status).phrase,
                ),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
            record.log()
            self._limiter.on_refusal(record)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # its answer has no way out any more
            self.cycle.message_event.set()
        self.transport.close()


def _fits(headers: Sequence[tuple[bytes, bytes]], target: bytes) -> bool:
    """Whether the library that parses a handshake again will; it does not say so when it won't."""
    longest = max(len(target), *(len(name) + len(value) for name, value in headers))
    return longest + LINE_SLACK_BYTES < MAX_LINE_LENGTH and len(headers) <= MAX_NUM_HEADERS
