"""Fault table, section F: malformed, slow and endless HTTP."""

import asyncio
import json
import random
import re
import string
import time
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

import httpx
import psutil
import pytest
from faults.harness import SECRET, Rig, running
from harness import error_of

from chatterbox.server import body
from chatterbox.server.body import BodyLimits
from chatterbox.server.http11 import ConnectionLimiter, Timeouts, Wait

HOST = b"Host: localhost\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /tts HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
JSON = {"content-type": "application/json"}
BRIEF = Timeouts(head_s=0.5, body_s=0.15, flush_s=0.15, sweep_s=0.02)
CLOSES_S = 60.0


async def answer_of(rig: Rig, data: bytes) -> bytes:
    """Send data, and return everything received until the connection ends."""
    reader, writer = await rig.raw()
    try:
        async with asyncio.timeout(CLOSES_S):
            writer.write(data)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        await gone(writer)


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def status_of(answer: bytes) -> int:
    return int(answer.split()[1]) if answer else 0


def error_in(answer: bytes) -> str:
    """Return the code of a response that must be one error in the native shape."""
    head, _, said = answer.partition(b"\r\n\r\n")
    assert re.search(rb"connection: close", head.lower()), head
    error = json.loads(said)["error"]
    assert error.keys() == {"message", "type", "code", "param", "request_id"}
    assert f"x-request-id: {error['request_id']}" in head.decode().lower()
    return error["code"]


@pytest.fixture
async def brief(rig) -> Rig:
    """Return a server with short timeouts."""
    rig.app.limiter.timeouts = BRIEF
    return rig


@pytest.fixture
async def brief_for_bodies(rig) -> Rig:
    """Return a server with a short timeout only for the rest of a body, so that a pause of the test
    process does not close other connections."""
    rig.app.limiter.timeouts = replace(BRIEF, head_s=60, flush_s=60)
    return rig


