"""Which routes does the server have, and what surrounds them?

Puts the server's parts together around one engine; knows no socket and no process.
"""

from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from chatterbox import __version__
from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.cors import add_cors
from chatterbox.server.dialects import registry
from chatterbox.server.dialects.backend import Backend
from chatterbox.server.errors import add_error_handlers
from chatterbox.server.lifecycle import Lifecycle
from chatterbox.server.metrics import Metrics
from chatterbox.server.page.page import Page
from chatterbox.server.request_scope import RequestScope
from chatterbox.server.sockets.routes import router as socket_router
from chatterbox.server.speech import SpeechService
from chatterbox.server.speech_routes import SpeechRoutes
from chatterbox.server.status_routes import status_router
from chatterbox.server.voice_routes import VoiceRoutes
from chatterbox.server.voice_work import VoiceWork


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
    engine: TTSEngine, config: ServerConfig, *, lifecycle: Lifecycle | None = None
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
    add_cors(app, config)
    add_error_handlers(app, registry.error_shape)
    app.add_middleware(RequestScope, ended=metrics.ended, shape_of=registry.error_shape)
    service = SpeechService(engine, config, lifecycle)
    voices = VoiceWork(engine, config, lifecycle)
    backend = Backend(engine, config, service, voices)
    app.state.backend = backend
    routers: tuple[APIRouter, ...] = (
        SpeechRoutes(service, engine, registry.guests(backend)).router(),
        VoiceRoutes(voices).router(),
        status_router(engine, lifecycle, metrics, page),
        page.router(),
        *registry.routers(backend),
        socket_router(backend, metrics.ended),
    )
    for router in routers:
        app.include_router(router, responses=ERROR_ANSWERS)
    return app
