"""The application: all routes, and the middleware around them, put together around one engine."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from chatterbox import __version__
from chatterbox.config import ServerConfig, key_list
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.auth import Auth, Keyring
from chatterbox.server.connection_limiter import ConnectionLimiter
from chatterbox.server.dialect import Dialect, Services, error_shapes
from chatterbox.server.disconnect import WriteTimeout
from chatterbox.server.errors import add_error_handlers
from chatterbox.server.lifecycle import Lifecycle
from chatterbox.server.metrics import Metrics
from chatterbox.server.origin_guard import OriginGuard, add_cors
from chatterbox.server.page.page import Page
from chatterbox.server.quotas import KeyQuotas, Rooms, limits_of
from chatterbox.server.request_log import RequestLog
from chatterbox.server.socket_server import SocketServer
from chatterbox.server.speech_routes import speech_router
from chatterbox.server.speech_service import SpeechService
from chatterbox.server.status_routes import status_router
from chatterbox.server.upload import UploadPlaces
from chatterbox.server.voice_routes import VoiceRoutes
from chatterbox.server.voice_service import VoiceService


class ErrorFacts(BaseModel):
    """What went wrong."""

    message: str
    type: str
    code: str
    param: str | None
    request_id: str


class ErrorAnswer(BaseModel):
    """Every error's body."""

    error: ErrorFacts


ERROR_ANSWERS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The call was refused"},
    "5XX": {"model": ErrorAnswer, "description": "The server could not answer"},
}


def create_app(
    engine: TTSEngine,
    config: ServerConfig,
    dialects: Sequence[Dialect],
    *,
    lifecycle: Lifecycle | None = None,
) -> FastAPI:
    """The application around an engine, which may still be loading. `lifecycle` is given by whoever
    wants to drain it."""
    lifecycle = lifecycle or Lifecycle(engine)
    metrics = Metrics(engine, lifecycle)
    page = Page()
    app = FastAPI(
        title="Chatterbox Server",
        version=__version__,
        description="Text and a few seconds of a voice in, that voice speaking out.",
        docs_url=None,  # its scripts come from another host; `page.py` has one of our own
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.metrics = metrics
    app.state.rooms = Rooms.of(config)
    app.state.door = ConnectionLimiter(config.max_connections, metrics.ended)
    shape_of = error_shapes(dialects)
    add_error_handlers(app, shape_of)
    # The last one added is the outermost.
    app.add_middleware(Auth, keyring=Keyring(key_list(config.api_keys)), shape_of=shape_of)
    add_cors(app, config)
    app.add_middleware(OriginGuard, config=config, shape_of=shape_of)
    app.add_middleware(WriteTimeout)
    app.add_middleware(RequestLog, ended=metrics.ended, shape_of=shape_of)
    admission = engine.admission
    quotas = KeyQuotas(limits_of(config, admission.capacity), admission.retry_after_s)
    uploads = UploadPlaces(admission.half(), quotas, config.first_audio_timeout_s)
    service = SpeechService(engine, config, lifecycle, quotas, uploads)
    voices = VoiceService(engine, config, lifecycle, quotas, uploads)
    sockets = SocketServer(config, lifecycle, quotas)
    services = Services(engine, config, service, voices, sockets, metrics.ended)
    app.state.services = services
    routers: tuple[APIRouter, ...] = (
        speech_router(
            service, engine, [d.body_sniffer(services) for d in dialects if d.body_sniffer]
        ),
        VoiceRoutes(voices).router(),
        status_router(engine, lifecycle, metrics, page),
        page.router(),
        *(d.router(services) for d in dialects if d.router),
    )
    for router in routers:
        app.include_router(router, responses=ERROR_ANSWERS)
    return app
