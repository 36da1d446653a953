"""Three servers on one store, killed at any time: what was acknowledged is there, no name is two
voices', nothing is half there."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from chatterbox.voices.places import open_store

SERVERS, LIVES = 3, 9  # of each: 27 kills a store


@pytest.mark.slow
def test_f117_kill_dash_nine_of_servers_on_one_store(tmp_path, place):
    worker = Path(__file__).with_name("shared_worker.py")
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(map(str, (root, root / "tests")))
    workers = [
        subprocess.Popen(
            [sys.executable, worker, place, tmp_path / str(number), str(number), str(LIVES)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": path},
        )
        for number in range(SERVERS)
    ]
    said: dict[str, set[str]] = {"created": set(), "deleting": set(), "deleted": set()}
    count = Counter()
    for each in workers:
        for line in each.communicate()[0].splitlines():
            word, voice_id = line.split()
            said.setdefault(word, set()).add(voice_id)
            count[word] += 1
        assert each.returncode == 0
    assert count["created"], "no life was long enough"
    assert not count["StorageUnavailable"]

    store = open_store(place, tmp_path / "last")
    store.prepare()
    records, skipped = store.look()
    assert skipped == []
    for record in records:
        for name in record.files:
            store.read(record, name)
    found = {record.voice_id for record in records}
    assert said["created"] - said["deleting"] <= found, "an acknowledged voice is lost"
    assert not found & said["deleted"], "a deleted voice is back"
    names = [record.name for record in records]
    assert len(set(names)) == len(names), "two voices have one name"
    if "://" not in place:
        left = [path.name for path in (Path(place) / "voices").iterdir()]
        assert not [name for name in left if name.startswith(".")]
