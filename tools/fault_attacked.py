"""Measures a server under attack: its longest pause, its memory, and when it recovers.

For `bench_faults.py`; the attacks are in `fault_attacks.py`.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from tools.fault_attacks import ATTACKS, attack
from tools.fault_calls import Server, ask
from tools.fault_crowds import SPAWN, beside, first_sound_s
from tools.fault_table import Row, row_of

STOP_MS = 50
"""100 on a machine that others use too."""
BACK_S = 2
GROWTH_MIB = {"8 × 32 files held back": 16}
SETTLE_S = 1.0
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def under_attack(seconds: float) -> Iterator[Row]:
    """F96 to F105: a probe after the other while each attack goes on in a process of its own."""
    rows = []
    with Server() as server:
        await first_sound_s(server, 3)
        await server.rests_after_s()  # voices are prepared meanwhile
        for name, (row, _) in ATTACKS.items():
            await asyncio.sleep(SETTLE_S)
            before = memory_mib(server)
            begun = SPAWN.Event()
            with beside(attack, server.port, name, begun):
                await asyncio.to_thread(begun.wait)
                stops_ms, most = await _probed(server, seconds)
            rows.append(row_of(row, f"a probe beside {name}", "ms", stops_ms, STOP_MS))
            bound = GROWTH_MIB.get(name)
            rows.append(row_of(row, f"memory more: {name}", "MiB", [most - before], bound))
            back = [await _back_s(server)]
            rows.append(row_of(row, f"all back and speech again: {name}", "s", back, BACK_S))
    return iter(rows)


def memory_mib(server: Server) -> float:
    """Its resident memory."""
    pages = int(Path(f"/proc/{server.popen.pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def _probed(server: Server, seconds: float) -> tuple[list[float], float]:
    """How long probes took, and the most memory seen."""
    stops_ms, most = [], 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        await asyncio.to_thread(ask, server.port, LIVE)
        stops_ms.append(1e3 * (time.monotonic() - began))
        most = max(most, memory_mib(server))
        await asyncio.sleep(0.005)
    return stops_ms, most


async def _back_s(server: Server) -> float:
    """From the attackers' end until nothing of theirs is held."""
    began = time.monotonic()
    while any(server.metrics()[what] for what in ("active", "queued")):
        await asyncio.sleep(0.02)
    await first_sound_s(server, 1)
    return time.monotonic() - began
