"""Fault table, section C (F20 to F29): clients that disconnect or read slowly."""

import asyncio
import signal
import sys

import pytest
from faults.calls import heard_some, post, reset, unread
from faults.harness import GOLDEN, KEY, LONG_TEXT, SECRET, SHORT, running
from harness import put_forward

from chatterbox.server.request_log import STALL_S

LONG = {"text": LONG_TEXT, "voice_id": "awb", "seed": 5, "response_format": "pcm"}


def outcomes(rig) -> str:
    return "\n".join(rig.log.outcomes)


async def endless(rig) -> str:
    """Let the voice `awb` speak without end; return its key."""
    key = (await asyncio.to_thread(rig.engine.voices.get, "awb")).key
    rig.model.endless.add(key)
    return key


SLOW = pytest.mark.slow


@pytest.mark.parametrize("how", ["reset", pytest.param("close", marks=SLOW)])
async def test_f20_disconnect_after_the_first_sound_stops_the_work(tmp_path, how):
    async with running(tmp_path, engine={"runaway_guard": False}) as rig:
        key = await endless(rig)
        stepped = []
        rig.model.on_step = lambda keys: stepped.append(key in keys)
        async with rig.fault():
            _, writer = await heard_some(rig, LONG)
            assert rig.engine.admission.active == 2
            if how == "reset":
                reset(writer)
            else:
                writer.close()
            await rig.until(lambda: rig.engine.admission.active == 1)
            await rig.quiet()
            steps = sum(stepped)
            assert (await rig.speak()).status_code == 200
            assert sum(stepped) == steps
    assert "outcome=cancelled" in outcomes(rig)


