"""Three servers on one store, killed at any time: acknowledged voices exist, names are unique, and
no voice is incomplete."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from stores import Line, bucket

from chatterbox.errors import StorageUnavailable
from chatterbox.voices.stores import load_store, open_store

from .clips import babble, encoded, open_library

SERVERS, LIVES = 3, 9  # lives of each server: 27 kills for each store


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

    store = open_store(place, tmp_path / "last")
    store.prepare()
    records, skipped = store.poll()
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


@pytest.mark.slow
def test_f118_a_line_that_breaks_all_the_time(tmp_path, s3, monkeypatch):
    """Connections break at any byte. Acknowledged changes are kept, all other voices are complete
    or absent, and the only error is StorageUnavailable."""
    monkeypatch.setattr("chatterbox.voices.blobs.RETRIES", 1)
    clip = bytearray(encoded(babble(1.2, rate_hz=8000), rate_hz=8000))
    draw, stop = random.Random(1), threading.Event()

    def break_it(line: Line) -> None:
        while not stop.wait(draw.uniform(0.02, 0.2)):
            line.cut()
            stop.wait(draw.uniform(0, 0.1))
            line.mend()

    created, gone, unknown = set(), set(), set()
    with Line(s3) as line:
        place = bucket(s3, monkeypatch, through=line.address)
        library = open_library(tmp_path, store=open_store(place, tmp_path / "1"))
        breaking = threading.Thread(target=break_it, args=(line,))
        breaking.start()
        failed = number = 0
        give_up = time.monotonic() + 120
        while (failed < 5 or len(created) <= 10) and time.monotonic() < give_up:
            number += 1
            clip[2000:2004] = number.to_bytes(4, "little")
            try:
                voice, _ = library.register(bytes(clip), f"name {number}")
            except StorageUnavailable:
                failed += 1
                continue
            created.add(voice.voice_id)
            if number % 2:
                try:
                    library.delete(voice.voice_id)
                    gone.add(voice.voice_id)
                except StorageUnavailable:
                    unknown.add(voice.voice_id)
                    failed += 1
        stop.set()
        breaking.join()
        library.close()
        assert failed >= 5, "the line held"
        assert len(created) > 10
        store = open_store(place, tmp_path / "2")
        records, skipped = load_store(store)
        for record in records:
            for name in record.files:
                store.read(record, name)
    found = {record.voice_id for record in records}
    assert skipped == []
    assert created - gone - unknown <= found, "an acknowledged voice is lost"
    assert not found & gone, "a deleted voice is back"
