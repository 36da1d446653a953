"""Server processes for tests of signals, crashes and exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from faults.harness import GOLDEN, SECRET, SHORT

SCRIPT = Path(__file__).with_name("fake_server.py")
ENDS_S = 60
STARTS_S = 60
"""Time limit for a start: it takes one second, but over ten on a crowded machine."""


class Forge:
    """The process that forks servers (`fake_server.py`)."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, order: dict) -> int | None:
        """Send one line and return the answer."""
        self._popen.stdin.write(json.dumps(order) + "\n")
        self._popen.stdin.flush()
        return json.loads(self._popen.stdout.readline())

    def close(self) -> None:
        """Close its input, which ends it."""
        self._popen.stdin.close()
        self._popen.wait()
        self._popen.stdout.close()


class Process:
    """A running server process."""

    def __init__(self, forge: Forge, directory: Path, settings: dict) -> None:
        self.directory = directory
        self._forge = forge
        self._code: int | None = None
        for name in ("out", "log"):
            (directory / name).write_text("")
        self.pid = forge.ask({"directory": str(directory), "settings": settings})
        self.until(lambda: "bound" in self._out, STARTS_S)
        self.url = self._out.split()[1]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.client = httpx.Client(
            base_url=self.url, timeout=60, transport=httpx.HTTPTransport(verify=False)
        )

    def wait_ready(self) -> None:
        """Wait until the server has announced that it is ready."""
        self.until(lambda: "ready" in self._out, STARTS_S)

    @property
    def _out(self) -> str:
        return (self.directory / "out").read_text()

    @property
    def log(self) -> str:
        """Its log so far."""
        return (self.directory / "log").read_text()

    @property
    def code(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self._code is None:
            self._code = self._forge.ask({"wait": self.pid})
        return self._code

    def arm(self) -> None:
        """Let the fault happen at the next occasion."""
        (self.directory / "armed").touch()

    def speak(self, call: dict | None = None) -> httpx.Response:
        """Send one POST /tts."""
        return self.client.post("/tts", json=call or SHORT)

    def metrics(self) -> dict:
        """Return GET /metrics."""
        return self.client.get("/metrics").json()

    def status(self, probe: str) -> int:
        """Return the status of a health probe, or 0 if the server does not answer."""
        try:
            return self.client.get(f"/health/{probe}").status_code
        except httpx.TransportError:
            return 0

    def until(self, true: Callable[[], object], timeout_s: float = 60) -> None:
        """Wait until the condition is true."""
        give_up = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < give_up, self.log
            time.sleep(0.005)

    def raw(self, call: dict | None = None) -> socket.socket:
        """Open a raw connection and request speech."""
        body = json.dumps(call or GOLDEN).encode()
        head = f"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=ENDS_S)
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        return connection

    def signal(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; return the time."""
        os.kill(self.pid, number)
        return time.monotonic()

    def ended(self) -> int:
        """Return the exit code, once the process has ended and its log passes I6."""
        self.until(lambda: self.code is not None, ENDS_S)
        log = self.log
        assert SECRET not in log.lower(), log
        assert "Task was destroyed" not in log, log
        ids = [line.rsplit("id=", 1)[1] for line in log.splitlines() if " outcome=" in line]
        assert len(set(ids)) == len(ids), log
        assert self.code is not None
        return self.code


class Servers:
    """Starts servers. A session fixture."""

    def __init__(self) -> None:
        self._forge = Forge()

    @contextmanager
    def __call__(
        self, directory: Path, *, ready: bool = True, **settings: object
    ) -> Iterator[Process]:
        """Start a server with these settings, which is killed at the end of the test."""
        directory.mkdir(parents=True, exist_ok=True)
        running = Process(self._forge, directory, settings)
        try:
            if ready:
                running.wait_ready()
            yield running
        finally:
            running.client.close()
            if running.code is None:
                os.kill(running.pid, signal.SIGKILL)
                running.until(lambda: running.code is not None)

    def close(self) -> None:
        """Stop the forge."""
        self._forge.close()
