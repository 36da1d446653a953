"""Where do Wyoming's clients come in? A port, its connections, and their end.

Knows asyncio's streams; what is said on them, `session.py` knows.
"""

import asyncio
import contextlib
import logging
import socket

from chatterbox.dialects.services import Services
from chatterbox.dialects.shared.incremental_speech import Ended
from chatterbox.dialects.shared.socket_server import MAX_FRAME_BYTES
from chatterbox.dialects.wyoming.events import Event, read_event, write_event
from chatterbox.dialects.wyoming.session import Session
from chatterbox.errors import Cancelled, ChatterboxError, InternalError, TooManyConnections

log = logging.getLogger(__name__)


class WyomingListener:
    """Opened and closed with the server; within, it drains as everything else does: what asks for
    a place is told that there is none any more."""

    def __init__(self, backend: Services, ended: Ended, sock: socket.socket) -> None:
        self._backend = backend
        self._ended = ended
        self._sock = sock
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(
            self._connected, sock=self._sock, limit=MAX_FRAME_BYTES
        )

    async def close(self) -> None:
        """Stop listening, and cut what is still open."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def tell(error: ChatterboxError) -> None:
            with contextlib.suppress(Cancelled):
                data = {"text": error.message, "code": error.code}
                await write_event(writer, Event("error", data))

        try:
            if len(self._connections) > self._backend.config.max_websockets:
                raise TooManyConnections("There are too many open connections.")
            self._backend.service.lifecycle.check_open()
            await Session(
                self._backend,
                self._ended,
                lambda: read_event(reader),
                lambda event: write_event(writer, event),
            ).run()
        except Cancelled:
            pass  # the client left
        except ChatterboxError as error:
            await tell(error)
        except Exception:
            log.exception("unexpected fault in a Wyoming connection")
            await tell(InternalError("The server failed on this; its log has the reason."))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
