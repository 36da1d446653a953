"""Tests of the protection from other processes, in child processes since it cannot be undone."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, resource, sys
from pathlib import Path
from chatterbox.hardening import deny_inspection, make_files_private
deny_inspection()
make_files_private()
print(resource.getrlimit(resource.RLIMIT_CORE))
os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o666)
os.mkdir(sys.argv[1] + "-directory")
print(oct(os.stat(sys.argv[1]).st_mode), oct(os.stat(sys.argv[1] + "-directory").st_mode))
if sys.platform == "linux":
    import ctypes
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE
    print(len(os.listdir("/proc/self/fd")) > 2, os.stat("/proc/self/environ").st_uid)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of resources")
def test_a_process_keeps_what_it_holds_to_itself(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["(0, 0)", "0o100600 0o40700"]
    assert lines[2:] in ([], ["0", "True 0"])
