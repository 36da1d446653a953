"""Protects the process's memory and files from other processes and users (Linux, macOS).

The memory holds keys, texts and recordings, so core dumps are off, and on Linux other processes of
the same user cannot read it; `docs/run/operations.md` lists the consequences. Reading a file never
hangs on a pipe or device in its place.
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

PR_SET_DUMPABLE = 4  # option of prctl(2)
PRIVATE_UMASK = 0o077
PRIVATE_DIRECTORY = 0o700


def deny_inspection() -> None:
    """Disable core dumps and, on Linux, access by debuggers and `/proc/PID/mem` except for root."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def make_files_private() -> None:
    """Set the umask so that only this user can access files and directories created from now on."""
    os.umask(PRIVATE_UMASK)


def make_private_directory(directory: Path, own_names: Collection[str]) -> None:
    """Create `directory` and its parents, and restrict it to this user.

    A directory with entries other than `own_names`, such as a home directory, keeps its mode.
    Raises OSError.
    """
    directory.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    if all(path.name in own_names or path.name.startswith(".") for path in directory.iterdir()):
        restrict_to_owner(directory)


def restrict_to_owner(directory: Path) -> None:
    """Restrict a directory to its owner. A directory of another user stays unchanged."""
    with contextlib.suppress(OSError):
        directory.chmod(PRIVATE_DIRECTORY)


def open_regular_file(path: Path, flags: int = 0) -> BufferedReader:
    """Open a file for reading. `flags` are additional flags of open(2).

    Raises OSError for pipes, devices and directories. Opening a pipe would wait for a writer.
    """
    for name in ("O_NONBLOCK", "O_BINARY"):  # neither exists on every system
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.ENODEV
            raise OSError(code, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_text_file(path: Path) -> str:
    """Return the content of a small UTF-8 file. Raises OSError or UnicodeDecodeError."""
    with open_regular_file(path) as file:
        return file.read().decode("utf-8")
