"""The outermost middleware: gives every request an id, one log line, and a response on any error.

Pure ASGI rather than Starlette's base class, so that inner layers still see the client disconnect.
"""

import asyncio
import json
import logging
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatterbox.engine.speech_stream import SpeechReport
from chatterbox.errors import (
    ChatterboxError,
    HeadersTooLarge,
    InternalError,
    InvalidApiKey,
    InvalidHttp,
    MethodNotAllowed,
    RouteNotFound,
    SlowClient,
    TooManyConnections,
)

log = logging.getLogger("chatterbox.requests")

ID_BITS = 64
OTHER_ROUTE = "other"
"""Route label of requests to paths that do not exist: metric labels come from a closed set."""
OK = "ok"
_CLIENT_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_RECORD_KEY = "chatterbox.record"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WS"})
PROBES = ("/health/live", "/health/ready", "/healthz")
"""Paths still served to connections over the limit."""
_QUIET_ROUTES = frozenset({"/", "/docs", "/page/{name}", "/metrics", "/health", *PROBES})
"""Routes polled by pages, probes and scrapers: logged at debug level."""
_STARTS = ("http.response.start", "websocket.http.response.start")
OVER_LIMIT_RETRY_S = 5.0
OVER_LIMIT = "over_limit"
"""Key in the scope's state: whether the connection is over the limit (`http11.py`)."""
PEER = "peer"
"""Key in the scope's state: the connection's own remote address, whatever a proxy's headers say."""
TINY_CHUNKS = "chatterbox.tiny_chunks"
"""Key in the scope: set once most of a chunked body is framing (`http11.py`)."""
RESOURCE_POLICY = "Cross-Origin-Resource-Policy"
SECURITY_HEADERS = {RESOURCE_POLICY: "same-origin", "X-Content-Type-Options": "nosniff"}
"""Sent with all responses: other sites' pages cannot embed them, browsers guess no other type."""
MAX_HEAD_BYTES = 32 * 1024
"""Limit for the request line and the headers together; 431 above it. The HTTP parser's own limit
applies only to incomplete heads, so a head that arrives in one piece passes it (FAULTS F53)."""
STALL_S = 30.0
"""Longest wait for a client to accept data; then the connection is cut (FAULTS F25). A client that
plays while it receives reads 48 kB of PCM a second, which frees part of a connection's buffer of up
to 3 MB in this time. Responses in other formats fit into the buffer."""
PART_BYTES = 64 * 1024
"""Response bodies are sent in parts of this size, so that STALL_S applies to each part and the
connection does not buffer the whole body."""

ErrorShape = Callable[[ChatterboxError, str], tuple[int, Any]]
"""(error, request id) → status and JSON body, as one dialect's clients expect them."""


def native_shape(error: ChatterboxError, request_id: str) -> tuple[int, Any]:
    """Return the error's status and `{"error": {message, type, code, param, request_id}}`."""
    facts = {"message": error.message, "type": error.kind, "code": error.code}
    return error.status, {"error": {**facts, "param": error.param, "request_id": request_id}}


def error_response(
    error: ChatterboxError,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    *,
    shape: ErrorShape = native_shape,
) -> Response:
    """Return the response to an error, as strict ASCII JSON.

    The headers say whether and when to retry; without them, OpenAI's clients would always retry
    408, 409, 429 and 5xx.
    """
    all_headers = {"Cache-Control": "no-store", "X-Should-Retry": "false"}
    if isinstance(error, InvalidApiKey):
        all_headers["WWW-Authenticate"] = 'Bearer realm="chatterbox"'
    if error.retry_after_s is not None:
        all_headers["X-Should-Retry"] = "true"
        all_headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        all_headers["Retry-After-Ms"] = str(max(1, math.ceil(error.retry_after_s * 1000)))
    status, body = shape(error, request_id)
    return Response(
        json.dumps(body, ensure_ascii=True, allow_nan=False),
        status_code=status,
        headers=all_headers | dict(headers or {}),
        media_type="application/json",
    )


