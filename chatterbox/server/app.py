"""Builds the ASGI application: all routes and middleware around a pool of models."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from chatterbox import __version__
from chatterbox.config import ServerConfig, key_list
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.admission_control import AdmissionControl, Lifecycle
from chatterbox.server.auth import Auth, Keyring, OriginGuard, split_list
from chatterbox.server.dialect import Dialect, Services, error_shapes
from chatterbox.server.http11 import ConnectionLimiter
from chatterbox.server.metrics import Metrics
from chatterbox.server.model_pool import ModelChoice, ModelPool
from chatterbox.server.reference import ERROR_ANSWERS, Conversation, extend_schema
from chatterbox.server.request_log import RequestLog, add_error_handlers
from chatterbox.server.socket_server import SocketServer
from chatterbox.server.speech_response import speech_router
from chatterbox.server.speech_service import SpeechService
from chatterbox.server.status_routes import model_router, page_router, status_router
from chatterbox.server.voice_routes import voice_router
from chatterbox.server.voice_service import VoiceService

READABLE = (
    "Retry-After, X-Audio-Duration, X-Generation-Time, X-Ignored-Params, X-Request-ID, X-RTF, "
    "X-Sample-Rate, X-Seed, X-Unknown-Tags, X-Tokens-Generated"
)
"""Response headers that pages of sites in `cors_origins` may read."""


class App(FastAPI):
    """The FastAPI application, with the objects that the server process needs."""

    metrics: Metrics
    limiter: ConnectionLimiter
    services: Services
    conversations: Mapping[str, Conversation]

    def openapi(self) -> dict[str, Any]:
        """Return FastAPI's schema, with examples, sockets and errors."""
        if self.openapi_schema is None:
            extend_schema(super().openapi(), self.routes, self.conversations)
        return super().openapi()


def create_app(
    engine: TTSEngine | ModelPool,
    config: ServerConfig,
    dialects: Sequence[Dialect],
    *,
    lifecycle: Lifecycle | None = None,
) -> App:
    """Build the application around one engine or several, which may still be loading. Pass a
    `lifecycle` to drain the server."""
    app = App(
        title="Chatterbox Server",
        version=__version__,
        description="Text-to-speech with voices cloned from a few seconds of audio.",
        docs_url=None,  # FastAPI's page loads scripts from another host; `page/` has its own
        redoc_url=None,
        redirect_slashes=False,
    )
    models = ModelPool.of(engine, config)
    lifecycle = lifecycle or Lifecycle(models)
    app.metrics = metrics = Metrics(models, lifecycle)
    app.limiter = ConnectionLimiter(config.max_connections, metrics.record_request)
    add_error_handlers(app)
    # The last middleware added is the outermost.
    if len(models.models) > 1:
        app.add_middleware(ModelChoice, models=models)
    keyring = Keyring(config.keys)
    operators = frozenset(keyring.find(key.encode()) for key in key_list(config.operator_keys))
    app.add_middleware(Auth, keyring=keyring)
    if origins := sorted(split_list(config.cors_origins)):  # no cookies: keys travel in a header
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[READABLE],
        )
    app.add_middleware(OriginGuard, config=config)
    app.add_middleware(RequestLog, on_end=metrics.record_request, shape_for=error_shapes(dialects))
    admission = AdmissionControl(models.admission, config, lifecycle)
    speech = SpeechService(models, config, admission)
    voices = VoiceService(models, config, admission)
    sockets = SocketServer(models, config, admission)
    app.services = services = Services(
        models, config, admission, speech, voices, sockets, metrics.record_request
    )
    app.conversations = {path: c for d in dialects for path, c in d.conversations.items()}
    readers = [partial(d.read_tts_json, services) for d in dialects if d.read_tts_json]
    routers = [
        speech_router(speech, readers),
        voice_router(voices),
        status_router(models, lifecycle, metrics),
        model_router(models, operators),
        page_router,
    ]
    for dialect in dialects:
        if dialect.add_routes:
            routers.append(APIRouter(tags=[dialect.tag] if dialect.tag else None))
            dialect.add_routes(routers[-1], services)
    for router in routers:
        app.include_router(router, responses=ERROR_ANSWERS)
    return app
