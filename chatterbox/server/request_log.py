"""The outermost layer: gives every request an id, one log line, and an answer to any exception.

Pure ASGI, so that what runs inside still sees the client leave.
"""

import asyncio
import logging
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatterbox.errors import (
    ChatterboxError,
    HeadersTooLarge,
    InternalError,
    InvalidHttp,
    TooManyConnections,
)
from chatterbox.server.access_record import (
    OTHER_ROUTE,
    AccessRecord,
    attach,
    record_of,
    request_id,
)
from chatterbox.server.errors import ShapeOf, error_response

log = logging.getLogger("chatterbox.requests")

Ended = Callable[[AccessRecord], None]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WS"})
OVER_LIMIT_RETRY_S = 5.0
OVER_LIMIT = "chatterbox.over_limit"
"""In a scope: its connection is one too many (`http11.py`)."""
TINY_CHUNKS = "chatterbox.tiny_chunks"
"""In a scope: its body comes in chunks that are mostly framing."""
_STARTS = ("http.response.start", "websocket.http.response.start")
RESOURCE_POLICY = "Cross-Origin-Resource-Policy"
GUARDS = {RESOURCE_POLICY: "same-origin", "X-Content-Type-Options": "nosniff"}
"""On every answer: no other site's page embeds it, no browser takes it for another kind."""

MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers. The HTTP parser's own bound is for what is still incomplete: a head
that comes in one piece passes it (FAULTS F53)."""


class RequestLog:
    """The outermost layer. `ended` is told of every request once, at its end."""

    def __init__(self, app: ASGIApp, ended: Ended, shape_of: ShapeOf) -> None:
        self._app = app
        self._ended = ended
        self._shape_of = shape_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "WS")
        record = AccessRecord(
            id=request_id(Headers(scope=scope).get("x-request-id")),
            method=method if method in _METHODS else "OTHER",
        )
        attach(scope, record)
        shape = self._shape_of(scope["path"])

        async def noting(message: Message) -> None:
            if message["type"] in _STARTS:
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = record.id
                for name, value in GUARDS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            _check_head(scope)
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            record.outcome = "cancelled"
            raise
        except (HeadersTooLarge, InvalidHttp, TooManyConnections) as error:
            await refuse(error, self._shape_of, scope, receive, noting, close=True)
        except Exception:
            # Once the status is out there is only one honest signal left: returning here without
            # a last chunk makes the server cut the connection.
            log.exception("unexpected fault in request %s", record.id)
            bug = InternalError("The server failed on this request; its log has the reason.")
            record.failed(bug)
            if record.status is None and scope["type"] == "http":
                await error_response(bug, record.id, shape=shape)(scope, receive, noting)
        finally:
            # A socket that was let in has a line for each utterance instead.
            if scope["type"] == "http" or record.status is not None:
                record.route = _route(scope)
                log.info("%s", record.line())
                self._ended(record)


async def refuse(
    error: ChatterboxError,
    shape_of: ShapeOf,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    close: bool = False,
) -> None:
    """A layer's answer to a request or a socket that it does not let through."""
    record = record_of(scope)
    record.failed(error)
    headers = {"Connection": "close"} if close else None
    answer = error_response(error, record.id, headers, shape=shape_of(scope["path"]))
    await answer(scope, receive, send)


def _check_head(scope: Scope) -> None:
    """Raises TooManyConnections, HeadersTooLarge and InvalidHttp."""
    if scope.get(OVER_LIMIT):
        raise TooManyConnections(
            "There are too many connections.", retry_after_s=OVER_LIMIT_RETRY_S
        )
    if _head_bytes(scope) > MAX_HEAD_BYTES:
        raise HeadersTooLarge(f"Headers are at most {MAX_HEAD_BYTES} bytes in all.")
    if scope["http_version"] not in ("1.0", "1.1"):
        raise InvalidHttp("HTTP/1.1 is spoken here.")
    names = {name for name, _ in scope["headers"]}
    if b"content-length" in names and b"transfer-encoding" in names:
        # A proxy before us may have believed the other one (request smuggling, FAULTS F54).
        raise InvalidHttp("A body has either a Content-Length or a Transfer-Encoding.")


def _head_bytes(scope: Scope) -> int:
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope.get("raw_path", b"")) + len(scope["query_string"])


def _route(scope: Scope) -> str:
    """The route's pattern, never the path that was asked for."""
    route = scope.get("route")
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else OTHER_ROUTE
