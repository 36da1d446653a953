"""Memory of a GPU, else of the host: how much there is, how much this process takes, and what of it
goes back to the system."""

import ctypes
import os
import sys
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


_C = ctypes.CDLL(None) if sys.platform == "linux" else None


def trim() -> None:
    """Hand back free pages in the middle of the heaps too: glibc by itself hands back only what is
    free at their ends, so that a long use leaves more and more holes (malloc_trim(3)). Other C
    libraries (musl, macOS, Windows) have no such call."""
    if (malloc_trim := getattr(_C, "malloc_trim", None)) is not None:
        malloc_trim(ctypes.c_size_t(0))


LARGE_BYTES = 2**20
ARENAS = 2
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of mallopt(3)


def map_large_blocks() -> None:
    """Take blocks as large as weights and caches from the system, each by itself, so that all of
    them goes back when it is freed, and the others from few heaps, which are not left with holes by
    each thread. glibc by itself keeps more and more of both: after 25 loads of two small models the
    process was 145 MB larger for good."""
    if (mallopt := getattr(_C, "mallopt", None)) is not None:
        for parameter, value in ((M_MMAP_THRESHOLD, LARGE_BYTES), (M_ARENA_MAX, ARENAS)):
            mallopt(ctypes.c_int(parameter), ctypes.c_int(value))
