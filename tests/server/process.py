"""The server as a process of its own, on the fake engine: `with running() as server`."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

SCRIPT = Path(__file__).with_name("fake_process.py")


class Server:
    """A fake server's process."""

    def __init__(self, scenario: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, scenario],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = self.line("bound")
        self.host, port = self.url.removeprefix("http://").split(":")
        self.port = int(port)
        self.client = httpx.Client(base_url=self.url)

    def line(self, word: str) -> str:
        line = self.process.stdout.readline()
        assert line.startswith(word), line + self.process.stderr.read()
        return line.split()[1]

    def metrics(self) -> dict:
        return self.client.get("/metrics").json()

    def until(self, condition) -> None:
        give_up = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        _, log = self.process.communicate(timeout=15)
        return self.process.returncode, log

    def raw(self, request: bytes) -> socket.socket:
        connection = socket.create_connection((self.host, self.port), timeout=10)
        connection.sendall(request)
        return connection


@contextmanager
def running(scenario: str = "", *, ready: bool = True) -> Iterator[Server]:
    server = Server(scenario)
    try:
        if ready:
            server.line("ready")
        yield server
    finally:
        server.client.close()
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
