"""Additions to FastAPI's `/openapi.json`: examples, response fields, errors and WebSockets.

`/docs` shows them, and docs/reference is generated from them. `reference.toml` has the texts.
"""

import inspect
import tomllib
from collections.abc import Container, Iterable, Iterator, Mapping
from json import dumps, loads
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi.routing import APIWebSocketRoute
from pydantic import BaseModel, TypeAdapter
from starlette.routing import BaseRoute

from chatterbox.errors import error_table

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
ANSWERS: dict[str, dict[str, str]] = {}
"""Method and path → response field → description."""
for _row in _TABLES["answers"]:
    for _call in _row["calls"]:
        ANSWERS[_call] = ANSWERS.get(_call, {}) | _row["fields"]

ORIGIN = "http://127.0.0.1:8000"
"""Server in the examples; `/docs` replaces it with its own address."""
BUILT_IN, OWN = "slt", "me"
"""Voices in the examples: a built-in one, and a registered one for calls that change a voice."""
VALUES: Mapping[str, Any] = {
    "text": "Hello there.",
    "input": "Hello there.",
    "prompt": "slt: Hello there.",
    "name": OWN,
    "voice_name": OWN,
    "alias": "emma",
    "consent_id": "CONSENT_ID",
    "speaker_embedding": [float(byte) for byte in BUILT_IN.encode()],
}
"""Field → its value in examples. Other fields get BUILT_IN."""
VOICES = ("voice_id", "voice", "speaker_wav", "predefined_voice_id")
"""Optional fields that examples send anyway."""

Fields = type[BaseModel] | Mapping[str, str]
"""Fields as a pydantic model, or as name → description."""
Conversation = Mapping[str, Any]
"""Messages of one WebSocket, from `dialects/conversations.toml`. `reads` has the fields of each
client message, and under `query` those of the URL."""


class ErrorFacts(BaseModel):
    """The `error` object of an error response."""

    message: str
    type: str
    code: str
    param: str | None
    request_id: str


class ErrorAnswer(BaseModel):
    """Body of every error response."""

    error: ErrorFacts


ERROR_ANSWERS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The call was refused"},
    "5XX": {"model": ErrorAnswer, "description": "The server could not answer"},
}


def extend_schema(
    schema: dict[str, Any], routes: Iterable[BaseRoute], conversations: Mapping[str, Conversation]
) -> None:
    """Add examples, response fields, sockets and errors to FastAPI's schema."""
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            _add_example(method, path, call)
            if fields := ANSWERS.get(f"{method} {path}"):
                content = call["responses"]["200"]["content"]
                content["application/json"]["schema"] = _field_schema(fields)
    docs = {route.path: inspect.getdoc(route.endpoint) for route in socket_routes(routes)}
    schema["x-sockets"] = [
        {"path": path, "description": docs.get(path), **_socket(conversation)}
        for path, conversation in conversations.items()
    ]
    schema["x-errors"] = [
        {
            "code": code,
            "status": error.status,
            "description": (error.__doc__ or "").split("\n")[0],
            "do": error.remedy,
        }
        for code, error in error_table().items()
    ]


def socket_routes(routes: Iterable[BaseRoute]) -> Iterator[APIWebSocketRoute]:
    """Yield the WebSocket routes, which OpenAPI cannot describe."""
    for route in routes:
        if isinstance(route, APIWebSocketRoute):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from socket_routes(router.routes)


def _socket(conversation: Conversation) -> dict[str, Any]:
    def messages(side: str, fields: Mapping[str, Fields]) -> list[dict[str, Any]]:
        return [
            {"name": name, "description": text, "schema": _field_schema(fields.get(name, {}))}
            for name, text in conversation[side].items()
        ]

    reads, frames = conversation["reads"], "JSON in text"
    if conversation.get("packed"):
        frames = "MessagePack in binary"
    example = (line.split(" ", 1) for line in conversation["example"].splitlines())
    return {
        "encoding": f"{frames} frames",
        "query": _field_schema(reads.get("query", conversation.get("query", {}))),
        "client": messages("client", reads),
        "server": messages("server", conversation.get("fields", {})),
        "example": [
            {"from": side, "message": text if text == "(audio)" else loads(text)}
            for side, text in example
        ],
    }


def _field_schema(fields: Fields) -> dict[str, Any]:
    if isinstance(fields, Mapping):
        return {"properties": {name: {"description": text} for name, text in fields.items()}}
    return TypeAdapter(fields).json_schema()


def _add_example(method: str, path: str, call: dict[str, Any]) -> None:
    """Add a curl command, made from the call's schema, as `x-codeSamples`. It runs unchanged once
    its files exist. Harmless calls without files are also added as `x-try`, for the page."""
    changes = method in ("put", "delete") or path.endswith("/edit")
    name = "mini" if path.startswith("/models/") else "tts-1"
    values = {**VALUES, "voice_id": OWN if changes else BUILT_IN, "name": name}
    path = path.format(**values)
    parameters = {row["name"]: row for row in call.get("parameters", ()) if row["in"] == "query"}
    query = _example_values(
        parameters, [name for name, row in parameters.items() if row["required"]]
    )
    content = call.get("requestBody", {}).get("content", {})
    json, words = None, [f"curl --fail-with-body {ORIGIN}{path}"]
    if "application/json" in content:
        schema = content["application/json"]["schema"]
        json = _example_values(schema.get("properties", {}), schema.get("required", ()))
        words.append(f"-H 'Content-Type: application/json' -d '{dumps(json)}'")
    elif "multipart/form-data" in content:
        schema = content["multipart/form-data"]["schema"]
        file = "@me.voice" if path.endswith("/import") else "@me.wav"
        files = {name: file for name, f in schema["properties"].items() if "binary" in str(f)}
        form = _example_values(schema["properties"], schema["required"]) | files
        words += [f'-F {name}="{value}"' for name, value in form.items()]
    words += ["-G"] * bool(query)
    words += [f'--data-urlencode {name}="{value}"' for name, value in query.items()]
    if method != ("post" if content else "get"):
        words.append(f"-X {method.upper()}")
    answer = call["responses"].get("200", {}).get("content", {})
    if "application/octet-stream" in answer:
        words.append("-o me.voice")
    elif any(kind.startswith("audio/") for kind in answer):
        words.append("-o sound")
    call["x-codeSamples"] = [{"lang": "curl", "source": " ".join(words)}]
    is_harmless = method == "get" or (method == "post" and json is not None)
    if is_harmless and "CONSENT" not in path:
        address = path + "?" * bool(query) + urlencode(query)
        call["x-try"] = {"path": address, "json": json}


def _example_values(fields: Mapping[str, Any], required: Container[str]) -> dict[str, Any]:
    names = [name for name in fields if name in required or name in VOICES]
    return {name: VALUES.get(name, BUILT_IN) for name in names}
