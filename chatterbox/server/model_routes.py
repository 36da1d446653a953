"""The native calls about models, and how any call chooses one in its address."""

from contextlib import suppress

from fastapi import APIRouter
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chatterbox.errors import ModelNotFound, OperatorOnly
from chatterbox.server.auth import current_key
from chatterbox.server.model_pool import ModelPool, speaking_with


def model_router(models: ModelPool, operators: frozenset[int | None]) -> APIRouter:
    """`operators`: the keys that may change what is loaded; none: all."""
    router = APIRouter(tags=["server"])

    def check_operator() -> None:
        if operators and current_key.get() not in operators:
            raise OperatorOnly("Only a key of the setting operator_keys may do this.")

    @router.get("/models")
    async def list_models() -> Response:
        """All models of this server, and which of them are in memory."""
        body = {
            "models": [model.as_json() for model in models.models],
            "default_model": models.default.name,
        }
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    @router.post("/models/{name:path}/load")
    async def load_model(name: str) -> Response:
        """Load a model now; others are unloaded where there is no room."""
        check_operator()
        return JSONResponse((await models.load(name)).as_json())

    @router.post("/models/{name:path}/unload")
    async def unload_model(name: str) -> Response:
        """Unload a model once nobody speaks with it; the next request loads it again."""
        check_operator()
        return JSONResponse((await models.unload(name)).as_json())

    return router


class ModelChoice:
    """The layer that lets an address choose the model, in every call. A name that is none is left
    to those calls that speak."""

    def __init__(self, app: ASGIApp, models: ModelPool) -> None:
        self._app = app
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        model = None
        with suppress(KeyError, ModelNotFound):  # KeyError: it is no request
            query = QueryParams(scope["query_string"])
            model = self._models.find(query.get("model") or query.get("model_id"))
        with speaking_with(model):
            await self._app(scope, receive, send)
