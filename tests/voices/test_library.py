"""The voice library: registering, finding, naming, moving and deleting, also concurrently."""

import errno
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from chatterbox.errors import (
    AudioTooShort,
    ConfigError,
    GenerationFailed,
    InvalidVoiceFile,
    InvalidVoiceId,
    OutOfMemory,
    StorageFull,
    StorageUnavailable,
    UnsupportedAudio,
    VoiceNotFound,
    VoiceProtected,
)
from chatterbox.voices import names as catalogue
from chatterbox.voices.library import KeyedLocks
from chatterbox.voices.sandbox import SandboxedDecoder
from chatterbox.voices.voice_file import digest_of, read_voice_file

from .clips import MODEL, FakeEncoder, FaultyFileSystem, babble, encoded, healthy, open_library

ANNA = encoded(babble(6, seed=1))
BEN = encoded(babble(6, seed=2))
CLIP = encoded(babble(1.2, seed=3))
BUILT_IN = ["slt", "rms", "awb", "kal16"]
EVER = 10**9


def entries(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# --- registering and finding


@pytest.mark.parametrize("name", [None, "Nora"])
def test_the_report_is_that_of_the_file_just_sent(tmp_path, name):
    library = open_library(tmp_path)
    sound = babble(6, seed=4)
    first, _ = library.register(encoded(sound, "WAV", "FLOAT"))
    longer = np.concatenate([sound, np.zeros(12 * 24_000, np.float32)])
    again, created = library.register(encoded(longer, "WAV", "FLOAT"), name)
    assert (again.voice_id, created) == (first.voice_id, False)
    assert (first.report.duration_s, again.report.duration_s) == (6, 18)
    assert any(warning.startswith("mostly_silent") for warning in again.report.warnings)
    assert library.info(first.voice_id).report == first.report


def test_register_and_speak(tmp_path):
    encoder = FakeEncoder()
    library = open_library(tmp_path, encoder)
    info, created = library.register(ANNA, "Anna")
    assert created
    assert info.name == "Anna"
    assert not info.built_in
    voice = library.get(info.voice_id)
    assert voice is library.get("anna")
    assert voice.key.startswith(info.voice_id)
    (audio,) = encoder.heard
    assert audio.dtype == np.float32
    assert len(audio) <= 15 * 24_000
    assert library.info("Anna") == info
    assert [one.voice_id for one in library.list()] == [*BUILT_IN, info.voice_id]
    json.dumps(info.as_json(), allow_nan=False)


def test_a_voice_survives_restart_without_encoding(tmp_path):
    first = open_library(tmp_path)
    info, _ = first.register(ANNA, "Anna")
    first.set_alias("Anna", "teller")
    before = first.get("Anna")
    encoder = FakeEncoder()
    second = open_library(tmp_path, encoder)
    again = second.info("teller")
    assert again.voice_id == info.voice_id
    assert again.report == info.report
    assert again.created_at == info.created_at
    voice = second.get("teller")
    assert voice.key == before.key
    assert digest_of(encoder.to_arrays(voice.data)) == digest_of(encoder.to_arrays(before.data))
    assert encoder.calls == 0


def test_the_same_recording_is_the_same_voice(tmp_path):
    encoder = FakeEncoder()
    library = open_library(tmp_path, encoder)
    first, created = library.register(ANNA)
    assert created
    assert first.name == first.voice_id
    second, created = library.register(ANNA, "Anna")
    assert not created
    assert second.name == "Anna"
    third, created = library.register(ANNA, "Annabel")
    assert not created
    assert (third.name, third.aliases) == ("Anna", ("Annabel",))
    assert library.register(ANNA, "anna") == (third, False)
    assert library.register(ANNA) == (third, False)
    assert encoder.calls == 1
    # the same samples in another container
    pcm = np.round(babble(6, seed=1) * 32767).astype(np.int16)
    one, _ = library.register(encoded(pcm, "WAV", "PCM_16"))
    assert library.register(encoded(pcm, "FLAC", "PCM_16")) == (one, False)


@pytest.mark.parametrize("workers", [20])
def test_many_register_the_same_at_once(tmp_path, workers):
    encoder = FakeEncoder()
    library = open_library(tmp_path, encoder)
    together = threading.Barrier(workers)

    def register(_number: int):
        together.wait()
        return library.register(ANNA, "Anna")

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(register, range(workers)))
    assert {info.voice_id for info, _ in results} == {results[0][0].voice_id}
    assert sum(created for _, created in results) == 1
    assert encoder.calls == 1


