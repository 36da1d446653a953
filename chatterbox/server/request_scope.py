"""What surrounds every request? An id, one log line at its end, an answer to what nobody expected.

Pure ASGI, so that a client's leaving stays visible to what runs inside. Knows no route.
"""

import asyncio
import logging
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatterbox.errors import InternalError
from chatterbox.server.errors import error_response
from chatterbox.server.record import OTHER_ROUTE, RequestRecord, attach, request_id

log = logging.getLogger("chatterbox.requests")

Ended = Callable[[RequestRecord], None]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestScope:
    """The outermost layer. `ended` is told of every request once, at its end."""

    def __init__(self, app: ASGIApp, ended: Ended) -> None:
        self._app = app
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        record = RequestRecord(
            id=request_id(Headers(scope=scope).get("x-request-id")),
            method=method if method in _METHODS else "OTHER",
        )
        attach(scope, record)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = record.id
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            record.outcome = "cancelled"
            raise
        except Exception:
            # Once the status is out there is only one honest signal left: returning here without
            # a last chunk makes the server cut the connection.
            log.exception("unexpected fault in request %s", record.id)
            error = InternalError("The server failed on this request; its log has the reason.")
            record.failed(error)
            if record.status is None:
                await error_response(error, record.id)(scope, receive, noting)
        finally:
            record.route = _route(scope)
            log.info("%s", record.line())
            self._ended(record)


def _route(scope: Scope) -> str:
    """The route's pattern, never the path that was asked for."""
    route = scope.get("route")
    path = getattr(route, "path", None)
    return path if isinstance(path, str) else OTHER_ROUTE
