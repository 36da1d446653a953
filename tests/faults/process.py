"""A server process for the rows about signals, crashes and exit codes."""

import json
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
ENDS_S = 15


class Process:
    """`fake_server.py`, running. `log` is complete once it has ended."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.directory = directory
        self._log = (directory / "log").open("w+")
        self.popen = subprocess.Popen(
            [sys.executable, SCRIPT, str(directory), json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.url = self._told("bound")
        self.port = int(self.url.rsplit(":", 1)[1])
        self.client = httpx.Client(base_url=self.url, timeout=10)

    def _told(self, word: str) -> str:
        line = self.popen.stdout.readline()
        assert line.startswith(word), line + self.log
        return line.split()[1]

    def wait_ready(self) -> None:
        """Until it has said so."""
        self._told("ready")

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.directory / "log").read_text()

    def arm(self) -> None:
        """The fault happens at the next occasion."""
        (self.directory / "armed").touch()

    def speak(self, call: dict | None = None) -> httpx.Response:
        """One POST /tts."""
        return self.client.post("/tts", json=call or SHORT)

    def status(self, probe: str) -> int:
        """Of a health probe; 0 where nobody answers."""
        try:
            return self.client.get(f"/health/{probe}").status_code
        except httpx.TransportError:
            return 0

    def until(self, true: Callable[[], object], timeout_s: float = 10) -> None:
        """Wait for something to become so."""
        give_up = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < give_up, self.log
            time.sleep(0.01)

    def raw(self, call: dict | None = None) -> socket.socket:
        """A bare connection that has asked for speech."""
        body = json.dumps(call or GOLDEN).encode()
        head = f"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=ENDS_S)
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        return connection

    def signal(self, number: int = signal.SIGTERM) -> float:
        """Send it; when that was."""
        self.popen.send_signal(number)
        return time.monotonic()

    def ended(self) -> int:
        """Wait for the exit code; checks what must hold of every log (I6)."""
        code = self.popen.wait(ENDS_S)
        log = self.log
        assert SECRET not in log.lower(), log
        assert "Task was destroyed" not in log, log
        ids = [line.rsplit("id=", 1)[1] for line in log.splitlines() if " outcome=" in line]
        assert len(set(ids)) == len(ids), log
        return code


@contextmanager
def process(directory: Path, *, ready: bool = True, **settings: object) -> Iterator[Process]:
    """A server with these settings; it is killed at the end where it still runs."""
    directory.mkdir(parents=True, exist_ok=True)
    running = Process(directory, **settings)
    try:
        if ready:
            running.wait_ready()
        yield running
    finally:
        running.client.close()
        if running.popen.poll() is None:
            running.popen.kill()
        running.popen.wait()
        running.popen.stdout.close()
        running._log.close()
