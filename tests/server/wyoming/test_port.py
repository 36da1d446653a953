"""Wyoming's port opens, drains and closes with the server's process."""

import asyncio
import signal

import httpx
from server.test_process import running
from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.tts import Synthesize

from chatterbox.server.run import bind


def free_port() -> int:
    with bind("127.0.0.1", 0) as sock:
        return sock.getsockname()[1]


async def test_it_lives_as_long_as_the_server():
    port = free_port()
    with running(f"slow:{port}") as server:
        async with asyncio.timeout(20), AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Synthesize("Said to the end.").event())
            while not AudioChunk.is_type((event := await client.read_event()).type):
                pass
            server.process.send_signal(signal.SIGTERM)
            while httpx.get(server.url + "/health/ready").status_code == 200:
                await asyncio.sleep(0.01)
            while not AudioStop.is_type(event.type):  # what is running goes on
                event = await client.read_event()
            await client.write_event(Synthesize("Too late.").event())
            while (event := await client.read_event()) is not None:
                assert Error.from_event(event).code == "draining"
        assert server.ended()[0] == 128 + signal.SIGTERM


def test_a_port_that_is_taken_is_said_in_one_line():
    with (
        bind("127.0.0.1", 0) as taken,
        running(f":{taken.getsockname()[1]}", ready=False) as server,
    ):
        code, log = server.ended()
        assert code != 0
        assert "--wyoming-port choose another address" in log
