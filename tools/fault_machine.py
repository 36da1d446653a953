"""Measures how late the machine wakes a thread that only sleeps.

For `bench_faults.py`: a time that is larger than its bound once in a hundred tries says something
of the server only where the machine, with no server on it, does better.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

NAP_S = 0.005
STOLEN = 8  # of the numbers in the first line of /proc/stat, behind its name: proc(5)


@dataclass(frozen=True, slots=True)
class Naps:
    """What became of some naps."""

    late_ms: list[float]
    stolen_percent: float  # of all cores' time: a virtual machine's host gave it to others


def naps(seconds: float) -> Naps:
    """So many seconds of them."""
    late_ms = []
    began, stolen_s = time.monotonic(), _stolen_s()
    while (now := time.monotonic()) - began < seconds:
        time.sleep(NAP_S)
        late_ms.append(1e3 * (time.monotonic() - now - NAP_S))
    spent_s = (time.monotonic() - began) * (os.cpu_count() or 1)
    return Naps(late_ms, 100 * (_stolen_s() - stolen_s) / spent_s)


def _stolen_s() -> float:
    ticks = Path("/proc/stat").read_text().split()[STOLEN]
    return int(ticks) / os.sysconf("SC_CLK_TCK")
