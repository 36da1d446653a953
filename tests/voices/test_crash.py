"""After `kill -9` at any time, acknowledged voices exist and no voice is incomplete."""

import subprocess
import sys
from pathlib import Path

from chatterbox.voices.folder_store import FolderStore

SERVERS, LIVES = 3, 7  # servers on one folder, and how often each is killed


def test_kill_dash_nine(tmp_path):
    worker = Path(__file__).with_name("crash_worker.py")
    root = Path(__file__).resolve().parents[2]
    servers = [
        subprocess.Popen(
            [sys.executable, worker, tmp_path, str(LIVES)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={"PYTHONPATH": str(root)},
        )
        for _ in range(SERVERS)
    ]
    lines = [line for server in servers for line in server.communicate()[0].splitlines()]
    assert not any(server.returncode for server in servers)
    said: dict[str, set[str]] = {"created": set(), "deleting": set(), "deleted": set()}
    for line in lines:
        word, voice_id = line.split()
        said[word].add(voice_id)
    assert said["created"], "no life was long enough"

    store = FolderStore(tmp_path)
    store.prepare()
    records, skipped = store.poll()
    assert skipped == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    for record in records:
        for name in record.files:
            store.read(record, name)
    found = {record.voice_id for record in records}
    assert said["created"] - said["deleting"] <= found
    assert not found & said["deleted"]
