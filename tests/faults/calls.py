"""Badly behaved clients: they disconnect, read slowly or not at all, or come in crowds."""

import asyncio
import json
import socket
import struct

import pytest
import websockets
from faults.harness import Rig
from websockets.asyncio.client import connect


def post(body: dict, path: str = "/tts", headers: str = "") -> bytes:
    """Return a POST request as bytes."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection, as a killed process does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def heard_some(rig: Rig, body: dict, least_bytes: int = 1000, **more):
    """Connect and wait for the beginning of the response; return reader and writer."""
    reader, writer = await rig.raw(post(body, **more))
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in answer.split(b"\r\n")[0], answer
    await reader.readexactly(least_bytes)
    return reader, writer


async def unread(rig: Rig, body: dict) -> socket.socket:
    """Connect with a small buffer, and never read."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", rig.port))
    await loop.sock_sendall(sock, post(body))
    return sock


async def refusal_of(rig: Rig, path: str, **more) -> tuple[int, str]:
    """Return status and error code of a refused WebSocket handshake."""
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with connect(f"ws://127.0.0.1:{rig.port}{path}", **more):
            pass
    answer = refusal.value.response
    return answer.status_code, answer.body.decode()
