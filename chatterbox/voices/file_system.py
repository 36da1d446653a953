"""The file operations of the voice store, each named, so that fault tests can make any one fail.

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

if sys.platform != "win32":  # where one process uses a directory
    import fcntl

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
LOCK_POLL_S = 0.01
PRIVATE_FILE = 0o600
"""Recordings are nobody's business but the owner's."""


class FileSystem:
    """The real one. The fakes of the tests make its n-th operation fail."""

    def make_directory(self, path: Path) -> None:
        """A new directory in an existing one."""
        path.mkdir(PRIVATE_DIRECTORY)

    def make_directories(self, path: Path) -> None:
        """A directory with all its parents; fine where it exists."""
        path.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)

    def write_file(self, path: Path, data: bytes) -> None:
        """A new file, on disk when this returns."""
        with open(path, "xb", opener=partial(os.open, mode=PRIVATE_FILE)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync_directory(self, path: Path) -> None:
        """Names made or renamed in `path` are on disk when this returns."""
        if os.name == "nt":  # directories cannot be opened there
            return
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def rename(self, source: Path, target: Path) -> None:
        """At once and wholly; an existing file is replaced, a directory with files is not."""
        source.replace(target)

    def remove_file(self, path: Path) -> None:
        """One name."""
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        """An empty directory."""
        path.rmdir()

    def read_file(self, path: Path, limit_bytes: int) -> bytes:
        """At most `limit_bytes` of a plain file: no link, and nothing whose opening or reading may
        wait for others, as a pipe's does."""
        with open_regular_file(path, NO_FOLLOW) as file:
            return file.read(limit_bytes)

    def names(self, path: Path) -> Sequence[str]:
        """What is in a directory, sorted."""
        return sorted(os.listdir(path))  # noqa: PTH208 - names, not paths

    def is_plain_directory(self, path: Path) -> bool:
        """Whether it is a directory itself and not a link to one."""
        try:
            return stat.S_ISDIR(path.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def stamp(self, path: Path) -> tuple[int, ...]:
        """Another one for another file in its place; empty where there is none."""
        try:
            found = path.lstat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def lock(self, path: Path, within_s: float) -> Iterator[Callable[[bytes], object]]:
        """Alone with a file among all threads and processes that lock it, also on other machines
        where the file system has locks; gives what replaces its bytes, always as many. The system
        lets go what a killed process held."""
        until = time.monotonic() + within_s
        number = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, PRIVATE_FILE)
        try:
            while not _locked(number):
                if time.monotonic() > until:
                    raise OSError(errno.ETIMEDOUT, "locked by another process for too long")
                time.sleep(LOCK_POLL_S)
            yield lambda data: (os.lseek(number, 0, os.SEEK_SET), os.write(number, data))
        finally:
            os.close(number)


def _locked(number: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