def test_unused_locks_are_dropped():
    locks = KeyedLocks()
    with locks.holding("one"), locks.holding("another"):
        assert len(locks) == 2
    with pytest.raises(OutOfMemory), locks.holding("one"):
        raise OutOfMemory("no memory")
    assert len(locks) == 0


def test_different_recordings_are_encoded_side_by_side(tmp_path):
    inside = threading.Barrier(2)
    library = open_library(tmp_path, FakeEncoder(before=lambda: inside.wait(60) and None))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(library.register, [ANNA, BEN]))
    assert all(created for _, created in results)


def test_two_registrations_of_one_name_at_once(tmp_path):
    inside = threading.Barrier(2)
    library = open_library(tmp_path, FakeEncoder(before=lambda: inside.wait(60) and None))

    def register(data: bytes) -> str:
        try:
            return library.register(data, "Anna")[0].voice_id
        except InvalidVoiceId:
            return "refused"

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(register, [ANNA, BEN]))
    assert results.count("refused") == 1
    assert library.info("Anna").voice_id in results
    assert len(library.list()) == len(BUILT_IN) + 1


def test_bad_recordings_leave_nothing(tmp_path):
    library = open_library(tmp_path)
    for data, error in ((b"text", UnsupportedAudio), (encoded(babble(0.5)), AudioTooShort)):
        with pytest.raises(error):
            library.register(data)
        with pytest.raises(error):
            library.temporary_voice(data)
    assert entries(tmp_path) == set()


def test_a_failing_encoder_leaves_nothing(tmp_path):
    def fail() -> None:
        raise OutOfMemory("no memory")

    library = open_library(tmp_path, FakeEncoder(before=fail))
    with pytest.raises(OutOfMemory):
        library.register(ANNA)
    assert entries(tmp_path) == set()


def test_an_encoder_that_returns_no_speaker(tmp_path):
    library = open_library(tmp_path, FakeEncoder(rows=0))
    with pytest.raises(GenerationFailed):
        library.register(ANNA)
    assert entries(tmp_path) == set()


@pytest.mark.parametrize(
    "asked", ["nobody", "", "../x", "..%2f", "\x00", "/etc/passwd", "C:\\x", "con", "x" * 300]
)
def test_unknown_voices_touch_no_file(tmp_path, asked):
    files = healthy()
    library = open_library(tmp_path, files=files)
    files.paths.clear()
    for call in (library.get, library.info, library.delete, library.export):
        with pytest.raises(VoiceNotFound) as caught:
            call(asked)
        assert caught.value.message.isprintable()
    assert {path.suffix for path in files.paths} <= {".lock"}  # the lock file


def test_files_stay_in_their_directory(tmp_path):
    files = healthy()
    library = open_library(tmp_path / "voices", files=files)
    with pytest.raises(InvalidVoiceId):
        library.register(ANNA, "../../escape")
    info, _ = library.register(ANNA, "..\\..\\escape")
    library.export(info.voice_id)
    library.get("slt")
    library.delete("..\\..\\escape")
    assert all(
        path in (tmp_path / "voices", tmp_path / ".voices.lock")
        or (tmp_path / "voices") in path.resolve().parents
        for path in files.paths
    )


# --- the default voice and the built-in ones


def test_built_in_voices(tmp_path):
    encoder = FakeEncoder()
    library = open_library(tmp_path, encoder)
    assert [info.voice_id for info in library.list()] == BUILT_IN
    assert encoder.calls == 0
    assert library.get(None) is library.get("SLT")
    assert encoder.calls == 1
    again = FakeEncoder()
    library.get("awb")
    assert [info.voice_id for info in open_library(tmp_path).list()] == BUILT_IN
    assert open_library(tmp_path, again).get(None).key == library.get("slt").key
    assert again.calls == 0


def test_built_in_voices_are_protected(tmp_path):
    library = open_library(tmp_path)
    for name in BUILT_IN:
        with pytest.raises(VoiceProtected):
            library.delete(name)
        with pytest.raises(VoiceProtected):
            library.rename(name, "other")
    with pytest.raises(InvalidVoiceId):
        library.register(ANNA, "SLT")


