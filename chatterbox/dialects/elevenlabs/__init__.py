"""ElevenLabs' API: speech, voices and models over HTTP, and both sockets."""

from fastapi import APIRouter

from chatterbox.dialects.elevenlabs import http, socket, voices
from chatterbox.server.dialect import Dialect, Services


def router(services: Services) -> APIRouter:
    """All routes of the family."""
    routes = APIRouter()
    for part in (http, voices, socket):
        routes.include_router(part.router(services))
    return routes


DIALECT = Dialect(
    router,
    paths=("/v1/text-to-speech", "/v1/voices", "/v2/voices", "/v1/user"),
    error_shape=http.error_shape,
)
