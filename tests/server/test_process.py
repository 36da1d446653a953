"""A server process on a real socket: startup, signals, exit codes, memory and threads."""

import asyncio
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from faults.process import Process
from harness import SPEECH, FakeEngine, server_config

from chatterbox.dialects.registry import DIALECTS
from chatterbox.errors import ConfigError, ModelError
from chatterbox.server import model_loader, run
from chatterbox.server.app import create_app
from chatterbox.server.run import address_of, bind, serve


@pytest.fixture(scope="module")
def shared(process, tmp_path_factory) -> Iterator[Process]:
    """Share one server between tests that leave it unchanged; at its end, test F30."""
    with process(tmp_path_factory.mktemp("shared"), tones="") as server:
        yield server
        server.signal()
        assert server.ended() == 143
        assert "Traceback" not in server.log


def test_audio_arrives_before_synthesis_ends(shared):
    with shared.client.stream("POST", "/tts", json=SPEECH) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        pieces = response.iter_raw()
        next(pieces)
        assert shared.metrics()["active"] == 1
        assert b"".join(pieces)
    shared.until(lambda: shared.metrics()["active"] == 0)


async def test_responses_are_sent_without_nagle_delay():
    """Head and body are two writes; without TCP_NODELAY the second would wait 40 ms on Linux."""
    flags = asyncio.Queue()

    def accepted(_reader, writer) -> None:
        connection = writer.get_extra_info("socket")
        flags.put_nowait(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listening = bind("127.0.0.1", 0)
    async with await asyncio.start_server(accepted, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        assert await flags.get()
        writer.close()


def test_large_body_is_refused_before_it_is_complete(shared):
    body = b"a" * 5_000_000
    headers = {"content-type": "application/json"}
    response = shared.client.post("/tts", content=body, headers=headers)
    assert response.json()["error"]["code"] == "body_too_large"


def test_f33_sigint_while_loading(process, tmp_path):
    with process(tmp_path, tones="loads", ready=False) as server:
        health = server.client.get("/health").json()
        assert (health["status"], health["ready"]) == ("loading", False)
        assert server.client.post("/tts", json=SPEECH).status_code == 503
        server.signal(signal.SIGINT)
        assert (server.ended(), "Traceback" in server.log) == (130, False)


def test_f49_cold_server_is_not_ready_but_serves_requests(process, tmp_path):
    with process(tmp_path, tones="rehearses", ready=False) as server:
        server.until(lambda: server.client.get("/health").json()["status"] == "ok")
        assert server.client.get("/health").json()["ready"] is False
        probe = server.client.get("/health/ready")
        assert (probe.status_code, probe.json()["error"]["code"]) == (503, "not_ready")
        assert "warming up" in probe.json()["error"]["message"]
        assert server.client.get("/health/live").status_code == 200
        assert server.client.post("/tts", json=SPEECH).status_code == 200
        server.signal(signal.SIGINT)
        assert (server.ended(), "Traceback" in server.log) == (130, False)


def test_missing_model_ends_the_process():
    engine = FakeEngine()
    engine.load_fault = ModelError("no such model")
    with bind("127.0.0.1", 0) as sock, pytest.raises(ModelError, match="no such model"):
        serve(engine, server_config(), DIALECTS, sock, lambda address: None)


def test_f01_switch_interval_is_one_millisecond():
    engine, before = FakeEngine(), sys.getswitchinterval()
    engine.load_fault = ModelError("no such model")
    try:
        with bind("127.0.0.1", 0) as sock, pytest.raises(ModelError):
            serve(engine, server_config(), DIALECTS, sock, lambda address: None)
        assert sys.getswitchinterval() <= 0.001
    finally:
        sys.setswitchinterval(before)


def test_routes_are_built_at_startup(monkeypatch):
    """FastAPI builds routes on first use, which blocks the event loop for tens of milliseconds."""
    apps, engine = [], FakeEngine()
    engine.load_fault = ModelError("what follows the routes")

    def create(*given, **named):
        apps.append(create_app(*given, **named))
        return apps[-1]

    monkeypatch.setattr(run, "create_app", create)
    with bind("127.0.0.1", 0) as sock, pytest.raises(ModelError):
        serve(engine, server_config(), DIALECTS, sock, lambda address: None)
    assert apps[0].openapi_schema is not None


def test_free_memory_is_returned_to_the_system(monkeypatch):
    numbers = iter([signal.SIGTERM])

    def trim() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(model_loader, "trim", trim)
    monkeypatch.setattr(model_loader, "LOOK_S", 0.01)
    with bind("127.0.0.1", 0) as sock:
        code = serve(FakeEngine(), server_config(), DIALECTS, sock, lambda address: None)
    assert code == 128 + signal.SIGTERM


def test_all_pool_threads_are_started_at_startup(monkeypatch):
    """The pool would otherwise add a thread whenever all others are busy."""
    engine, counts = FakeEngine(), []

    def load() -> None:
        until = time.monotonic() + 60
        while not (there := blocking()) and time.monotonic() < until:
            time.sleep(0.01)
        counts.append(there)
        raise ModelError("what ends it")

    def blocking() -> int:
        return sum(t.name.startswith("blocking") for t in threading.enumerate())

    monkeypatch.setattr(engine, "load", load)
    with bind("127.0.0.1", 0) as sock, pytest.raises(ModelError, match="what ends it"):
        serve(engine, server_config(), DIALECTS, sock, lambda address: None)
    assert counts == [min(32, os.cpu_count() + 4)]
    assert blocking() == 0


def test_port_in_use_is_a_one_line_error():
    with bind("127.0.0.1", 0) as taken:
        port = int(address_of(taken).rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=re.escape(f"127.0.0.1:{port}: Address already in")):
            bind("127.0.0.1", port)
    with pytest.raises(ConfigError, match="--host no such host"):
        bind("no such host", 8000)


def test_announced_address_is_a_usable_url():
    for host, shown in (("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        with bind(host, 0) as sock:
            assert re.fullmatch(rf"http://{re.escape(shown)}:\d+", address_of(sock))


def test_f109_systemd_is_notified_of_ready_alive_and_stopping(process, tmp_path):
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        with process(tmp_path, tones="", environment=environment) as server:
            heard = [manager.recv(100) for _ in range(4)]
            server.signal()
            code = server.ended()
            while heard[-1] != b"STOPPING=1":
                heard.append(manager.recv(100))
    assert (code, set(heard)) == (143, {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"})
    assert heard.count(b"READY=1") == 1
