"""In an object store a voice is complete or absent, whichever call fails, and whether or not the
failing call was carried out."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from chatterbox.errors import ConfigError, RouteNotFound, StorageUnavailable
from chatterbox.voices.blobs import NEW, open_blobs, without_secrets
from chatterbox.voices.consents import ConsentBook
from chatterbox.voices.object_store import INDEX, ORPHAN_S, ObjectStore
from chatterbox.voices.reference import ReferenceReport
from chatterbox.voices.store import SCHEMA, BadEntry, Outdated, VoiceRecord
from chatterbox.voices.stores import load_store

REPORT = ReferenceReport(5, 0, 5, -20.5, 0.5, 0, 0.1, 24_000, ())
CONTENTS = {"reference.flac": b"sound" * 100, "encoded-m.safetensors": b"tensors" * 100}


class MadeBlobs:
    """A store in memory. Its n-th call fails, before or after it is carried out."""

    conditional = True

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.age_s = 0.0
        self.count = 0
        self.fail_at, self.carried_out = 0, False

    def _call(self, act: Callable):
        self.count += 1
        fails = self.count == self.fail_at
        if fails and not self.carried_out:
            raise OSError("injected")
        answer = act()
        if fails:
            raise OSError("injected")
        return answer

    def get(self, key: str, unless: str = NEW):
        def act():
            if key not in self.objects:
                raise FileNotFoundError
            data = self.objects[key]
            return None if tag_of(data) == unless else (data, tag_of(data))

        return self._call(act)

    def put(self, key: str, data: bytes, tag: str | None = None) -> str:
        def act():
            there = tag_of(self.objects[key]) if key in self.objects else NEW
            if tag is not None and there != tag:
                raise Outdated
            self.objects[key] = data
            return tag_of(data)

        return self._call(act)

    def delete(self, keys) -> None:
        self._call(lambda: [self.objects.pop(key, None) for key in keys])

    def ages(self, prefix: str) -> dict[str, float]:
        return self._call(
            lambda: {key: self.age_s for key in self.objects if key.startswith(prefix)}
        )


def tag_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def record(voice_id: str, name: str = "Anna") -> VoiceRecord:
    return VoiceRecord(SCHEMA, voice_id, name, ("a", "b"), 1.5, REPORT, {})


def opened(blobs: MadeBlobs) -> ObjectStore:
    store = ObjectStore("s3://made", blobs)
    store.poll()
    return store


def state(blobs: MadeBlobs) -> dict[str, str]:
    """The names of the voices that another server finds; reads all their files."""
    store = ObjectStore("s3://made", blobs)
    records, skipped = store.poll()
    assert skipped == []
    for one in records:
        for name in one.files:
            store.read(one, name)
    return {one.voice_id: one.name for one in records}


def create(store: ObjectStore, _kept: VoiceRecord) -> None:
    store.create(record("v-1"), CONTENTS)


def delete(store: ObjectStore, _kept: VoiceRecord) -> None:
    store.delete("v-0")


def rename(store: ObjectStore, kept: VoiceRecord) -> None:
    store.update(replace(kept, name="Berta"))


def encode(store: ObjectStore, kept: VoiceRecord) -> None:
    store.add_file(kept, "encoded-m.safetensors", b"other")


ACTIONS = {
    create: [{"v-0": "Anna"}, {"v-0": "Anna", "v-1": "Anna"}],
    delete: [{"v-0": "Anna"}, {}],
    rename: [{"v-0": "Anna"}, {"v-0": "Berta"}],
    encode: [{"v-0": "Anna"}, {"v-0": "Anna"}],
}


@pytest.mark.parametrize("carried_out", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("act", ACTIONS)
def test_any_call_fails(act, carried_out):
    before, after = ACTIONS[act]
    for n in range(1, 9):
        blobs = MadeBlobs()
        kept = opened(blobs).create(record("v-0"), CONTENTS)
        store = opened(blobs)
        blobs.count, blobs.fail_at, blobs.carried_out = 0, n, carried_out
        try:
            with store.exclusive():
                act(store, kept)
        except StorageUnavailable:
            right = before
        else:
            right = after
        calls, blobs.fail_at = blobs.count, 0
        assert state(blobs) == right
        if calls < n:
            break
    else:
        pytest.fail("more calls than that")


def test_the_slower_of_two_servers_must_poll_again():
    blobs = MadeBlobs()
    one, other = opened(blobs), opened(blobs)
    one.create(record("v-1"), CONTENTS)
    with pytest.raises(Outdated):
        other.create(record("v-2", "Berta"), CONTENTS)
    assert len(blobs.objects) == 1 + len(CONTENTS)  # its own objects are deleted
    other.poll()
    other.create(record("v-2", "Berta"), CONTENTS)
    assert state(blobs) == {"v-1": "Anna", "v-2": "Berta"}


def test_unchanged_entries_are_not_parsed_again():
    blobs = MadeBlobs()
    one, other = opened(blobs), opened(blobs)
    assert other.poll() is None
    stored = one.create(record("v-1"), CONTENTS)
    assert one.poll() is None
    ((same,), _) = other.poll()
    one.create(record("v-2", "Berta"), CONTENTS)
    found, _ = other.poll()
    assert [each for each in found if each is same], "only lines that are new are parsed"
    assert same == stored


def test_only_orphans_are_deleted_after_a_day():
    blobs = MadeBlobs()
    opened(blobs).create(record("v-1"), CONTENTS)
    kept = set(blobs.objects)
    blobs.objects["files/v-2/left"] = b"half a voice"
    opened(blobs).prepare()
    assert set(blobs.objects) == {*kept, "files/v-2/left"}
    blobs.age_s = ORPHAN_S + 1
    opened(blobs).prepare()
    assert set(blobs.objects) == kept


def test_loading_returns_all_voices():
    blobs = MadeBlobs()
    stored = opened(blobs).create(record("v-1"), CONTENTS)
    again = ObjectStore("s3://made", blobs)
    assert load_store(again) == ([stored], [])
    assert again.poll() is None
    assert load_store(ObjectStore("s3://made", MadeBlobs())) == ([], [])


def test_a_deleted_voice_leaves_no_object():
    blobs = MadeBlobs()
    store = opened(blobs)
    store.create(record("v-1"), CONTENTS)
    store.delete("v-1")
    assert set(blobs.objects) == {INDEX}


@pytest.mark.parametrize("index", [b"", b"hello", None])
def test_a_lost_or_damaged_index_is_not_overwritten(index):
    blobs = MadeBlobs()
    store = opened(blobs)
    store.create(record("v-1"), CONTENTS)
    blobs.objects[INDEX] = index
    if index is None:
        del blobs.objects[INDEX]
    with pytest.raises(StorageUnavailable), store.exclusive():
        store.create(record("v-2"), CONTENTS)
    assert blobs.objects.get(INDEX) == index


def test_an_object_that_is_damaged_is_a_bad_entry():
    blobs = MadeBlobs()
    store = opened(blobs)
    stored = store.create(record("v-1"), CONTENTS)
    (key,) = (key for key in blobs.objects if key.endswith("reference.flac"))
    blobs.objects[key] = b"noise"
    with pytest.raises(BadEntry, match="damaged"):
        store.read(stored, "reference.flac")
    del blobs.objects[key]
    with pytest.raises(BadEntry, match="missing"):
        store.read(stored, "reference.flac")


def test_a_store_that_ignores_conditions_is_refused():
    blobs = MadeBlobs()
    blobs.put = lambda key, data, _tag=None: MadeBlobs.put(blobs, key, data)
    with pytest.raises(StorageUnavailable) as refused:
        ObjectStore("s3://made", blobs).prepare()
    assert "If-None-Match" in str(refused.value.__cause__)
    assert not blobs.objects


@pytest.mark.parametrize("prefix", ["", "/some/prefix"])
def test_any_file_system_of_fsspec(prefix):
    url = f"memory://{tag_of(prefix.encode())}{prefix}"
    store = ObjectStore(url, open_blobs(url))
    store.prepare()
    assert store.poll() == ([], [])
    kept = store.create(record("v-1"), CONTENTS)
    store.update(replace(kept, name="Berta"))
    again = ObjectStore(url, open_blobs(url))
    assert len(load_store(again)[0]) == 1
    assert again.read(kept, "reference.flac") == CONTENTS["reference.flac"]
    again.delete("v-1")
    assert store.poll() == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "sftp://anna:SECRET@host/voices",
        "az://c/p?sig=SECRET",
        "s3://SECRET:SECRET@b",
        "Error performing PUT https://h/b?X-Amz-Signature=SECRET in 1 s",
        "status code: 403 Forbidden: <?xml version='1.0'?><Error>SECRET</Error>",
        "first\nSECRET",
    ],
)
def test_no_secret_is_shown(text):
    assert "SECRET" not in without_secrets(text)


@pytest.mark.parametrize(
    "url", ["nothing://SECRET@x", "s3://", "sftp://anna:SECRET@", "://SECRET@x"]
)
def test_an_invalid_address_is_a_config_error(url):
    with pytest.raises(ConfigError, match="CHATTERBOX_VOICES") as wrong:
        open_blobs(url)
    assert "SECRET" not in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_document_is_changed_once_if_the_answer_is_lost():
    """The client library repeats a write whose answer was lost, and the store refuses that."""

    class Lost(MadeBlobs):
        lost = False

        def put(self, key: str, data: bytes, tag: str | None = None) -> str:
            tag = super().put(key, data, tag)
            if self.lost:
                self.lost = False
                raise Outdated
            return tag

    blobs = Lost()
    book = ConsentBook(ObjectStore("s3://made", blobs))
    blobs.lost = True
    ann = book.add("Ann", "en", "0" * 64)
    blobs.lost = True
    assert book.rename(ann.id, "Anna").name == "Anna"
    assert [one.name for one in book.page(None, 9)[0]] == ["Anna"]
    blobs.lost = True
    book.delete(ann.id)
    assert book.page(None, 9) == ([], False)
    with pytest.raises(RouteNotFound):
        book.delete(ann.id)