def test_an_alias_of_a_built_in_voice_is_kept(tmp_path):
    open_library(tmp_path).set_alias("rms", "onyx")
    library = open_library(tmp_path)
    assert library.info("Onyx").voice_id == "rms"
    library.get("onyx")
    assert open_library(tmp_path).info("onyx").voice_id == "rms"


def test_a_changed_clip_is_encoded_again(tmp_path):
    library = open_library(tmp_path)
    library.set_alias("slt", "nova")
    library.get("slt")
    path = tmp_path / "slt" / "meta.json"
    meta = json.loads(path.read_text())
    meta["files"]["reference.flac"] = "0" * 64  # as if an older version had shipped another clip
    path.write_text(json.dumps(meta))
    encoder = FakeEncoder()
    library = open_library(tmp_path, encoder)
    library.get("nova")
    assert encoder.calls == 1
    assert library.skipped == ()


def test_a_default_voice_that_is_not_there(tmp_path):
    library = open_library(tmp_path, default_voice="Anna")
    with pytest.raises(ConfigError, match="CHATTERBOX_DEFAULT_VOICE=Anna"):
        library.check_default()
    with pytest.raises(VoiceNotFound):
        library.get(None)
    library.register(ANNA, "Anna")
    library.check_default()
    assert library.get(None) is library.get("anna")


# --- names


def test_names_and_aliases(tmp_path):
    library = open_library(tmp_path)
    info, _ = library.register(ANNA, "Anna")
    library.register(BEN, "Ben")
    with pytest.raises(InvalidVoiceId):
        library.register(encoded(babble(3)), "BEN")
    with pytest.raises(InvalidVoiceId):
        library.rename("Anna", "ben")
    with pytest.raises(InvalidVoiceId):
        library.set_alias("Anna", "ben")
    library.set_alias("anna", "teller")
    renamed = library.rename("teller", "Teller")
    assert (renamed.name, renamed.aliases) == ("Teller", ())
    with pytest.raises(VoiceNotFound):
        library.info("Anna")
    library.set_alias("teller", "Anna")
    assert library.remove_alias("anna").aliases == ()
    for not_an_alias in ("Teller", info.voice_id, "nobody"):
        with pytest.raises(VoiceNotFound):
            library.remove_alias(not_an_alias)
    assert open_library(tmp_path).info(info.voice_id) == renamed


def test_the_owners_note_is_kept(tmp_path):
    library = open_library(tmp_path)
    library.register(ANNA, "Anna")
    assert library.describe("anna", " Calm. ").description == "Calm."
    library.set_alias("anna", "teller")
    again = open_library(tmp_path)
    assert again.info("Anna").description == "Calm."
    assert again.describe("anna", "").description == ""
    said = again.info("slt").description
    with pytest.raises(VoiceProtected):
        again.describe("slt", "Loud.")
    again.set_alias("slt", "nova")
    assert open_library(tmp_path).info("slt").description == said


def test_two_directories_that_claim_one_name(tmp_path):
    library = open_library(tmp_path)
    first, _ = library.register(ANNA, "Anna")
    second, _ = library.register(BEN, "Ben")
    path = tmp_path / second.voice_id / "meta.json"
    path.write_text(path.read_text().replace('"Ben"', '"Anna"'))
    library = open_library(tmp_path)
    assert library.info("Anna").voice_id == first.voice_id
    assert library.get(second.voice_id) is not None


# --- recordings for one request


def test_temporary_voices_are_encoded_once_and_not_stored(tmp_path):
    encoder = FakeEncoder()
    library = open_library(tmp_path, encoder)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: library.temporary_voice(ANNA), range(8)))
    assert {id(voice) for voice, _ in results} == {id(results[0][0])}
    assert results[0][1].duration_s == 6
    assert encoder.calls == 1
    assert entries(tmp_path) == set()
    info, created = library.register(ANNA)
    assert created
    assert encoder.calls == 1
    assert library.temporary_voice(ANNA)[0] is library.get(info.voice_id)


# --- memory


