"""OpenAI's `/v1/models`, and Open WebUI's `/v1/audio/models`: one model and three aliases."""

import time
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from chatterbox.errors import RouteNotFound, shown
from chatterbox.server.dialect import Services

ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")


def add_routes(routes: APIRouter, services: Services) -> None:
    started = int(time.time())

    def names() -> list[str]:
        services.admission.lifecycle.check_open()  # until it is loaded nobody knows its name
        return [services.engine.info.name, *ALIASES]

    def entry(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": started, "owned_by": "chatterbox"}

    @routes.get("/v1/models")
    async def models() -> Response:
        """OpenAI's list of models; ElevenLabs' for its clients, who say who they are."""
        return JSONResponse({"object": "list", "data": [entry(name) for name in names()]})

    @routes.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """OpenAI: one model."""
        if name not in names():
            raise RouteNotFound(
                f"There is no model '{shown(name)}'; in a call, any name is taken.", param="model"
            )
        return JSONResponse(entry(name))

    @routes.get("/v1/audio/models")
    async def audio_models() -> Response:
        """The models that speak, as Open WebUI asks for them."""
        return JSONResponse({"object": "list", "models": [entry(name) for name in names()]})
