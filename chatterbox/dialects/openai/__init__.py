"""OpenAI's speech API: speech, voices and models."""

from fastapi import APIRouter

from chatterbox.dialects.openai import models, speech, voices
from chatterbox.server.dialect import Dialect, Services


def router(services: Services) -> APIRouter:
    """All routes of the family."""
    routes = APIRouter()
    for part in (speech, voices, models):
        routes.include_router(part.router(services))
    return routes


DIALECT = Dialect(router, paths=("/v1/audio",), error_shape=speech.error_shape)
