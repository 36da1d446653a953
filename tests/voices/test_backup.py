"""The backup and the restore of docs/run/upgrade.md, while servers run."""

import shutil
from pathlib import Path

import pytest

from chatterbox.errors import VoiceNotFound
from chatterbox.voices.blobs import open_blobs
from chatterbox.voices.library import VoiceLibrary
from chatterbox.voices.object_store import INDEX
from chatterbox.voices.stores import open_store

from .clips import babble, encoded, open_library
from .conftest import bucket

ANNA = encoded(babble(6, seed=1))
BERT = encoded(babble(6, seed=2))


@pytest.fixture
def server(tmp_path):
    """Returns a function that opens a library on a store, as a further server."""
    opened: list[VoiceLibrary] = []

    def one_more(place: str) -> VoiceLibrary:
        store = open_store(place, tmp_path / f"server {len(opened)}")
        opened.append(open_library(tmp_path, store=store))
        return opened[-1]

    yield one_more
    for library in opened:
        library.close()


def copied(source: Path, target: Path) -> None:
    """Copy as `rsync -a --exclude '.*'`."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)


@pytest.mark.slow
def test_a_folder_is_copied_back_voice_by_voice(server, tmp_path):
    shared, backup = tmp_path / "shared", tmp_path / "backup"
    shared.mkdir()
    running = server(str(shared))
    running.register(ANNA, "Anna")
    running.register(BERT, "Bert")
    copied(shared / "voices", backup)
    sound = running.recording("Anna")
    running.delete("Anna")
    copied(backup, shared / "voices")
    restarted = server(str(shared))
    assert restarted.recording("Anna") == sound
    running.refresh()
    with pytest.raises(VoiceNotFound):
        running.get("Anna")  # it has not polled since
    restarted.set_alias("Anna", "Nan")
    running.refresh()
    assert running.recording("Nan") == sound


@pytest.mark.slow
def test_a_bucket_is_copied_index_first_and_back_index_last(server, s3, monkeypatch):
    place = bucket(s3, monkeypatch)
    blobs, running = open_blobs(place), server(place)
    running.register(ANNA, "Anna")
    index = blobs.get(INDEX)[0]
    running.register(BERT, "Bert")  # between the two copies
    objects = {key: blobs.get(key)[0] for key in blobs.ages("files/")}
    sound = running.recording("Anna")
    running.delete("Anna")
    for key, data in objects.items():
        blobs.put(key, data)
    blobs.put(INDEX, index)
    running.refresh()
    assert running.recording("Anna") == sound
    assert server(place).recording("Anna") == sound
    empty = bucket(s3, monkeypatch)
    elsewhere = open_blobs(empty)
    for key, data in {**objects, INDEX: index}.items():
        elsewhere.put(key, data)
    assert server(empty).recording("Anna") == sound
