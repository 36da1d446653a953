"""One replica: an engine and its application, in a process that Ray Serve starts and replaces."""

import asyncio
import logging
import sys
from collections.abc import Callable

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chatterbox.cluster.metrics import Counted, merged_json, merged_text
from chatterbox.config import ServerConfig, TTSConfig
from chatterbox.dialects.registry import DIALECTS
from chatterbox.engine.engine import TTSEngine
from chatterbox.families.model import LoadedModel
from chatterbox.hardening import deny_inspection, make_files_private
from chatterbox.logs import log_formatter
from chatterbox.server.admission_control import Lifecycle
from chatterbox.server.app import create_app
from chatterbox.server.metrics import wants_prometheus
from chatterbox.server.run import LOCK_S
from chatterbox.server.status_routes import NO_STORE
from chatterbox.server.watchdog import LockFreeTimer, MallocTrim, Watchdog

CLOSE_S = 2.0
"""For the engine's threads to leave their step."""
ASK_S = 5.0
"""Longest that one replica waits for the others' counters."""

MakeModel = Callable[[TTSConfig], LoadedModel]
"""Loads a model that stands in for the configured one; for tools that measure."""


class Replica:
    """What `serve.ingress` wraps. Ray makes it, asks it whether it is well, and deletes it once no
    request is left in it."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, tts: TTSConfig, server: ServerConfig, make_model: MakeModel | None = None
    ) -> None:
        make_files_private()
        deny_inspection()
        sys.setswitchinterval(LOCK_S)
        handler = logging.StreamHandler()
        handler.setFormatter(log_formatter(server.log_format, tty=False))
        logging.basicConfig(level=server.log_level.upper(), handlers=[handler])
        self._engine = engine = TTSEngine(tts)
        self._lifecycle = Lifecycle(engine)
        self._app = create_app(engine, server, DIALECTS, lifecycle=self._lifecycle)
        self._watchdog = Watchdog(
            lambda: engine.heartbeats,
            server.stall_timeout_s,
            lambda name: engine.give_up(f"the {name} hangs"),
            timer=LockFreeTimer(),
        )
        self._trimmer = MallocTrim()
        await asyncio.to_thread(self._load, make_model)
        self._watchdog.start()
        self._trimmer.start()

    def _load(self, make_model: MakeModel | None) -> None:
        engine = self._engine
        self._app.openapi()  # builds all routes: else the first requests do, on the event loop
        engine.load(make_model(engine.config) if make_model else None)
        engine.voices.check_default()
        engine.rehearse()
        engine.prepare_voices()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray once the engine is loaded."""
        app = self._app
        app.router.routes.insert(0, Route("/metrics", self._of_all))

        async def entry(scope: Scope, receive: Receive, send: Send) -> None:
            # The layers around the routes know requests and sockets alone.
            await (app.router if scope["type"] == "lifespan" else app)(scope, receive, send)

        return entry

    def check_health(self) -> None:
        """Asked by Ray every few seconds: a replica that raises is replaced."""
        if self._lifecycle.phase == "dead":
            raise RuntimeError(f"the engine stopped: {self._engine.fault}")

    def counted(self, prometheus: bool) -> Counted:
        """This replica's name, and its counters as text of Prometheus or as JSON."""
        metrics = self._app.metrics
        body = metrics.as_text("text/plain")[0].decode("utf-8") if prometheus else metrics.as_json()
        return serve.get_replica_context().replica_tag, body

    async def _of_all(self, request: Request) -> Response:
        """Counters of all replicas, whichever is asked."""
        accept = ",".join(request.headers.getlist("accept"))
        prometheus = wants_prometheus(accept)
        me = serve.get_replica_context()
        asked = serve.get_deployment_handle(me.deployment, me.app_name)
        try:
            found = await asked.broadcast("counted", prometheus).results_async(
                timeout_s=ASK_S, return_exceptions=True
            )
        except TimeoutError:
            found = [self.counted(prometheus)]
        there = [each for each in found if isinstance(each, tuple)]  # else it has just ended
        if prometheus:
            body, content_type = merged_text(there, accept)
            return Response(body, headers={**NO_STORE, "Content-Type": content_type})
        return JSONResponse(merged_json([body for _, body in there]), headers=NO_STORE)

    def __del__(self) -> None:
        """Called by Ray once no request is left, or the time for them is over."""
        if hasattr(self, "_trimmer"):
            self._lifecycle.drain()
            self._watchdog.stop()
            self._trimmer.stop()
            self._engine.close(CLOSE_S)
