"""How do messages travel as MessagePack? In binary frames, one map each, with its `type`.

Knows the frames; what the messages mean, each protocol knows.
"""

from typing import Any

import msgpack

from chatterbox.dialects.shared.socket_server import Socket
from chatterbox.errors import InvalidBody, UnsupportedMediaType


def packed(body: dict[str, Any]) -> bytes:
    """One message. Numbers with a point are single precision: they are samples and seconds."""
    data: bytes = msgpack.packb(body, use_single_float=True)
    return data


def unpacked(message: str | bytes) -> dict[str, Any]:
    """One message. Raises UnsupportedMediaType and InvalidBody."""
    if isinstance(message, str):
        raise UnsupportedMediaType("Send MessagePack in binary frames here.")
    try:
        value = msgpack.unpackb(message)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise InvalidBody("The message is not MessagePack.") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidBody("The message must be a map with a 'type'.")
    return value


async def send_packed(socket: Socket, body: dict[str, Any]) -> None:
    """To the client."""
    await socket.send(packed(body))