@dataclass(slots=True)
class AccessRecord:
    """Facts about a request, or an utterance on a socket, collected while it is served, then logged
    and counted. Times are `time.monotonic`, or None until the event has happened."""

    id: str
    method: str = ""
    error_shape: ErrorShape = native_shape
    route: str = OTHER_ROUTE
    status: int | None = None  # None: no response header was sent
    outcome: str = OK  # or an error's code
    is_speech: bool = False  # whether the route synthesizes speech
    model: str | None = None  # set where several models are served
    report: SpeechReport | None = None
    write_error: SlowClient | None = None  # set once the client has stopped reading
    started_at: float = field(default_factory=time.monotonic)
    queued_at: float | None = None  # asked for a place
    placed_at: float | None = None  # got the place
    first_sound_at: float | None = None

    def set_error(self, error: ChatterboxError) -> None:
        """Record the error as the outcome, unless there was an earlier one."""
        if self.outcome == OK:
            self.outcome = error.code

    def respond(self, error: ChatterboxError, headers: Mapping[str, str] | None = None) -> Response:
        """Record the error, and return the response in the shape of the request's path."""
        self.set_error(error)
        return error_response(error, self.id, headers, shape=self.error_shape)

    def log(self) -> None:
        """Write the log line. It holds no text, audio or key; only the id may be the client's.
        Formatters find its fields in the log record's `request` (`logs.py`)."""
        fields = {
            "status": str(self.status or "-"),
            "outcome": self.outcome,
            "ms": f"{(time.monotonic() - self.started_at) * 1000:.0f}",
        }
        if (report := self.report) is not None:
            first = report.first_audio_s
            fields |= {
                "segments": str(report.segments),
                "codes": str(report.codes),
                "audio_s": f"{report.audio_s:.2f}",
                "first_ms": f"{first * 1000:.0f}" if first is not None else "-",
                "rtf": f"{report.rtf:.3f}",
            }
        if self.model is not None:
            fields["model"] = self.model
        fields["id"] = self.id
        is_quiet = self.route in _QUIET_ROUTES and self.outcome != InternalError.code
        log.log(
            logging.DEBUG if is_quiet else logging.INFO,
            "%s %s %s",
            self.method,
            self.route,
            " ".join(f"{name}={value}" for name, value in fields.items()),
            extra={"request": {"method": self.method, "route": self.route, **fields}},
        )


OnRequestEnd = Callable[[AccessRecord], None]


def request_id(offered: str | None) -> str:
    """Return the client's id if it is a plain word, else a random id.

    The random id does not come from the system's generator: that call releases the interpreter's
    lock, and the event loop would wait for all computing threads to get the lock back.
    """
    if offered is not None and _CLIENT_ID.fullmatch(offered):
        return offered
    return f"req-{random.getrandbits(ID_BITS):0{ID_BITS // 4}x}"


def record_of(scope: Scope) -> AccessRecord:
    """Return the record of the request that `scope` belongs to."""
    record: AccessRecord = scope[_RECORD_KEY]
    return record


