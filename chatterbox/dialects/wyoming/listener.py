"""Wyoming's own port (`wyoming_port`)."""

import asyncio
import contextlib
import logging
import socket

from chatterbox.dialects.wyoming.events import write_event
from chatterbox.dialects.wyoming.session import Session
from chatterbox.errors import (
    Cancelled,
    ChatterboxError,
    ConfigError,
    InternalError,
    TooManyConnections,
)
from chatterbox.server.dialect import Bind, Services
from chatterbox.server.socket_server import MAX_FRAME_BYTES

log = logging.getLogger(__name__)


class WyomingListener:
    """The port and its connections. While the server drains, they are refused as all others are."""

    def __init__(self, services: Services, sock: socket.socket) -> None:
        self._services = services
        self._sock = sock
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(
            self._connected, sock=self._sock, limit=MAX_FRAME_BYTES
        )

    async def close(self) -> None:
        """Stop listening, and close what is still open."""
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
        async def send_error(error: ChatterboxError) -> None:
            with contextlib.suppress(Cancelled):
                await write_event(writer, "error", {"text": error.message, "code": error.code})

        try:
            if len(self._connections) > self._services.config.max_websockets:
                raise TooManyConnections("There are too many open connections.")
            self._services.admission.lifecycle.check_open()
            await Session(self._services, reader, writer).run()
        except Cancelled:
            pass  # the client left
        except ChatterboxError as error:
            await send_error(error)
        except Exception:
            log.exception("unexpected fault in a Wyoming connection")
            await send_error(InternalError("The server failed on this; its log has the reason."))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def listener(services: Services, bind: Bind) -> WyomingListener | None:
    """The listener on `wyoming_port`; None where that is 0. Raises ConfigError."""
    config = services.config
    if not config.wyoming_port:
        return None
    if config.keys and not config.is_local:
        raise ConfigError(
            "--wyoming-port: Wyoming's clients cannot send keys, so with keys set it is served on"
            " this machine only (--host 127.0.0.1). A server of its own, without keys, can serve"
            " them."
        )
    return WyomingListener(services, bind(config.wyoming_port, "--wyoming-port"))
