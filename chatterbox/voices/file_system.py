"""The file operations of the folder store, as methods, so that fault tests can make each one fail.

Every method may raise OSError and nothing else.
"""

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from chatterbox.hardening import PRIVATE_DIRECTORY, open_regular_file

if sys.platform != "win32":  # on Windows only one process may use a folder
    import fcntl

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
LOCK_POLL_S = 0.01
PRIVATE_FILE = 0o600
"""Mode of files: only the server's user can read recordings."""


class FileSystem:
    """File operations of the operating system. Tests use a subclass whose n-th operation fails."""

    def make_directory(self, path: Path) -> None:
        """Create a directory; its parent must exist."""
        path.mkdir(PRIVATE_DIRECTORY)

    def make_directories(self, path: Path) -> None:
        """Create a directory and its parents, if missing."""
        path.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)

    def write_file(self, path: Path, data: bytes) -> None:
        """Create a file and flush it to disk."""
        with open(path, "xb", opener=partial(os.open, mode=PRIVATE_FILE)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync_directory(self, path: Path) -> None:
        """Flush names created or renamed in `path` to disk."""
        if os.name == "nt":  # Windows cannot open directories
            return
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def rename(self, source: Path, target: Path) -> None:
        """Rename atomically. Replaces an existing file, but not a directory with files."""
        source.replace(target)

    def remove_file(self, path: Path) -> None:
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        path.rmdir()

    def read_file(self, path: Path, limit_bytes: int) -> bytes:
        """Read at most `limit_bytes` of a regular file. Refuses links, and files that may block,
        such as pipes."""
        with open_regular_file(path, NO_FOLLOW) as file:
            return file.read(limit_bytes)

    def names(self, path: Path) -> Sequence[str]:
        """Return the sorted names in a directory."""
        return sorted(os.listdir(path))  # noqa: PTH208 - names, not paths

    def is_plain_directory(self, path: Path) -> bool:
        """Return whether `path` is a directory and not a link to one."""
        try:
            return stat.S_ISDIR(path.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def stamp(self, path: Path) -> tuple[int, ...]:
        """Return a value that changes when the file is replaced; empty if there is no file."""
        try:
            status = path.lstat()
        except OSError:
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[Callable[[bytes], object]]:
        """Hold an exclusive lock on a file, which is created if missing. Locks out all threads and
        processes, also over a network if the file system supports locks. The system releases the
        locks of a killed process. Yields a function that overwrites the file; the data must always
        have the same length."""
        deadline = time.monotonic() + timeout_s
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, PRIVATE_FILE)
        try:
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise OSError(errno.ETIMEDOUT, "locked by another process for too long")
                time.sleep(LOCK_POLL_S)
            yield lambda data: (os.lseek(descriptor, 0, os.SEEK_SET), os.write(descriptor, data))
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
