"""ElevenLabs' API: speech, voices and models over HTTP, and two WebSockets."""

from fastapi import APIRouter

from chatterbox.dialects.elevenlabs import http, socket, voices
from chatterbox.server.dialect import Dialect, Services


def add_routes(routes: APIRouter, services: Services) -> None:
    for part in (http, voices, socket):
        part.add_routes(routes, services)


DIALECT = Dialect(
    add_routes,
    tag="elevenlabs",
    paths=("/v1/text-to-speech", "/v1/voices", "/v2/voices", "/v1/user"),
    error_shape=http.error_shape,
)