async def refuse(error: ChatterboxError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request or a WebSocket handshake with an error, from a middleware."""
    await record_of(scope).respond(error)(scope, receive, send)


class RequestLog:
    """Middleware that keeps an AccessRecord for each request and passes it to `on_end`.

    A client that reads nothing of a response for STALL_S is cut off; the time for a whole response
    has no limit. Unexpected exceptions become InternalError.
    """

    def __init__(
        self, app: ASGIApp, on_end: OnRequestEnd, shape_for: Callable[[str], ErrorShape]
    ) -> None:
        self._app = app
        self._on_end = on_end
        self._shape_for = shape_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method", "WS")
        is_http = scope["type"] == "http"
        record = scope[_RECORD_KEY] = AccessRecord(
            id=request_id(Headers(scope=scope).get("x-request-id")),
            method=method if method in _METHODS else "OTHER",
            error_shape=self._shape_for(scope["path"]),
        )
        send = _recording_send(record, send, STALL_S if is_http else None)  # `Socket` has its own
        try:
            _check_head(scope)
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            record.outcome = "cancelled"
            raise
        except (HeadersTooLarge, InvalidHttp, TooManyConnections) as error:
            with suppress(SlowClient):
                await record.respond(error, {"Connection": "close"})(scope, receive, send)
        except Exception:
            if record.write_error:
                return  # without a last chunk, so that the server cuts the connection
            # If the status has been sent, returning without a last chunk makes the server cut the
            # connection, so that the client sees a broken transfer.
            log.exception("unexpected fault in request %s", record.id)
            bug = InternalError("The server failed on this request; its log has the reason.")
            response = record.respond(bug)
            if record.status is None and is_http:
                with suppress(SlowClient):
                    await response(scope, receive, send)
        finally:
            # An accepted WebSocket has a line for each utterance instead.
            if is_http or record.status is not None:
                path = getattr(scope.get("route"), "path", None)  # the pattern, not the URL's path
                record.route = path if isinstance(path, str) else OTHER_ROUTE
                record.log()
                self._on_end(record)


def _recording_send(record: AccessRecord, send: Send, timeout_s: float | None) -> Send:
    """Wrap `send`: record the status, add the common headers, and raise SlowClient when one part
    takes longer than `timeout_s`."""

    async def recording_send(message: Message) -> None:
        if record.write_error:
            raise record.write_error
        if message["type"] in _STARTS:
            record.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = record.id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        try:
            for part in _parts(message):
                async with asyncio.timeout(timeout_s):
                    await send(part)
        except TimeoutError:
            record.write_error = SlowClient("The client stopped reading.")
            record.set_error(record.write_error)
            raise record.write_error from None

    return recording_send


def _parts(message: Message) -> Iterator[Message]:
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= PART_BYTES:
        yield message
        return
    for start in range(0, len(body), PART_BYTES):
        more = message.get("more_body", False) or start + PART_BYTES < len(body)
        yield {**message, "body": body[start : start + PART_BYTES], "more_body": more}


def _check_head(scope: Scope) -> None:
    """Raises TooManyConnections, HeadersTooLarge and InvalidHttp."""
    if scope.get("state", {}).get(OVER_LIMIT) and scope["path"] not in PROBES:
        raise TooManyConnections(
            "There are too many connections.", retry_after_s=OVER_LIMIT_RETRY_S
        )
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    head_bytes = sum(len(name) + len(value) for name, value in headers)
    if head_bytes + len(scope.get("raw_path", b"") + scope["query_string"]) > MAX_HEAD_BYTES:
        raise HeadersTooLarge(f"The headers are larger than {MAX_HEAD_BYTES} bytes in all.")
    if scope["http_version"] not in ("1.0", "1.1"):
        raise InvalidHttp("This server speaks HTTP/1.1.")
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
        # A proxy may have used the other header (request smuggling, FAULTS F54).
        raise InvalidHttp("Send either a Content-Length or a Transfer-Encoding, not both.")


def add_error_handlers(app: FastAPI) -> None:
    """Send errors raised by routes in the error shape of the request's path."""

    async def handle(request: Request, fault: Exception) -> Response:
        headers = None
        if isinstance(fault, HTTPException):  # raised by Starlette's router: 404 or 405
            headers = fault.headers or {}
            if fault.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                fault = MethodNotAllowed(f"This route takes {headers.get('Allow')}.")
            else:
                fault = RouteNotFound("There is no such route; GET / lists the routes.")
        assert isinstance(fault, ChatterboxError)
        return record_of(request.scope).respond(fault, headers)

    for kind in (ChatterboxError, HTTPException):
        app.add_exception_handler(kind, handle)
