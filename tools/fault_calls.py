"""Opens, reads and abandons every kind of call, and measures the server's work meanwhile.

For `bench_faults.py`: a server of its own, the calls of every dialect, and a meter of its work.
"""

import asyncio
import base64
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
from websockets.asyncio.client import connect

ROOT = Path(__file__).resolve().parents[1]
SENTENCE = "The lamp on the harbour wall was lit an hour before the boats came home. "
ENDLESS = SENTENCE * 60
"""Minutes of speech: nobody hears its end. Below the longest text a server takes."""
HEARD_BYTES = 4000
SAMPLE_S = 0.005
BUSY_SHARE = 0.2
"""Of one core, over one sample: more than this is work."""
SETTLED_S = 0.5
"""After so long without work it has stopped."""
GIVE_UP_S = 30.0


class Server:
    """`python -m chatterbox serve` with the embedded model, ready; gone at the end of the scope."""

    def __init__(self, **settings: object) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.meter_late_ms: list[float] = []  # the most of each wait for rest
        self.wyoming_port = _free_port()
        settings |= {"wyoming_port": self.wyoming_port}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        command = [sys.executable, "-P", "-m", "chatterbox", "serve", "--model", "mini"]
        self.popen = subprocess.Popen(
            [*command, "--port=0", f"--data-dir={self._directory.name}", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CHATTERBOX_LOG_LEVEL": "warning"},
        )
        assert self.popen.stdout is not None
        address = self.popen.stdout.readline().partition("loading at ")[2].split()
        assert address, "the server did not start"
        self.url = address[0]
        self.port = int(self.url.rpartition(":")[2])

    def __enter__(self) -> Self:
        until = time.monotonic() + GIVE_UP_S
        while b" 200 " not in ask(
            self.port, b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ):
            assert time.monotonic() < until, "the server is not ready"
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _fault: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.popen.terminate()
        self.popen.wait(GIVE_UP_S)
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        self._directory.cleanup()

    def metrics(self) -> dict[str, Any]:
        """What it says of itself."""
        answer = ask(self.port, b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found

    def worked_s(self, *, main_thread: bool = False) -> float:
        """Time that its threads have had a core for."""
        tasks = Path(f"/proc/{self.popen.pid}/task")
        total = 0
        for thread in [tasks / str(self.popen.pid)] if main_thread else tasks.iterdir():
            try:
                total += int((thread / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
        return total / 1e9

    async def rests_after_s(self) -> float:
        """From now until the last work, as seconds."""
        began = last = time.monotonic()
        before_s, before, late_s = self.worked_s(), began, 0.0
        while time.monotonic() - last < SETTLED_S:
            napping = time.monotonic()
            await asyncio.sleep(SAMPLE_S)
            worked_s, now = self.worked_s(), time.monotonic()
            late_s = max(late_s, now - napping - SAMPLE_S)
            if worked_s - before_s > BUSY_SHARE * (now - before):
                last = now
            before_s, before = worked_s, now
            assert now - began < GIVE_UP_S, "the work does not stop"
        self.meter_late_ms.append(1e3 * late_s)
        return last - began


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def post(path: str, body: dict[str, Any], *headers: str) -> bytes:
    """A POST, as bytes."""
    data = json.dumps(body).encode()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def ask(port: int, call: bytes, *, source: str = "127.0.0.1") -> bytes:
    """One call on a connection of its own; all of an answer that the server ends."""
    with socket.create_connection(("127.0.0.1", port), GIVE_UP_S, (source, 0)) as sock:
        sock.sendall(call)
        answer = b""
        while not _whole(answer) and (data := sock.recv(1 << 16)):
            answer += data
        return answer


def _whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(found and lengths) and len(body) >= int(lengths[0].partition(b":")[2])


Leave = Callable[[bool], None]
"""Goes without a word: with a reset (True), or by closing the connection (False)."""
Speak = Callable[[Server], Awaitable[Leave]]
"""Asks for ENDLESS, and returns when sound of it was heard."""


@dataclass(frozen=True, slots=True)
class Transport:
    """One way to be spoken to."""

    name: str
    speak: Speak


def _leave_with(transport: asyncio.BaseTransport) -> Leave:
    def leave(reset: bool) -> None:
        sock = transport.get_extra_info("socket")
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.close()

    return leave


def _http(path: str, body: dict[str, Any], *, wait_s: float | None = None) -> Speak:
    """`wait_s`: for an answer that only comes whole."""

    async def speak(server: Server) -> Leave:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post(path, body))
        if wait_s is None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head, head
            await reader.readexactly(HEARD_BYTES)
        else:
            await asyncio.sleep(wait_s)
        return _leave_with(writer.transport)

    return speak


def _socket(path: str, messages: list[str | bytes], sounds: Callable[[Any], bool]) -> Speak:
    async def speak(server: Server) -> Leave:
        talk = await connect(f"ws://127.0.0.1:{server.port}{path}", max_size=None)
        for message in messages:
            await talk.send(message)
        while not sounds(await talk.recv()):
            pass
        return _leave_with(talk.transport)

    return speak


async def _wyoming(server: Server) -> Leave:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.wyoming_port)
    event = {"type": "synthesize", "data": {"text": ENDLESS}}
    writer.write(json.dumps(event).encode() + b"\n")
    while b"audio-chunk" not in await reader.readline():
        pass
    return _leave_with(writer.transport)


def _is_bytes(message: str | bytes) -> bool:
    return isinstance(message, bytes)


def _says(word: bytes) -> Callable[[str | bytes], bool]:
    return lambda message: word in (message.encode() if isinstance(message, str) else message)


def _has_sound(message: str) -> bool:
    return len(base64.b64decode(json.loads(message).get("audio") or "")) > 0


def _json(*messages: dict[str, Any]) -> list[str | bytes]:
    return [json.dumps(message) for message in messages]


def _packed(*messages: dict[str, Any]) -> list[str | bytes]:
    return [msgpack.packb(message) for message in messages]


ELEVENLABS = "/v1/text-to-speech/slt"
TRANSPORTS = (
    Transport("chunked HTTP, /tts", _http("/tts", {"text": ENDLESS, "stream": True})),
    Transport(
        "chunked HTTP, mp3",
        _http("/v1/audio/speech", {"input": ENDLESS, "model": "tts-1", "voice": "slt"}),
    ),
    Transport(
        "events (SSE), /v1/audio/speech",
        _http(
            "/v1/audio/speech",
            {"input": ENDLESS, "model": "tts-1", "voice": "slt", "stream_format": "sse"},
        ),
    ),
    Transport(
        "lines of JSON, ElevenLabs",
        _http(ELEVENLABS + "/stream/with-timestamps", {"text": ENDLESS}),
    ),
    Transport("whole answer, /tts", _http("/tts", {"text": ENDLESS, "stream": False}, wait_s=0.5)),
    Transport(
        "socket, ours",
        _socket(
            "/v1/audio/speech/stream",
            _json(
                {"type": "session.config", "response_format": "pcm"},
                {"type": "input.text", "text": ENDLESS},
                {"type": "input.done"},
            ),
            _is_bytes,
        ),
    ),
    Transport(
        "socket, ElevenLabs",
        _socket(
            ELEVENLABS + "/stream-input",
            _json({"text": " "}, {"text": ENDLESS}, {"text": ""}),
            _has_sound,
        ),
    ),
    Transport(
        "socket, ElevenLabs multi",
        _socket(
            ELEVENLABS + "/multi-stream-input",
            _json({"text": ENDLESS, "context_id": "a"}, {"context_id": "a", "flush": True}),
            _has_sound,
        ),
    ),
    Transport(
        "socket, Kyutai",
        _socket(
            "/api/tts_streaming?format=PcmMessagePack",
            _packed({"type": "Text", "text": ENDLESS}, {"type": "Eos"}),
            _says(b"Audio"),
        ),
    ),
    Transport("socket, /ws/tts", _socket("/ws/tts", _json({"text": ENDLESS}), _is_bytes)),
    Transport(
        "socket, /ws", _socket("/ws", _packed({"type": "Speak", "text": ENDLESS}), _says(b"Audio"))
    ),
    Transport("Wyoming", _wyoming),
)
