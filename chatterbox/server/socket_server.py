"""WebSockets, with limits on their number, message size, idle time and slow clients.

A dialect passes its protocol to `SocketServer.serve`, which runs it on a `Socket`. The limits and
close codes are documented in docs/reference/dialects.md.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from websockets.frames import CloseCode

from chatterbox.config import ServerConfig
from chatterbox.errors import (
    Cancelled,
    ChatterboxError,
    IdleTimeout,
    InternalError,
    InvalidBody,
    KeyLimit,
    SlowClient,
    TooManyConnections,
    UnsupportedMediaType,
)
from chatterbox.server.admission_control import AdmissionControl
from chatterbox.server.auth import SUBPROTOCOL
from chatterbox.server.model_pool import ModelPool, model_name
from chatterbox.server.request_log import STALL_S, error_response, record_of

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 64 * 1024
"""Limit for one message from a client, which holds text in all protocols. uvicorn enforces it
(`ws_max_size`) and closes with 1009."""
_CLOSE_CODES = {
    "unsupported_media_type": CloseCode.UNSUPPORTED_DATA,
    "invalid_body": CloseCode.INVALID_DATA,
    "body_too_large": CloseCode.MESSAGE_TOO_BIG,
    "overloaded": CloseCode.TRY_AGAIN_LATER,
    "key_limit": CloseCode.TRY_AGAIN_LATER,
    "out_of_memory": CloseCode.TRY_AGAIN_LATER,
    "not_ready": CloseCode.TRY_AGAIN_LATER,
    "draining": CloseCode.TRY_AGAIN_LATER,
}


def close_code(error: ChatterboxError) -> int:
    """Return the close code for an error; docs/reference/dialects.md has the table."""
    is_ours = error.kind == "server_error"
    default = CloseCode.INTERNAL_ERROR if is_ours else CloseCode.POLICY_VIOLATION
    return int(_CLOSE_CODES.get(error.code, default))


class Socket:
    """One accepted WebSocket. It is closed after `idle_s` without a message either way, unless
    `busy` returns true."""

    def __init__(self, websocket: WebSocket, idle_s: float) -> None:
        self.query = websocket.query_params
        self.path = websocket.path_params
        self.idle_s = idle_s
        self.busy: Callable[[], bool] = lambda: False
        self._websocket = websocket
        self._idle_since = 0.0  # time of the last message, by the event loop's clock

    async def receive(self) -> str | bytes:
        """Return the next message. Raises IdleTimeout, and Cancelled if the client has left."""
        loop = asyncio.get_running_loop()
        self._idle_since = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(self._idle_since + self.idle_s):
                    message = await self._websocket.receive()
            except TimeoutError:
                if self.busy():
                    self._idle_since = loop.time()
                if loop.time() < self._idle_since + self.idle_s:
                    continue
                raise IdleTimeout(f"No message arrived for {self.idle_s:g} s.") from None
            if message["type"] == "websocket.disconnect":
                raise Cancelled("The client left.")
            text: str | None = message.get("text")
            return message["bytes"] if text is None else text

    async def receive_json(self) -> dict[str, Any]:
        """Return the next message as a JSON object. Raises as `receive` and `json_object` do."""
        return json_object(await self.receive())

    async def send_json(self, body: dict[str, Any]) -> None:
        await self.send(json.dumps(body, allow_nan=False))

    async def send(self, data: str | bytes) -> None:
        """Send one frame. Raises SlowClient if the client reads nothing for STALL_S, and Cancelled
        if the client has left."""
        websocket = self._websocket
        try:
            async with asyncio.timeout(STALL_S):
                if isinstance(data, str):
                    await websocket.send_text(data)
                else:
                    await websocket.send_bytes(data)
            self._idle_since = asyncio.get_running_loop().time()
        except (WebSocketDisconnect, RuntimeError):
            raise Cancelled("The client left.") from None
        except TimeoutError:
            raise SlowClient("The client stopped reading.") from None

    async def close(self, code: int, reason: str = "") -> None:
        """Close the socket, unless the client has closed it."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(STALL_S):
                await self._websocket.close(code, reason)


Protocol = Callable[[Socket], Coroutine[Any, Any, None]]
SendError = Callable[[Socket, ChatterboxError], Awaitable[None]]


class SocketServer:
    """Accepts WebSockets and runs their protocols. One per server."""

    def __init__(
        self, models: ModelPool, config: ServerConfig, admission: AdmissionControl
    ) -> None:
        self._models = models
        self._config = config
        self._admission = admission
        self._open = 0

    async def serve(self, websocket: WebSocket, protocol: Protocol, send_error: SendError) -> None:
        """Run `protocol` on a socket. When it returns, the socket is closed with 1000. When it
        raises, `send_error` sends the error, and the socket is closed with `close_code`."""
        try:
            async with self._reserve():
                await websocket.accept(_subprotocol(websocket.scope["subprotocols"]))
                socket = Socket(websocket, self._config.websocket_idle_timeout_s)
                await self._run(socket, protocol, send_error)
        except (TooManyConnections, KeyLimit) as full:  # raised before the socket was accepted
            record = record_of(websocket.scope)
            record.set_error(full)
            await websocket.send_denial_response(error_response(full, record.id))

    @contextlib.asynccontextmanager
    async def _reserve(self) -> AsyncIterator[None]:
        """Count one more socket. Raises TooManyConnections and KeyLimit."""
        if self._open >= self._config.max_websockets:
            raise TooManyConnections("There are too many open sockets.", retry_after_s=5)
        async with self._admission.quotas.reserve(sockets=1):
            self._open += 1
            try:
                yield
            finally:
                self._open -= 1

    async def _run(self, socket: Socket, protocol: Protocol, send_error: SendError) -> None:
        try:
            self._admission.lifecycle.check_open()
            with self._models.use(model_name(socket.query)):
                async with self._models.ensure_engine():
                    pass  # protocols may look up voices from here on
                await protocol(socket)
        except Cancelled:
            await socket.close(CloseCode.GOING_AWAY)  # the client has left, or stopped reading
        except ChatterboxError as error:
            await self._refuse(socket, error, send_error)
        except Exception:
            log.exception("unexpected fault in a socket")
            bug = InternalError("The server failed on this socket; its log has the reason.")
            await self._refuse(socket, bug, send_error)
        else:
            await socket.close(CloseCode.NORMAL_CLOSURE)

    async def _refuse(self, socket: Socket, error: ChatterboxError, send_error: SendError) -> None:
        with contextlib.suppress(Cancelled):
            await send_error(socket, error)
        await socket.close(close_code(error), error.code)


def _subprotocol(offered: Sequence[str]) -> str | None:
    """Return the first offered subprotocol that is not a key, or None. The server does not use it,
    but a browser closes the socket if the server accepts none of its offers."""
    key = SUBPROTOCOL.decode("ascii")
    return next((word for word in offered if not word.startswith(key)), None)


def json_object(message: str | bytes) -> dict[str, Any]:
    """Parse a text frame as a JSON object. Raises UnsupportedMediaType and InvalidBody."""
    if isinstance(message, bytes):
        raise UnsupportedMediaType("Send JSON in text frames here.")
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        raise InvalidBody("The message is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidBody("The message must be a JSON object.")
    return value
