"""A real server on loopback, in its own thread, with any engine; and helpers for its clients."""

import asyncio
import contextlib
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import av
import numpy as np
import soundfile
import uvicorn
import websockets
from harness import FakeEngine, put_forward, server_config, shut_down
from websockets.asyncio.client import connect

from chatterbox.dialects.registry import DIALECTS
from chatterbox.server.app import create_app
from chatterbox.server.run import address_of, bind, http_config
from chatterbox.voices.built_in import DIRECTORY

WAIT_S = 60
TEXT = "Hello there. This is a test of the speech."


class Gate(asyncio.Event):
    """A gate in a script of the fake engine, opened from outside the server's thread."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    async def wait(self) -> bool:
        while not self.opened.is_set():
            await asyncio.sleep(0.002)
        return True


class Quiet(uvicorn.Server):
    """A server that stops at once; uvicorn's checks every 0.1 s."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    async def main_loop(self):
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        await self.over.wait()

    async def shutdown(self, sockets=None):
        await shut_down(self)

    def stop(self):
        self.loop.call_soon_threadsafe(self.over.set)


class Live:
    """A running server: its addresses, its engine and its application."""

    def __init__(self, engine, app, sock) -> None:
        self.engine, self.app = engine, app
        self.http = address_of(sock)
        self.ws = self.http.replace("http", "ws")
        self.server = Quiet(http_config(app, app.limiter))

    def connect(self, path: str, **more):
        return connect(self.ws + path, max_size=2**24, **more)

    loop_factory = None  # asyncio's own

    def run(self, sock) -> None:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(self.server.serve(sockets=[sock]))

    def put_forward(self, seconds: float) -> None:
        """Advance the clock of the server's event loop."""
        self.server.loop.call_soon_threadsafe(put_forward, seconds)

    def outcomes(self) -> dict[str, int]:
        return self.app.metrics.as_json()["requests"]["by_outcome"]


@contextmanager
def live(engine=None, **config) -> Iterator[Live]:
    engine = engine or FakeEngine()
    sock = bind("127.0.0.1", 0)
    server = Live(engine, create_app(engine, server_config(**config), DIALECTS), sock)
    thread = threading.Thread(target=server.run, args=(sock,))
    thread.start()
    while not server.server.started:
        time.sleep(0.001)
    try:
        yield server
    finally:
        server.server.stop()
        thread.join(WAIT_S)
        sock.close()
        if isinstance(engine, FakeEngine):
            engine.close()


@asynccontextmanager
async def talking(server: Live, path: str, **more) -> AsyncIterator["Talk"]:
    async with asyncio.timeout(WAIT_S), server.connect(path, **more) as socket:
        yield Talk(socket)


class Talk:
    """A client's socket: sends JSON, receives JSON or bytes."""

    def __init__(self, socket) -> None:
        self.socket = socket

    async def say(self, **body) -> None:
        await self.socket.send(json.dumps(body))

    async def hear(self):
        message = await self.socket.recv()
        return message if isinstance(message, bytes) else json.loads(message)

    async def hear_until(self, last) -> list:
        """Receive messages up to and including the first for which `last` is true."""
        heard = []
        while not (heard and last(heard[-1])):
            heard.append(await self.hear())
        return heard

    async def closed(self) -> tuple[int, list]:
        """Receive until the close. Returns the close code and the messages."""
        heard = []
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                heard.append(await self.hear())
        return self.socket.close_code, heard


def kinds(messages: list) -> list[str]:
    """The types of the messages, with successive audio messages as one `sound`."""
    found: list[str] = []
    for message in messages:
        kind = "sound" if isinstance(message, bytes) else message["type"]
        if kind != "sound" or found[-1:] != ["sound"]:
            found.append(kind)
    return found


def clip(name: str = "kal16", seconds: float = 6.0) -> bytes:
    """A recording as a WAV file, ready for an upload."""
    samples, rate_hz = soundfile.read(DIRECTORY / f"{name}.flac", dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, samples[: int(seconds * rate_hz)], rate_hz, format="WAV")
    return file.getvalue()


def decoded(data: bytes, muxer: str | None = None, rate_hz: int | None = None):
    """Decode an audio file to ([n] float32, sample rate). Raw data needs `muxer` and a rate."""
    options = {"sample_rate": str(rate_hz)} if muxer else {}
    with av.open(io.BytesIO(data), format=muxer, options=options) as container:
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="flt", layout="mono")
        parts = [
            part.to_ndarray().reshape(-1)
            for frame in container.decode(stream)
            for part in to_float.resample(frame)
        ]
        return np.concatenate(parts), stream.rate


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Largest correlation of two signals over all shifts; 1 for equal signals."""
    size = 1 << (len(one) + len(other)).bit_length()
    product = np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size))
    return float(np.fft.irfft(product, size).max() / np.sqrt((one**2).sum() * (other**2).sum()))