def test_memory_is_bounded_and_evicted_voices_come_back_equal(tmp_path):
    encoder = FakeEncoder()
    library = open_library(tmp_path, encoder, cache_size=2)
    infos = [library.register(encoded(babble(2, seed=seed)))[0] for seed in range(5)]
    keys = [library.get(info.voice_id).key for info in infos]
    assert library.cache_usage[0] == 2
    assert [library.get(info.voice_id).key for info in infos] == keys
    assert encoder.calls == 5
    nbytes = library.get(infos[0].voice_id).data.nbytes
    small = open_library(tmp_path, encoder, cache_bytes=2 * nbytes + 1)
    for info in infos:
        small.get(info.voice_id)
    assert small.cache_usage == (2, 2 * nbytes)
    assert encoder.calls == 5


# --- deleting


def test_delete(tmp_path):
    library = open_library(tmp_path)
    info, _ = library.register(ANNA, "Anna")
    voice = library.get("Anna")
    library.delete("Anna")
    assert voice.data.nbytes > 0  # running requests keep the voice
    for name in ("Anna", info.voice_id):
        with pytest.raises(VoiceNotFound):
            library.get(name)
        with pytest.raises(VoiceNotFound):
            library.delete(name)
    assert library.cache_usage == (0, 0)
    assert entries(tmp_path) == set()
    assert library.register(ANNA, "Anna")[1]


def test_deleted_while_it_is_encoded(tmp_path):
    open_library(tmp_path).register(ANNA, "Anna")
    library = open_library(
        tmp_path, FakeEncoder(before=lambda: library.delete("Anna")), model_key="other"
    )
    assert library.get("Anna").data.nbytes > 0
    assert entries(tmp_path) == set()
    with pytest.raises(VoiceNotFound):
        library.get("Anna")


def test_register_delete_and_get_in_disorder(tmp_path):
    library = open_library(tmp_path, cache_size=2)
    recordings = [encoded(babble(1.2, seed=seed)) for seed in range(3)]

    def work(number: int) -> None:
        info, _ = library.register(recordings[number % 3])
        try:
            library.get(info.voice_id)
            if number % 2:
                library.delete(info.voice_id)
        except VoiceNotFound:
            pass

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(60)))
    kept = {info.voice_id for info in library.list()} - set(BUILT_IN)
    assert entries(tmp_path) == kept
    assert {info.voice_id for info in open_library(tmp_path).list()} - set(BUILT_IN) == kept


# --- another model, damage


def test_another_model_encodes_again_and_keeps_both(tmp_path):
    info, _ = open_library(tmp_path).register(ANNA)
    encoder = FakeEncoder(hidden=9)
    other = open_library(tmp_path, encoder, model_key="model-b")
    assert other.get(info.voice_id).data.features.shape[1] == 9
    assert encoder.calls == 1
    for key, hidden in ((MODEL, 4), ("model-b", 9)):
        none = FakeEncoder()
        again = open_library(tmp_path, none, model_key=key)
        assert again.get(info.voice_id).data.features.shape[1] == hidden
        assert none.calls == 0
    assert len(entries(tmp_path / info.voice_id)) == 4


def test_the_encoder_gets_the_same_samples_after_a_restart(tmp_path):
    first, second = FakeEncoder(), FakeEncoder()
    info, _ = open_library(tmp_path, first).register(ANNA)
    open_library(tmp_path, second, model_key="model-b").get(info.voice_id)
    assert np.array_equal(first.heard[0], second.heard[0])


def test_lost_or_damaged_tensors_are_encoded_again(tmp_path):
    info, _ = open_library(tmp_path).register(ANNA)
    path = tmp_path / info.voice_id / f"encoded-{MODEL}.safetensors"
    good = path.read_bytes()
    for bad in (None, b"", good[:-1], bytes(len(good))):
        path.unlink()
        if bad is not None:
            path.write_bytes(bad)
        encoder = FakeEncoder()
        open_library(tmp_path, encoder).get(info.voice_id)
        assert encoder.calls == 1
        assert path.read_bytes() == good


def test_a_lost_recording_is_skipped_and_can_be_registered_again(tmp_path):
    info, _ = open_library(tmp_path).register(ANNA, "Anna")
    reference = tmp_path / info.voice_id / "reference.flac"
    reference.write_bytes(b"junk")
    library = open_library(tmp_path, model_key="other")
    for _ in range(2):
        with pytest.raises(VoiceNotFound):
            library.get("Anna")
    ((name, reason),) = library.skipped
    assert name == info.voice_id
    assert "damaged" in reason
    assert reference.read_bytes() == b"junk"
    with pytest.raises(VoiceNotFound):
        library.export("Anna")


