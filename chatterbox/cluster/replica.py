"""One replica: an engine and its application, in a process that Ray Serve starts and replaces."""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatterbox.cluster.metrics import Counted, merged_json, merged_text
from chatterbox.config import ServerConfig, TTSConfig, configs_of
from chatterbox.dialects.registry import DIALECTS
from chatterbox.engine.engine import TTSEngine
from chatterbox.hardening import deny_inspection, make_files_private
from chatterbox.logs import log_formatter
from chatterbox.server.admission_control import Lifecycle
from chatterbox.server.app import create_app
from chatterbox.server.metrics import wants_prometheus
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.run import LOCK_S
from chatterbox.server.status_routes import NO_STORE
from chatterbox.server.watchdog import LockFreeTimer, Watchdog

CLOSE_S = 2.0
"""For the engine's threads to leave their step."""
ASK_S = 5.0
"""Longest that one replica waits for the others."""
CHANGING = {"DELETE", "PUT", "PATCH"}
"""What is deleted or renamed by such a call is so in all replicas once it is answered; what is new
is asked for when it is first missed."""

MakeEngine = Callable[[TTSConfig], TTSEngine]
"""Makes what stands in for the configured models; for tools that measure."""


class Replica:
    """What `serve.ingress` wraps. Ray makes it, asks it whether it is well, and deletes it once no
    request is left in it."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, tts: TTSConfig, server: ServerConfig, make_engine: MakeEngine | None = None
    ) -> None:
        make_files_private()
        deny_inspection()
        sys.setswitchinterval(LOCK_S)
        handler = logging.StreamHandler()
        handler.setFormatter(log_formatter(server.log_format, tty=False))
        logging.basicConfig(level=server.log_level.upper(), handlers=[handler])
        tts.data_dir.mkdir(parents=True, exist_ok=True)  # voices may be kept in it
        own = make_engine(tts) if make_engine else None
        models = self._models = ModelPool(configs_of(tts, server.models), server, own)
        self._lifecycle = Lifecycle(models)
        self._app = create_app(models, server, DIALECTS, lifecycle=self._lifecycle)
        self._watchdog = Watchdog(
            lambda: models.heartbeats,
            server.stall_timeout_s,
            lambda name: models.give_up(f"the {name} hangs"),
            timer=LockFreeTimer(),
        )
        await asyncio.to_thread(self._app.openapi)  # builds all routes: else the first requests do
        await models.start()
        self._unloading = asyncio.create_task(models.watch())
        self._watchdog.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray once the models are loaded."""
        app = self._app
        app.router.routes.insert(0, Route("/metrics", self._counters_of_all))

        async def entry(scope: Scope, receive: Receive, send: Send) -> None:
            async def told(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] < 300:
                    await self._ask_all("look")
                await send(message)

            if scope["type"] == "lifespan":  # the layers around the routes do not know it
                await app.router(scope, receive, send)
            else:
                await app(scope, receive, told if scope.get("method") in CHANGING else send)

        return entry

    def check_health(self) -> None:
        """Asked by Ray every few seconds: a replica that raises is replaced."""
        if self._lifecycle.phase == "dead":
            raise RuntimeError("the engine stopped on a fault")

    def counted(self, prometheus: bool) -> Counted:
        """This replica's name, and its counters as text of Prometheus or as JSON."""
        metrics = self._app.metrics
        body = metrics.as_text("text/plain")[0].decode("utf-8") if prometheus else metrics.as_json()
        return serve.get_replica_context().replica_tag, body

    async def look(self) -> None:
        """Another replica has changed a voice."""
        for library in self._models.libraries():
            await asyncio.to_thread(library.refresh)

    async def _ask_all(self, method: str, *arguments: object) -> list[Any]:
        """What all replicas answer, this one included, but for those that have just ended."""
        me = serve.get_replica_context()
        asked = serve.get_deployment_handle(me.deployment, me.app_name)
        answers = asked.broadcast(method, *arguments)
        with suppress(TimeoutError):
            found = await answers.results_async(timeout_s=ASK_S, return_exceptions=True)
            return [each for each in found if not isinstance(each, Exception)]
        return []

    async def _counters_of_all(self, request: Request) -> Response:
        """Whichever replica is asked."""
        accept = ",".join(request.headers.getlist("accept"))
        prometheus = wants_prometheus(accept)
        found = await self._ask_all("counted", prometheus) or [self.counted(prometheus)]
        if prometheus:
            body, content_type = merged_text(found, accept)
            return Response(body, headers={**NO_STORE, "Content-Type": content_type})
        return JSONResponse(merged_json([body for _, body in found]), headers=NO_STORE)

    def __del__(self) -> None:
        """Called by Ray once no request is left, or the time for them is over."""
        if hasattr(self, "_watchdog"):
            self._lifecycle.drain()
            self._watchdog.stop()
            self._models.close(CLOSE_S)
