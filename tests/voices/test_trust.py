"""Data from others (files, names, the disk) is checked before it is used."""

import json
import os
import stat
import struct
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from faults.harness import fake_engine

from chatterbox.errors import (
    Draining,
    InvalidVoiceFile,
    InvalidVoiceId,
    StorageFull,
    VoiceNotFound,
)
from chatterbox.hardening import make_private_directory
from chatterbox.voices.consents import MAX_CONSENTS, ConsentBook
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.names import MAX_ALIASES, NameIndex, VoiceInfo, validate_new_name
from chatterbox.voices.sandbox import SandboxedDecoder
from chatterbox.voices.store import MAX_META_BYTES, META_NAME
from chatterbox.voices.voice_file import (
    MAX_BYTES,
    MAX_HEADER_BYTES,
    read_voice_file,
    write_voice_file,
)

from .clips import FakeEncoder, babble, encoded, open_library
from .test_catalogue import REPORT
from .test_decoder import GOOD, HOSTILE
from .test_voice_file import FILE, exported, forged

ANNA = encoded(babble(3, seed=1))
BEN = encoded(babble(3, seed=2))
EMOJI = "\U0001f642"


# --- voice files


def headed(header: bytes, size: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


MANY = b",".join(
    b'"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % number for number in range(100_000)
)
ONE = {"features": np.zeros((1, 4), np.float32)}


@pytest.mark.parametrize(
    "data",
    [
        headed(b"{" + MANY + b"}"),
        headed(b"{" + MANY[: MAX_HEADER_BYTES - 100].rpartition(b",")[0] + b"}"),
        headed(b"{}", 2**63),
        headed(b"{}", 2**64 - 1),
        headed(b"[" * 60_000),
        headed(b'{"a":' * 12_000),
        headed(b"[]"),
        headed(b"7" * 60_000),
        headed(b'{"__metadata__":' + b'{"k":"v"}' * 4000 + b"}"),
        headed(json.dumps({"__metadata__": {"k": "v" * MAX_HEADER_BYTES}}).encode()),
        headed(b'{"__metadata__":7}'),
        headed('{"__metadata__":{"a":1}}'.encode("utf-16")),
        safetensors.numpy.save(ONE | {"another": ONE["features"]}),
        safetensors.numpy.save(ONE),
        b"\0" * (MAX_BYTES + 1),
        FILE + b"\0" * MAX_BYTES,
        forged(names=json.dumps(["x" * 40_000])),
        forged(report="[" * 20_000),
        forged(report='{"warnings":["' + EMOJI * 5000 + '"]}'),
    ],
    ids=range(19),
)
def test_f87_what_is_no_voice_is_refused_before_much_of_it_is_read(data):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidVoiceFile):
            read_voice_file(data)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 3 * MAX_BYTES


def test_f87_a_header_of_many_entries_costs_no_more_than_a_small_one():
    data = headed(b"{" + MANY + b"}")
    began = time.thread_time()
    for _ in range(50):
        with pytest.raises(InvalidVoiceFile, match="header is too large"):
            read_voice_file(data)
    assert time.thread_time() - began < 1  # parsing it once takes seconds


def test_f87_the_largest_voice_that_can_be_exported_can_be_imported():
    names = [EMOJI * 99 + chr(ord("A") + number) for number in range(MAX_ALIASES + 1)]
    quotes = ['"\\' * 49 + str(number) for number in range(MAX_ALIASES + 1)]
    for given in (names, quotes):
        again = read_voice_file(write_voice_file(exported(name=given[0], aliases=tuple(given[1:]))))
        assert (again.name, *again.aliases) == tuple(given)


# --- imports


def forgery(directory, recording: bytes = ANNA, *, seed: int = 7) -> bytes:
    """An exported file with the recording of one voice and the tensors of another."""
    library = open_library(directory)
    library.register(recording, "Anna")
    good = read_voice_file(library.export("Anna"))
    rng = np.random.default_rng(seed)
    encoder = FakeEncoder()
    arrays = encoder.to_arrays(encoder.encode(rng.standard_normal(100).astype(np.float32)))
    return write_voice_file(exported(reference=good.reference, arrays=arrays, name="Forged"))


def own(directory, recording: bytes = ANNA):
    library = open_library(directory)
    return library.get(library.register(recording)[0].voice_id)


def test_f88_who_registers_a_recording_hears_it_and_not_what_was_imported_before(tmp_path):
    library = open_library(tmp_path / "a")
    moved = library.import_(forgery(tmp_path / "b"))
    assert library.info(moved.voice_id).imported
    assert moved.as_json()["imported"] is True
    expected = own(tmp_path / "c")
    before = library.get(moved.voice_id)
    assert before.key != expected.key
    info, created = library.register(ANNA, "Mine")
    assert (info.voice_id, created, info.imported) == (moved.voice_id, False, False)
    assert "imported" not in info.as_json()
    for opened in (library, open_library(tmp_path / "a")):
        assert opened.get("Mine").key == expected.key
        assert not opened.info("Mine").imported
        assert "Mine" in opened.info("Mine").names


