"""Fixtures. No test here simulates a power failure, so flushing to disk is skipped."""

import os
import threading

import pytest
from stores import bucket

from chatterbox.voices import decode_child


@pytest.fixture(autouse=True)
def synced(monkeypatch) -> list[int]:
    """The inodes of the files flushed to disk, in order."""
    inodes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: inodes.append(os.fstat(file).st_ino))
    return inodes


@pytest.fixture
def asked(monkeypatch) -> threading.Event:
    """Set when a file has been sent to a decode child."""
    given, write = threading.Event(), decode_child.write_request

    def noted(*request):
        write(*request)
        given.set()

    monkeypatch.setattr(decode_child, "write_request", noted)
    return given


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, monkeypatch) -> str:
    """A value of CHATTERBOX_VOICES: an empty store of each kind."""
    if request.param == "folder":
        (tmp_path / "shared").mkdir()
        return str(tmp_path / "shared")
    return bucket(request.getfixturevalue("s3"), monkeypatch)
