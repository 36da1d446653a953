"""Consents are kept over a restart, one file replaced as a whole."""

import json

import pytest

from chatterbox.errors import InvalidVoiceId, RouteNotFound, StorageFull, StorageUnavailable
from chatterbox.voices import consents
from chatterbox.voices.consents import ConsentBook
from chatterbox.voices.file_system import FileSystem


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "consents.json"


def test_a_consent_outlives_the_process(path):
    book = ConsentBook(path)
    consent = book.add("Ann", "en-US", b"I agree.")
    other = book.add("Ben", "en-GB", b"Me too.")
    again = ConsentBook(path)
    assert again.get(consent.id) == consent
    assert again.page(None, 1) == ([other], True)
    assert again.page(other.id, 1) == ([consent], False)
    assert b"agree" not in path.read_bytes()
    again.rename(consent.id, "Anna")
    again.delete(other.id)
    assert [one.name for one in ConsentBook(path).page(None, 9)[0]] == ["Anna"]
    assert list(path.parent.iterdir()) == [path]


def test_what_is_not_there(path):
    book = ConsentBook(path)
    assert not book.knows("cons_1")
    for call in (book.get, book.delete, lambda one: book.rename(one, "x")):
        with pytest.raises(RouteNotFound):
            call("cons_1")
    with pytest.raises(RouteNotFound):
        book.page("cons_1", 5)
    with pytest.raises(InvalidVoiceId):
        book.add("a\nb", "en", b"x")
    assert not path.exists()


def test_a_damaged_book_is_not_written_over(path):
    path.parent.mkdir()
    for damaged in (b"", b"{}", b'[{"id": 1}]', b"\xff", json.dumps([{"id": "a"}]).encode()):
        path.write_bytes(damaged)
        with pytest.raises(StorageUnavailable, match="damaged"):
            ConsentBook(path).add("Ann", "en", b"x")
        assert path.read_bytes() == damaged


def test_a_full_disk_changes_nothing(path):
    class Full(FileSystem):
        def rename(self, source, target):
            raise OSError(28, "no space")

    ConsentBook(path).add("Ann", "en", b"x")
    book = ConsentBook(path, Full())
    with pytest.raises(StorageFull):
        book.add("Ben", "en", b"x")
    assert [one.name for one in book.page(None, 9)[0]] == ["Ann"]
    assert [one.name for one in ConsentBook(path).page(None, 9)[0]] == ["Ann"]


def test_the_book_is_bounded(path, monkeypatch):
    monkeypatch.setattr(consents, "MAX_CONSENTS", 2)
    book = ConsentBook(path)
    book.add("a", "en", b"x")
    book.add("b", "en", b"x")
    with pytest.raises(StorageFull, match="room for 2"):
        book.add("c", "en", b"x")