def test_f88_nor_who_sends_it_along_with_one_request(tmp_path):
    library = open_library(tmp_path / "a")
    moved = library.import_(forgery(tmp_path / "b"))
    library.get(moved.voice_id)  # now in memory
    expected = own(tmp_path / "c")
    for _ in range(2):
        assert library.temporary_voice(ANNA)[0].key == expected.key
    assert library.get(moved.voice_id).key != expected.key  # the import is unchanged


def test_f88_nor_after_a_restart_or_where_the_import_was_deleted(tmp_path):
    open_library(tmp_path / "a").import_(forgery(tmp_path / "b"))
    read, deleted = threading.Event(), threading.Event()

    class Disk(FileSystem):
        """Waits with `to_arrays` until the voice is deleted."""

        def read_file(self, path, limit_bytes):
            data = super().read_file(path, limit_bytes)
            if path.name.startswith("encoded-") and not deleted.is_set():
                read.set()
                assert deleted.wait(60)
            return data

    library = open_library(tmp_path / "a", files=Disk())
    expected = own(tmp_path / "c")
    moved = library.info("Forged")
    assert moved.imported
    speaks = threading.Thread(target=library.get, args=[moved.voice_id])
    speaks.start()
    assert read.wait(60)
    library.delete(moved.voice_id)
    deleted.set()
    speaks.join()  # its voice is deleted by now
    info, created = library.register(ANNA)
    assert created
    assert library.get(info.voice_id).key == expected.key


def test_f88_nor_who_imports_the_true_file_later(tmp_path):
    library = open_library(tmp_path / "a")
    library.import_(forgery(tmp_path / "b"))
    true = open_library(tmp_path / "c")
    true.register(ANNA, "Anna")
    library.import_(true.export("Anna"))
    assert library.get("Forged").key == true.get("Anna").key


def test_f88_an_import_made_again_changes_nothing_and_is_not_encoded(tmp_path):
    encoder = FakeEncoder()
    library = open_library(tmp_path / "a", encoder)
    data = forgery(tmp_path / "b")
    first = library.import_(data)
    calls = encoder.calls
    assert library.import_(data) == first
    assert library.info(first.voice_id).imported
    assert encoder.calls == calls


def test_f88_what_another_model_gave_is_not_believed_after_a_change_of_models(tmp_path):
    data = forgery(tmp_path / "b")
    library = open_library(tmp_path / "a")
    library.import_(data)
    other = open_library(tmp_path / "a", model_key="model-b")
    other.register(ANNA)  # encodes for model-b; the file of the first model stays
    again = open_library(tmp_path / "a")
    assert again.info("Forged").imported
    again.register(ANNA)
    assert again.get("Forged").key == own(tmp_path / "c").key


def test_f88_lost_tensors_of_an_import_are_made_here(tmp_path):
    open_library(tmp_path / "a").import_(forgery(tmp_path / "b"))
    (damaged,) = (tmp_path / "a").glob("v-*/encoded-*")
    damaged.write_bytes(b"x")
    library = open_library(tmp_path / "a")
    expected = own(tmp_path / "c")
    assert library.get("Forged").key == expected.key
    assert not library.info("Forged").imported


def test_import_works_without_the_default_voice(tmp_path):
    data = forgery(tmp_path / "b")
    library = open_library(tmp_path / "a", default_voice="nobody")
    assert library.import_(data).imported


# --- what is acknowledged can be read again


@pytest.mark.parametrize("character", [EMOJI, "a", '"', "\\", "é"])
def test_f89_an_acknowledged_voice_is_there_after_a_restart(tmp_path, character):
    report = REPORT.__class__(*(5, 0, 5, None, 0.5, 0, 0.1, 24_000), (character * 15_900,))
    names = [character * 98 + f"{number:02}" for number in range(MAX_ALIASES + 1)]
    reference = replace(read_voice_file(FILE).reference, report=report)
    voice = exported(name=names[0], aliases=tuple(names[1:]), reference=reference)
    data = write_voice_file(voice)
    library = open_library(tmp_path)
    try:
        info = library.import_(data)
    except InvalidVoiceFile:
        info = None
    again = open_library(tmp_path)
    assert again.skipped == ()
    if info:
        assert again.info(info.voice_id) == info


