"""The tests of this room lose no power: waiting for the disk would only make them slow."""

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chatterbox.voices import child_protocol

SECRET = "not-to-be-seen-anywhere"


@pytest.fixture(autouse=True)
def synced(monkeypatch) -> list[int]:
    """The inodes of what was flushed to disk, in order."""
    inodes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: inodes.append(os.fstat(file).st_ino))
    return inodes


@pytest.fixture
def asked(monkeypatch) -> threading.Event:
    """Set once a child was given a file."""
    given, write = threading.Event(), child_protocol.write_request

    def noted(*request):
        write(*request)
        given.set()

    monkeypatch.setattr(child_protocol, "write_request", noted)
    return given


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server."""
    program = Path(__file__).with_name("s3_server.py")
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield server.stdout.readline().strip()


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path, monkeypatch) -> str:
    """What CHATTERBOX_VOICES may be: a new store of that kind."""
    if request.param == "folder":
        (tmp_path / "shared").mkdir()
        return str(tmp_path / "shared")
    return bucket(request.getfixturevalue("s3"), monkeypatch)


def bucket(address: str, monkeypatch) -> str:
    """A new one, and the settings by which it is found."""
    name = f"voices-{uuid.uuid4().hex}"
    httpx.put(f"{address}/{name}").raise_for_status()
    for variable, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)
    return f"s3://{name}/some/prefix"
