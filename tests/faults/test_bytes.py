"""Property tests of all parsers of untrusted bytes: bodies, hosts, keys, names, frames, Wyoming.

Any input gives a value or one of our errors, never another exception, and never close code 1011.
"""

import asyncio
import contextlib
import json
import logging
import re
import socket
from types import SimpleNamespace

import msgpack
import pytest
import websockets
from dialects.live import live
from harness import FakeEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from websockets.sync.client import connect

from chatterbox.dialects.shared.sockets import unpack
from chatterbox.dialects.wyoming import read_event
from chatterbox.errors import Cancelled, ChatterboxError, Overloaded, StorageFull
from chatterbox.server import body
from chatterbox.server.admission_control import ByteBudget
from chatterbox.server.auth import Keyring, host_of, offered_keys
from chatterbox.server.body import BodyLimits, read_body
from chatterbox.server.http11 import Timeouts
from chatterbox.server.multipart import FileField
from chatterbox.server.request_log import request_id
from chatterbox.server.schemas import ignored_header
from chatterbox.server.socket_server import json_object
from chatterbox.voices.store import is_voice_id

# --- pieces that get further than random bytes do

KEYS = ["type", "text", "voice", "context_id", "context", "seed", "flush", "end", "close_context"]
KEYS += ["close_socket", "generation_config", "chunk_length_schedule", "temperature", "speed"]
KEYS += ["response_format", "sample_rate", "file_per", "data_length", "payload_length", "data"]
TYPES = ["session.config", "input.text", "input.done", "input.cancel", "input.flush", "Speak"]
TYPES += ["Text", "Eos", "Marker", "Voice", "synthesize", "synthesize-start", "synthesize-chunk"]
TYPES += ["synthesize-stop", "describe", "ping", "session.close"]
WORDS = st.sampled_from([*TYPES, "slt", "nobody", "wav", "Hi.", "", "\u0000", "__END__", "pcm"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), WORDS, st.text(max_size=9)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=4),
    ),
    max_leaves=8,
)
MESSAGES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5).flatmap(
    lambda body: st.sampled_from([body, *({**body, "type": kind} for kind in TYPES)])
)


def as_pack(value: object) -> bytes:
    try:
        return msgpack.packb(value)
    except (OverflowError, ValueError):
        return b"\x81\xa4type\xcf" + b"\xff" * 8


TEXTS = st.one_of(MESSAGES.map(json.dumps), VALUES.map(json.dumps), st.text(max_size=50))
BYTES = st.one_of(MESSAGES.map(as_pack), VALUES.map(as_pack), st.binary(max_size=80))
MORE = settings(suppress_health_check=list(HealthCheck), max_examples=150)


@contextlib.contextmanager
def refusals():
    """Allow only our own errors."""
    with contextlib.suppress(ChatterboxError):
        yield


# --- bodies

ROOMS = SimpleNamespace(
    memory=ByteBudget(64, Overloaded, shared=False), disk=ByteBudget(256, StorageFull, shared=False)
)


def request_of(sent: bytes, kind: bytes) -> Request:
    parts = [sent[at : at + 50] for at in range(0, len(sent), 50)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": at < len(parts) - 1}
        for at, part in enumerate(parts)
    ]

    async def receive():
        return messages.pop(0)

    headers = [(b"content-type", kind)]
    scope = {"type": "http", "method": "POST", "headers": headers, "query_string": b""}
    return Request(scope, receive)


DISPOSITION = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n'
FORMS = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.tuples(
            st.one_of(st.just(b"a"), st.binary(max_size=8)),
            st.binary(max_size=8),
            st.binary(max_size=60),
        ),
        max_size=4,
    ).map(lambda parts: b"".join(DISPOSITION % part for part in parts) + b"--x--\r\n"),
    st.lists(
        st.sampled_from([b"--x", b"--x--", b"\r\n", b": ", b"Content-Disposition", b"name="])
    ).map(b"".join),
)
KINDS = st.one_of(
    st.just(b"application/json"),
    st.just(b"application/x-www-form-urlencoded"),
    st.just(b"multipart/form-data; boundary=x"),
    st.just(b"multipart/form-data; boundary=x; charset=latin-1"),
    st.just(b"multipart/form-data; boundary=x; charset=rot13"),
    st.just(b"multipart/form-data; boundary="),
    st.binary(max_size=40),
)


@MORE
@given(sent=st.one_of(FORMS, TEXTS.map(lambda t: t.encode("utf-8", "replace"))), kind=KINDS)
def test_bodies(sent, kind):
    async def read() -> None:
        with refusals():
            limits = BodyLimits(2000, FileField("a", 5000))
            async with read_body(request_of(sent, kind), limits, ROOMS) as found:
                names = [*found.fields, *found.other_files, *found.repeated]
                assert all(isinstance(name, str) for name in names)
                if found.file is not None:
                    with refusals():
                        assert found.file.read()
        assert not ROOMS.memory.used_bytes
        assert not ROOMS.disk.used_bytes

    asyncio.run(read())


# --- heads


@MORE
@given(st.text(max_size=40))
def test_hosts(authority):
    host = host_of(authority)
    assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:")


@MORE
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"Authorization", b"xi-api-key", b"sec-websocket-protocol", b"x"]),
            st.one_of(
                st.binary(max_size=40),
                st.binary(max_size=20).map(lambda key: b"Bearer " + key),
                st.binary(max_size=20).map(lambda key: b"a, openai-insecure-api-key." + key),
            ),
        ),
        max_size=4,
    )
)
def test_keys(headers):
    keyring = Keyring(["a-key-that-nobody-guesses"])
    assert all(keyring.find(key) is None for key in offered_keys(headers))


