"""In a folder a voice is complete or absent after a failure of any operation."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from chatterbox.errors import StorageFull, StorageUnavailable
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.reference import ReferenceReport
from chatterbox.voices.store import (
    META_NAME,
    RECORD_JSON,
    SCHEMA,
    BadEntry,
    VoiceRecord,
    is_voice_id,
)

from .clips import FaultyFileSystem, healthy

REPORT = ReferenceReport(5, 0, 5, -20.5, 0.5, 0, 0.1, 24_000, ("short_reference: …",))
CONTENTS = {"reference.flac": b"sound" * 100, "encoded-m.safetensors": b"tensors" * 100}
EVER = 10**9
FAULTS = {
    errno.ENOSPC: StorageFull,
    errno.EIO: StorageUnavailable,
    errno.EACCES: StorageUnavailable,
}


def record(voice_id: str = "v-1", name: str = "Anna") -> VoiceRecord:
    return VoiceRecord(SCHEMA, voice_id, name, ("a", "b"), 1.5, REPORT, {})


def open_store(directory: Path, files: FaultyFileSystem | None = None) -> FolderStore:
    store = FolderStore(directory, files)
    store.prepare()
    return store


def state(directory: Path) -> dict[str, str]:
    """The id → name of each voice that a restarted server finds; checks their files."""
    store = open_store(directory)
    records, skipped = store.scan()
    assert skipped == []
    for found in records:
        for name in found.files:
            store.read(found, name)
    assert not [p.name for p in directory.iterdir() if p.name.startswith(".")]
    return {found.voice_id: found.name for found in records}


def test_round_trip(tmp_path):
    store = open_store(tmp_path / "a" / "voices")
    stored = store.create(record(), CONTENTS)
    again = open_store(tmp_path / "a" / "voices")
    assert again.scan() == ([stored], [])
    assert {name: again.read(stored, name) for name in stored.files} == CONTENTS
    assert again.load("v-1") == stored


def test_everything_is_flushed_before_it_counts(tmp_path, synced):
    store = open_store(tmp_path)
    stored = store.create(record(), CONTENTS)
    voice = tmp_path / "v-1"
    files = [voice / name for name in (*CONTENTS, META_NAME)]
    assert synced == [path.stat().st_ino for path in (*files, voice, tmp_path)]
    synced.clear()
    store.update(replace(stored, name="Berta"))
    assert synced == [path.stat().st_ino for path in (voice / META_NAME, voice)]
    synced.clear()
    store.delete("v-1")
    assert synced == [tmp_path.stat().st_ino]


def test_files_are_added_and_replaced(tmp_path):
    store = open_store(tmp_path)
    stored = store.create(record(), CONTENTS)
    changed = store.add_file(stored, "encoded-n.safetensors", b"other")
    changed = store.add_file(changed, "encoded-n.safetensors", b"newer")
    store.update(replace(changed, name="Berta"))
    (again,), _ = open_store(tmp_path).scan()
    assert again.name == "Berta"
    assert store.read(again, "encoded-n.safetensors") == b"newer"
    assert set(again.files) == {*CONTENTS, "encoded-n.safetensors"}


def test_delete(tmp_path):
    store = open_store(tmp_path)
    store.create(record(), CONTENTS)
    store.delete("v-1")
    assert state(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def operations(tmp_path: Path, act) -> int:
    """The number of operations of `act` when none fails."""
    files = healthy()
    store = open_store(tmp_path / "counted", files)
    stored = store.create(record("v-0"), CONTENTS)
    files.count = 0
    act(store, stored)
    return files.count


def create(store: FolderStore, _existing: VoiceRecord) -> None:
    store.create(record("v-1"), CONTENTS)


def delete(store: FolderStore, _existing: VoiceRecord) -> None:
    store.delete("v-0")


def rename(store: FolderStore, existing: VoiceRecord) -> None:
    store.update(replace(existing, name="Berta"))


def encode(store: FolderStore, existing: VoiceRecord) -> None:
    store.add_file(existing, "encoded-n.safetensors", b"other")


# What a restart may find after `act` failed, and after it succeeded.
ACTIONS = {
    "create": (create, [{"v-0": "Anna"}, {"v-0": "Anna", "v-1": "Anna"}]),
    "delete": (delete, [{"v-0": "Anna"}, {}]),
    "rename": (rename, [{"v-0": "Anna"}, {"v-0": "Berta"}]),
    "encode": (encode, [{"v-0": "Anna"}, {"v-0": "Anna"}]),
}


@pytest.mark.parametrize("code", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("for_ever", [False, True])
def test_the_nth_operation_fails(tmp_path, name, code, for_ever):
    act, (before, after) = ACTIONS[name]
    count = operations(tmp_path, act)
    assert count >= 3
    for n in range(1, count + 1):
        directory = tmp_path / str(n)
        stored = open_store(directory).create(record("v-0"), CONTENTS)
        files = FaultyFileSystem(n, EVER if for_ever else n, code)
        try:
            act(FolderStore(directory, files), stored)
        except FAULTS[code]:
            if not for_ever and name in ("create", "delete"):  # the change was undone
                assert state(directory) == before
            else:
                assert state(directory) in (before, after)
        else:  # only removing a voice that is already renamed may fail unnoticed
            assert name == "delete"
            assert state(directory) == after


def test_a_failed_create_leaves_nothing_and_can_be_repeated(tmp_path):
    for n in range(1, 7):
        store = FolderStore(tmp_path, FaultyFileSystem(n, n))
        with pytest.raises(StorageFull):
            store.create(record(), CONTENTS)
        assert list(tmp_path.iterdir()) == []
    FolderStore(tmp_path).create(record(), CONTENTS)
    assert state(tmp_path) == {"v-1": "Anna"}


def test_remains_of_interrupted_processes_are_removed(tmp_path):
    store = open_store(tmp_path)
    store.create(record(), CONTENTS)
    for name in (".tmp-1", ".del-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_bytes(b"x")
    (tmp_path / ".tmp-3").write_bytes(b"x")
    assert state(tmp_path) == {"v-1": "Anna"}


def meta(**changes: object) -> bytes:
    good = json.loads(RECORD_JSON.dump_json(replace(record(), files={"reference.flac": "0" * 64})))
    return json.dumps(good | changes).encode()


BAD_META = {
    "empty": b"",
    "zero bytes": bytes(500),
    "truncated": meta()[:-20],
    "not an object": b"[]",
    "null": b"null",
    "no utf-8": b"\xff\xfe" + meta(),
    "deep": b"[" * 60_000,
    "huge": meta(name="x" * 70_000),
    "from the future": meta(schema=SCHEMA + 1),
    "wrong type": meta(name=7),
    "not a number": meta(created_at=float("nan")),
    "overflow": meta(created_at=1).replace(b'"created_at": 1', b'"created_at": 1e999'),
    "another voice's": meta(voice_id="v-2"),
    "files elsewhere": meta(files={"../../etc/passwd": "0" * 64}),
    "file missing": meta(files={"no.flac": "0" * 64}),
    "no report": meta(report=None),
    "surrogate": meta(name="@").replace(b"@", rb"\ud800"),
}


@pytest.mark.parametrize("name", BAD_META)
def test_bad_meta_is_skipped_and_left_alone(tmp_path, name):
    store = open_store(tmp_path)
    good = store.create(record("v-0"), CONTENTS)
    store.create(record(), CONTENTS)
    path = tmp_path / "v-1" / META_NAME
    path.write_bytes(BAD_META[name])
    before = sorted((p.name, p.read_bytes()) for p in (tmp_path / "v-1").iterdir())
    records, skipped = open_store(tmp_path).scan()
    assert records == [good]
    ((directory, reason),) = skipped
    assert directory == "v-1"
    assert reason
    assert str(tmp_path) not in reason
    assert sorted((p.name, p.read_bytes()) for p in (tmp_path / "v-1").iterdir()) == before


def test_foreign_entries_are_skipped_and_left_alone(tmp_path):
    store = open_store(tmp_path)
    stored = store.create(record(), CONTENTS)
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / META_NAME).write_bytes(meta(voice_id="link"))
    (tmp_path / "link").symlink_to(outside, target_is_directory=True)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "plain").write_text("a file with a voice's name")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "Über uns").mkdir()
    (tmp_path / "linked-meta").mkdir()
    (tmp_path / "linked-meta" / META_NAME).symlink_to(outside / META_NAME)
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / META_NAME).write_bytes(b"\x80\x04\x95.")
    names = sorted(p.name for p in tmp_path.iterdir())
    records, skipped = open_store(tmp_path).scan()
    assert records == [stored]
    assert len(skipped) == 7
    assert all(reason for _, reason in skipped)
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_damaged_and_linked_files_are_found(tmp_path):
    store = open_store(tmp_path)
    stored = store.create(record(), CONTENTS)
    path = tmp_path / "v-1" / "reference.flac"
    path.write_bytes(b"other")
    with pytest.raises(BadEntry, match="damaged"):
        store.read(stored, "reference.flac")
    path.unlink()
    with pytest.raises(BadEntry, match="missing"):
        store.read(stored, "reference.flac")
    path.symlink_to("/etc/hostname")
    with pytest.raises(BadEntry):
        store.read(stored, "reference.flac")
    with pytest.raises(StorageUnavailable):
        FolderStore(tmp_path, FaultyFileSystem(1, 1, errno.EIO)).read(stored, "reference.flac")


def test_setting_aside(tmp_path):
    store = open_store(tmp_path)
    (tmp_path / "v-1").mkdir()
    (tmp_path / "v-1" / "what").write_bytes(b"kept")
    store.set_aside("v-1")
    store.create(record(), CONTENTS)
    records, ((name, reason),) = open_store(tmp_path).scan()
    assert [found.voice_id for found in records] == ["v-1"]
    assert name.startswith(".bad-v-1-")
    assert "set aside" in reason
    assert (tmp_path / name / "what").read_bytes() == b"kept"


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:\\x", ".tmp-1", "a\x00", "a\n"),
        *("Ä", "A", "-a", "_a", "a.b", "ａ", "a" * 64),
    ],
)
def test_invalid_ids_are_refused(tmp_path, name):
    assert not is_voice_id(name)
    files = healthy()
    with pytest.raises(BadEntry):
        FolderStore(tmp_path, files).load(name)
    assert files.paths == []


def test_an_unusable_directory(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = FolderStore(tmp_path / "file" / "voices")
    with pytest.raises(StorageUnavailable):
        store.prepare()
    with pytest.raises(StorageUnavailable):
        store.scan()
    with pytest.raises(StorageUnavailable):
        store.create(record(), CONTENTS)
