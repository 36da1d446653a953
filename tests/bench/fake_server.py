"""A fake server with only the native calls, for testing the benchmark.

Its speech is a tone. Its delays, limits and faults are configurable.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from chatterbox.audio.encoders import wav_header

RATE_HZ = 24_000
VOICE_ID = "v-0123456789abcdef"


@dataclass
class Behaviour:
    """Settings of the fake server. Tests change them before they start the benchmark."""

    audio_s: float = 1.0
    slow_above: int = 1000  # more requests at once than this make every one slower than real time
    full_above: int = 1000  # and more than this are refused
    lead_in_s: float = 0.0  # silence before the tone
    pieces: int = 4
    stall_s: float = 0.0  # before the last piece
    fault: str | None = None  # "cut" | "html" | "silent"
    ready: bool = True
    api_key: str | None = None
    health: dict[str, Any] = field(
        default_factory=lambda: {
            "status": "ok", "model": "fake", "precision": "fp32", "device": "cpu",
            "machine": "Abacus, 2 cores",
        }
    )  # fmt: skip
    forms: list[dict[str, str]] = field(default_factory=list)  # what was asked, in order
    uploads: list[tuple[str, bytes]] = field(default_factory=list)  # file name, content
    busy: int = 0
    busy_max: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and first piece leave together
    disable_nagle_algorithm = True  # or a piece waits 40 ms for an acknowledgement

    @property
    def fake(self) -> Behaviour:
        return self.server.behaviour  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.allowed():
            return
        if self.path == "/health":
            self.reply(
                200 if self.fake.ready else 503, self.fake.health | {"ready": self.fake.ready}
            )
        else:
            self.refuse(404, "not_found")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed():
            return
        if self.path == "/voices/register":
            self.register(body)
        elif self.path == "/tts":
            self.tts(dict(parse_qsl(body.decode(), strict_parsing=True)))
        else:
            self.refuse(404, "not_found")

    def allowed(self) -> bool:
        wanted = self.fake.api_key
        if wanted is None or self.headers.get("Authorization") == f"Bearer {wanted}":
            return True
        self.refuse(401, "invalid_api_key")
        return False

    def register(self, body: bytes) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts: list[Message] = BytesParser().parsebytes(head + body).get_payload()
        fields = {p.get_param("name", header="content-disposition"): p for p in parts}
        recording = fields["voice_file"].get_payload(decode=True)
        if not recording.startswith(b"RIFF"):
            self.refuse(415, "unsupported_audio")
            return
        self.fake.uploads.append((fields["voice_file"].get_filename(), recording))
        self.reply(201, {"voice_id": VOICE_ID, "message": "Registered."})

    def tts(self, form: dict[str, str]) -> None:
        fake = self.fake
        with fake.lock:
            fake.forms.append(form)
            fake.busy += 1
            fake.busy_max = max(fake.busy_max, fake.busy)
            busy = fake.busy
        try:
            if busy > fake.full_above:
                self.refuse(429, "overloaded", {"Retry-After": "1"})
            else:
                if busy > fake.slow_above:
                    time.sleep(fake.audio_s * 1.1)
                self.speak(whole=form["stream"] == "false")
        finally:
            with fake.lock:
                fake.busy -= 1

    def speak(self, *, whole: bool) -> None:
        fake = self.fake
        tone = np.full(round(fake.audio_s * RATE_HZ), 0 if fake.fault == "silent" else 3000, "<i2")
        tone[: round(fake.lead_in_s * RATE_HZ)] = 0
        data = wav_header(RATE_HZ, len(tone) if whole else None) + tone.tobytes()
        if fake.fault == "html":
            data = b"<html>surprise</html>"
        self.send_response(200)
        self.send_header("Content-Type", "audio/wav")
        if whole:
            self.send_header("X-RTF", "0.25")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        step = -(-len(data) // fake.pieces)
        for at in range(0, len(data), step):
            if at + step >= len(data):
                time.sleep(fake.stall_s)
            piece = data[at : at + step]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        if fake.fault == "cut":
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.reply(status, {"error": {"code": code, "message": f"No: {code}."}}, headers)

    def reply(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """Run the fake server and yield its URL."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.behaviour = behaviour  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
