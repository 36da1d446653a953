"""Consents survive restarts and failures; their number is limited."""

import json

import pytest

from chatterbox.errors import InvalidVoiceId, RouteNotFound, StorageFull, StorageUnavailable
from chatterbox.voices import consents
from chatterbox.voices.consents import ConsentBook
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.folder_store import FolderStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "consents.json"


DIGEST = "0" * 64


def opened(path, files: FileSystem | None = None) -> ConsentBook:
    return ConsentBook(FolderStore(path.with_name("voices"), files))


def test_a_consent_survives_a_restart(path):
    book = opened(path)
    consent = book.add("Ann", "en-US", DIGEST)
    other = book.add("Ben", "en-GB", DIGEST)
    again = opened(path)
    assert again.get(consent.id) == consent
    assert again.page(None, 1) == ([other], True)
    assert again.page(other.id, 1) == ([consent], False)
    again.rename(consent.id, "Anna")
    again.delete(other.id)
    assert [one.name for one in opened(path).page(None, 9)[0]] == ["Anna"]
    assert {each.name for each in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


def test_unknown_consents_are_refused(path):
    book = opened(path)
    assert not book.exists("cons_1")
    for call in (book.get, book.delete, lambda one: book.rename(one, "x")):
        with pytest.raises(RouteNotFound):
            call("cons_1")
    with pytest.raises(RouteNotFound):
        book.page("cons_1", 5)
    with pytest.raises(InvalidVoiceId):
        book.add("a\nb", "en", DIGEST)
    assert not path.exists()


def test_a_damaged_book_is_not_overwritten(path):
    path.parent.mkdir()
    for damaged in (b"", b"{}", b'[{"id": 1}]', b"\xff", json.dumps([{"id": "a"}]).encode()):
        path.write_bytes(damaged)
        with pytest.raises(StorageUnavailable, match="damaged"):
            opened(path).add("Ann", "en", DIGEST)
        assert path.read_bytes() == damaged


def test_a_full_disk_changes_nothing(path):
    class Full(FileSystem):
        def rename(self, source, target):
            raise OSError(28, "no space")

    opened(path).add("Ann", "en", DIGEST)
    book = opened(path, Full())
    with pytest.raises(StorageFull):
        book.add("Ben", "en", DIGEST)
    assert [one.name for one in book.page(None, 9)[0]] == ["Ann"]
    assert [one.name for one in opened(path).page(None, 9)[0]] == ["Ann"]


def test_the_book_is_bounded(path, monkeypatch):
    monkeypatch.setattr(consents, "MAX_CONSENTS", 2)
    book = opened(path)
    book.add("a", "en", DIGEST)
    book.add("b", "en", DIGEST)
    with pytest.raises(StorageFull, match="room for 2"):
        book.add("c", "en", DIGEST)


def test_one_key_leaves_room_for_others(path, monkeypatch):
    monkeypatch.setattr(consents, "MAX_OF_ONE_KEY", 2)
    book = opened(path)
    for _ in range(2):
        book.add("a", "en", DIGEST, owner=1)
    with pytest.raises(StorageFull, match="A key"):
        opened(path).add("a", "en", DIGEST, owner=1)
    book.add("a", "en", DIGEST, owner=0)
    book.add("a", "en", DIGEST)


def test_a_book_without_owners_is_read(path):
    book = opened(path)
    book.add("a", "en", DIGEST)
    written = json.loads(path.read_bytes())
    del written[0]["owner"]
    path.write_text(json.dumps(written))
    assert opened(path).page(None, 9)[0][0].name == "a"
