"""A real server on a port of this machine, in a thread: for clients that know only addresses."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
import soundfile
import uvicorn
from server.harness import server_config

from chatterbox.server.app import create_app
from chatterbox.server.run import bind, http_config
from chatterbox.voices.built_in import DIRECTORY

TEXT = "Hello there. This is a test of the speech."


class Gate(asyncio.Event):
    """For a script of the fake engine: opened from another thread than the server's."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    async def wait(self) -> bool:
        while not self.opened.is_set():
            await asyncio.sleep(0.002)
        return True


@contextmanager
def live(engine, **config) -> Iterator[str]:
    """The address of a server around `engine`, as `run.py` would set it up."""
    app = create_app(engine, server_config(**config))
    server = uvicorn.Server(http_config(app, app.state.door))
    sock = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        sock.close()


def clip(name: str = "kal16", seconds: float = 6.0) -> bytes:
    """A recording as a person would upload it."""
    samples, rate_hz = soundfile.read(DIRECTORY / f"{name}.flac", dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, samples[: int(seconds * rate_hz)], rate_hz, format="WAV")
    return file.getvalue()


def decoded(data: bytes, muxer: str | None = None, rate_hz: int | None = None):
    """([samples] float32, sample rate) of any file; `muxer` and rate for what has no header."""
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
    """The correlation of two sounds at the shift where they are most alike; 1: the same sound."""
    size = 1 << (len(one) + len(other)).bit_length()
    product = np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size))
    return float(np.fft.irfft(product, size).max() / np.sqrt((one**2).sum() * (other**2).sum()))
