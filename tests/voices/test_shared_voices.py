"""Several servers on one store: each sees the changes of the others and preserves them."""

from pathlib import Path

import pytest

from chatterbox.errors import InvalidVoiceId, VoiceNotFound
from chatterbox.voices.consents import ConsentBook
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.library import VoiceLibrary
from chatterbox.voices.stores import open_store

from .clips import FakeEncoder, babble, encoded, open_library

ANNA = encoded(babble(6, seed=1))
BERT = encoded(babble(6, seed=2))


@pytest.fixture
def server(tmp_path, place):
    """Returns a function that opens a library on the store, as a further server."""
    opened: list[VoiceLibrary] = []

    def one_more(**options) -> VoiceLibrary:
        store = open_store(place, tmp_path / f"server {len(opened)}")
        opened.append(open_library(tmp_path, store=store, **options))
        return opened[-1]

    yield one_more
    for library in opened:
        library.close()


def names(library: VoiceLibrary) -> dict[str, tuple[str, ...]]:
    return {info.name: info.aliases for info in library.list() if not info.built_in}


def test_a_voice_registered_by_one_speaks_in_the_other_without_being_encoded_again(server):
    one, other = server(), server(encoder=(encoder := FakeEncoder()))
    info, created = one.register(ANNA, "Anna")
    assert created
    with pytest.raises(VoiceNotFound):
        other.get("Anna")
    other.refresh()
    assert other.get("Anna").key == one.get("Anna").key
    assert encoder.calls == 0
    assert other.register(ANNA, "Nan") == (other.info("Anna"), False)
    one.refresh()
    assert names(one) == {"Anna": ("Nan",)}
    assert one.info("nan").voice_id == info.voice_id


def test_changes_see_what_others_have_changed_first(server):
    one, other = server(), server()
    one.register(ANNA, "Anna")
    with pytest.raises(InvalidVoiceId):
        other.register(BERT, "anna")  # it has not polled since
    other.register(BERT, "Bert")
    one.set_alias("Bert", "B")
    other.rename("B", "Berta")
    with pytest.raises(InvalidVoiceId):
        one.set_alias("Anna", "Berta")
    one.remove_alias("B")
    other.refresh()
    assert names(one) == names(other) == {"Anna": (), "Berta": ()}


def test_a_voice_deleted_by_one_is_gone_in_the_other_and_from_its_copies(server, tmp_path):
    one, other = server(), server()
    info, _ = one.register(ANNA, "Anna")
    other.refresh()
    other.get("Anna")
    other.recording("Anna")
    copies = tmp_path / "server 1" / "voice_copies"
    assert any(path.read_bytes()[:4] == b"fLaC" for path in copies.iterdir())
    one.delete("Anna")
    with pytest.raises(VoiceNotFound):
        other.set_alias(info.voice_id, "Nan")
    with pytest.raises(VoiceNotFound):
        other.get(info.voice_id)
    assert not any(path.read_bytes()[:4] == b"fLaC" for path in copies.iterdir())
    assert one.register(ANNA, "Anna")[1]


def test_a_voice_deleted_a_moment_ago_is_registered_again(server):
    one, other = server(), server()
    exported = {}
    for recording, name in ((ANNA, "Anna"), (BERT, "Bert")):
        one.register(recording, name)
        exported[name] = one.export(name)
    other.refresh()
    one.delete("Anna")
    one.delete("Bert")
    assert other.register(ANNA)[1]
    assert other.import_(exported["Bert"]).name == "Bert"
    one.refresh()
    assert len(names(one)) == 2


def test_a_recording_registered_by_both_at_once_is_one_voice(server):
    """The other server is faster while this one encodes the recording."""
    other = server()
    theirs = []
    slow = FakeEncoder(before=lambda: theirs or theirs.append(other.register(ANNA, "Anna")))
    one = server(encoder=slow)
    info, created = one.register(ANNA, "Nan")
    assert not created
    assert theirs == [(other.info("Anna"), True)]
    other.refresh()
    assert names(one) == names(other) == {"Anna": ("Nan",)}
    assert info.voice_id == theirs[0][0].voice_id


def test_an_import_replaced_elsewhere_leaves_the_cache(server):
    elsewhere = server()
    one, other = server(), server()
    elsewhere.register(ANNA, "Anna")
    exported = elsewhere.export("Anna")
    elsewhere.delete("Anna")
    one.import_(exported)
    other.refresh()
    assert other.info("Anna").imported
    imported = other.get("Anna")
    one.register(ANNA)  # replaces the imported arrays
    other.refresh()
    assert not other.info("Anna").imported
    assert other.get("Anna") is not imported


def test_consents_are_shared_too(tmp_path, place):
    one, other = (ConsentBook(open_store(place, tmp_path / name)) for name in ("1", "2"))
    ann, ben = one.add("Ann", "en", "0" * 64), other.add("Ben", "en", "1" * 64)
    assert one.page(None, 9) == ([ben, ann], False)
    one.delete(ann.id)
    assert other.rename(ben.id, "Benno").name == "Benno"
    assert [consent.name for consent in one.page(None, 9)[0]] == ["Benno"]


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_an_interrupted_change_is_polled_again(server, place):
    def killed():
        with store.exclusive():
            (record,) = [r for r in store.scan()[0] if r.name == "Anna"]
            store.delete(record.voice_id)
            raise KeyboardInterrupt  # before it writes the mark

    one, other = server(), server()
    store = FolderStore(Path(place) / "voices")
    one.register(ANNA, "Anna")
    other.refresh()
    with pytest.raises(KeyboardInterrupt):
        killed()
    other.refresh()
    assert names(other) == {}
