"""The tests of this room lose no power: waiting for the disk would only make them slow."""

import os

import pytest


@pytest.fixture(autouse=True)
def synced(monkeypatch) -> list[int]:
    """The inodes of what was flushed to disk, in order."""
    inodes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: inodes.append(os.fstat(file).st_ino))
    return inodes
