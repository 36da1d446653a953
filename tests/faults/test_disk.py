"""Section D: disks that fail and directories that surprise. Rows F35 to F39."""

import asyncio
import errno
import shutil
from typing import Any

import pytest
from faults.harness import running
from harness import error_of
from voices.clips import FaultyFileSystem, babble, encoded, healthy

from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.sandbox import AudioDecoder

EVER = 10**9
CLIP = {"voice_file": ("me.wav", encoded(babble(2, rate_hz=8000), rate_hz=8000))}
FAULTS = {
    errno.ENOSPC: (507, "storage_full"),
    errno.EIO: (503, "storage_unavailable"),
    errno.EACCES: (503, "storage_unavailable"),
}


class Disk:
    """What voice stores are made on: `use` changes it under them."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.files, name)

    def use(self, files: FaultyFileSystem) -> FaultyFileSystem:
        """Every operation from now on."""
        self.files = files
        return files


@pytest.fixture
def disk(monkeypatch) -> Disk:
    disk = Disk()
    disk.use(healthy())
    monkeypatch.setattr("chatterbox.voices.folder_store.FileSystem", lambda: disk)
    monkeypatch.setattr("chatterbox.voices.library.guarded_decoder", AudioDecoder)
    return disk


async def register(rig):
    return await rig.client.post("/voices/register", files=CLIP)


def names(rig) -> set[str]:
    return {path.name for path in (rig.directory / "voices").iterdir()}


SLOW = pytest.mark.slow  # store and library are tested with every one of them


@pytest.mark.parametrize(
    ("code", "for_ever"),
    [
        (errno.ENOSPC, False),
        pytest.param(errno.EIO, True, marks=SLOW),
        pytest.param(errno.ENOSPC, True, marks=SLOW),
        pytest.param(errno.EIO, False, marks=SLOW),
        pytest.param(errno.EACCES, False, marks=SLOW),
        pytest.param(errno.EACCES, True, marks=SLOW),
    ],
)
async def test_f35_the_nth_operation_fails(disk, rig, code, for_ever):
    files = disk.use(healthy())
    answer = await register(rig)
    assert answer.status_code == 201
    counts = {"register": files.count}
    files.count = 0
    voice = answer.json()["voice_id"]
    assert (await rig.client.delete(f"/voices/{voice}")).status_code == 200
    counts["delete"] = files.count
    before = names(rig)
    failed = {"register": 0, "delete": 0}
    async with rig.fault():
        for act, count in counts.items():
            for n in range(1, count + 1):
                if act == "delete":
                    disk.use(healthy())
                    # 200: a failure that could not even be taken back left it whole on disk
                    assert (await register(rig)).status_code in (200, 201)
                disk.use(FaultyFileSystem(n, EVER if for_ever else n, code))
                if act == "register":
                    answer = await register(rig)
                else:
                    answer = await rig.client.delete(f"/voices/{voice}")
                if answer.status_code >= 400:
                    failed[act] += 1
                    error_of(answer, *FAULTS[code])
                    assert (answer.status_code == 507) == ("retry-after" not in answer.headers)
                assert (await rig.speak()).status_code == 200  # it goes on speaking
                disk.use(healthy())  # a restart finds all or nothing
                store = FolderStore(rig.directory / "voices")
                store.prepare()
                records, skipped = store.scan()
                there = voice in {record.voice_id for record in records}
                assert skipped == []
                if act == "delete":
                    assert there == (answer.status_code != 200)
                await rig.client.delete(f"/voices/{voice}")
                store.prepare()
    assert failed["register"] >= counts["register"] - 2  # looks at what is there may fail unseen
    assert failed["delete"]
    assert names(rig) - {"slt"} == before - {"slt"}  # the golden voice has its own


async def test_f36_what_is_no_good_voice_is_listed_and_left_alone(disk, tmp_path):
    async with running(tmp_path) as rig:
        disk.use(healthy())
        voice = (await register(rig)).json()["voice_id"]
    voices = tmp_path / "voices"
    shutil.copytree(voices / voice, voices / "empty-meta")
    (voices / "empty-meta" / "meta.json").write_bytes(b"")
    (voices / "a-file").write_text("hello")
    (voices / "a-link").symlink_to("/etc")
    (voices / voice / "reference.flac").unlink()
    before = sorted(str(path) for path in voices.rglob("*") if not path.is_symlink())
    async with running(tmp_path) as rig, rig.fault():
        health = (await rig.client.get("/health")).json()
        skipped = {entry["voice"] for entry in health["skipped_voices"]}
        assert skipped == {voice, "empty-meta", "a-file", "a-link"}
        for name in skipped:
            error_of(await rig.client.get(f"/voices/{name}"), 404, "voice_not_found", "voice_id")
            answer = await rig.speak(voice_id=name)
            error_of(answer, 404, "voice_not_found", "voice_id")
    after = sorted(str(path) for path in voices.rglob("*") if not path.is_symlink())
    assert set(before) <= set(after)  # the built-in voices have got theirs


async def test_f37_the_same_recording_twenty_times_at_once(disk, tmp_path):
    room = {"max_concurrent_requests": 32}
    async with running(tmp_path, engine=room) as rig:
        disk.use(healthy())
        calls = rig.encoder.calls
        async with rig.fault():
            answers = await asyncio.gather(*(register(rig) for _ in range(20)))
            assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
            assert len({answer.json()["voice_id"] for answer in answers}) == 1
        assert rig.encoder.calls - calls <= 2  # of the clip once, of the golden voice at most


async def test_f37_a_voice_deleted_while_it_speaks(disk, rig):
    disk.use(healthy())
    voice = (await register(rig)).json()["voice_id"]
    body = {"text": "A zebrafish, a zebrafish, and one more zebrafish.", "voice_id": voice}
    right = (await rig.speak(**body)).content
    async with rig.fault():
        speaking = asyncio.create_task(rig.speak(**body))
        await rig.until(lambda: any(row[1][0].startswith(voice) for row in rig.model.held.values()))
        assert (await rig.client.delete(f"/voices/{voice}")).status_code == 200
        assert (await speaking).content == right
        error_of(await rig.speak(**body), 404, "voice_not_found", "voice_id")
    count, size = rig.engine.voices.cache_usage
    assert count <= 2
    assert (size > 0) == (count > 0)


async def test_f39_a_data_directory_that_cannot_be_written(disk, rig):
    disk.use(healthy())
    voice = (await register(rig)).json()["voice_id"]
    files = disk.use(healthy())
    for name in ("make_directory", "write_file", "rename", "remove_file", "remove_directory"):
        setattr(files, name, _read_only)
    async with rig.fault():
        other = {"voice_file": ("b.wav", encoded(babble(3, rate_hz=8000), rate_hz=8000))}
        answer = await rig.client.post("/voices/register", files=other)
        error_of(answer, 503, "storage_unavailable")
        error_of(await rig.client.delete(f"/voices/{voice}"), 503, "storage_unavailable")
        assert (await rig.speak(voice_id=voice)).status_code == 200
        once = await rig.client.post("/tts", data={"text": "A zebrafish."}, files=other)
        assert once.status_code == 200  # a voice for one request needs no disk


def _read_only(*_arguments) -> None:
    raise OSError(errno.EROFS, "injected")