async def test_f51_silent_and_slow_connections_are_closed(brief):
    async with brief.fault():
        assert await answer_of(brief, b"") == b""
        for start in (b"G", LIVE[:-2], LIVE + b"GET / HT"):
            answer = await answer_of(brief, start)
            if start.startswith(LIVE):
                assert answer.startswith(b"HTTP/1.1 200")
                answer = answer[answer.index(b"HTTP/1.1 4") :] if b"HTTP/1.1 4" in answer else b""
            if answer:
                assert error_in(answer) == "head_timeout"
        reader, writer = await brief.raw()
        trickle = asyncio.create_task(drip(writer, LIVE[:-2]))
        async with asyncio.timeout(CLOSES_S):
            assert error_in(await reader.read()) == "head_timeout"
        trickle.cancel()
        await gone(writer)


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data * 100:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def test_f51_busy_connection_stays_open(brief):
    """Although the whole takes longer than the timeout. Repeated if the machine pauses."""
    async with brief.fault():
        longest_s = BRIEF.head_s
        while longest_s >= BRIEF.head_s:
            reader, writer = await brief.raw()
            longest_s, heard, began_s = 0.0, 0, time.monotonic()
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                for _ in range(40):
                    writer.write(LIVE)
                    heard += (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
                    await asyncio.sleep(0.02)
                    longest_s = max(longest_s, time.monotonic() - began_s)
                    began_s = time.monotonic()
            longest_s = max(longest_s, time.monotonic() - began_s)
            await gone(writer)
        assert heard == 40


async def test_f51_idle_connections_are_closed_for_new_ones(tmp_path):
    async with running(tmp_path, max_connections=40) as rig, rig.fault():
        silent = [await rig.raw() for _ in range(100)]
        assert (await rig.speak()).status_code == 200
        assert len(rig.app.limiter) <= 41
        for _, writer in silent:
            await gone(writer)


async def test_f51_too_many_busy_connections(tmp_path):
    stalled = POST + b"Content-Length: 10\r\n\r\n{"
    socket = LIVE.replace(b"/health/live", b"/ws")[:-2] + (
        b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with running(tmp_path, max_connections=16) as rig, rig.fault():
        busy = []
        for _ in range(15):  # and the golden request
            busy.append(await rig.raw())
            busy[-1][1].write(stalled)
            await rig.until(lambda: not rig.app.limiter.idle_connections)
        async with rig.new_client() as client:
            for path in ("/health/live", "/health/ready"):
                assert (await client.get(path)).status_code == 200
            error_of(await client.get("/voices"), 503, "too_many_connections")
        assert error_in(await answer_of(rig, socket)) == "too_many_connections"
        for _, writer in busy:
            await gone(writer)


async def test_f51_limiter_with_a_fake_clock():
    class Somebody:
        def __init__(self, wait: Wait | None) -> None:
            self.now, self.request, self.ended_by = wait, 0, None

        def wait_state(self):
            return self.now, self.request

        def time_out(self, wait):
            self.ended_by = wait

    clock = [0.0]
    door = ConnectionLimiter(2, lambda record: None, now=lambda: clock[0])
    silent, served, unread = Somebody(Wait.HEAD), Somebody(None), Somebody(Wait.FLUSH)
    for somebody in (silent, served, unread):
        door.add(somebody)
    for second in range(30):
        clock[0] = second
        served.request += 1
        door.sweep()
        assert (silent.ended_by is None) == (second < door.timeouts.head_s)
        assert (unread.ended_by is None) == (second < door.timeouts.flush_s)
    assert served.ended_by is None
    assert Timeouts().head_s + 2 * Timeouts().sweep_s <= 10
    assert Timeouts().flush_s + 2 * Timeouts().sweep_s <= 30


async def test_f52_stalled_or_slow_body(brief_for_bodies, monkeypatch):
    rig = brief_for_bodies
    async with rig.fault():
        monkeypatch.setattr(body, "STALL_S", 0.1)
        for start in (b"", b'{"text": "', b"5\r\n"):
            length = b"Transfer-Encoding: chunked" if start == b"5\r\n" else b"Content-Length: 99"
            answer = await answer_of(rig, POST + length + b"\r\n\r\n" + start)
            assert status_of(answer) == 408
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_timeout"
        upload = (
            b"POST /voices/register HTTP/1.1\r\n" + HOST + b"Content-Length: 99999\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            b'Content-Disposition: form-data; name="voice_file"; filename="a"\r\n\r\nRIFF'
        )
        assert status_of(await answer_of(rig, upload)) == 408
        reader, writer = await rig.raw(POST + b"Content-Length: 9999\r\n\r\n")
        trickle = asyncio.create_task(drip(writer, b"x"))  # no pause is long, all of it is
        async with asyncio.timeout(CLOSES_S):
            assert b" 408 " in await reader.readline()
        trickle.cancel()
        await gone(writer)


HEADS = {
    "large header": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 20_000 + b"\r\n",
    "long address": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "just too large": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 33_000 + b"\r\n\r\n",
    "socket": b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n"
    b"X: " + b"a" * 33_000 + b"\r\n\r\n",
}


async def test_f53_too_large_heads(rig):
    async with rig.fault():
        for name, head in HEADS.items():
            answer = await answer_of(rig, head)
            assert status_of(answer) in (0, 431), name  # 0: closed while we were still sending
            if answer:
                assert error_in(answer) == "headers_too_large"


NEXT = b"DELETE /voices/slt HTTP/1.1\r\n" + HOST + b"\r\n"
SMUGGLED = {
    "length and encoding": POST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "no number": POST + b"Content-Length: 1e1\r\n\r\n",
    "two encodings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "unknown encoding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nHost\r\n : localhost\r\n\r\n",
    "space in name": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "bare LF": b"GET /health/live HTTP/1.1\nHost: localhost\n\n",
    "bare LF after a field": LIVE[:-2] + b"X: a\nY: b\r\n\r\n",
    "bare LF before the blank line": LIVE[:-2] + b"X: a\n\r\n",
}


async def test_f54_ambiguous_requests_are_refused(rig):
    async with rig.fault():
        for name, data in SMUGGLED.items():
            answer = await answer_of(rig, data + NEXT)
            assert status_of(answer) == 400, name
            assert error_in(answer) in ("invalid_http", "invalid_body"), name
            answers = re.findall(rb"HTTP/1.1 \d", answer)
            assert len(answers) == 1, f"{name}: a second request was answered"
        answer = await answer_of(rig, LIVE + LIVE[:-2] + b"X: a\nY: b\r\n\r\n" + NEXT)
        assert [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answer)] == [200, 400]
        lines = b'{"text":\n\n""}'  # a body may have any
        closing = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(lines)
        assert status_of(await answer_of(rig, closing + lines)) == 422
        log = [line for line in rig.log.outcomes if " - " in line]
        assert all("outcome=invalid_http" in line for line in log)


async def test_f104_folded_lines_and_repeated_lengths_are_refused(rig):
    """h11 by itself accepts them."""
    body, chunk = b'{"text":""}', b"Transfer-Encoding: chunked\r\n"
    heads = (
        b"Content-Length: 11, 11\r\n\r\n",
        b"Content-Length: 11,11\r\n\r\n",
        b"content-length:11\r\nX: a\r\nContent-Length: 11\r\n\r\n",
        b"Content-Length: 11\r\nX: a\r\n b\r\n\r\n",
        b"X: a\r\n\tb\r\nContent-Length: 11\r\n\r\n",
        b"X: a\r\n \r\nContent-Length: 11\r\n\r\n",
        b"Content-Length:\r\n 11\r\n\r\n",
        chunk.replace(b": ", b":\r\n ") + b"\r\n",
    )
    async with rig.fault():
        for head in heads:
            answer = await answer_of(rig, POST + head + body + NEXT)
            assert status_of(answer) == 400, head
            assert error_in(answer) == "invalid_http", head
            assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1, head
        for fine in (
            b"X: Content-Length: 5, 5\r\nContent-Length: 11\r\n\r\n",
            b"X-Content-Length: 5, 5\r\nContent-Length: 11\r\nAccept: a, b\r\n\r\n",
        ):
            closing = POST + b"Connection: close\r\n" + fine + body
            assert status_of(await answer_of(rig, closing)) == 422


def chunked(count: int, size: int) -> bytes:
    return (b"%x\r\n%s\r\n" % (size, b"a" * size)) * count + b"0\r\n\r\n"


async def test_f55_endless_bodies(rig):
    limit = BodyLimits.for_text(5000).fields_bytes
    async with rig.fault():
        headers = POST + b"Content-Length: %d\r\n\r\n"
        assert status_of(await until_answer(rig, headers % (limit + 1))) == 413
        assert status_of(await until_answer(rig, headers % 10**17)) == 413
        start = POST + b"Transfer-Encoding: chunked\r\n\r\n"
        assert status_of(await until_answer(rig, start + chunked(200, 1000))) == 413
        # Fewer bytes than were stated, then silence: see F52. More: they are the next request.
        short = b'{"text": ""}'
        answer = await answer_of(rig, headers % len(short) + short + b"more\r\n\r\n")
        assert [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answer)] == [422, 400]
        await tiny_chunks(rig, 100_000, 1)


