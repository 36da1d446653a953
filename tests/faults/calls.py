"""What clients do to a server besides asking nicely: leaving, crawling, coming in crowds."""

import asyncio
import json
import socket
import struct

import pytest
import websockets
from faults.harness import Rig
from websockets.asyncio.client import connect


def post(body: dict, path: str = "/tts", headers: str = "") -> bytes:
    """A POST as bytes."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def reset(writer: asyncio.StreamWriter) -> None:
    """Leave at once, with what is on its way thrown away: as a killed process does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def heard_some(rig: Rig, body: dict, least_bytes: int = 1000, **more):
    """A connection whose answer has begun: reader and writer."""
    reader, writer = await rig.raw(post(body, **more))
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in answer.split(b"\r\n")[0], answer
    await reader.readexactly(least_bytes)
    return reader, writer


async def unread(rig: Rig, body: dict) -> socket.socket:
    """A connection with hardly any room that never reads."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", rig.port))
    await loop.sock_sendall(sock, post(body))
    return sock


async def refusal_of(rig: Rig, path: str, **more) -> tuple[int, str]:
    """How a socket is refused before it is accepted."""
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with connect(f"ws://127.0.0.1:{rig.port}{path}", **more):
            pass
    answer = refusal.value.response
    return answer.status_code, answer.body.decode()
