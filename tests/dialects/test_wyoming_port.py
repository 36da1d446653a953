"""Wyoming's port opens, drains and closes with the server's process."""

import asyncio
import signal

from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.ping import Ping, Pong
from wyoming.tts import Synthesize

from chatterbox.server.run import bind


def free_port() -> int:
    with bind("127.0.0.1", 0) as sock:
        return sock.getsockname()[1]


async def test_the_port_is_open_as_long_as_the_server_runs(process, tmp_path):
    port = free_port()
    with process(tmp_path, tones="held", server={"wyoming_port": port}) as server:
        async with (
            asyncio.timeout(60),
            AsyncTcpClient("127.0.0.1", port) as client,
            AsyncTcpClient("127.0.0.1", port) as late,
        ):
            await late.write_event(Ping().event())
            assert Pong.is_type((await late.read_event()).type)
            await client.write_event(Synthesize("Said to the end.").event())
            while not AudioChunk.is_type((event := await client.read_event()).type):
                pass
            server.signal()
            while server.client.get("/health/ready").status_code == 200:
                await asyncio.sleep(0.01)
            await late.write_event(Synthesize("Too late.").event())
            assert Error.from_event(await late.read_event()).code == "draining"
            server.signal(signal.SIGUSR1)  # what is running goes on
            while not AudioStop.is_type(event.type):
                event = await client.read_event()
        assert server.ended() == 128 + signal.SIGTERM


def test_a_port_in_use_is_reported_in_one_line(process, tmp_path):
    with bind("127.0.0.1", 0) as taken:
        port = {"wyoming_port": taken.getsockname()[1]}
        with process(tmp_path, tones="", server=port, ready=False) as server:
            assert server.ended() != 0
            assert "--wyoming-port choose another address" in server.log
