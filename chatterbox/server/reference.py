"""What `/openapi.json` says beyond FastAPI's own: examples, answers, errors, and sockets.

`/docs` shows it, and docs/reference is made of it. `reference.toml` has the tables.
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
"""Method and path → field → meaning."""
for _row in _TABLES["answers"]:
    for _call in _row["calls"]:
        ANSWERS[_call] = ANSWERS.get(_call, {}) | _row["fields"]

ORIGIN = "http://127.0.0.1:8000"
"""The server in examples; `/docs` writes its own address."""
BUILT_IN, OWN = "slt", "me"
"""A voice that speaks; one that was registered, and so may be changed."""
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
"""Field → what examples send in it; in others a voice's name."""
VOICES = ("voice_id", "voice", "speaker_wav", "predefined_voice_id")
"""Sent although they need not be."""

Fields = type[BaseModel] | Mapping[str, str]
"""Those of a model; or name → meaning."""
Conversation = Mapping[str, Any]
"""What is said on one socket: `dialects/conversations.toml`. `reads`: the fields of what the client
sends, by message, and as `query` those of the address."""


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


def complete(
    schema: dict[str, Any], routes: Iterable[BaseRoute], conversations: Mapping[str, Conversation]
) -> None:
    """Add to FastAPI's schema what it does not know."""
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            _add_example(method, path, call)
            if fields := ANSWERS.get(f"{method} {path}"):
                content = call["responses"]["200"]["content"]
                content["application/json"]["schema"] = _field_schema(fields)
    does = {route.path: inspect.getdoc(route.endpoint) for route in socket_routes(routes)}
    schema["x-sockets"] = [
        {"path": path, "description": does.get(path), **_socket(said)}
        for path, said in conversations.items()
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
    """The WebSockets, which OpenAPI does not know."""
    for route in routes:
        if isinstance(route, APIWebSocketRoute):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from socket_routes(router.routes)


def _socket(said: Conversation) -> dict[str, Any]:
    def messages(side: str, fields: Mapping[str, Fields]) -> list[dict[str, Any]]:
        return [
            {"name": name, "description": does, "schema": _field_schema(fields.get(name, {}))}
            for name, does in said[side].items()
        ]

    example = (line.split(" ", 1) for line in said["example"].splitlines())
    return {
        "encoding": f"{'MessagePack in binary' if said.get('packed') else 'JSON in text'} frames",
        "query": _field_schema(said["reads"].get("query", said.get("query", {}))),
        "client": messages("client", said["reads"]),
        "server": messages("server", said.get("fields", {})),
        "example": [
            {"from": who, "message": what if what == "(sound)" else loads(what)}
            for who, what in example
        ],
    }


def _field_schema(fields: Fields) -> dict[str, Any]:
    if isinstance(fields, Mapping):
        return {"properties": {name: {"description": said} for name, said in fields.items()}}
    return TypeAdapter(fields).json_schema()


def _add_example(method: str, path: str, call: dict[str, Any]) -> None:
    """A line of curl, made of the call's own schema, as `x-codeSamples`: it works as it is, but for
    the files of a form. As `x-try` too, where the page can make the call by itself."""
    changes = method in ("put", "delete") or path.endswith("/edit")
    name = "mini" if path.startswith("/models/") else "tts-1"
    values = {**VALUES, "voice_id": OWN if changes else BUILT_IN, "name": name}
    path = path.format(**values)
    parameters = {row["name"]: row for row in call.get("parameters", ()) if row["in"] == "query"}
    query = _sent(parameters, [name for name, row in parameters.items() if row["required"]])
    content = call.get("requestBody", {}).get("content", {})
    json, words = None, [f"curl --fail-with-body {ORIGIN}{path}"]
    if "application/json" in content:
        schema = content["application/json"]["schema"]
        json = _sent(schema.get("properties", {}), schema.get("required", ()))
        words.append(f"-H 'Content-Type: application/json' -d '{dumps(json)}'")
    elif "multipart/form-data" in content:
        schema = content["multipart/form-data"]["schema"]
        file = "@me.voice" if path.endswith("/import") else "@me.wav"
        files = {name: file for name, f in schema["properties"].items() if "binary" in str(f)}
        form = _sent(schema["properties"], schema["required"]) | files
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
    harmless = method == "get" or (method == "post" and json is not None)
    if harmless and "CONSENT" not in path:
        address = path + "?" * bool(query) + urlencode(query)
        call["x-try"] = {"path": address, "json": json}


def _sent(fields: Mapping[str, Any], required: Container[str]) -> dict[str, Any]:
    names = [name for name in fields if name in required or name in VOICES]
    return {name: VALUES.get(name, BUILT_IN) for name in names}
