"""Keeps what the process holds from other processes and users of the machine (Linux, macOS).

Keys, texts and recordings are in its memory: no core dump writes them to disk, and on Linux no
other process of the same user may read them there. `docs/operations.md` says what that rules out.
"""

import contextlib
import ctypes
import os
import sys

PR_SET_DUMPABLE = 4
"""Of prctl(2)."""
PRIVATE_UMASK = 0o077


def deny_inspection() -> None:
    """No core dumps; on Linux no debugger and no `/proc/PID/mem` either, but for root."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def make_files_private() -> None:
    """Files and directories made from now on are for this user alone."""
    os.umask(PRIVATE_UMASK)
