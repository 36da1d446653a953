"""F106 to F108: frames without content, and answers that the client does not read."""

import contextlib
import socket
import sys
import time

import pytest
from dialects.live import Live, live, talking
from harness import PIECE_SAMPLES, FakeEngine

from chatterbox.server import websocket_protocol
from chatterbox.server.websocket_protocol import TokenBucket

TEXT, CLOSE, PING, PONG, CONTINUED = 1, 8, 9, 10, 0
PATH = "/api/tts_streaming?format=Pcm"
HANDSHAKE = (
    f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
WRITE_MARK_BYTES = 64 * 1024  # asyncio's and uvloop's high-water mark
TOO_MANY = b"\x03\xf0too many frames"


@pytest.fixture(params=["asyncio", "uvloop"])
def server(request, monkeypatch):
    if request.param == "uvloop":
        if sys.platform == "win32":
            pytest.skip("uvloop does not run on Windows")
        import uvloop

        monkeypatch.setattr(Live, "loop_factory", staticmethod(uvloop.new_event_loop))
    with live(FakeEngine(script=[PIECE_SAMPLES])) as server:
        yield server


def frame(opcode: int, payload: bytes = b"", *, last: bool = True) -> bytes:
    return bytes([opcode | (128 if last else 0), 128 | len(payload)]) + bytes(4) + payload


@contextlib.contextmanager
def accepted(server):
    """A client that reads almost nothing, and the server's end of its connection."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(server.http.rsplit(":", 1)[1])))
        client.settimeout(60)
        client.sendall(HANDSHAKE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 101"), head
        (protocol,) = server.server.server_state.connections
        yield client, protocol


def sent(client: socket.socket, data: bytes) -> bool:
    """Whether the server read everything within two seconds. False if it closed the connection."""
    client.settimeout(2)
    try:
        client.sendall(data)
    except OSError:
        return False
    finally:
        client.settimeout(60)
    return True


def rest_of(client: socket.socket) -> bytes:
    heard = b""
    try:
        while part := client.recv(65536):
            heard += part
    except ConnectionResetError:  # after the close: ours was still under way, and what was not read
        return b""  # yet is gone, be it the close itself
    return heard


@pytest.mark.parametrize("payload", [b"", b"x" * 125])
def test_f106_no_answers_are_made_while_none_are_read(server, payload, monkeypatch):
    monkeypatch.setattr(websocket_protocol, "BURST_FRAMES", 1e9)
    pings, largest = 0, 0
    with accepted(server) as (client, protocol):
        while pings < 100_000 and sent(client, frame(PING, payload) * 1000):
            pings += 1000
            largest = max(largest, protocol.transport.get_write_buffer_size())
        assert largest <= WRITE_MARK_BYTES + 2 * websocket_protocol.SLICE_BYTES
        assert not payload or pings < 100_000  # the rest of them waits at the client
        if pings == 100_000:  # of those without a payload all fit into the system's buffers
            pongs = b""
            while len(pongs) < pings * (2 + len(payload)):
                pongs += client.recv(65536)
            assert pongs == (bytes([128 | PONG, len(payload)]) + payload) * pings


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING) * 100_000,
        frame(PONG, b"nobody asked") * 10_000,
        frame(TEXT, last=False) + frame(CONTINUED, last=False) * 100_000,
        (frame(TEXT, b"a", last=False) + frame(PING) + frame(CONTINUED, b"b")) * 10_000,
    ],
    ids=["pings", "pongs", "fragments", "mixed"],
)
def test_f107_frames_without_content_are_limited(server, flood):
    with accepted(server) as (client, protocol):
        sent(client, flood)
        heard = rest_of(client)
        assert heard == b"" or TOO_MANY in heard  # a reset may overtake the close
        assert protocol.conn.close_sent.code == 1008
    with accepted(server) as (client, _):  # others are served
        client.sendall(frame(PING, b"still there?"))
        assert client.recv(100)[2:] == b"still there?"


def test_f107_frames_after_the_close_are_limited(server):
    with accepted(server) as (client, protocol):
        client.sendall(frame(TEXT, b"Hello.") + frame(2, b"\0"))  # all said: the server closes
        give_up = time.monotonic() + 60
        while protocol.conn.close_sent is None:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        sent(client, frame(TEXT) * 10_000)
        rest_of(client)
        assert protocol.transport.is_closing()


async def test_f107_ordinary_pings_are_answered(server):
    async with talking(server, PATH) as talk:
        for _ in range(80):
            await (await talk.socket.ping())
        await talk.socket.send(word for word in ("Hel", "", "lo ", "there."))
        await talk.socket.send(b"\0")
        code, heard = await talk.closed()
    assert code == 1000
    assert b"".join(heard)


async def test_f108_messages_wait_for_the_application_without_limit_or_loss(server, monkeypatch):
    longest = 0
    receive = websocket_protocol.WebSocket.receive

    async def counted(self):
        nonlocal longest
        longest = max(longest, self.queue.qsize())
        return await receive(self)

    monkeypatch.setattr(websocket_protocol.WebSocket, "receive", counted)
    with accepted(server) as (client, _):
        client.sendall(frame(TEXT) * 20_000 + frame(TEXT, b"Hello.") + frame(2, b"\0"))
        heard = b""
        while not heard.endswith(b"\x88\x02\x03\xe8"):  # closed normally
            heard += client.recv(65536)
        client.sendall(frame(CLOSE))
    assert len(heard) > 4 * PIECE_SAMPLES
    assert longest <= websocket_protocol.SLICE_BYTES // 6 + 1
    assert [request.text for request in server.engine.requests] == ["Hello."]


def test_a_token_bucket_refills_with_time():
    now = 0.0
    allowance = TokenBucket(2.0, 10.0, lambda: now)
    assert [allowance.take(5) for _ in range(3)] == [True, True, False]
    now = 5.0
    assert [allowance.take(5) for _ in range(2)] == [True, False]
    now = 1e6
    assert [allowance.take(5) for _ in range(3)] == [True, True, False]