@pytest.mark.parametrize("bad", [b"", b"{}", b'{"schema": 2}'])
def test_a_damaged_voice_makes_room_when_it_is_registered_again(tmp_path, bad):
    info, _ = open_library(tmp_path).register(ANNA, "Anna")
    (tmp_path / info.voice_id / "meta.json").write_bytes(bad)
    library = open_library(tmp_path)
    assert [name for name, _ in library.skipped] == [info.voice_id]
    with pytest.raises(VoiceNotFound):
        library.get(info.voice_id)
    again, created = library.register(ANNA, "Anna")
    assert created
    assert again.voice_id == info.voice_id
    (aside,) = entries(tmp_path) - {info.voice_id}
    assert (tmp_path / aside / "meta.json").read_bytes() == bad


def test_impossible_names_on_disk_are_skipped(tmp_path):
    info, _ = open_library(tmp_path).register(ANNA, "Anna")
    path = tmp_path / info.voice_id / "meta.json"
    path.write_text(path.read_text().replace('"Anna"', '"A\\nB"'))
    assert [name for name, _ in open_library(tmp_path).skipped] == [info.voice_id]


def test_a_voice_that_only_the_disk_knows(tmp_path):
    """A store in which creating a voice fails after the rename, and undoing the rename too."""
    count = operations_of_register(tmp_path)
    files = healthy()
    library = open_library(tmp_path / "b", files=files)
    files.first, files.last = files.count + count, EVER  # the last one: flushing the parent
    with pytest.raises(StorageFull):
        library.register(ANNA, "Anna")
    files.last = -1
    (name,) = entries(tmp_path / "b")
    with pytest.raises(VoiceNotFound):
        library.get(name)
    info, created = library.register(ANNA)
    assert (info.voice_id, info.name, created) == (name, "Anna", False)


# --- faults of the disk


def operations_of_register(tmp_path: Path) -> int:
    files = healthy()
    library = open_library(tmp_path / "counted", files=files)
    files.count = 0
    library.register(CLIP, "Anna")
    return files.count


@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize(
    ("code", "error"), [(errno.ENOSPC, StorageFull), (errno.EROFS, StorageUnavailable)]
)
def test_registering_while_the_nth_operation_fails(tmp_path, code, error, for_ever):
    count = operations_of_register(tmp_path)
    encoder = FakeEncoder()
    failures = 0
    for n in range(1, count + 1):
        directory = tmp_path / str(n)
        files = healthy()
        library = open_library(directory, encoder, files=files)
        files.code = code
        files.first = files.count + n
        files.last = EVER if for_ever else files.first
        try:
            library.register(CLIP, "Anna")
        except error:
            failures += 1
        assert library.get("slt").data.nbytes > 0  # known voices still work
        files.last = -1
        info, _ = library.register(CLIP, "Anna")  # when the disk works again
        restarted = open_library(directory)
        assert restarted.info("Anna").voice_id == info.voice_id
        assert restarted.skipped == ()
        assert not [name for name in entries(directory) if name.startswith(".")]
    assert failures >= count - 1  # the first operation only polls


def test_a_data_directory_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("in the way")
    library = open_library(tmp_path / "file" / "voices")
    assert library.get(None).data.nbytes > 0
    assert library.temporary_voice(ANNA)[0].data.nbytes > 0
    for change in (
        lambda: library.register(ANNA),
        lambda: library.set_alias("slt", "nova"),
        lambda: library.import_(library.export("rms")),
    ):
        with pytest.raises(StorageUnavailable):
            change()
    with pytest.raises(VoiceNotFound):
        library.info("nova")


def test_a_read_only_directory_with_voices(tmp_path):
    open_library(tmp_path).register(ANNA, "Anna")
    files = FaultyFileSystem(1, 1, errno.EROFS)  # making the directory
    library = open_library(tmp_path, files=files)
    files.first, files.last = files.count + 1, EVER
    assert library.info("Anna").name == "Anna"
    with pytest.raises(StorageUnavailable):
        library.get("Anna")  # reading fails too, for now
    files.last = -1
    assert library.get("Anna").data.nbytes > 0
    assert library.skipped == ()


