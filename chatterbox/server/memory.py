"""Used and free memory of the GPU or the host, and glibc settings that return it to the system."""

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
    """Return the memory used on the model's device: on a GPU by all processes, on the host by this
    process. 0 if the system does not report it."""
    if (device := _gpu(config)) is not None:
        free, whole = cudart.memory(device)
        return whole - free
    return process_bytes()


def process_bytes() -> int:
    """Return this process's resident memory; 0 if the system does not report it."""
    with suppress(OSError):
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def free_bytes(config: TTSConfig) -> float:
    """Return the bytes available for another model, within the container's limit. Infinite if the
    system does not report it."""
    if (device := _gpu(config)) is not None:
        return cudart.memory(device)[0]
    free = float("inf")
    with suppress(OSError, KeyError):
        free = _fields(MEMINFO)["MemAvailable:"] * 1024.0
    with suppress(OSError, KeyError, ValueError):
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - used + _fields(CGROUP / "memory.stat")["inactive_file"])
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
    """Return free pages in the middle of the heaps to the system (malloc_trim(3)). glibc otherwise
    returns only the heaps' ends. Does nothing with other C libraries."""
    if (malloc_trim := getattr(_C, "malloc_trim", None)) is not None:
        malloc_trim(ctypes.c_size_t(0))


LARGE_BYTES = 2**20
ARENAS = 2
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of mallopt(3)


def map_large_blocks() -> None:
    """Let glibc map each block of LARGE_BYTES or more separately, so that freeing the block returns
    its memory to the system, and keep smaller blocks in ARENAS heaps. With the defaults, 25 loads
    of two small models left the process 145 MB larger."""
    if (mallopt := getattr(_C, "mallopt", None)) is not None:
        for parameter, value in ((M_MMAP_THRESHOLD, LARGE_BYTES), (M_ARENA_MAX, ARENAS)):
            mallopt(ctypes.c_int(parameter), ctypes.c_int(value))
