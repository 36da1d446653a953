"""Fault table, section D (F30 to F34, F40): shutdown and crashes."""

import itertools
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from faults.harness import GOLDEN, SHORT
from faults.owner import Owner
from faults.source import dotted, nodes

PACKAGE = Path(__file__).resolve().parents[2] / "chatterbox"


def test_f30_f31_sigterm_with_and_without_a_shutdown_delay(process, tmp_path):
    with process(tmp_path / "a") as server:
        server.signal(signal.SIGTERM)
        assert server.ended() == 143
    delay_s, spoken_s = 0.3, 9e9
    while spoken_s > delay_s:  # else it was over before we asked
        delay_s *= 2
        settings = {"shutdown_delay_s": delay_s}
        with process(tmp_path / str(delay_s), server=settings) as server:
            began = server.signal(signal.SIGTERM)
            server.until(lambda: server.status("ready") != 200)
            live, spoken = server.status("live"), 0
            with suppress(httpx.TransportError):
                spoken = server.speak(SHORT).status_code
            spoken_s = time.monotonic() - began
            assert server.ended() == 143
            assert time.monotonic() - began >= delay_s
    assert (live, spoken) == (200, 200)  # what a balancer has sent meanwhile


@pytest.mark.slow
def test_f31_running_streams_are_finished_before_exit(process, tmp_path, right):
    with process(tmp_path, pace_s=0.02) as server, ThreadPoolExecutor(8) as clients:
        calls = [clients.submit(_speak, server.url) for _ in range(8)]
        server.until(lambda: server.metrics()["active"] == 8)
        server.signal(signal.SIGTERM)
        server.until(lambda: server.status("ready") == 503)
        assert server.client.get("/health").json()["status"] == "draining"
        assert server.status("live") == 200
        assert server.speak(SHORT).json()["error"]["code"] == "draining"
        assert [call.result() for call in calls] == [right(SHORT)] * 8
        assert server.ended() == 143
        assert server.log.count("outcome=ok") >= 8


@pytest.mark.slow
def test_f31_rolling_update_loses_no_response(process, tmp_path, right):
    """Behind a load balancer with ten health checks a second, as in docs/run/upgrade.md."""
    settings = {"pace_s": 0.01, "server": {"shutdown_delay_s": 4}}  # a look may come late
    with ExitStack() as stack, ThreadPoolExecutor(5) as clients:
        servers = [stack.enter_context(process(tmp_path / name, **settings)) for name in "ab"]
        balancer = Balancer(servers)
        over = threading.Event()
        calls = [clients.submit(balancer.call_until, over) for _ in range(4)]
        looking = clients.submit(balancer.look_until, over)
        for number, name in enumerate("cd"):
            calls_before = balancer.answered
            servers[number].until(lambda calls=calls_before: balancer.answered > calls + 8)
            servers[number].signal(signal.SIGTERM)
            assert servers[number].ended() == 143
            servers[number] = stack.enter_context(process(tmp_path / name, **settings))
        over.set()
        looking.result()
        assert {answer for call in calls for answer in call.result()} == {right(SHORT)}


class Balancer:
    """Sends each request to the next server that was ready at its last health check."""

    def __init__(self, servers: list) -> None:
        self.servers = servers
        self.answered = 0
        self._ready = [server.url for server in servers]
        self._next = itertools.count()

    def look_until(self, over: threading.Event) -> None:
        while not over.wait(0.1):
            self._ready = [
                server.url for server in list(self.servers) if server.status("ready") == 200
            ]

    def call_until(self, over: threading.Event) -> list[bytes]:
        answers = []
        while not over.is_set():
            ready = self._ready
            answers.append(_speak(ready[next(self._next) % len(ready)]))
            self.answered += 1
        return answers


def _speak(url: str) -> bytes:
    return httpx.post(f"{url}/tts", json=SHORT, timeout=60).content


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_f32_f33_process_ends_although_the_engine_hangs(process, tmp_path, times):
    """While the engine hangs in a step, the process ends after the drain timeout or a second
    signal, and the response is cut."""
    drain_s = 0.3 if times == 1 else 60
    with (
        process(tmp_path, fault="hang", server={"drain_timeout_s": drain_s}) as server,
        server.raw(GOLDEN) as connection,
    ):
        assert b"200 OK" in connection.recv(100)
        server.arm()
        for _ in range(times):
            server.signal(signal.SIGTERM if times == 1 else signal.SIGINT)
            server.until(lambda: server.status("ready") in (503, 0))
        assert server.ended() == (143 if times == 1 else 130)
        rest = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert not rest.endswith(b"0\r\n\r\n")


LIVES = 100


@pytest.mark.slow
def test_f34_sigkill_while_voices_are_registered_and_deleted(process, tmp_path):
    owner = Owner()
    rng = np.random.default_rng(7)
    for life in range(LIVES):
        with process(tmp_path, in_process=True) as server:
            stop, before = threading.Event(), owner.acknowledged
            worker = threading.Thread(target=owner.work, args=[server.url, stop])
            worker.start()
            if life % 4:  # most live until something is there
                server.until(lambda before=before: owner.acknowledged > before)
            time.sleep(rng.uniform(0.0, 0.25))
            server.signal(signal.SIGKILL)
            worker.join()
            stop.set()
            assert server.ended() == -signal.SIGKILL
        owner.check(tmp_path)
    owner.check(tmp_path, wholly=True)


async def test_f40_clock_jump_ends_nothing(rig, monkeypatch):
    real = time.time
    async with rig.fault():
        for days in (1, -2, 1):
            monkeypatch.setattr(time, "time", lambda days=days: real() + 86_400 * days)
            assert (await rig.speak()).status_code == 200


def test_f40_no_wait_depends_on_the_wall_clock():
    """The wall clock is used for times of day only, never for durations."""
    told = {
        "voices/catalogue.py",  # when a voice was made
        "voices/consents.py",
        "voices/blobs.py",  # how old an object is
        "dialects/openai/speech.py",
        "dialects/llama_server.py",
        "runtime/compiled_cache.py",  # how old a file is
    }
    found = set()
    for path, node in nodes(PACKAGE, "time.time"):
        if dotted(node) == "time.time":
            found.add(str(path.relative_to(PACKAGE)))
    assert found == told