def test_f89_a_record_that_would_not_be_read_is_not_written(tmp_path):
    info, _ = open_library(tmp_path).register(ANNA)
    meta = tmp_path / info.voice_id / META_NAME
    record = json.loads(meta.read_bytes())
    room = MAX_META_BYTES - meta.stat().st_size - 4
    record["report"]["warnings"].append("x" * room)
    meta.write_text(json.dumps(record, separators=(",", ":")), encoding="utf-8")
    library = open_library(tmp_path)
    assert library.skipped == ()
    with pytest.raises(StorageFull):
        library.set_alias(info.voice_id, "Anna")
    assert open_library(tmp_path).info(info.voice_id).aliases == ()


def test_f89_the_fullest_book_of_consents_is_read_again(tmp_path):
    path = tmp_path / "consents.json"
    book = ConsentBook(FolderStore(path.with_name("voices")))
    book.add(EMOJI * 100, EMOJI * 100, "0" * 64)
    path.write_text(json.dumps(json.loads(path.read_bytes()) * (MAX_CONSENTS - 1), indent=1))
    ConsentBook(FolderStore(path.with_name("voices"))).add("Anna", EMOJI * 100, "0" * 64)
    again, more = ConsentBook(FolderStore(path.with_name("voices"))).page(None, 1)
    assert (again[0].name, more) == ("Anna", True)


def test_f89_a_book_that_would_not_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("chatterbox.voices.consents.MAX_BOOK_BYTES", 600)
    book = ConsentBook(FolderStore(tmp_path / "voices"))
    book.add("Anna", "en", "0" * 64)
    book.add("Ben", "en", "0" * 64)
    with pytest.raises(StorageFull):
        book.add("Carl" * 25, "en", "0" * 64)
    assert ConsentBook(FolderStore(tmp_path / "voices")).page(None, 100)[0]


# --- at the same time


def test_f90_a_registration_that_a_deletion_races_is_never_told_that_the_voice_is_not_there(
    tmp_path,
):
    library = open_library(tmp_path)
    name, rename, alias = library.register(ANNA)[0].voice_id, library.rename, library.set_alias
    for give, original in (("rename", rename), ("set_alias", alias)):
        left = [2]

        def deleted_first(key, given, original=original, left=left):
            if left[0]:
                left[0] -= 1
                library.delete(key)
            return original(key, given)

        setattr(library, give, deleted_first)
        info, created = library.register(ANNA, f"by {give}")
        assert (info.voice_id, created) == (name, True)
        assert library.info(f"by {give}").voice_id == name
        setattr(library, give, original)


def test_f90_closing_the_decode_child_waits_for_no_file(asked):
    decoder = SandboxedDecoder(program=HOSTILE)
    decoder.decode(GOOD, max_seconds=10)
    asked.clear()
    outcomes: list[Exception] = []

    def decode() -> None:
        try:
            decoder.decode(b"BAD!time.sleep(60)", max_seconds=10)
        except Draining as refusal:
            outcomes.append(refusal)

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert asked.wait(60)
    began = time.monotonic()
    decoder.close()
    assert time.monotonic() - began < 5  # a waiting caller would take 15 s
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 4
    assert decoder.pid is None


# --- the disk


def special_files(directory):
    os.mkfifo(directory / "pipe")
    (directory / "link").symlink_to(directory / "pipe")
    (directory / "zero").symlink_to("/dev/zero")
    (directory / "folder").mkdir()
    return ("pipe", "link", "zero", "folder")


@pytest.mark.skipif(os.name == "nt", reason="no such files")
def test_f91_only_plain_files_are_read_and_nothing_is_waited_for(tmp_path):
    files = FileSystem()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in special_files(tmp_path):
        with pytest.raises(OSError, match=r"Errno"):
            files.read_file(tmp_path / name, 10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    (tmp_path / "plain").write_bytes(b"12345")
    assert files.read_file(tmp_path / "plain", 3) == b"123"


@pytest.mark.skipif(os.name == "nt", reason="no such files")
@pytest.mark.parametrize("name", [META_NAME, "reference.flac", "encoded-model-a.safetensors"])
def test_f91_a_pipe_in_a_voices_directory_stops_nobody(tmp_path, name):
    library = open_library(tmp_path)
    info, _ = library.register(ANNA, "Anna")
    library.register(BEN, "Ben")
    path = tmp_path / info.voice_id / name
    path.unlink()
    os.mkfifo(path)
    again = open_library(tmp_path)
    assert again.get("Ben")
    if name == META_NAME:
        assert [reason for _, reason in again.skipped]
    elif name == "reference.flac":
        with pytest.raises(VoiceNotFound):
            again.export("Anna")
    else:
        assert again.get("Anna")  # encoded again


@pytest.mark.skipif(os.name == "nt", reason="no such modes")
def test_f95_recordings_are_nobody_elses(tmp_path):
    data = tmp_path / "data"
    data.mkdir(0o755)
    mask = os.umask(0)
    try:
        make_private_directory(data, {"voices"})
        library = open_library(data / "voices")
        library.register(ANNA, "Anna")
        library.set_alias("slt", "narrator")
        ConsentBook(FolderStore(data / "voices")).add("Anna", "en", "0" * 64)
    finally:
        os.umask(mask)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [data, *data.rglob("*")]}
    assert len(modes) > 6
    for path, mode in modes.items():
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_f95_a_directory_that_is_not_ours_alone_stays_open(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "voices").mkdir(0o755)
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path, {"voices"})
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    open_library(tmp_path / "voices")
    assert stat.S_IMODE((tmp_path / "voices").stat().st_mode) == 0o700


