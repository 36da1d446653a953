"""The outermost layer: gives every request an id, one log line, and an answer to any error.

Pure ASGI, so that what runs inside still sees the client leave.
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
"""Routes that do not exist share one label: labels come from closed sets."""
OK = "ok"
_CLIENT_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_KEY = "chatterbox.record"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WS"})
PROBES = ("/health/live", "/health/ready", "/healthz")
"""What connections beyond the bound are served."""
_QUIET = frozenset({"/", "/docs", "/page/{name}", "/metrics", "/health", *PROBES})
"""Routes that pages, probes and scrapes ask for all day: their lines are for debugging."""
_STARTS = ("http.response.start", "websocket.http.response.start")
OVER_LIMIT_RETRY_S = 5.0
OVER_LIMIT = "over_limit"
"""In a scope's state: its connection is one too many (`http11.py`)."""
PEER = "peer"
"""In a scope's state: who is at the other end of the connection, whatever a proxy says."""
TINY_CHUNKS = "chatterbox.tiny_chunks"
"""In a scope: its body comes in chunks that are mostly framing."""
RESOURCE_POLICY = "Cross-Origin-Resource-Policy"
GUARDS = {RESOURCE_POLICY: "same-origin", "X-Content-Type-Options": "nosniff"}
"""On every answer: no other site's page embeds it, no browser takes it for another kind."""
MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers. The HTTP parser's own bound is for what is still incomplete: a head
that comes in one piece passes it (FAULTS F53)."""
STALL_S = 30.0
"""A reader that takes nothing for so long is gone (FAULTS F25). Who listens while it comes reads at
least at the speed of speech: by then the 3 MB that a connection may hold have moved on (PCM: 48 kB
a second), and an answer in a smaller format fits into them."""
PART_BYTES = 64 * 1024
"""Of an answer that is handed over in one piece: it would otherwise all be waited for at once, and
lie in the connection's memory meanwhile."""

ErrorShape = Callable[[ChatterboxError, str], tuple[int, Any]]
"""(error, request id) → status and JSON: how one dialect's clients expect to be refused."""


def native_shape(error: ChatterboxError, request_id: str) -> tuple[int, Any]:
    """The status of the error table, and `{"error": {message, type, code, param, request_id}}`."""
    facts = {"message": error.message, "type": error.kind, "code": error.code}
    return error.status, {"error": {**facts, "param": error.param, "request_id": request_id}}


