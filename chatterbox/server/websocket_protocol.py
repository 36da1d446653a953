"""uvicorn's WebSocket protocol, with bounds on what a client makes the server read and hold.

uvicorn answers each ping at once, whether or not the client reads, and parses all that came in one
go. Here bytes are parsed a slice at a time, and none while a message waits for the application or
answers wait for the client (the transport's buffer is above its high-water mark). Frames that carry
nothing for the application draw on an allowance; a client that exceeds it is closed with 1008.
"""

from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response

from chatterbox.server.http11 import ConnectionLimiter, Waits
from chatterbox.server.request_log import GUARDS

SLICE_BYTES = 4 * 1024
"""Parsed between two looks at whether to go on: at most 682 frames, some 5 ms."""
FRAMES_PER_S = 100.0
BURST_FRAMES = 1000.0
"""Fragments of messages, and frames after the server's own close."""
CONTROL_COST = 10.0
"""A ping or pong counts as so many: 10 a second, 100 at once. Clients send one in some 20 s."""


class Allowance:
    """A token bucket."""

    def __init__(self, per_s: float, burst: float, now: Callable[[], float]) -> None:
        self._per_s, self._burst, self._now = per_s, burst, now
        self._left, self._at = burst, now()

    def take(self, cost: float) -> bool:
        """Whether there was enough; what is taken comes back with time."""
        now = self._now()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - cost
        self._at = now
        return self._left >= 0


class WebSocket(WebSocketsSansIOProtocol):
    """One socket. Once it is closing, its last bytes must be read."""

    def __init__(self, config: uvicorn.Config, *arguments: Any, **more: Any) -> None:
        super().__init__(config, *arguments, **more)
        limiter: ConnectionLimiter = config.limiter  # type: ignore[attr-defined]  # HttpConfig's
        self._limiter = limiter
        self._unparsed = bytearray()
        self._allowance = Allowance(FRAMES_PER_S, BURST_FRAMES, self.loop.time)

    def waits(self) -> tuple[Waits | None, object]:
        """See `Connection`. How long it may be silent is its protocol's business."""
        if self.transport.is_closing():
            return Waits.READING, None
        return (None if self.handshake_initiated else Waits.HEAD), None

    def give_up(self, _waits: Waits) -> None:
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
        self._parse_soon()  # a close lets reading go on

    def handle_connect(self, event: Request) -> None:
        """As uvicorn's, whose own refusals get the headers of every answer here."""
        send = self.conn.send_response

        def send_guarded(response: Response) -> None:
            for name, value in GUARDS.items():
                if name not in response.headers:
                    response.headers[name] = value
            send(response)

        self.conn.send_response = send_guarded  # type: ignore[method-assign]
        super().handle_connect(event)

    def handle_ping(self) -> None:
        if self._may(CONTROL_COST):
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._may(CONTROL_COST):
            super().handle_pong(event)

    def handle_text(self, event: Frame) -> None:
        if self._may_carry(event):
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        if self._may_carry(event):
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        if self._may(1):
            super().handle_cont(event)

    def _may_carry(self, first: Frame) -> bool:
        """Whole messages are free: the application reads them, and is waited for."""
        return (first.fin and not self.close_sent) or self._may(1)

    def _may(self, cost: float) -> bool:
        if self.transport.is_closing():
            return False
        if not self._allowance.take(cost):
            self.conn.fail(CloseCode.POLICY_VIOLATION, "too many frames")
            if self.conn.close_sent is None:  # not even accepted yet
                self.transport.abort()
            else:
                self.handle_parser_exception()
            return False
        return True

    def _parse(self) -> None:
        while self._unparsed and self._reads:
            part = bytes(self._unparsed[:SLICE_BYTES])
            del self._unparsed[:SLICE_BYTES]
            super().data_received(part)
        self._pause_or_resume_reading()

    def _parse_soon(self) -> None:
        """Not at once: an application that takes message after message would keep the loop."""
        if self._unparsed or not self.writable.is_set():
            self.loop.call_soon(self._parse)

    @property
    def _reads(self) -> bool:
        return not self.read_paused and self.writable.is_set() and not self.transport.is_closing()

    def _pause_or_resume_reading(self) -> None:
        if self.transport.is_closing():
            self._unparsed.clear()
        elif self._reads and not self._unparsed:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()
