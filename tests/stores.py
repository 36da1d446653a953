"""A local S3 server, its buckets, and a proxy that can break connections to it."""

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import httpx

KEY_ID, SECRET = "AKIANOTSEEN", "not-to-be-seen-anywhere"


@contextmanager
def s3_server() -> Iterator[str]:
    """Start an S3 server; yield its address."""
    program = Path(__file__).with_name("s3_server.py")
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield server.stdout.readline().strip()


def bucket(address: str, monkeypatch, *, through: str | None = None) -> str:
    """Create a bucket and set the environment variables that lead to it. Returns its URL.
    `through`: the address of a proxy to use."""
    name = f"voices-{uuid.uuid4().hex}"
    httpx.put(f"{address}/{name}").raise_for_status()
    for variable, value in {
        "AWS_ENDPOINT_URL": through or address,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)
    return f"s3://{name}/some/prefix"


class Line:
    """A TCP proxy to an address, in its own thread, whose connections can be broken."""

    def __init__(self, address: str) -> None:
        self._target = httpx.URL(address)
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._cut = False
        self.requests = 0  # that ask for something

    def __enter__(self) -> Self:
        self._thread.start()
        opening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = self._run(opening)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_) -> None:
        self._server.close()
        self.cut()
        self._run(self._ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break all open connections and refuse new ones until `mend` is called."""
        self._cut = True
        self._run(self._break())

    def mend(self) -> None:
        self._cut = False

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _break(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _ended(self) -> None:
        while self._open:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        there, onward = await asyncio.open_connection(self._target.host, self._target.port)
        self._open |= {writer, onward}
        await asyncio.gather(self._pass(reader, onward, count=True), self._pass(there, writer))
        self._open -= {writer, onward}

    async def _pass(self, reader, writer, *, count: bool = False) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self.requests += count and data.startswith((b"GET ", b"HEAD "))
                writer.write(data)
                await writer.drain()
        writer.close()