def error_response(
    error: ChatterboxError,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    *,
    shape: ErrorShape = native_shape,
) -> Response:
    """The answer to an error; ASCII and strict JSON whatever the message holds. It says when, and
    whether at all, trying again makes sense: OpenAI's clients would otherwise try 408, 409, 429 and
    5xx again by themselves."""
    always = {"Cache-Control": "no-store", "X-Should-Retry": "false"}
    if isinstance(error, InvalidApiKey):
        always["WWW-Authenticate"] = 'Bearer realm="chatterbox"'
    if error.retry_after_s is not None:
        always["X-Should-Retry"] = "true"
        always["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        always["Retry-After-Ms"] = str(max(1, math.ceil(error.retry_after_s * 1000)))
    status, body = shape(error, request_id)
    return Response(
        json.dumps(body, ensure_ascii=True, allow_nan=False),
        status_code=status,
        headers={**always, **(headers or {})},
        media_type="application/json",
    )


@dataclass(slots=True)
class AccessRecord:
    """What becomes of one request: filled in while it is answered, read once at its end."""

    id: str
    method: str = ""
    shape: ErrorShape = native_shape
    route: str = OTHER_ROUTE
    status: int | None = None  # None: no header was sent
    outcome: str = OK  # or an error's code
    speech: bool = False  # whether this call asked for speech
    model: str | None = None  # that spoke, where there are several
    report: SpeechReport | None = None  # what came of it
    gone: SlowClient | None = None  # it does not read any more
    # When, as `time.monotonic` has it; None: not yet, or never.
    started: float = field(default_factory=time.monotonic)
    queued: float | None = None  # asked for a place
    placed: float | None = None  # got one
    sounded: float | None = None  # had its first sound

    def failed(self, error: ChatterboxError) -> None:
        """The first failure is the outcome."""
        if self.outcome == OK:
            self.outcome = error.code

    def answer(self, error: ChatterboxError, headers: Mapping[str, str] | None = None) -> Response:
        """The error, noted, as the path's clients read it."""
        self.failed(error)
        return error_response(error, self.id, headers, shape=self.shape)

    def log(self) -> None:
        """Write the one log line: no text, no audio, no key, nothing the client chose but its id.
        `request` of the log record has its fields, for other forms (`console.py`)."""
        fields = {
            "status": str(self.status or "-"),
            "outcome": self.outcome,
            "ms": f"{(time.monotonic() - self.started) * 1000:.0f}",
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
        quiet = self.route in _QUIET and self.outcome != InternalError.code
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %s",
            self.method,
            self.route,
            " ".join(f"{name}={value}" for name, value in fields.items()),
            extra={"request": {"method": self.method, "route": self.route, **fields}},
        )


OnRequestEnd = Callable[[AccessRecord], None]


def request_id(offered: str | None) -> str:
    """The client's id where it is a plain word, else one of ours. Not of the system's generator:
    asking it gives the interpreter's lock away, and the event loop gets that back behind every
    thread that computes."""
    if offered is not None and _CLIENT_ID.fullmatch(offered):
        return offered
    return f"req-{random.getrandbits(ID_BITS):0{ID_BITS // 4}x}"


def record_of(scope: Scope) -> AccessRecord:
    """The record of the request that `scope` belongs to."""
    record: AccessRecord = scope[_KEY]
    return record


async def refuse(error: ChatterboxError, scope: Scope, receive: Receive, send: Send) -> None:
    """A layer's answer to a request or a socket that it does not let through."""
    await record_of(scope).answer(error)(scope, receive, send)


class RequestLog:
    """`ended` is told of every request once, at its end. A client that takes nothing of an answer
    for STALL_S is cut off; one that reads may take as long as it needs."""

    def __init__(
        self, app: ASGIApp, on_end: OnRequestEnd, shape_for: Callable[[str], ErrorShape]
    ) -> None:
        self._app = app
        self._on_end = on_end
        self._shape_for = shape_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method", "WS")
        record = scope[_KEY] = AccessRecord(
            id=request_id(Headers(scope=scope).get("x-request-id")),
            method=method if method in _METHODS else "OTHER",
            shape=self._shape_for(scope["path"]),
        )
        # A socket has its own limit.
        noting = _noting(record, send, STALL_S if scope["type"] == "http" else None)
        try:
            _check_head(scope)
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            record.outcome = "cancelled"
            raise
        except (HeadersTooLarge, InvalidHttp, TooManyConnections) as error:
            with suppress(SlowClient):
                await record.answer(error, {"Connection": "close"})(scope, receive, noting)
        except Exception:
            if record.gone:
                return  # without a last chunk: the connection is cut
            # Once the status is out there is only one honest signal left: returning here without
            # a last chunk makes the server cut the connection.
            log.exception("unexpected fault in request %s", record.id)
            bug = InternalError("The server failed on this request; its log has the reason.")
            answer = record.answer(bug)
            if record.status is None and scope["type"] == "http":
                with suppress(SlowClient):
                    await answer(scope, receive, noting)
        finally:
            # A socket that was let in has a line for each utterance instead.
            if scope["type"] == "http" or record.status is not None:
                path = getattr(scope.get("route"), "path", None)  # never what was asked for
                record.route = path if isinstance(path, str) else OTHER_ROUTE
                record.log()
                self._on_end(record)


def _noting(record: AccessRecord, send: Send, patience_s: float | None) -> Send:
    """Notes the status, adds what every answer has, and gives up on who does not read."""

    async def noting(message: Message) -> None:
        if record.gone:
            raise record.gone
        if message["type"] in _STARTS:
            record.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = record.id
            for name, value in GUARDS.items():
                headers.setdefault(name, value)
        try:
            for part in _parts(message):
                async with asyncio.timeout(patience_s):
                    await send(part)
        except TimeoutError:
            record.gone = SlowClient("The client stopped reading.")
            record.failed(record.gone)
            raise record.gone from None

    return noting


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
        raise HeadersTooLarge(f"Headers are at most {MAX_HEAD_BYTES} bytes in all.")
    if scope["http_version"] not in ("1.0", "1.1"):
        raise InvalidHttp("HTTP/1.1 is spoken here.")
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
        # A proxy before us may have believed the other one (request smuggling, FAULTS F54).
        raise InvalidHttp("A body has either a Content-Length or a Transfer-Encoding.")


def add_error_handlers(app: FastAPI) -> None:
    """Every error of a route leaves in its path's shape. FastAPI itself checks no field here."""

    async def answered(request: Request, fault: Exception) -> Response:
        headers = None
        if isinstance(fault, HTTPException):  # Starlette's: of two kinds
            headers = fault.headers or {}
            if fault.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                fault = MethodNotAllowed(f"This route takes {headers.get('Allow')}.")
            else:
                fault = RouteNotFound("There is no such route; GET / lists them.")
        assert isinstance(fault, ChatterboxError)
        return record_of(request.scope).answer(fault, headers)

    for kind in (ChatterboxError, HTTPException):
        app.add_exception_handler(kind, answered)
