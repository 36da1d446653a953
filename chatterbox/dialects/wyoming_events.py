"""Wyoming's events: a line of JSON, then data and payload of the lengths that it names.

They are read here rather than by the `wyoming` package, which takes lengths without a limit.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from chatterbox.errors import BodyTooLarge, Cancelled, InvalidBody, SlowClient
from chatterbox.server.request_log import STALL_S
from chatterbox.server.socket_server import MAX_FRAME_BYTES

VERSION = "1.10.2"  # of the protocol's own package, whose client the tests drive


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `payload` is sound, where there is any."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


async def read_event(reader: asyncio.StreamReader) -> Event:
    """The next event. Raises Cancelled once the client has left, InvalidBody and BodyTooLarge."""
    try:
        header = _object(await reader.readuntil(b"\n"))
        data = _object(header.get("data") or {})
        if length := _length(header, "data_length"):
            data |= _object(await reader.readexactly(length))
        payload = await reader.readexactly(_length(header, "payload_length"))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Cancelled("The client left.") from None
    except asyncio.LimitOverrunError:
        raise BodyTooLarge(f"An event is at most {MAX_FRAME_BYTES} bytes.") from None
    kind = header.get("type")
    if not isinstance(kind, str):
        raise InvalidBody("An event has a 'type'.")
    return Event(kind, data, payload)


async def write_event(
    writer: asyncio.StreamWriter,
    kind: str,
    data: dict[str, Any] | bytes = b"",
    payload: bytes = b"",
) -> None:
    """Send an event, waiting for a slow reader. `data` may be JSON already. Raises Cancelled where
    the client has left, or reads no more."""
    if isinstance(data, dict):
        data = json.dumps(data).encode("ascii")
    header: dict[str, Any] = {"type": kind, "version": VERSION}
    header |= {"data_length": len(data)} if data else {}
    header |= {"payload_length": len(payload)} if payload else {}
    try:
        async with asyncio.timeout(STALL_S):
            writer.write(json.dumps(header).encode("ascii") + b"\n" + data + payload)
            await writer.drain()
    except TimeoutError:
        raise SlowClient("The client stopped reading.") from None
    except ConnectionError:
        raise Cancelled("The client left.") from None


def _object(value: object) -> dict[str, Any]:
    """A JSON object, decoded already or not."""
    try:
        value = json.loads(value) if isinstance(value, bytes) else value
    except (ValueError, RecursionError):
        raise InvalidBody("The event is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidBody("An event, and its data, are JSON objects.")
    return value


def _length(header: dict[str, Any], name: str) -> int:
    length = header.get(name) or 0
    if not isinstance(length, int) or length < 0:
        raise InvalidBody(f"'{name}' is a number of bytes.")
    if length > MAX_FRAME_BYTES:
        raise BodyTooLarge(f"An event's parts are at most {MAX_FRAME_BYTES} bytes.")
    return length
