"""Errors as answers: one JSON shape for every status, or a dialect's own shape."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import Response

from chatterbox.errors import (
    SHOWN_INPUT_CHARS,
    ChatterboxError,
    InvalidApiKey,
    InvalidText,
    InvalidValue,
    MethodNotAllowed,
    RouteNotFound,
    UnknownField,
    shown,
)

INVALID_TEXT = "invalid_text"
"""Type of the validation error for a string that is not Unicode (see `schemas.py`)."""

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


def unknown_field(name: str, known: Iterable[str] = ()) -> ChatterboxError:
    """`name`, cut and escaped, is none of the `known` fields; but perhaps one was meant."""
    near = get_close_matches(name[:SHOWN_INPUT_CHARS], known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return UnknownField(f"There is no field '{shown(name)}'{hint}", param=shown(name))


def from_validation(errors: Sequence[ErrorDetails]) -> ChatterboxError:
    """The first of pydantic's errors as ours. Never repeats the input, but for the name of a
    field that does not exist, cut and escaped."""
    first = errors[0]
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    param = shown(".".join(where)) if where else None
    if first["type"] == "extra_forbidden":
        return unknown_field(".".join(where))
    if first["type"] == INVALID_TEXT:
        return InvalidText(f"'{param}' is not valid Unicode text.", param=param)
    if first["type"] == "missing":
        return InvalidValue(f"'{param}' is required.", param=param)
    reason = first["msg"]
    return InvalidValue(f"'{param}': {reason}." if param else f"{reason}.", param=param)


def from_http(fault: HTTPException) -> ChatterboxError:
    """Starlette's two refusals in our shape."""
    if fault.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"This route takes {(fault.headers or {}).get('Allow')}.")
    return RouteNotFound("There is no such route; GET / lists them.")
