"""Errors as answers: one JSON shape for every status, or a dialect's own shape."""

import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from chatterbox.errors import ChatterboxError, InvalidApiKey, MethodNotAllowed, RouteNotFound

ErrorShape = Callable[[ChatterboxError, str], tuple[int, Any]]
"""(error, request id) → status and JSON: how one dialect's clients expect to be refused."""
ShapeOf = Callable[[str], ErrorShape]
"""Path → shape."""


def native_shape(error: ChatterboxError, request_id: str) -> tuple[int, Any]:
    """The status of the error table, and `{"error": {message, type, code, param, request_id}}`."""
    facts = {"message": error.message, "type": error.kind, "code": error.code}
    return error.status, {"error": {**facts, "param": error.param, "request_id": request_id}}


def error_headers(error: ChatterboxError) -> dict[str, str]:
    """What goes with it: when, and whether at all, trying again makes sense. OpenAI's clients
    would otherwise try 408, 409, 429 and 5xx again by themselves."""
    headers = {"Cache-Control": "no-store", "X-Should-Retry": "false"}
    if isinstance(error, InvalidApiKey):
        headers["WWW-Authenticate"] = 'Bearer realm="chatterbox"'
    if error.retry_after_s is not None:
        headers["X-Should-Retry"] = "true"
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        headers["Retry-After-Ms"] = str(max(1, math.ceil(error.retry_after_s * 1000)))
    return headers


def error_response(
    error: ChatterboxError,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    *,
    shape: ErrorShape = native_shape,
) -> Response:
    """The answer to an error; ASCII and strict JSON whatever the message holds."""
    status, body = shape(error, request_id)
    return Response(
        json.dumps(body, ensure_ascii=True, allow_nan=False),
        status_code=status,
        headers={**error_headers(error), **(headers or {})},
        media_type="application/json",
    )


def from_http(fault: HTTPException) -> ChatterboxError:
    """Starlette's two refusals in our shape."""
    if fault.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"This route takes {(fault.headers or {}).get('Allow')}.")
    return RouteNotFound("There is no such route; GET / lists them.")
