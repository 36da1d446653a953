"""Wyoming's wire format: a line of JSON, then data and payload of the lengths it names.

Written here rather than taken from the `wyoming` package, which reads lengths without a limit.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from chatterbox.errors import BodyTooLarge, Cancelled, InvalidBody, SlowClient
from chatterbox.server.disconnect import STALL_S
from chatterbox.server.socket_server import MAX_FRAME_BYTES

VERSION = "1.10.2"  # of the protocol's own package, whose client the tests drive


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `payload` is sound, where there is any."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""
    encoded: bytes = b""  # its data, where that is JSON already


async def read_event(reader: asyncio.StreamReader) -> Event:
    """The next one. Raises Cancelled once the client has left, InvalidBody and BodyTooLarge."""
    try:
        line = await reader.readuntil(b"\n")
        header = _object(line)
        data = header.get("data") or {}
        if length := _length(header, "data_length"):
            data = {**_checked(data), **_object(await reader.readexactly(length))}
        payload = b""
        if length := _length(header, "payload_length"):
            payload = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Cancelled("The client left.") from None
    except asyncio.LimitOverrunError:
        raise BodyTooLarge(f"An event is at most {MAX_FRAME_BYTES} bytes.") from None
    kind = header.get("type")
    if not isinstance(kind, str):
        raise InvalidBody("An event has a 'type'.")
    return Event(kind, _checked(data), payload)


async def write_event(writer: asyncio.StreamWriter, event: Event) -> None:
    """Send one, waiting for a slow reader. Raises Cancelled where it has left, or reads no more."""
    header: dict[str, Any] = {"type": event.type, "version": VERSION}
    data = event.encoded or (json.dumps(event.data).encode("ascii") if event.data else b"")
    if data:
        header["data_length"] = len(data)
    if event.payload:
        header["payload_length"] = len(event.payload)
    try:
        async with asyncio.timeout(STALL_S):
            writer.write(json.dumps(header).encode("ascii") + b"\n" + data + event.payload)
            await writer.drain()
    except TimeoutError:
        raise SlowClient("The client stopped reading.") from None
    except ConnectionError:
        raise Cancelled("The client left.") from None


def _object(text: bytes) -> dict[str, Any]:
    try:
        return _checked(json.loads(text))
    except (ValueError, RecursionError):
        raise InvalidBody("The event is not JSON.") from None


def _checked(value: object) -> dict[str, Any]:
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
