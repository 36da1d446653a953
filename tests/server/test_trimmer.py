"""Free memory is returned to the system."""

import asyncio
import platform
import subprocess
import sys
import threading

import pytest
from harness import FakeEngine, server_config

from chatterbox.server import model_loader
from chatterbox.server.model_pool import ModelPool

HOLES = """
import psutil
from chatterbox.server.memory import trim

def rss_mib():
    return psutil.Process().memory_info().rss / 2**20

blocks = [b"x" * 65_536 for _ in range(1600)]  # 100 MiB, in blocks too small to be mapped
kept = blocks[::2]
del blocks
with_holes = rss_mib()
trim()
print(with_holes - rss_mib())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries have no holes to trim"
)
def test_trim_returns_holes_in_the_heap():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 40  # of 50


async def test_watch_trims_periodically(monkeypatch):
    three, times = threading.Event(), []

    def trim() -> None:
        times.append(0)
        if len(times) == 3:
            three.set()

    monkeypatch.setattr(model_loader, "trim", trim)
    monkeypatch.setattr(model_loader, "LOOK_S", 0.001)
    engine = FakeEngine()
    watching = asyncio.create_task(ModelPool.of(engine, server_config()).watch())
    assert await asyncio.to_thread(three.wait, 10)
    watching.cancel()
    engine.close()
