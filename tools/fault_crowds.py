"""Runs crowds of clients for `bench_faults.py`, some of them in separate processes."""

import asyncio
import multiprocessing
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tools.fault_calls import ENDLESS, Server, post

SPAWN = multiprocessing.get_context("spawn")
STREAM = {"text": ENDLESS, "stream": True, "response_format": "pcm"}
SHORT = {"text": "Hello there.", "stream": True, "response_format": "pcm", "seed": 1}


async def held(port: int, body: dict[str, object], *headers: str) -> tuple[int, float, float]:
    """One call, read to its end: status, seconds to the first sound or the refusal, and in all."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(post("/tts", body, "Connection: close", *headers))
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 200:
            return status, float(retry_after(head) or 0), time.monotonic() - began
        await reader.read(1)
        first_s = time.monotonic() - began
        while await reader.read(1 << 16):
            pass
        return status, first_s, time.monotonic() - began
    finally:
        writer.close()


def retry_after(head: bytes) -> int | None:
    found = re.search(rb"(?i)retry-after: (\d+)", head)
    return int(found[1]) if found else None


def crowd(port: int, people: int, patience_s: float, headers: tuple[str, ...] = ()) -> None:
    """In a process of its own: ask for endless speech again and again, for ever."""

    async def person() -> None:
        while True:
            try:
                status, _, _ = await held(port, STREAM, *headers)
            except (OSError, asyncio.IncompleteReadError):
                status = 0
            if status != 200:
                await asyncio.sleep(patience_s)

    async def everybody() -> None:
        await asyncio.gather(*(person() for _ in range(people)))

    asyncio.run(everybody())


def sleepers(port: int, people: int) -> None:
    """In a process of its own: ask, and read nothing of the answer."""
    calls = []
    for _ in range(people):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.sendall(post("/tts", {**STREAM, "sample_rate": 48_000}))  # fills buffers sooner
        calls.append(sock)
    time.sleep(3600)


@contextmanager
def beside(work: Callable[..., None], *given: object) -> Iterator[None]:
    """Clients in a process of their own, killed at the end of the scope."""
    process = SPAWN.Process(target=work, args=given, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


async def until_full(server: Server, queued: int) -> None:
    """Wait until so many wait for a place."""
    while server.metrics()["queued"] < queued:
        await asyncio.sleep(0.05)


async def first_sound_s(server: Server, times: int, *headers: str) -> list[float]:
    """Of short requests, one after the other."""
    found = []
    for _ in range(times):
        status, first_s, _ = await held(server.port, SHORT, *headers)
        assert status == 200, status
        found.append(first_s)
    return found
