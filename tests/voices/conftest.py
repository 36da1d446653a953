"""The tests of this room lose no power: waiting for the disk would only make them slow."""

import os
import threading

import pytest
from stores import bucket

from chatterbox.voices import decode_child


@pytest.fixture(autouse=True)
def synced(monkeypatch) -> list[int]:
    """The inodes of what was flushed to disk, in order."""
    inodes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: inodes.append(os.fstat(file).st_ino))
    return inodes


@pytest.fixture
def asked(monkeypatch) -> threading.Event:
    """Set once a child was given a file."""
    given, write = threading.Event(), decode_child.write_request

    def noted(*request):
        write(*request)
        given.set()

    monkeypatch.setattr(decode_child, "write_request", noted)
    return given


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, monkeypatch) -> str:
    """What CHATTERBOX_VOICES may be: a new store of that kind."""
    if request.param == "folder":
        (tmp_path / "shared").mkdir()
        return str(tmp_path / "shared")
    return bucket(request.getfixturevalue("s3"), monkeypatch)
