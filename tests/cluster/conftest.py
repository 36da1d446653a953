"""Fixtures: a cluster of two replicas of the embedded model, started by `./run.sh cluster`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect

ROOT = Path(__file__).parents[2]
STARTS_S, ENDS_S = 120, 60
PLACES, QUEUE = 8, 1
"""Requests that each replica runs and queues."""
REPLICAS = 2


class Cluster:
    """A running cluster, with the interface of the server in `dialects.live`."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.http = f"http://127.0.0.1:{self.port}"
        self.ws = self.http.replace("http", "ws")
        self._home = home
        self._log = home / "log"
        self._process = self.command()
        self.until(lambda: "Ready: " in self.log, STARTS_S)

    def redeploy(self) -> subprocess.Popen:
        """Deploy again to the running cluster."""
        return self.command("--cluster-address=auto", f"--voices={self._home / 'data'}")

    def command(self, *flags: str) -> subprocess.Popen:
        """Run `./run.sh cluster`, which starts a cluster or deploys to a running one."""
        given = {
            "replicas": REPLICAS,
            "cpus-per-replica": 0.5,  # a machine of one core will do
            "model": "mini",
            "port": self.port,
            "data-dir": self._home / "data",
            "max-queued-requests": QUEUE,
        }
        words = [f"--{name}={value}" for name, value in given.items()]
        home = dict.fromkeys(("HOME", "RAY_TMPDIR"), str(self._home))
        environment = {**os.environ, **home, "PYTHONPATH": str(ROOT)}
        with self._log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "chatterbox", "cluster", *words, *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def connect(self, path: str, **more):
        return connect(self.ws + path, max_size=2**24, **more)

    def replicas(self) -> list[psutil.Process]:
        """The processes of the replicas, oldest first."""
        found = [p for p in psutil.process_iter() if self._is_ours(p, "ray::ServeReplica")]
        return sorted(found, key=lambda process: process.create_time())

    def _is_ours(self, process: psutil.Process, name: str) -> bool:
        try:
            of = process.environ().get("RAY_TMPDIR")
            return of == str(self._home) and process.cmdline()[0].startswith(name)
        except (psutil.Error, IndexError):
            return False

    def counted(self) -> dict:
        return httpx.get(self.http + "/metrics", timeout=30).json()

    def whole(self) -> bool:
        """Whether all replicas run, and no earlier ones."""
        return self.counted()["replicas"] == len(self.replicas()) == REPLICAS

    def until(self, holds: Callable[[], object], limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < until, self.log
            assert self._process.poll() is None, self.log
            time.sleep(0.1)

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(ENDS_S)
        finally:
            for process in psutil.process_iter():
                if self._is_ours(process, ""):
                    process.kill()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    home = Path(tempfile.mkdtemp(prefix="cb", dir="/tmp"))  # Ray's sockets need a short path
    try:
        cluster = Cluster(home)
    except AssertionError as fault:
        if "timed out during startup" not in str(fault):
            raise
        cluster = Cluster(home)  # Ray gives itself 30 s, which a busy machine may not have
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def whole(cluster) -> Cluster:
    """The cluster with all replicas: those that an earlier test has ended are replaced."""
    cluster.until(cluster.whole, STARTS_S)
    return cluster


@pytest.fixture(scope="session")
def mini(cluster) -> Cluster:
    """The server for the client tests of `tests/dialects`."""
    return cluster


@pytest.fixture(scope="session")
def address(cluster) -> str:
    return cluster.http


def pytest_collection_modifyitems(config, items) -> None:
    """Of the client tests, run only those that need no access to the engine."""
    mine = [i for i in items if i.get_closest_marker("cluster") and "cluster" not in i.fixturenames]
    mine += [
        i for i in items if "an_interruption_frees_rows" in i.name and "cluster" in i.path.parts
    ]
    config.hook.pytest_deselected(items=mine)
    items[:] = [item for item in items if item not in mine]
