"""Answers that hold all voices: encoded beside the event loop, kept until a voice changes, and sent
in pieces. Ten thousand voices are 6 MB of JSON and take a third of a second.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatterbox.voices.names import VoiceInfo

PIECE_BYTES = 64 * 1024
"""More is in memory for nobody who does not read."""
DEPTH = 2
"""So deep are lists and objects encoded element by element: each takes microseconds, and between
two of them other threads may go on. `json` would encode all of them in one go."""

Render = Callable[[list[VoiceInfo]], Any]


class VoiceLists:
    """The encoded lists of one server, one for each kind of answer."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[list[VoiceInfo], bytes]] = {}
        self._encoding = asyncio.Lock()

    async def encoded(self, kind: str, voices: list[VoiceInfo], render: Render) -> bytes:
        """`render(voices)` as JSON; from memory where it was made of the same voices before."""
        async with self._encoding:
            kept, body = self._kept.get(kind, (None, b""))
            if kept != voices:  # quick: equal ones are the same objects
                body = await asyncio.to_thread(lambda: _json(render(voices)))
                self._kept[kind] = voices, body
        return body


class ListAnswer(Response):
    """A long JSON body, sent as fast as it is read."""

    media_type = "application/json"

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        body = bytes(self.body)
        for at in range(0, len(body), PIECE_BYTES):
            piece = body[at : at + PIECE_BYTES]
            more = at + PIECE_BYTES < len(body)
            await send({"type": "http.response.body", "body": piece, "more_body": more})


def _json(value: Any) -> bytes:
    return "".join(_pieces(value, DEPTH)).encode()


def _pieces(value: Any, depth: int) -> Iterator[str]:
    """As Starlette's JSONResponse writes it."""
    if depth and value and isinstance(value, dict | list):
        named = isinstance(value, dict)
        comma = "{" if named else "["
        for key in value:
            yield f"{comma}{_dumped(key)}:" if named else comma
            yield from _pieces(value[key] if named else key, depth - 1)
            comma = ","
        yield "}" if named else "]"
    else:
        yield _dumped(value)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
