"""Wyoming on a real port, with the protocol's own client."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from harness import PIECE_SAMPLES, FakeEngine, put_forward, server_config
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from chatterbox.dialects.registry import DIALECTS
from chatterbox.dialects.wyoming import WyomingListener
from chatterbox.errors import TextFault
from chatterbox.server.app import create_app
from chatterbox.server.run import bind

NEVER = 3600.0
SPOKEN_BYTES = 2 * 2 * PIECE_SAMPLES


@asynccontextmanager
async def listening(engine=None, **config):
    """Serve the port in this event loop."""
    engine = engine or FakeEngine()
    app = create_app(engine, server_config(**config), DIALECTS)
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    listener = WyomingListener(app.services, sock)
    await listener.open()
    try:
        async with asyncio.timeout(60):
            yield engine, port
    finally:
        await listener.close()
        engine.close()


async def heard_until(client, last) -> list:
    heard = []
    while not (heard and last.is_type(heard[-1].type)):
        event = await client.read_event()
        assert event is not None, heard
        heard.append(event)
    return heard


def kinds(events) -> list[str]:
    found: list[str] = []
    for event in events:
        if event.type != "audio-chunk" or found[-1:] != ["audio-chunk"]:
            found.append(event.type)
    return found


def sound(events) -> bytes:
    chunks = [AudioChunk.from_event(e) for e in events if AudioChunk.is_type(e.type)]
    assert {(c.rate, c.width, c.channels) for c in chunks} == {(24_000, 2, 1)}
    return b"".join(c.audio for c in chunks)


async def test_describe():
    async with listening() as (_, port), AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Describe().event())
        info = Info.from_event(await client.read_event())
        program = info.tts[0]
        assert program.supports_synthesize_streaming and program.installed
        assert [(v.name, v.languages) for v in program.voices] == [("slt", ["en"])]
        await client.write_event(Ping("hello").event())
        assert Pong.from_event(await client.read_event()).text == "hello"


async def test_whole_text():
    async with listening() as (engine, port), AsyncTcpClient("127.0.0.1", port) as client:
        for text in ("Turn on the light.", "And off again."):
            asked = Synthesize(text, voice=SynthesizeVoice(name="slt"))
            await client.write_event(asked.event())
            heard = await heard_until(client, AudioStop)
            assert kinds(heard) == ["audio-start", "audio-chunk", "audio-stop"]
            assert AudioStart.from_event(heard[0]).rate == 24_000
            assert len(sound(heard)) == SPOKEN_BYTES
        assert [r.text for r in engine.requests] == ["Turn on the light.", "And off again."]


async def test_streamed_text():
    async with listening() as (engine, port), AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(SynthesizeStart(voice=SynthesizeVoice(language="en")).event())
        await client.write_event(SynthesizeChunk("The light is on. The ").event())
        first = await heard_until(client, AudioChunk)  # before the rest is written
        await client.write_event(SynthesizeChunk("door is closed.").event())
        await client.write_event(Synthesize("The light is on. The door is closed.").event())
        await client.write_event(SynthesizeStop().event())
        heard = first + await heard_until(client, SynthesizeStopped)
        assert kinds(heard) == ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]
        pause_bytes = 2 * round(0.12 * 24_000)
        assert len(sound(heard)) == 2 * SPOKEN_BYTES + pause_bytes
        said = [r.text.strip() for r in engine.requests]
        assert said == ["The light is on.", "The door is closed."]


async def test_text_without_words_is_answered():
    async with listening() as (_, port), AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Synthesize("🙂").event())
        heard = await heard_until(client, AudioStop)
        assert kinds(heard) == ["audio-start", "audio-chunk", "audio-stop"]
        assert sound(heard) == bytes(2 * 2400)


async def test_a_text_that_fails_is_skipped():
    async with listening() as (engine, port), AsyncTcpClient("127.0.0.1", port) as client:
        for fault in (None, TextFault("no"), None):
            engine.text_error = fault
            await client.write_event(Synthesize("Turn on the light.").event())
            sounds = "audio-chunk" in kinds(await heard_until(client, AudioStop))
            assert sounds is (fault is None)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{\n", "invalid_body"),
        (b"[]\n", "invalid_body"),
        (b'{"type": 7}\n', "invalid_body"),
        (b'{"type": "ping", "data": []}\n[]', None),
        (b'{"type": "ping", "data_length": -1}\n', "invalid_body"),
        (b'{"type": "ping", "data_length": 9999999}\n', "body_too_large"),
        (b'{"type": "ping", "payload_length": 9999999}\n', "body_too_large"),
        (b"x" * 70_000, "body_too_large"),
        (b'{"type": "synthesize", "data": {"text": 7}}\n', "invalid_value"),
        (b'{"type": "synthesize", "data": {"voice": {"name": "nobody"}}}\n', "voice_not_found"),
    ],
)
async def test_unreadable_events(line, code):
    async with listening() as (engine, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line)
        header = json.loads(await reader.readline())
        data = json.loads(await reader.readexactly(header["data_length"]))
        if code is None:
            assert header["type"] == "pong"
        else:
            assert (header["type"], data["code"]) == ("error", code)
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert engine.requests == []


async def test_a_client_that_leaves_stops_the_speech():
    engine = FakeEngine(script=[PIECE_SAMPLES, NEVER])
    async with listening(engine) as (_, port):
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Synthesize("This never ends.").event())
            await heard_until(client, AudioChunk)
        while engine.admission.active:
            await asyncio.sleep(0.005)
        assert engine.open_streams == 0


async def test_busy_idle_crowded_and_interrupted():
    engine = FakeEngine(capacity=1, queue_capacity=0, script=[PIECE_SAMPLES, NEVER])
    async with (
        listening(engine, websocket_idle_timeout_s=10, max_websockets=2) as (_, port),
        AsyncTcpClient("127.0.0.1", port) as one,
    ):
        await one.write_event(Synthesize("This never ends.").event())
        await heard_until(one, AudioChunk)
        async with AsyncTcpClient("127.0.0.1", port) as other:
            await other.write_event(Synthesize("No room.").event())
            assert Error.from_event(await other.read_event()).code == "overloaded"
            assert await other.read_event() is None
        async with AsyncTcpClient("127.0.0.1", port), AsyncTcpClient("127.0.0.1", port) as third:
            assert Error.from_event(await third.read_event()).code == "too_many_connections"
        heard = None
        while heard != "idle_timeout":
            async with AsyncTcpClient("127.0.0.1", port) as other:
                await other.write_event(Ping().event())
                if Pong.is_type((await other.read_event()).type):  # else no place is free yet
                    put_forward(11)
                    heard = Error.from_event(await other.read_event()).code
    assert (engine.admission.active, engine.open_streams) == (0, 0)
