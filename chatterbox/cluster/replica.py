"""A replica: an engine and its web application in a process that Ray Serve starts and replaces."""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatterbox.cluster.metrics import MetricsRoute, ReplicaMetrics, merged_json, merged_text
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
from chatterbox.server.watchdog import Watchdog

CLOSE_S = 2.0
"""Time for the engine's threads to finish their current step when the replica is closed."""
BROADCAST_S = 5.0
"""Longest time that a replica waits for the answers of the others."""
CHANGING_METHODS = {"DELETE", "PUT", "PATCH"}
"""Methods that delete or rename a voice: all replicas are updated before the answer is sent. New
voices need no update; a replica looks for them when a request names them."""

MakeEngine = Callable[[TTSConfig], TTSEngine]
"""Makes an engine that replaces the configured models, for measurements."""


class Replica:
    """The class that `serve.ingress` wraps. Ray creates it, checks its health, and deletes it when
    its requests are done."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, tts: TTSConfig, server: ServerConfig, make_engine: MakeEngine | None = None
    ) -> None:
        make_files_private()
        deny_inspection()
        sys.setswitchinterval(LOCK_S)
        handler = logging.StreamHandler()
        handler.setFormatter(log_formatter(server.log_format, tty=False))
        logging.basicConfig(level=server.log_level.upper(), handlers=[handler])
        tts.data_dir.mkdir(parents=True, exist_ok=True)  # may be the folder of the voices
        engine = make_engine(tts) if make_engine else None
        models = self._models = ModelPool(configs_of(tts, server.models), server, engine)
        self._lifecycle = Lifecycle(models)
        self._app = create_app(models, server, DIALECTS, lifecycle=self._lifecycle)
        self._watchdog = Watchdog(
            lambda: models.heartbeats,
            server.stall_timeout_s,
            lambda name: models.give_up(f"the {name} hangs"),
            use_timer=True,
        )
        await asyncio.to_thread(self._app.openapi)  # builds all routes before the first request
        await models.start()
        self._unloading = asyncio.create_task(models.watch())
        self._watchdog.start()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray once the models are loaded."""
        app = self._app
        app.router.routes.insert(0, MetricsRoute("/metrics", self._all_metrics))

        async def entry(scope: Scope, receive: Receive, send: Send) -> None:
            async def update_then_send(message: Message) -> None:
                if message["type"] == "http.response.start" and message["status"] < 300:
                    await self._broadcast("refresh_voices")
                await send(message)

            if scope["type"] == "lifespan":  # the middleware does not handle it
                await app.router(scope, receive, send)
            else:
                is_change = scope.get("method") in CHANGING_METHODS
                await app(scope, receive, update_then_send if is_change else send)

        return entry

    def check_health(self) -> None:
        """Called by Ray every few seconds; a replica that raises is replaced."""
        if self._lifecycle.phase == "dead":
            raise RuntimeError("the engine stopped on a fault")

    def read_metrics(self, prometheus: bool) -> ReplicaMetrics:
        """Return this replica's name and its metrics, as Prometheus text or as JSON."""
        metrics = self._app.metrics
        body = metrics.as_text("text/plain")[0].decode("utf-8") if prometheus else metrics.as_json()
        return serve.get_replica_context().replica_tag, body

    async def refresh_voices(self) -> None:
        """Read the voices again: another replica has changed one."""
        for library in self._models.libraries():
            await asyncio.to_thread(library.refresh)

    async def _broadcast(self, method: str, *arguments: object) -> list[Any]:
        """Call a method of all replicas, including this one. Returns the answers of the replicas
        that did not fail; an empty list after BROADCAST_S."""
        context = serve.get_replica_context()
        replicas = serve.get_deployment_handle(context.deployment, context.app_name)
        answers = replicas.broadcast(method, *arguments)
        with suppress(TimeoutError):
            results = await answers.results_async(timeout_s=BROADCAST_S, return_exceptions=True)
            return [each for each in results if not isinstance(each, Exception)]
        return []

    async def _all_metrics(self, request: Request) -> Response:
        """Answer `/metrics` for all replicas."""
        accept = ",".join(request.headers.getlist("accept"))
        prometheus = wants_prometheus(accept)
        found = await self._broadcast("read_metrics", prometheus) or [self.read_metrics(prometheus)]
        if prometheus:
            body, content_type = merged_text(found, accept)
            return Response(body, headers={**NO_STORE, "Content-Type": content_type})
        return JSONResponse(merged_json([body for _, body in found]), headers=NO_STORE)

    def __del__(self) -> None:
        """Called by Ray when all requests are finished or out of time."""
        if hasattr(self, "_watchdog"):
            self._lifecycle.drain()
            self._watchdog.stop()
            self._models.close(CLOSE_S)
