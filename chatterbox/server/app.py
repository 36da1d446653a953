"""Which routes does the server have, and what surrounds them?

Puts the server's parts together around one engine; knows no socket and no process.
"""

from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from chatterbox import __version__
from chatterbox.config import ServerConfig, key_list
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.access import Access, Keyring
from chatterbox.server.cors import add_cors
from chatterbox.server.dialects import registry
from chatterbox.server.dialects.backend import Backend
from chatterbox.server.door import Door
from chatterbox.server.errors import add_error_handlers
from chatterbox.server.hosts import Hosts
from chatterbox.server.lifecycle import Lifecycle
from chatterbox.server.metrics import Metrics
from chatterbox.server.page.page import Page
from chatterbox.server.request_scope import RequestScope
from chatterbox.server.room import Rooms
from chatterbox.server.shares import Shares, limits_of
from chatterbox.server.slow_readers import SlowReaders
from chatterbox.server.sockets.routes import router as socket_router
from chatterbox.server.speech import SpeechService
from chatterbox.server.speech_routes import SpeechRoutes
from chatterbox.server.status_routes import status_router
from chatterbox.server.upload import UploadPlaces
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
    app.state.rooms = Rooms.of(config)
    app.state.door = Door(config.max_connections, metrics.ended)
    shape_of = registry.error_shape
    add_error_handlers(app, shape_of)
    # The last one added is the outermost.
    app.add_middleware(Access, keyring=Keyring(key_list(config.api_keys)), shape_of=shape_of)
    add_cors(app, config)
    app.add_middleware(Hosts, config=config, shape_of=shape_of)
    app.add_middleware(SlowReaders)
    app.add_middleware(RequestScope, ended=metrics.ended, shape_of=shape_of)
    admission = engine.admission
    shares = Shares(limits_of(config, admission.capacity), admission.retry_after_s)
    uploads = UploadPlaces(admission.half(), shares, config.first_audio_timeout)
    service = SpeechService(engine, config, lifecycle, shares, uploads)
    voices = VoiceWork(engine, config, lifecycle, shares, uploads)
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
