"""OpenAI's speech API: speech, voices and models."""

from fastapi import APIRouter

from chatterbox.dialects.openai import speech, voices
from chatterbox.server.dialect import Dialect, Services


def add_routes(routes: APIRouter, services: Services) -> None:
    for part in (speech, voices):
        part.add_routes(routes, services)


DIALECT = Dialect(add_routes, tag="openai", paths=("/v1/audio",), error_shape=speech.error_shape)
