"""How much memory there is, and how much of it this process takes: of a GPU, else of the host."""

import os
from contextlib import suppress
from pathlib import Path

from chatterbox.config import TTSConfig
from chatterbox.runtime import cudart
from chatterbox.runtime.sessions import session_settings

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
STATM = Path("/proc/self/statm")


def used_bytes(config: TTSConfig) -> int:
    """Where this model's weights are: of the card by anybody, or of the host by this process. 0
    where the system does not say."""
    if (device := _gpu(config)) is not None:
        free, whole = cudart.memory(device)
        return whole - free
    return process_bytes()


def process_bytes() -> int:
    """What this process has of the host's memory; 0 where the system does not say."""
    with suppress(OSError):
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def free_bytes(config: TTSConfig) -> float:
    """What is left there for another model; a container's limit counts. Infinite where the system
    does not say."""
    if (device := _gpu(config)) is not None:
        return cudart.memory(device)[0]
    free = float("inf")
    with suppress(OSError, KeyError):
        free = _fields(MEMINFO)["MemAvailable:"] * 1024.0
    with suppress(OSError, KeyError, ValueError):
        limit, taken = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - taken + _fields(CGROUP / "memory.stat")["inactive_file"])
    return free


def _gpu(config: TTSConfig) -> int | None:
    settings = session_settings(config)
    return settings.device_id if settings.device == "cuda" else None


def _fields(path: Path) -> dict[str, int]:
    return {
        words[0]: int(words[1]) for line in path.read_text().splitlines() if (words := line.split())
    }
