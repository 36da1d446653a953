"""In Ray's proxies: what Ray itself answers gets the shape of our own answers.

Ray refuses in plain text, and says nothing at all where a replica has ended.
"""

import contextlib

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.frames import CloseCode

from chatterbox.dialects.registry import DIALECTS
from chatterbox.errors import ChatterboxError, DeadlineExceeded, EngineDead, NotReady, Overloaded
from chatterbox.server.dialect import error_shapes
from chatterbox.server.request_log import GUARDS, error_response

RAYS_OWN = "/-/"
"""Paths of Ray's, for load balancers; they stay as they are."""
RETRY_S = 5.0
"""Where Ray does not say when."""
OURS = "x-content-type-options"
"""On every answer of a replica's, and on none of Ray's."""
REQUEST_ID = b"x-request-id"


def middleware() -> list[Middleware]:
    """Called by each proxy as it starts (RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH)."""
    return [Middleware(RayAnswers)]


class RayAnswers:
    """The layer. One for each proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._shape_of = error_shapes(DIALECTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(RAYS_OWN):
            await self._app(scope, receive, send)
            return
        refusal: ChatterboxError | None = None
        last = ""

        async def watched(message: Message) -> None:
            nonlocal refusal, last
            if not last and refusal is None:
                refusal = refusal_of(message)
            if refusal is None:
                last = message["type"]
                await send(with_one_id(message))

        await self._app(scope, receive, watched)
        if not last:
            lost = EngineDead("The replica that had this request ended.", retry_after_s=RETRY_S)
            sent_id = Headers(scope=scope).get("x-request-id", "-")
            shape = self._shape_of(scope["path"])
            answer = error_response(refusal or lost, sent_id, GUARDS, shape=shape)
            await answer(scope, receive, send)
        elif scope["type"] == "websocket" and last in ("websocket.accept", "websocket.send"):
            with contextlib.suppress(RuntimeError, OSError):  # the client may have left
                code = CloseCode.SERVICE_RESTART
                await send({"type": "websocket.close", "code": code, "reason": EngineDead.code})


def refusal_of(message: Message) -> ChatterboxError | None:
    """What Ray means by the first message of an answer; None: it is a replica's."""
    if message["type"] != "http.response.start":
        return None
    headers = Headers(raw=message["headers"])
    if message["status"] < 400 or OURS in headers:
        return None
    retry_s = float(headers.get("retry-after", RETRY_S))
    match message["status"]:
        case 429:
            return Overloaded("All replicas are full; try again shortly.", retry_after_s=retry_s)
        case 408:
            return DeadlineExceeded("The request was not done in time.", retry_after_s=retry_s)
    return NotReady("No replica is ready.", retry_after_s=retry_s)


def with_one_id(message: Message) -> Message:
    """Ray adds the request's id to answers that have it already."""
    if message["type"] != "http.response.start":
        return message
    ids = [pair for pair in message["headers"] if pair[0].lower() == REQUEST_ID]
    others = [pair for pair in message["headers"] if pair[0].lower() != REQUEST_ID]
    return {**message, "headers": [*others, *ids[:1]]}