async def tiny_chunks(rig: Rig, count: int, times: int) -> None:
    data = POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(count, 1)
    for _ in range(times):
        assert status_of(await until_answer(rig, data)) in (400, 413)


@pytest.mark.slow
async def test_f55_tiny_chunks_a_hundred_times(rig):
    await tiny_chunks(rig, 1_000_000, 50)  # buffers of both sides have their size then
    before = psutil.Process().memory_info().rss
    await tiny_chunks(rig, 1_000_000, 100)
    assert psutil.Process().memory_info().rss - before < 8 * 2**20


async def until_answer(rig: Rig, data: bytes) -> bytes:
    """Send data until the first line of the response arrives; return that line."""
    reader, writer = await rig.raw()

    async def send() -> None:
        for start in range(0, len(data), 65536):
            writer.write(data[start : start + 65536])
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(60):
            return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await gone(writer)


async def test_f55_client_that_sends_everything_first_gets_the_response(rig):
    async def pieces():
        for _ in range(300):
            yield b"a" * 65_536

    async with rig.fault():
        for _ in range(2):
            answer = await rig.client.post("/tts", content=pieces(), headers=JSON)
            error_of(answer, 413, "body_too_large")
        assert (await rig.speak()).status_code == 200


async def test_f55_rest_of_a_refused_body_times_out(brief_for_bodies):
    rig = brief_for_bodies
    async with rig.fault():
        reader, writer = await rig.raw(POST + b"Content-Length: 999999999\r\n\r\n")
        assert b" 413 " in await reader.readline()
        sending = asyncio.create_task(drip(writer, b"x" * 999))
        async with asyncio.timeout(CLOSES_S):
            await asyncio.gather(reader.read(), return_exceptions=True)
        sending.cancel()
        await gone(writer)


