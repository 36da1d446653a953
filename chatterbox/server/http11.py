"""HTTP/1.1 connections: uvicorn's protocol with limits on time, size and number of connections."""

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
    MAX_HEAD_BYTES,
    OVER_LIMIT,
    OVER_LIMIT_RETRY_S,
    PEER,
    SECURITY_HEADERS,
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
"""Matches a folded header line, a Content-Length with several values, or a second one."""
LINE_SLACK_BYTES = 32
"""Allowance for the method, the version and the spaces of a request line."""

SLICE_BYTES = 16 * 1024
"""Received data is parsed in slices of this size, with checks after each."""
CHUNK_OVERHEAD_BYTES = 256 * 1024
"""How far the framing of a chunked body may exceed its content. Above it, 400: a chunk takes 7 µs
to parse (h11 0.16), whether it holds one byte or thousands (FAULTS F55)."""


class Wait(Enum):
    """Events that a connection waits for. The values name their time limits in `Timeouts`."""

    HEAD = "head_s"  # a request, or the rest of its head
    BODY = "body_s"  # the rest of a body after its request has been answered
    FLUSH = "flush_s"  # the client to read the last bytes of a closing connection


WaitState = tuple[Wait | None, object]
"""The awaited event (None: no event with a time limit), and a token for the current request."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits of waits. Sweeps add up to 2 s: a head may take 10 s (FAULTS F51)."""

    head_s: float = 8.0
    body_s: float = 28.0
    flush_s: float = 28.0
    sweep_s: float = 1.0  # between two sweeps


class Connection(Protocol):
    """A connection as the limiter sees it."""

    def wait_state(self) -> WaitState:
        """Return the current state. Equal states at two sweeps mean one continuous wait."""

    def time_out(self, wait: Wait) -> None:
        """Close the connection because `wait` took too long."""


class ConnectionLimiter:
    """Limits the number of connections and how long each may wait.

    A sweep each second checks all connections, instead of a timer per connection. One per server;
    used only from the event loop. `on_refusal` is called with the record of each request that is
    refused while its head is read.
    """

    def __init__(
        self, limit: int, on_refusal: OnRequestEnd, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.on_refusal = on_refusal
        self.timeouts = Timeouts()
        self._limit = limit
        self._now = now
        self._states: dict[Connection, tuple[WaitState, float]] = {}  # state, time it began
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._states)

    @property
    def is_over_limit(self) -> bool:
        """Whether there are more connections than allowed. New ones are then served only PROBES."""
        return len(self) > self._limit

    @property
    def idle_connections(self) -> list[Connection]:
        """Connections without a request."""
        return [each for each in self._states if each.wait_state()[0] is Wait.HEAD]

    def add(self, connection: Connection) -> None:
        """Register a connection. Above the limit, close the connection idle for longest."""
        self._states[connection] = (connection.wait_state(), self._now())
        if self._timer is None:
            self._schedule_sweep()
        idle = self.idle_connections if self.is_over_limit else []
        if len(idle) > 1:  # otherwise only the new connection is idle
            oldest = min(idle, key=lambda each: self._states[each][1])
            oldest.time_out(Wait.HEAD)
            self.remove(oldest)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed or has become a WebSocket."""
        self._states.pop(connection, None)

    def sweep(self) -> None:
        """Close connections that exceed their time limit."""
        now = self._now()
        for connection, (state, since) in list(self._states.items()):
            current = connection.wait_state()
            if current != state:
                self._states[connection] = (current, now)
            elif (wait := current[0]) and now - since >= getattr(self.timeouts, wait.value):
                connection.time_out(wait)

    def _schedule_sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.timeouts.sweep_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.sweep()
        if self._states:
            self._schedule_sweep()


class HttpConfig(uvicorn.Config):
    """uvicorn's configuration, with the limiter for its connections."""

    def __init__(self, app: ASGIApp, limiter: ConnectionLimiter, **options: Any) -> None:
        super().__init__(app, http=HttpProtocol, **options)
        self.limiter = limiter


