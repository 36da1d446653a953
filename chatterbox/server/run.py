"""The server process: bind, load, serve, drain, and exit with a code that says why."""

import asyncio
import contextlib
import errno
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from chatterbox.config import ServerConfig
from chatterbox.config.sources import notify_socket
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.threads import Heartbeat
from chatterbox.errors import EXIT_ENGINE_DEAD, EXIT_STALLED, ConfigError
from chatterbox.server.admission_control import Lifecycle
from chatterbox.server.app import create_app
from chatterbox.server.dialect import Dialect
from chatterbox.server.http11 import ConnectionLimiter, HttpConfig
from chatterbox.server.model_loader import run_shielded
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.request_log import MAX_HEAD_BYTES
from chatterbox.server.socket_server import MAX_FRAME_BYTES
from chatterbox.server.watchdog import ALIVE, READY, STOPPING, Watchdog, notify
from chatterbox.server.websocket_protocol import WebSocket

log = logging.getLogger(__name__)

BACKLOG = 256
GRACE_S = 2
"""Time for connections to close after the last response, before they are cut."""
DEATH_NOTICE_S = 1.0
"""Wait after an engine has died, so that open requests get errors. The process exits within 5 s."""
CLOSE_S = 2.0
"""Time for the engine's threads to end; a device that hangs must not keep the process alive."""
POLL_S = 0.05
LOCK_S = 0.001
"""Longest time that a computing thread keeps the interpreter's lock while the event loop waits for
it. With Python's default of 0.005, one refusal in a hundred is late."""
PING_S = 15.0
"""Interval of WebSocket pings, and time for a client to answer a ping (FAULTS F27: 40 s)."""

Announce = Callable[[str], None]
"""Called with the server's URL once it is ready."""


def bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Return a listening socket. Raises ConfigError if the address is not available."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = addresses[0]
        sock = socket.socket(family, kind, protocol)  # asyncio disables Nagle only for TCP
    except OSError as fault:
        raise ConfigError(f"--host {host}: {fault.strerror or fault}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)  # fails if another server has the port
    except OSError as fault:
        sock.close()
        hint = " Is a server running there already?" if fault.errno == errno.EADDRINUSE else ""
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {fault.strerror}.{hint}"
            f" --host and {flag} choose another address."
        ) from None
    sock.setblocking(False)
    return sock