@pytest.mark.skipif(os.name == "nt", reason="no such modes")
def test_f95_the_data_directory_is_closed_at_every_start(tmp_path):
    data = tmp_path / "data"
    (data / "voices").mkdir(parents=True)
    data.chmod(0o755)
    fake_engine(data, model="mini").close()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_f92_there_are_no_more_voices_than_are_set(tmp_path):
    library = open_library(tmp_path, max_voices=2)
    other = open_library(tmp_path / "b")
    other.register(encoded(babble(3, seed=3)), "Carl")
    library.register(ANNA, "Anna")
    library.register(BEN, "Ben")
    for call in (
        lambda: library.register(encoded(babble(3, seed=3))),
        lambda: library.import_(other.export("Carl")),
    ):
        with pytest.raises(StorageFull, match="room for 2 voices"):
            call()
    assert library.register(ANNA)[1] is False  # known already
    library.set_alias("slt", "one more name")
    library.delete("Ben")
    assert library.register(encoded(babble(3, seed=3)))[1]
    assert len(open_library(tmp_path, max_voices=1).list()) == 6  # above the limit


# --- names


@pytest.mark.parametrize(
    "name",
    [
        "slt\u200b",
        "\u202eslt",
        "s\u00adlt",
        "sl\u2060t",
        "sl\ufefft",
        "a\u200db",
        "anna\u180e",
        "slt\ufe0f",
        "slt\u3164",
        "\u2066anna\u2069",
        "a\U000e0041",
        "\u0455lt",
        "Ann\u0430",
        "n\u03bfra",
        "my \u0430nna",
    ],
)
def test_f93_names_that_hide_or_deceive_are_refused(name):
    with pytest.raises(InvalidVoiceId):
        validate_new_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "Anna",
        "Zoë Straße",
        "Анна",
        "Анна (English)",
        "DJ-Анна",
        "Νίκος",
        "アンナ Anna",
        "安娜",
        "علی‌رضا",
        "אנה",
        "❤️ Anna",
        "👩‍🔬",
        "O'Neill, the 2nd",
        "21m00Tcm4TlvDq8ikWAM",
        "5 µm",
        "alloy 2",
        "Nova Scotia",
        "my default",
    ],
)
def test_f93_names_that_people_have_are_kept(name):
    assert validate_new_name(name) == name


def voice(voice_id: str, name: str, *, built_in: bool = False) -> VoiceInfo:
    return VoiceInfo(voice_id, name, (), 1.5, built_in, REPORT)


@pytest.mark.parametrize(
    "name", ["alloy", "Alloy", "NOVA", " default ", "null", "None", "undefined", "ｄｅｆａｕｌｔ"]
)
def test_f93_what_clients_send_without_a_choice_is_nobodys_name(name):
    catalogue = NameIndex([voice("slt", "slt", built_in=True), voice("v-1", "Anna")])
    for voice_id in ("v-1", "v-2"):
        with pytest.raises(InvalidVoiceId, match="reserved"):
            catalogue.free_name(name, voice_id)
    assert catalogue.free_names([name, "Ben"], "v-1") == ["Ben"]
    assert catalogue.free_name(name, "slt")  # a built-in voice may have a reserved name


@pytest.mark.parametrize("name", ["ｓｌｔ", "SLT", "slt ", "s  lt x"])
def test_f93_a_name_that_reads_like_another_is_that_one(name):
    catalogue = NameIndex([voice("slt", "slt"), voice("v-1", "s lt x")])
    with pytest.raises(InvalidVoiceId, match="belongs to another voice"):
        catalogue.free_name(name, "v-2")


def test_f93_names_stored_before_are_still_known(tmp_path):
    library = open_library(tmp_path)
    info, _ = library.register(ANNA, "Anna")
    meta = tmp_path / info.voice_id / META_NAME
    for name in ("alloy", "sl\u200bt2", "\u0455lt", "\u200b"):
        changed = json.loads(meta.read_bytes()) | {"name": name}
        meta.write_text(json.dumps(changed), encoding="utf-8")
        again = open_library(tmp_path)
        assert again.skipped == ()
        assert again.get(name).key == library.get("Anna").key
        with pytest.raises(VoiceNotFound):
            again.info("")
