"""uvicorn's WebSocket protocol, with limits on the data that a client makes the server process.

uvicorn answers every ping at once, even if the client does not read, and parses all received data
in one go. Here data is parsed in slices; parsing pauses while a message waits for the application
or the transport's buffer is above its high-water mark. Control frames and message fragments are
rate-limited; a client that exceeds the rate is disconnected with 1008.
"""

from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response

from chatterbox.server.http11 import ConnectionLimiter, Wait, WaitState
from chatterbox.server.request_log import SECURITY_HEADERS

SLICE_BYTES = 4 * 1024
"""Data parsed between two checks: at most 682 frames, about 5 ms."""
FRAMES_PER_S = 100.0
BURST_FRAMES = 1000.0
"""Rate limit for message fragments, and for frames after the server's own close."""
CONTROL_COST = 10.0
"""Cost of a ping or pong in frames, which allows 10 a second. Clients send about 1 in 20 s."""


class TokenBucket:
    """A rate limiter: `per_s` tokens are added each second, up to `burst`."""

    def __init__(self, per_s: float, burst: float, now: Callable[[], float]) -> None:
        self._per_s, self._burst, self._now = per_s, burst, now
        self._left, self._at = burst, now()

    def take(self, cost: float) -> bool:
        """Take `cost` tokens. Returns whether there were enough."""
        now = self._now()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - cost
        self._at = now
        return self._left >= 0


class WebSocket(WebSocketsSansIOProtocol):
    """One WebSocket connection, watched by the limiter during its handshake and its close."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        limiter: ConnectionLimiter = config.limiter  # type: ignore[attr-defined]  # HttpConfig's
        self._limiter = limiter
        self._unparsed = bytearray()
        self._bucket = TokenBucket(FRAMES_PER_S, BURST_FRAMES, self.loop.time)

    def wait_state(self) -> WaitState:
        """See `Connection`. An open socket has no limit here: `Socket` has one for idle time."""
        if self.transport.is_closing():
            return Wait.FLUSH, None
        return (None if self.handshake_initiated else Wait.HEAD), None

    def time_out(self, _wait: Wait) -> None:
        self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._limiter.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._limiter.remove(self)
        self._unparsed.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unparsed += data
        self._parse()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pause_or_resume_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._parse()

    async def receive(self) -> Any:
        message = await super().receive()
        self._parse_soon()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        self._parse_soon()  # reading continues after a close

    def handle_connect(self, event: Request) -> None:
        """Let uvicorn answer the handshake, with SECURITY_HEADERS in its error responses."""
        send = self.conn.send_response

        def send_guarded(response: Response) -> None:
            for name, value in SECURITY_HEADERS.items():
                if name not in response.headers:
                    response.headers[name] = value
            send(response)

        self.conn.send_response = send_guarded  # type: ignore[method-assign]
        super().handle_connect(event)

    def handle_ping(self) -> None:
        if self._allow(CONTROL_COST):
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._allow(CONTROL_COST):
            super().handle_pong(event)

    def handle_text(self, event: Frame) -> None:
        if self._allow_message(event):
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        if self._allow_message(event):
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        if self._allow(1):
            super().handle_cont(event)

    def _allow_message(self, first: Frame) -> bool:
        """Unfragmented messages are free: parsing waits for the application to read them."""
        return (first.fin and not self.close_sent) or self._allow(1)

    def _allow(self, cost: float) -> bool:
        if self.transport.is_closing():
            return False
        if not self._bucket.take(cost):
            self.conn.fail(CloseCode.POLICY_VIOLATION, "too many frames")
            if self.conn.close_sent is None:  # not accepted yet
                self.transport.abort()
            else:
                self.handle_parser_exception()
            return False
        return True

    def _parse(self) -> None:
        while self._unparsed and self._can_read:
            part = bytes(self._unparsed[:SLICE_BYTES])
            del self._unparsed[:SLICE_BYTES]
            super().data_received(part)
        self._pause_or_resume_reading()

    def _parse_soon(self) -> None:
        """Schedule `_parse`. Direct calls from an application that reads one message after another
        would block the event loop."""
        if self._unparsed or not self.writable.is_set():
            self.loop.call_soon(self._parse)

    @property
    def _can_read(self) -> bool:
        return not self.read_paused and self.writable.is_set() and not self.transport.is_closing()

    def _pause_or_resume_reading(self) -> None:
        if self.transport.is_closing():
            self._unparsed.clear()
        elif self._can_read and not self._unparsed:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()