def address_of(sock: socket.socket) -> str:
    """Return the server's URL for a client on this machine."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    engine: TTSEngine | ModelPool,
    config: ServerConfig,
    dialects: Sequence[Dialect],
    sock: socket.socket,
    announce: Announce,
) -> int:
    """Serve until a signal or a fault; return the exit code. `sock` serves `/health` already while
    the model loads. Raises ModelError and ConfigError if loading fails."""
    logging.getLogger("uvicorn.error").addFilter(is_worth_logging)
    sys.setswitchinterval(LOCK_S)
    process = _Process(ModelPool.of(engine, config), config, dialects, sock, announce)
    with asyncio.Runner(loop_factory=process.server.config.get_loop_factory()) as runner:
        return runner.run(process.run())


def is_worth_logging(entry: logging.LogRecord) -> bool:
    """Return whether a message of uvicorn is logged. Cut-off responses and refused requests have
    their own log lines; messages about WebSockets would repeat the URL, with any keys in it."""
    is_cancelled = entry.exc_info is not None and entry.exc_info[0] is asyncio.CancelledError
    parts = ("without completing", "WebSocket %s", "Invalid HTTP request", "Unsupported upgrade")
    return not (is_cancelled or any(part in str(entry.msg) for part in parts))


def http_config(app: ASGIApp, limiter: ConnectionLimiter) -> uvicorn.Config:
    """Return uvicorn's configuration. Tests use it too, since they test its limits."""
    return HttpConfig(
        app,
        limiter,
        ws=WebSocket,
        interface="asgi3",
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_S,  # finds half-open sockets within twice this time
        ws_ping_timeout=PING_S,
    )


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: `_Process` drains the server on a signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Process:
    """Runs the server from startup to the exit code."""

    def __init__(
        self,
        models: ModelPool,
        config: ServerConfig,
        dialects: Sequence[Dialect],
        sock: socket.socket,
        announce: Announce,
    ) -> None:
        self._models = models
        self._config = config
        self._sock = sock
        self._announce = announce
        self._lifecycle = Lifecycle(models)
        self._lifecycle.is_warming_up = True
        self._signal: int | None = None
        self._second_signal = False
        self._died = threading.Event()
        models.on_death(self._died.set)
        self._exit_code = EXIT_ENGINE_DEAD
        self._heartbeat = Heartbeat("event loop")
        self._notify = functools.partial(notify, address=notify_socket())
        self._watchdog = Watchdog(
            lambda: [self._heartbeat, *models.heartbeats],
            config.stall_timeout_s,
            self._stalled,
            on_look=lambda: self._notify(ALIVE),
            use_timer=True,
        )
        self._app = app = create_app(models, config, dialects, lifecycle=self._lifecycle)
        bind_port = functools.partial(bind, config.host)
        listeners = [d.listener(app.services, bind_port) for d in dialects if d.listener]
        self._listeners = [listener for listener in listeners if listener is not None]
        self.server = Server(http_config(app, app.limiter))

    async def run(self) -> int:
        """Serve, and return the exit code."""
        asyncio.get_running_loop().set_default_executor(_started_pool())
        with self._signals():
            serving = asyncio.create_task(self.server.serve(sockets=[self._sock]))
            for listener in self._listeners:
                await listener.open()
            loading = asyncio.create_task(self._load())
            self._watchdog.start()
            try:
                return await self._live(loading)
            finally:
                await self._stop(serving)
                self._watchdog.stop()

    async def _load(self) -> None:
        await run_shielded(self._app.openapi)  # builds all routes before the first request
        await self._models.start()

    def _stalled(self, name: str) -> None:
        """Called from the watchdog's thread."""
        self._exit_code = EXIT_STALLED
        self._models.give_up(f"the {name} hangs")
        self._died.set()  # in case the engine was closed or dead already

    async def _live(self, loading: "asyncio.Task[None]") -> int:
        """Announce readiness, wait for a signal or a fault, and return the exit code."""
        is_announced = False
        while self._signal is None and not self._died.is_set():
            if not is_announced and loading.done():
                loading.result()  # raises if loading failed
                self._lifecycle.is_warming_up = False
                self._announce(address_of(self._sock))
                self._notify(READY)
                is_announced = True
                self._watching = asyncio.create_task(self._models.watch())
            self._heartbeat.beat()
            await asyncio.sleep(POLL_S)
        self._heartbeat.idle()  # shutdown has its own time limits
        if self._died.is_set():
            await asyncio.sleep(DEATH_NOTICE_S)
            return self._exit_code
        assert self._signal is not None
        await self._drain()
        return 128 + self._signal

    async def _drain(self) -> None:
        """Report not ready for `shutdown_delay_s`, then refuse new requests and wait up to
        `drain_timeout_s` for running requests. A second signal ends either wait."""
        self._notify(STOPPING)
        self._lifecycle.is_leaving = True
        await self._until(lambda: False, self._config.shutdown_delay_s)
        self._lifecycle.drain()
        admission = self._models.admission
        if admission.active:
            log.info("stopping once %d running requests are done", admission.active)
        await self._until(lambda: not admission.active, self._config.drain_timeout_s)
        if admission.active:
            log.warning("%d requests are cut off", admission.active)

    async def _until(self, done: Callable[[], bool], at_most_s: float) -> None:
        give_up = time.monotonic() + at_most_s
        while not (self._second_signal or done() or time.monotonic() >= give_up):
            await asyncio.sleep(POLL_S)

    async def _stop(self, serving: "asyncio.Task[None]") -> None:
        """Close the engines, which ends open requests with an error, then the connections."""
        self._notify(STOPPING)
        self._lifecycle.drain()
        closing = asyncio.create_task(run_shielded(lambda: self._models.close(CLOSE_S)))
        await asyncio.wait({closing}, timeout=CLOSE_S + 1)
        for listener in self._listeners:
            await listener.close()
        self.server.should_exit = True
        await asyncio.wait({serving})
        if not serving.cancelled() and (fault := serving.exception()) is not None:
            raise fault

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle SIGINT and SIGTERM within the context, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _frame: FrameType | None) -> None:
            self._second_signal = self._signal is not None
            self._signal = self._signal or number

        with contextlib.ExitStack() as before:
            for number in (signal.SIGINT, signal.SIGTERM):
                before.callback(signal.signal, number, signal.signal(number, note))
            yield


def _started_pool() -> ThreadPoolExecutor:
    """Return asyncio's default pool with all threads started: started on demand over hours, they
    would let memory grow."""
    threads = min(32, (os.cpu_count() or 1) + 4)  # Python's default
    pool = ThreadPoolExecutor(threads, thread_name_prefix="blocking")
    barrier = threading.Barrier(threads)
    for _ in range(threads):
        pool.submit(barrier.wait)
    return pool
