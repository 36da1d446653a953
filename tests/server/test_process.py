"""A real process on a real socket: signals, exit codes, departures, what HTTP itself refuses."""

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
    """One server for all tests that leave it as it was; F30 at its end."""
    with process(tmp_path_factory.mktemp("shared"), tones="") as server:
        yield server
        server.signal()
        assert server.ended() == 143
        assert "Traceback" not in server.log


def test_sound_arrives_before_the_synthesis_ends(shared):
    with shared.client.stream("POST", "/tts", json=SPEECH) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        pieces = response.iter_raw()
        next(pieces)
        assert shared.metrics()["active"] == 1
        assert b"".join(pieces)
    shared.until(lambda: shared.metrics()["active"] == 0)


async def test_answers_leave_at_once():
    """A head and its body are two writes: without TCP_NODELAY the second waits 40 ms (Linux)."""
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


def test_a_large_body_is_refused_while_it_is_sent(shared):
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


def test_f49_nobody_is_sent_to_a_server_that_is_not_warm_but_who_comes_is_served(process, tmp_path):
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


def test_a_model_that_cannot_be_had_ends_it_too():
    engine = FakeEngine()
    engine.load_fault = ModelError("no such model")
    with bind("127.0.0.1", 0) as sock, pytest.raises(ModelError, match="no such model"):
        serve(engine, server_config(), DIALECTS, sock, lambda address: None)


def test_f01_the_event_loop_waits_a_millisecond_for_the_interpreter_s_lock():
    engine, before = FakeEngine(), sys.getswitchinterval()
    engine.load_fault = ModelError("no such model")
    try:
        with bind("127.0.0.1", 0) as sock, pytest.raises(ModelError):
            serve(engine, server_config(), DIALECTS, sock, lambda address: None)
        assert sys.getswitchinterval() <= 0.001
    finally:
        sys.setswitchinterval(before)


def test_routes_are_built_before_anybody_asks(monkeypatch):
    """FastAPI builds them when first asked for: tens of milliseconds of the event loop's time."""
    apps, engine = [], FakeEngine()
    engine.load_fault = ModelError("what follows the routes")

    def create(*given, **named):
        apps.append(create_app(*given, **named))
        return apps[-1]

    monkeypatch.setattr(run, "create_app", create)
    with bind("127.0.0.1", 0) as sock, pytest.raises(ModelError):
        serve(engine, server_config(), DIALECTS, sock, lambda address: None)
    assert apps[0].openapi_schema is not None


def test_free_memory_goes_back_to_the_system(monkeypatch):
    numbers = iter([signal.SIGTERM])

    def trim() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(model_loader, "trim", trim)
    monkeypatch.setattr(model_loader, "LOOK_S", 0.01)
    with bind("127.0.0.1", 0) as sock:
        code = serve(FakeEngine(), server_config(), DIALECTS, sock, lambda address: None)
    assert code == 128 + signal.SIGTERM


def test_all_threads_for_what_blocks_are_there_from_the_start(monkeypatch):
    """Else one more comes whenever the others happen to be busy."""
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


def test_a_taken_port_is_one_clear_line():
    with bind("127.0.0.1", 0) as taken:
        port = int(address_of(taken).rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=re.escape(f"127.0.0.1:{port}: Address already in")):
            bind("127.0.0.1", port)
    with pytest.raises(ConfigError, match="--host no such host"):
        bind("no such host", 8000)


def test_the_address_is_one_to_click_on():
    for host, shown in (("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        with bind(host, 0) as sock:
            assert re.fullmatch(rf"http://{re.escape(shown)}:\d+", address_of(sock))


def test_f109_systemd_hears_ready_alive_and_stopping(process, tmp_path):
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