async def test_f56_compressed_bodies_are_refused(rig):
    async with rig.fault():
        for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "x"):
            answer = await rig.client.post(
                "/tts", content=b"\x1f\x8b" + bytes(2000), headers={"content-encoding": encoding}
            )
            error_of(answer, 415, "unsupported_media_type")


async def test_f57_range_headers_are_ignored(rig):
    ranges = "bytes=" + ",".join(f"{n}-{n}" for n in range(3000))  # 30 KB: all that a head holds
    async with rig.fault():
        for path in ("/page/app.js", "/", "/voices/slt", "/openapi.json"):
            whole = await rig.client.get(path)
            answer = await rig.client.get(path, headers={"range": ranges})
            assert (answer.status_code, answer.content) == (200, whole.content)
        too_many = {"range": "bytes=" + ",".join(f"{n}-{n}" for n in range(100_000))}
        with suppress(httpx.TransportError):  # closed while we were still sending
            answer = await rig.client.get("/page/app.js", headers=too_many)
            error_of(answer, 431, "headers_too_large")


async def wander(rig: Rig, count: int) -> None:
    rng = random.Random(58)
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"]
    for _ in range(count):
        path = "/" + quote("".join(rng.choices(string.printable + "%/.~é", k=12)), "%/")
        url = rig.client.base_url.copy_with(raw_path=path.encode())
        answer = await rig.client.request(rng.choice(methods), url)
        assert answer.status_code in (400, 404, 405), path


async def test_f58_unknown_paths(rig):
    prometheus = {"accept": "text/plain"}
    async with rig.fault():
        for _ in range(2):
            await wander(rig, 30)
            before = (await rig.client.get("/metrics", headers=prometheus)).text
        await wander(rig, 100)
        after = (await rig.client.get("/metrics", headers=prometheus)).text
        assert len(after.splitlines()) <= len(before.splitlines())


@pytest.mark.slow
async def test_f58_twenty_thousand_unknown_paths(rig):
    prometheus = {"accept": "text/plain"}
    for _ in range(2):
        await wander(rig, 100)
        before = (await rig.client.get("/metrics", headers=prometheus)).text
    await wander(rig, 20_000)
    after = (await rig.client.get("/metrics", headers=prometheus)).text
    assert len(after.splitlines()) <= len(before.splitlines())


async def test_f59_other_methods(rig):
    async with rig.fault():
        head = await rig.client.head("/health/live")
        assert (head.status_code, head.content) == (200, b"")
        for path in ("/tts", "/voices", "/health", "/metrics", "/voices/slt/export"):
            answer = await rig.client.patch(path)
            error_of(answer, 405, "method_not_allowed")
            assert answer.headers["allow"]
        assert "This route takes POST." in (await rig.client.get("/tts")).text
        error_of(await rig.client.options("/tts"), 405, "method_not_allowed")
        error_of(await rig.client.request("BREW", "/tts"), 405, "method_not_allowed")
        old = await answer_of(rig, b"GET /health/live HTTP/1.0\r\n\r\n")
        assert old.startswith(b"HTTP/1.1 200")
        many = await answer_of(rig, LIVE * 99 + LIVE[:-2] + b"Connection: close\r\n\r\n")
        assert many.count(b"HTTP/1.1 200") == 100
        upgrade = LIVE[:-2] + b"Connection: upgrade, close\r\nUpgrade: h2c\r\n\r\n"
        assert (await answer_of(rig, upgrade)).startswith(b"HTTP/1.1 200")
        absolute = b"GET http://localhost/health/live HTTP/1.1\r\n" + HOST
        answer = await answer_of(rig, absolute + b"Connection: close\r\n\r\n")
        assert status_of(answer) < 500
        star = await answer_of(rig, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert status_of(star) < 500


async def test_malformed_request_has_one_log_line(rig):
    await answer_of(rig, b"nonsense\r\n\r\n")
    line = rig.log.outcomes[-1]
    assert re.search(r"requests - other status=400 outcome=invalid_http ms=\d+ id=req-\w+$", line)
    assert SECRET not in line
    counted = (await rig.client.get("/metrics", headers={"accept": "text/plain"})).text
    assert 'outcome="invalid_http",route="other"' in counted