class _StrictConnection(h11.Connection):
    """h11's parser, which also refuses ambiguous request heads that RFC 9112 allows: lines ended by
    LF alone, folded lines, repeated lengths. A proxy may parse them differently, and see a second
    request after them (FAULTS F54, F104)."""

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
    """One HTTP connection, watched by the limiter, with a limit on the overhead of chunks."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        assert isinstance(config, HttpConfig)
        head_bytes = config.h11_max_incomplete_event_size or MAX_HEAD_BYTES
        self.conn = _StrictConnection(h11.SERVER, head_bytes)
        self._limiter = config.limiter
        self._is_discarding = False  # further data is not parsed
        self._discarded_tail = b""
        self._framing_bytes = 0  # framing minus content of the counted request's body
        self._counted_cycle: object = None

    def wait_state(self) -> WaitState:
        wait = None
        if self.transport.is_closing():
            wait = Wait.FLUSH
        elif self.conn.their_state is h11.IDLE:
            wait = Wait.HEAD
        elif self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            wait = Wait.BODY
        return wait, self.cycle

    def time_out(self, wait: Wait) -> None:
        """Close the connection, with a 408 if part of a head has arrived."""
        if wait is Wait.FLUSH:
            self.transport.abort()
        elif wait is Wait.HEAD and self.conn.trailing_data[0]:
            self._refuse(HeadTimeout("The request's head did not arrive in time."))
        else:
            self.transport.close()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._limiter.add(self)
        facts = {PEER: self.client, OVER_LIMIT: self._limiter.is_over_limit}
        self.app_state = {**self.app_state, **facts}

    def connection_lost(self, exc: Exception | None) -> None:
        self._limiter.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if self._is_discarding:
                self._discard(data[start:])
                return
            if self.transport.is_closing():
                return
            part = data[start : start + SLICE_BYTES]
            unread_bytes = self._unread_bytes
            super().data_received(part)
            self._check_framing(len(part), unread_bytes)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._is_discarding = True
        if self._limiter.is_over_limit:
            full = TooManyConnections("Too many connections.", retry_after_s=OVER_LIMIT_RETRY_S)
            self._refuse(full)
        elif not _fits_websockets(self.headers, event.target):
            self._refuse(HeadersTooLarge("The handshake's head is too large."))
        else:
            self._limiter.remove(self)
            super().handle_websocket_upgrade(event)

    def send_400_response(self, _msg: str) -> None:
        """Called by uvicorn while it handles h11's exception."""
        fault = sys.exc_info()[1]
        if isinstance(fault, h11.RemoteProtocolError) and fault.error_status_hint == 431:
            self._refuse(HeadersTooLarge("The request's head is too large."))
        else:
            self._refuse(InvalidHttp("This is not an HTTP/1.1 request."))

    @property
    def _unread_bytes(self) -> int:
        return len(self.cycle.body) if self.cycle is not None else 0

    def _check_framing(self, part_bytes: int, unread_before: int) -> None:
        """Stop reading a chunked body whose framing exceeds its content by CHUNK_OVERHEAD_BYTES, or
        whose request has been answered."""
        if self.cycle is None or self.conn.their_state is not h11.SEND_BODY:
            return
        if b"transfer-encoding" not in {name for name, _ in self.headers}:
            return
        if self.conn.our_state is h11.DONE:
            self._is_discarding = True
            return
        if self._counted_cycle is not self.cycle:
            self._counted_cycle, self._framing_bytes = self.cycle, 0
            return  # this part also holds the head
        content_bytes = self._unread_bytes - unread_before
        self._framing_bytes += part_bytes - 2 * content_bytes
        if self._framing_bytes > CHUNK_OVERHEAD_BYTES:
            self._is_discarding = True
            scope: Scope = self.scope  # type: ignore[assignment]  # it is a dict
            scope[TINY_CHUNKS] = True  # `body.py` sends the error
            self.cycle.message_event.set()

    def _discard(self, data: bytes) -> None:
        """Drop the rest of a chunked body unparsed. Close once the response is complete and the
        last chunk has arrived: a client may send its whole body before it reads."""
        self._unset_keepalive_if_required()  # the limiter has its own timeout
        self._discarded_tail = (self._discarded_tail + data[-len(LAST_CHUNK) :])[-len(LAST_CHUNK) :]
        if self._discarded_tail == LAST_CHUNK and self.conn.our_state is h11.DONE:
            self.transport.close()

    def _refuse(self, error: ChatterboxError) -> None:
        """Send an error response unless one has begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            record = AccessRecord(id=request_id(None), method="-", status=error.status)
            headers = {"Connection": "close", "X-Request-ID": record.id, **SECURITY_HEADERS}
            response = record.respond(error, headers)
            for event in (
                h11.Response(
                    status_code=error.status,
                    headers=response.raw_headers,
                    reason=HTTPStatus(error.status).phrase,
                ),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
            record.log()
            self._limiter.on_refusal(record)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # its response can no longer be sent
            self.cycle.message_event.set()
        self.transport.close()


def _fits_websockets(headers: Sequence[tuple[bytes, bytes]], target: bytes) -> bool:
    """Return whether the websockets library, which parses the handshake again, will accept its
    size. The library closes larger handshakes without a response."""
    longest = max(len(target), *(len(name) + len(value) for name, value in headers))
    return longest + LINE_SLACK_BYTES < MAX_LINE_LENGTH and len(headers) <= MAX_NUM_HEADERS