@MORE
@given(st.text(max_size=80), st.lists(st.text(max_size=80), max_size=20))
def test_header_values(word, names):
    for value in (request_id(word), *ignored_header(names).values()):
        assert value.isascii()
        assert value.isprintable()
        assert value == value.strip() != ""


@MORE
@given(st.text(max_size=70))
def test_f73_voice_ids_are_plain_words(text):
    if is_voice_id(text):
        assert text.isascii()
        assert not set(text) & set("/\\.:%\x00 ~")
    assert not is_voice_id(text + "/")
    assert not is_voice_id("../" + text)
    assert not is_voice_id("." + text)


# --- frames


@MORE
@given(st.one_of(TEXTS, BYTES))
def test_messages(message):
    for read in (json_object, unpack):
        with refusals():
            assert isinstance(read(message), dict)


LINES = st.one_of(
    MESSAGES.map(lambda m: json.dumps(m).encode()), st.binary(max_size=60), TEXTS.map(str.encode)
).map(lambda line: line + b"\n")
EVENTS = st.lists(st.one_of(LINES, st.binary(max_size=30)), max_size=5).map(b"".join)


@MORE
@given(st.one_of(EVENTS, st.binary(max_size=200)))
def test_wyoming_events(data):
    async def read() -> None:
        reader = asyncio.StreamReader(limit=65_536)
        reader.feed_data(data)
        reader.feed_eof()
        with refusals():
            while True:
                kind, facts = await read_event(reader)
                assert isinstance(kind, str)
                assert isinstance(facts, dict)

    asyncio.run(read())


# --- whole sockets

SOCKETS = {
    "/v1/audio/speech/stream": TEXTS,
    "/v1/text-to-speech/slt/stream-input?inactivity_timeout=0.05": TEXTS,
    "/v1/text-to-speech/slt/multi-stream-input?inactivity_timeout=0.05": TEXTS,
    "/ws/tts": TEXTS,
    "/ws": BYTES,
    "/api/tts_streaming?format=PcmMessagePack": BYTES,
}
CLOSES = {1000, 1001, 1003, 1007, 1008, 1009, 1013}


@pytest.fixture(scope="module")
def server():
    with live(FakeEngine(), websocket_idle_timeout_s=0.05) as server:
        yield server


def converse(server, path: str, messages: list[str | bytes]) -> int | None:
    """Send all messages; return the server's close code."""
    with connect(server.ws + path, max_size=2**24) as talk:
        try:
            for message in messages:
                talk.send(message)
            while True:
                talk.recv(timeout=60)
        except websockets.ConnectionClosed:
            pass
        return talk.close_code


def check_socket(server, path: str, examples: int, caplog) -> None:
    frames = st.one_of(SOCKETS[path], SOCKETS[path], TEXTS, BYTES)

    @settings(suppress_health_check=list(HealthCheck), max_examples=examples)
    @given(st.lists(frames, min_size=1, max_size=4))
    def talk(messages):
        assert converse(server, path, messages) in CLOSES, messages

    caplog.set_level(logging.ERROR)
    talk()
    assert not caplog.records
    assert server.engine.open_streams == 0


@pytest.mark.parametrize("path", SOCKETS)
def test_sockets(server, path, caplog):
    check_socket(server, path, 8, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("path", SOCKETS)
def test_sockets_many_times(server, path, caplog):
    check_socket(server, path, 300, caplog)


# --- whole requests

BASES = [
    b"GET /voices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 15\r\nConnection: close\r\n\r\n{"text": "Hi."}',
    b"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nf\r\n{"text": "Hi."}\r\n0\r\n\r\n',
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x00",
]
EDITS = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.integers(0, 3),
        st.one_of(
            st.binary(max_size=3), st.sampled_from([b"\r\n", b"\n", b":", b" ", b"\0", b"9"])
        ),
    ),
    max_size=4,
)


def asked(server, data: bytes) -> bytes:
    """Send data and return the response, up to a WebSocket handshake."""
    heard = b""
    port = int(server.http.rsplit(":", 1)[1])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(data)
        while (part := connection.recv(65_536)) and b"HTTP/1.1 101" not in heard:
            heard += part
    return heard


def check_requests(server, examples: int, caplog, monkeypatch) -> None:
    @settings(suppress_health_check=list(HealthCheck), max_examples=examples)
    @given(st.sampled_from(BASES), EDITS)
    def ask(data, edits):
        for at, cut, put in edits:
            data = data[:at] + put + data[at + cut :]
        try:
            heard = asked(server, data)
        except TimeoutError:
            raise AssertionError(data) from None
        for status in re.findall(rb"^HTTP/1.1 (\d+)", heard):
            assert int(status) < 500, data

    server.app.limiter.timeouts = Timeouts(0.05, 0.05, 0.05, 0.01)
    monkeypatch.setattr(body, "STALL_S", 0.05)
    caplog.set_level(logging.ERROR)
    ask()
    assert not [r for r in caplog.records if not r.name.startswith("uvicorn")]


def test_requests(server, caplog, monkeypatch):
    check_requests(server, 60, caplog, monkeypatch)


@pytest.mark.slow
def test_requests_many_times(server, caplog, monkeypatch):
    check_requests(server, 600, caplog, monkeypatch)


def test_wyoming_disconnect_is_no_error():
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_eof()
        with pytest.raises(Cancelled):
            await read_event(reader)

    asyncio.run(read())
