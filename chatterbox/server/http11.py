"""HTTP/1.1 on uvicorn's parser, with bounds on time, bytes and connections before any request."""

import logging
import re
import sys
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from chatterbox.errors import (
    ChatterboxError,
    HeadersTooLarge,
    HeadTimeout,
    InvalidHttp,
    TooManyConnections,
)
from chatterbox.server.auth import PEER, PROBES
from chatterbox.server.connection_limiter import ConnectionLimiter, Waits
from chatterbox.server.request_log import (
    GUARDS,
    MAX_HEAD_BYTES,
    OVER_LIMIT,
    OVER_LIMIT_RETRY_S,
    TINY_CHUNKS,
    AccessRecord,
    request_id,
)
from chatterbox.server.websocket_protocol import WebSocket

LAST_CHUNK = b"0\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEAD_END = re.compile(rb"\n\r?\n")
_AMBIGUOUS = re.compile(
    rb"\n[ \t]|\ncontent-length[ \t]*:(?:[^\n]*,|(?:[^\n]*\n)+content-length[ \t]*:)", re.IGNORECASE
)
"""A folded line, a list of lengths, a second length."""
LINE_SLACK_BYTES = 32
"""Method, version and blanks of a line."""
log = logging.getLogger("chatterbox.requests")

SLICE_BYTES = 16 * 1024
"""So much is parsed at a time: bounds what is looked at between two checks."""
CHUNK_OVERHEAD_BYTES = 256 * 1024
"""A chunked body may have so much more framing than content: a chunk costs 7 µs to parse (measured
with h11 0.16), whether it holds one byte or thousands (FAULTS F55)."""


class HttpConfig(uvicorn.Config):
    """uvicorn's, and the limiter."""

    def __init__(self, app: ASGIApp, limiter: ConnectionLimiter, **more: Any) -> None:
        super().__init__(app, http=HttpProtocol, ws=WebSocket, **more)
        self.limiter = limiter

    def load(self) -> None:
        """As uvicorn's, with the connection's own address kept beside what a proxy says."""
        super().load()
        self.loaded_app = _with_peer(self.loaded_app)


class _Connection(h11.Connection):
    """h11 takes lines of a head that end in LF alone or go on in the next one, and a length that is
    given twice, as RFC 9112 lets it; what stands before us may read them in another way, and see
    another request behind them (FAULTS F54, F104)."""

    def next_event(self) -> Any:
        """As h11's; a bare LF is no HTTP."""
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
        """See `connection_limiter.py`."""
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
        if self._limiter.over_limit:
            self.app = _only_probes(self.app)

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
        if too_large:
            self._refuse(HeadersTooLarge("The request's head is too large."))
        else:
            self._refuse(InvalidHttp("This is not a request of HTTP/1.1."))

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
            self._limiter.ended(record)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # its answer has no way out any more
            self.cycle.message_event.set()
        self.transport.close()


def _fits(headers: Sequence[tuple[bytes, bytes]], target: bytes) -> bool:
    """Whether the library that parses a handshake again will; it does not say so when it won't."""
    longest = max(len(target), *(len(name) + len(value) for name, value in headers))
    return longest + LINE_SLACK_BYTES < MAX_LINE_LENGTH and len(headers) <= MAX_NUM_HEADERS


def _with_peer(app: ASGIApp) -> ASGIApp:
    """Runs before what reads a proxy's headers."""

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PEER] = scope.get("client")
        await app(scope, receive, send)

    return noting


def _only_probes(app: ASGIApp) -> ASGIApp:
    """What connections beyond the bound are served."""

    async def over_limit(scope: Scope, receive: Receive, send: Send) -> None:
        scope[OVER_LIMIT] = scope["path"] not in PROBES
        await app(scope, receive, send)

    return over_limit