# --- moving


def test_export_and_import(tmp_path):
    here = open_library(tmp_path / "a")
    info, _ = here.register(ANNA, "Anna")
    here.set_alias("Anna", "teller")
    data = here.export("teller")
    encoder = FakeEncoder()
    there = open_library(tmp_path / "b", encoder)
    there.get(None)
    moved = there.import_(data)
    assert moved.voice_id == info.voice_id
    assert (moved.name, moved.aliases, moved.report) == ("Anna", ("teller",), info.report)
    assert there.get("teller").key == here.get("Anna").key
    assert encoder.calls == 1  # the default voice's
    assert there.import_(data) == moved
    assert there.register(ANNA) == (moved, False)
    assert open_library(tmp_path / "b").get("Anna").key == here.get("Anna").key
    first, second = read_voice_file(data), read_voice_file(there.export("Anna"))
    assert np.array_equal(first.reference.audio, second.reference.audio)
    assert there.recording("Anna").startswith(b"fLaC")
    assert digest_of(first.arrays) == digest_of(second.arrays)


def test_importing_into_another_model_encodes(tmp_path):
    data = open_library(tmp_path / "a").export("awb")
    encoder = FakeEncoder(hidden=9)
    there = open_library(tmp_path / "b", encoder, model_key="model-b")
    info = there.import_(data)
    assert encoder.calls == 1
    assert there.get(info.voice_id).data.features.shape[1] == 9
    assert info.name == info.voice_id  # its name belongs to the built-in voice
    assert not info.built_in


def test_tensors_of_another_width_are_encoded_again(tmp_path):
    here = open_library(tmp_path / "a", FakeEncoder(hidden=9))
    here.register(ANNA, "Anna")
    there = open_library(tmp_path / "b")
    there.import_(here.export("Anna"))
    assert there.get("Anna").data.features.shape[1] == 4


def test_names_taken_at_the_destination_are_left_out(tmp_path):
    here = open_library(tmp_path / "a")
    here.register(ANNA, "Anna")
    here.set_alias("Anna", "second")
    there = open_library(tmp_path / "b")
    there.register(BEN, "anna")
    assert there.import_(here.export("Anna")).name == "second"


def test_damaged_files_are_not_imported(tmp_path):
    library = open_library(tmp_path)
    data = library.export("slt")
    before = entries(tmp_path)
    for bad in (b"", data[:-1], ANNA):
        with pytest.raises(InvalidVoiceFile):
            library.import_(bad)
    assert entries(tmp_path) == before


# --- process


def test_with_the_guarded_decoder(tmp_path):
    library = open_library(tmp_path, decoder=SandboxedDecoder())
    info, _ = library.register(ANNA, "Anna")
    library.close()
    assert open_library(tmp_path / "other").register(ANNA)[0].voice_id == info.voice_id


def test_starting_imports_nothing_slow(tmp_path):
    """A second start, and speech in a stored voice, import no audio library."""
    open_library(tmp_path).get(None)
    program = f"""
import sys
from pathlib import Path
from chatterbox.families.turbo.voice import TurboVoices
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.library import VoiceLibrary
library = VoiceLibrary(
    FolderStore(Path({str(tmp_path)!r})), cloned=TurboVoices(None, {MODEL!r}),
    cache_size=9, cache_bytes=10**9, max_seconds=30, default_voice="slt",
)
library.start()
library.get(None)
library.list()
slow = {{"librosa", "pyloudnorm", "scipy", "numba", "av", "soundfile"}} & set(sys.modules)
assert not slow, slow
library.close()
"""
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)


def test_a_stored_name_with_a_slash_stays_valid(tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(catalogue, "validate_new_name", catalogue.normalize_name)
        kept, _ = open_library(tmp_path).register(ANNA, "Zoe/2")
    library = open_library(tmp_path)
    assert library.info("zoe/2").voice_id == kept.voice_id
    with pytest.raises(InvalidVoiceId, match="cannot contain '/'"):
        library.register(BEN, "Zoe/3")
    with pytest.raises(InvalidVoiceId, match="cannot contain '/'"):
        library.set_alias(kept.voice_id, "Zoe/3")
    assert library.rename(kept.voice_id, "Zoe").name == "Zoe"