async def crowd(rig, count: int) -> None:
    """Let `count` clients request a long text, in one process that is then killed."""
    program = (
        "import socket, sys\n"
        "port, count = int(sys.argv[1]), int(sys.argv[2])\n"
        "call = sys.stdin.buffer.read()\n"
        "calls = [socket.create_connection(('127.0.0.1', port)) for _ in range(count)]\n"
        "for one in calls: one.sendall(call)\n"
        "calls[0].recv(100)\n"
        "print('heard', flush=True)\n"
        "sys.stdin = None\n"
        "import time; time.sleep(60)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(rig.port),
        str(count),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    process.stdin.write(post(LONG))
    process.stdin.write_eof()
    assert await process.stdout.readline() == b"heard\n"
    process.kill()
    await process.wait()


@pytest.mark.parametrize(("clients", "times"), [(60, 1), pytest.param(200, 3, marks=SLOW)])
async def test_f21_two_hundred_clients_killed_at_once_three_times(tmp_path, clients, times):
    queue = {"max_concurrent_requests": 16, "max_queued_requests": 300, "max_inflight_segments": 1}
    async with running(tmp_path, engine=queue) as rig:
        await endless(rig)
        for _ in range(times):
            async with rig.fault():
                await crowd(rig, clients)
                await rig.until(lambda: rig.engine.admission.active <= 1)
                assert (await rig.speak()).status_code == 200
        answered = [line for line in rig.log.outcomes if "outcome=cancelled" in line]
        assert len(answered) >= 0.75 * times * clients  # some had not been read when they died


WAYS = {
    "whole": LONG | {"stream": False},
    "streamed": LONG,
    "JSON": LONG,
}


@pytest.mark.parametrize(
    ("way", "queued"),
    [
        ("whole", False),
        ("JSON", True),
        *(pytest.param(*case, marks=SLOW) for case in (("streamed", False), ("JSON", False))),
        *(pytest.param(*case, marks=SLOW) for case in (("whole", True), ("streamed", True))),
    ],
)
async def test_f22_disconnect_before_the_response_is_seen_through_all_middleware(
    tmp_path, way, queued
):
    """No middleware for keys, hosts or CORS may hide the disconnect."""
    places = {"max_concurrent_requests": 2, "runaway_guard": False}
    async with running(
        tmp_path, engine=places, api_keys=KEY, cors_origins="https://example.com"
    ) as rig:
        rig.headers["Authorization"] = f"Bearer {KEY}"
        rig.client.headers["Authorization"] = f"Bearer {KEY}"
        key = await endless(rig)
        async with rig.fault():
            more = {
                "headers": f"Authorization: Bearer {KEY}\r\nOrigin: https://example.com\r\n",
                "path": "/tts/json" if way == "JSON" else "/tts",
            }
            holder = None
            if queued:
                _, holder = await heard_some(rig, LONG, headers=more["headers"])
            begun = []
            rig.model.on_begin = begun.append
            body = WAYS[way] | {"voice_id": "rms" if queued else "awb"}
            _, writer = await rig.raw(post(body, **more))
            if queued:
                await rig.until(lambda: rig.engine.admission.queued == 1)
                reset(writer)
                await rig.until(lambda: rig.engine.admission.queued == 0)
                reset(holder)
            else:
                await rig.until(lambda: any(row[1][0] == key for row in rig.model.held.values()))
                reset(writer)
            await rig.until(lambda: rig.engine.admission.active == 1)
            await rig.quiet()
            assert not queued or not any(key.startswith("rms") for key in begun)
        assert "outcome=cancelled" in outcomes(rig)


async def test_f23_disconnect_during_an_upload(rig):
    async with rig.fault():
        head = (
            "POST /voices/register HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="voice_file"; filename="a.wav"\r\n\r\nRIFF'
        )
        _, writer = await rig.raw(head.encode() + bytes(100_000))
        await rig.until(lambda: rig.begun > 0)
        await asyncio.sleep(0.05)
        reset(writer)
        await rig.until(lambda: "outcome=cancelled" in outcomes(rig))
        assert all(info.built_in for info in rig.engine.voices.list())


FORMATS = ("mp3", "opus", "flac", "aac", "wav")


@SLOW
def test_f24_disconnect_in_the_middle_of_every_encoder(process, tmp_path, right):
    places = {"max_concurrent_requests": 64, "max_queued_requests": 64}
    with process(tmp_path, engine=places) as server:
        calls = [
            server.raw(LONG | {"response_format": FORMATS[i % len(FORMATS)], "seed": i})
            for i in range(50)
        ]
        for i, call in enumerate(calls):
            assert call.recv(200 + 100 * (i % 7))
            call.close()
        server.until(lambda: server.metrics()["active"] == 0)
        assert server.speak(GOLDEN).content == right(GOLDEN)
        server.signal(signal.SIGTERM)
        assert server.ended() == 143  # asked to stop, and nothing crashed before


@pytest.mark.parametrize(
    ("count", "whole"),
    [(6, False), pytest.param(6, True, marks=SLOW), pytest.param(32, False, marks=SLOW)],
)
async def test_f25_clients_that_do_not_read_are_cut_off(tmp_path, monkeypatch, count, whole):
    monkeypatch.setattr("chatterbox.engine.sequence.CAPACITY_SAMPLES", 24_000)
    room = {"max_concurrent_requests": 40, "slots": 40, "max_inflight_segments": 2}
    async with running(tmp_path, engine=room) as rig:
        rig.patch.setattr("chatterbox.server.request_log.STALL_S", STALL_S)
        async with rig.fault(golden=False):  # it would be one of them
            body = LONG | {"text": LONG_TEXT * 3, "stream": not whole}
            slow = [await unread(rig, body | {"seed": i}) for i in range(count)]
            assert await rig.listen(GOLDEN) == await rig.right(GOLDEN)
            while outcomes(rig).count("slow_client") <= count:
                await rig.quiet()
                put_forward(STALL_S + 1)
                await asyncio.sleep(0.05)
            assert rig.engine.admission.active == 0
            for sock in slow:
                sock.close()
        assert 'chatterbox_requests_total{outcome="slow_client",route="/tts"} ' in _metrics(rig)
        # A reader who rests, but not for too long, is none of them.
        cut_off = outcomes(rig).count("slow_client")
        reader, writer = await heard_some(rig, LONG | {"text": LONG_TEXT * 3})
        for _ in range(3):
            await rig.quiet()
            put_forward(0.4 * STALL_S)
            assert await reader.readexactly(300_000)  # more than lay in buffers
        assert outcomes(rig).count("slow_client") == cut_off
        reset(writer)


def _metrics(rig) -> str:
    return rig.app.metrics.as_text("text/plain")[0].decode()


async def test_f26_end_arrives_after_a_full_outbox(tmp_path, monkeypatch):
    monkeypatch.setattr("chatterbox.engine.sequence.CAPACITY_SAMPLES", 24_000)
    async with running(tmp_path, engine={"runaway_guard": False}) as rig:
        key = await endless(rig)
        async with rig.fault():  # the golden request is such a one, and ends well
            reader, writer = await heard_some(rig, SHORT | {"voice_id": "awb"})
            await rig.quiet()
            sequences = rig.engine.generation.sequences()
            (full,) = (one.outbox for one in sequences if one.voice.key == key)
            assert full.full
            rig.model.poison.add(key)  # its next step, which comes once something is read
            rest = await reader.read(-1)
            writer.close()
            assert len(rest) > 2 * 24_000
            assert not rest.endswith(b"0\r\n\r\n")
        assert "status=200 outcome=generation_failed" in outcomes(rig)


_UPGRADE = (
    b"GET /v1/audio/speech/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


async def handshake(rig):
    """Open a WebSocket on a raw connection, which answers no frames."""
    reader, writer = await rig.raw(_UPGRADE)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in answer.split(b"\r\n")[0]
    return reader, writer


def frame(text: str) -> bytes:
    """Return a masked text frame with a zero mask."""
    data = text.encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


async def drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass


@pytest.mark.parametrize(
    "how",
    [
        "no answer to pings",
        pytest.param("does not read", marks=SLOW),
        pytest.param("gone without a goodbye", marks=SLOW),
    ],
)
async def test_f27_half_open_sockets_are_detected(tmp_path, monkeypatch, how):
    monkeypatch.setattr("chatterbox.server.run.PING_S", 0.2)
    monkeypatch.setattr("chatterbox.server.socket_server.STALL_S", 0.4)
    async with running(tmp_path, engine={"runaway_guard": False}) as rig:
        await endless(rig)
        async with rig.fault():
            reader, writer = await handshake(rig)
            writer.write(frame('{"type": "session.config", "voice": "awb"}'))
            writer.write(frame(f'{{"type": "input.text", "text": "A {SECRET}. "}}'))
            writer.write(frame('{"type": "input.done"}'))
            await rig.until(lambda: rig.engine.admission.active == 2)
            reading = None
            if how == "no answer to pings":
                reading = asyncio.create_task(drain(reader))
            elif how == "does not read":
                writer.transport.pause_reading()
            else:
                reset(writer)
            await rig.until(lambda: rig.engine.admission.active == 1)
            writer.transport.abort()
            if reading is not None:
                await asyncio.wait({reading})
        assert "WS /v1/audio/speech/stream" in outcomes(rig)


@pytest.mark.parametrize(("count", "most"), [(60, 20), pytest.param(1000, 512, marks=SLOW)])
async def test_f29_idle_connections_make_room_for_others(tmp_path, count, most):
    async with running(tmp_path, max_connections=most, max_websockets=4) as rig, rig.fault():
        idle = [await rig.raw(b"GET /health/live HTTP/1.1\r\n" * (n % 2)) for n in range(count)]
        async with rig.new_client() as client:
            for probe in ("live", "ready"):
                assert (await client.get(f"/health/{probe}")).status_code == 200
            answer = await client.post("/tts", json=LONG)
            assert answer.status_code == 200
        sockets = [await handshake(rig) for _ in range(4)]
        reader, refused = await rig.raw(_UPGRADE)
        assert b" 503 " in await reader.readline()
        idle += [*sockets, (reader, refused)]
        for _, writer in idle:
            writer.transport.abort()
