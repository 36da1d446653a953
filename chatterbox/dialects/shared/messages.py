"""Messages on sockets: MessagePack frames, and a message's fields checked against a model."""

from typing import Any, TypeVar

import msgpack

from chatterbox.errors import (
    ChatterboxError,
    InvalidBody,
    InvalidValue,
    UnsupportedMediaType,
    shown,
)
from chatterbox.server.body import Body
from chatterbox.server.schemas import LenientCall, lenient_fields_of
from chatterbox.server.socket_server import Socket

M = TypeVar("M", bound=LenientCall)


def fields_of_message(model: type[M], message: dict[str, Any]) -> M:
    """A decoded message's fields; those that the model does not have are ignored. Raises what
    `lenient_fields_of` does."""
    return lenient_fields_of(model, Body(message, typed=True))[0]


def unknown_message(kind: object) -> ChatterboxError:
    """The error for a message whose `type` the protocol does not have."""
    return InvalidValue(f"There is no message '{shown(kind)}'.", param="type")


def packed(body: dict[str, Any]) -> bytes:
    """One MessagePack message. Floats are single precision: they are samples and seconds."""
    data: bytes = msgpack.packb(body, use_single_float=True)
    return data


async def send_packed(socket: Socket, kind: str, **fields: Any) -> None:
    """Send one MessagePack message."""
    await socket.send(packed({"type": kind, **fields}))


def unpacked(message: str | bytes) -> dict[str, Any]:
    """One MessagePack message. Raises UnsupportedMediaType and InvalidBody."""
    if isinstance(message, str):
        raise UnsupportedMediaType("Send MessagePack in binary frames here.")
    try:
        value = msgpack.unpackb(message)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise InvalidBody("The message is not MessagePack.") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidBody("The message must be a map with a 'type'.")
    return value
