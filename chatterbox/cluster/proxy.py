"""Middleware of Ray's proxies: turns Ray's own errors into the server's error format.

Ray refuses requests in plain text, and sends no answer when a replica has ended.
"""

import contextlib

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.frames import CloseCode

from chatterbox.dialects.registry import DIALECTS
from chatterbox.errors import ChatterboxError, DeadlineExceeded, EngineDead, NotReady, Overloaded
from chatterbox.server.dialect import error_shapes
from chatterbox.server.request_log import SECURITY_HEADERS, error_response

RAY_PATHS = "/-/"
"""Prefix of Ray's paths for load balancers, whose answers are not changed."""
RETRY_S = 5.0
"""`Retry-After` of errors for which Ray sends none."""
REPLICA_HEADER = "x-content-type-options"
"""A header that every answer of a replica has, but no answer of Ray."""
REQUEST_ID = b"x-request-id"


def middleware() -> list[Middleware]:
    """Return the middleware; each proxy calls this at its start (`RAY_ENVIRONMENT`)."""
    return [Middleware(RayAnswers)]


class RayAnswers:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._shape_of = error_shapes(DIALECTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(RAY_PATHS):
            await self._app(scope, receive, send)
            return
        refusal: ChatterboxError | None = None
        last = ""

        async def forward(message: Message) -> None:
            nonlocal refusal, last
            if not last and refusal is None:
                refusal = _ray_error(message)
            if refusal is None:
                last = message["type"]
                await send(_without_duplicate_id(message))

        await self._app(scope, receive, forward)
        if not last:
            lost = EngineDead(
                "The replica of this request has ended; try again.", retry_after_s=RETRY_S
            )
            sent_id = Headers(scope=scope).get("x-request-id", "-")
            shape = self._shape_of(scope["path"])
            answer = error_response(refusal or lost, sent_id, SECURITY_HEADERS, shape=shape)
            await answer(scope, receive, send)
        elif scope["type"] == "websocket" and last in ("websocket.accept", "websocket.send"):
            with contextlib.suppress(RuntimeError, OSError):  # the client may have left
                code = CloseCode.SERVICE_RESTART
                await send({"type": "websocket.close", "code": code, "reason": EngineDead.code})


def _ray_error(message: Message) -> ChatterboxError | None:
    """Translate the first message of an answer. Returns None if a replica sent the message."""
    if message["type"] != "http.response.start":
        return None
    headers = Headers(raw=message["headers"])
    if message["status"] < 400 or REPLICA_HEADER in headers:
        return None
    retry_s = float(headers.get("retry-after", RETRY_S))
    match message["status"]:
        case 429:
            return Overloaded("All replicas are busy; try again shortly.", retry_after_s=retry_s)
        case 408:
            return DeadlineExceeded("The request did not finish in time.", retry_after_s=retry_s)
    return NotReady("No replica is ready; try again shortly.", retry_after_s=retry_s)


def _without_duplicate_id(message: Message) -> Message:
    """Drop the second `X-Request-Id`, which Ray adds to answers that have one already."""
    if message["type"] != "http.response.start":
        return message
    ids = [pair for pair in message["headers"] if pair[0].lower() == REQUEST_ID]
    others = [pair for pair in message["headers"] if pair[0].lower() != REQUEST_ID]
    return {**message, "headers": [*others, *ids[:1]]}
