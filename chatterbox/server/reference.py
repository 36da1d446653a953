"""What `/openapi.json` says beyond FastAPI's own: the errors, and what is said on each socket.

`/docs` shows it, and docs/reference is made of it.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.routing import APIWebSocketRoute
from pydantic import BaseModel, TypeAdapter
from starlette.routing import BaseRoute

from chatterbox.errors import error_table
from chatterbox.server.remedies import REMEDIES

Fields = type[BaseModel] | Mapping[str, str]
"""Those of a model; or name → meaning."""


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of message on a socket."""

    name: str
    meaning: str
    fields: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is said on one socket, and an exchange as an example."""

    client: Sequence[Message]
    server: Sequence[Message]
    example: Sequence[tuple[str, Any]]
    """(">" from the client or "<" from the server, the message); bytes stand for sound."""
    query: Fields = field(default_factory=dict)
    """Parameters of the address."""
    packed: bool = False
    """MessagePack in binary frames, not JSON in text frames."""


def socket_routes(routes: Iterable[BaseRoute]) -> Iterator[APIWebSocketRoute]:
    """The WebSockets, which OpenAPI does not know."""
    for route in routes:
        if isinstance(route, APIWebSocketRoute):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from socket_routes(router.routes)


def sockets(
    routes: Iterable[BaseRoute], conversations: Mapping[str, Conversation]
) -> list[dict[str, Any]]:
    """What is said on each socket."""
    does = {route.path: inspect.getdoc(route.endpoint) for route in socket_routes(routes)}
    return [
        {
            "path": path,
            "description": does.get(path),
            "encoding": "MessagePack in binary frames" if said.packed else "JSON in text frames",
            "query": field_schema(said.query),
            "client": [_described(message) for message in said.client],
            "server": [_described(message) for message in said.server],
            "example": [
                {"from": who, "message": "(sound)" if isinstance(message, bytes) else message}
                for who, message in said.example
            ],
        }
        for path, said in conversations.items()
    ]


def errors() -> list[dict[str, Any]]:
    """The table of errors, each with what to do."""
    return [
        {
            "code": code,
            "status": error.status,
            "description": (error.__doc__ or "").split("\n")[0],
            "do": REMEDIES[code],
        }
        for code, error in error_table().items()
    ]


def _described(message: Message) -> dict[str, Any]:
    return {
        "name": message.name,
        "description": message.meaning,
        "schema": field_schema(message.fields),
    }


def field_schema(fields: Fields) -> dict[str, Any]:
    """As a schema."""
    if isinstance(fields, Mapping):
        return {"properties": {name: {"description": said} for name, said in fields.items()}}
    return TypeAdapter(fields).json_schema()
