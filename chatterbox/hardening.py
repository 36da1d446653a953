"""Keeps what the process holds from other processes and users of the machine (Linux, macOS), and
what they may have put in its directories from stopping it.

Keys, texts and recordings are in its memory: no core dump writes them to disk, and on Linux no
other process of the same user may read them there. `docs/run/operations.md` says what that rules
out.
"""

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections.abc import Collection
from io import BufferedReader
from pathlib import Path

PR_SET_DUMPABLE = 4
"""Of prctl(2)."""
PRIVATE_UMASK = 0o077
PRIVATE_DIRECTORY = 0o700


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


def make_private(directory: Path, ours: Collection[str]) -> None:
    """Make `directory` with all its parents, and close it to others, unless it holds anything but
    `ours`: a home or a system's directory stays as it is. Raises OSError."""
    directory.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    if all(path.name in ours or path.name.startswith(".") for path in directory.iterdir()):
        close_to_others(directory)


def close_to_others(directory: Path) -> None:
    """As far as that can be done: it may be somebody else's, who lets us in."""
    with contextlib.suppress(OSError):
        directory.chmod(PRIVATE_DIRECTORY)


def open_plain(path: Path, flags: int = 0) -> BufferedReader:
    """A file to read. Pipes, devices and directories raise OSError: opening a pipe would wait for
    its writer for ever. `flags`: further ones of open(2)."""
    for name in ("O_NONBLOCK", "O_BINARY"):  # each unknown somewhere
        flags |= getattr(os, name, 0)
    number = os.open(path, os.O_RDONLY | flags)
    try:
        mode = os.fstat(number).st_mode
        if not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.ENODEV
            raise OSError(code, "not a plain file", str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_plain(path: Path) -> str:
    """All of a small text. Raises OSError and UnicodeDecodeError."""
    with open_plain(path) as file:
        return file.read().decode("utf-8")
