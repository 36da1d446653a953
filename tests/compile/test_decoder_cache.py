"""Tests that a decoder is compiled once, and that a changed cache entry is not used."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import window_settings
from made import with_compiled_mini
from tiny_decoder import local_decoder_model, saved, some_codes, stream, voice

from chatterbox.compile.decoder import compiler
from chatterbox.config import TTSConfig
from chatterbox.families import s3gen as load
from chatterbox.runtime.compiled_cache import DIRECTORY, MANIFEST_FILE
from chatterbox.runtime.decoder.compiled import Opened
from chatterbox.runtime.sessions import SessionSettings
from tools.decoder.model import decoder_model
from tools.decoder.weights import TINY, random_weights

ROOT = Path(__file__).resolve().parents[2]
WIDE = replace(TINY, channels=64, vocoder=64)
WINDOWS = window_settings(first_most_frames=6, most_frames=20)
SLOW = pytest.mark.slow


def opened(path: Path, data_dir: Path) -> Opened:
    """Open the decoder as the server does, with one thread so that sums have a fixed order."""
    config = TTSConfig(_env_file=None, data_dir=data_dir)
    return load.open_decoder(config, path, SessionSettings("cpu", 1, {}))


def samples(made: Opened) -> np.ndarray:
    return stream(made.decoder, some_codes(40), WINDOWS, who=voice(30))[0]


@pytest.fixture
def compilations(monkeypatch):
    """Return a list that gets an entry for each compilation."""
    calls = []
    compile_decoder = compiler.compile_decoder
    counting = lambda path, *rest: calls.append(path) or compile_decoder(path, *rest)  # noqa: E731
    monkeypatch.setattr(compiler, "compile_decoder", counting)
    return calls


@pytest.fixture
def path(tmp_path):
    (tmp_path / "model").mkdir()
    return saved(local_decoder_model(), tmp_path / "model")


def entries(data_dir: Path) -> list[Path]:
    return list((data_dir / DIRECTORY).iterdir())


def remembering(folder):
    return saved(decoder_model(random_weights(WIDE), ragged=False), folder, external=True)


def uncut(folder):
    model = local_decoder_model()
    for node in model.graph.node:  # the vocoder also reads the prompt
        if node.op_type == "RandomNormalLike":
            node.op_type = "RandomUniformLike"
    return saved(model, folder)


@pytest.mark.parametrize("make", [pytest.param(remembering, marks=SLOW), uncut])
def test_a_second_start_compiles_nothing_and_sounds_the_same(make, tmp_path, compilations):
    path = make(tmp_path)
    first = opened(path, tmp_path / "data")
    again = opened(path, tmp_path / "data")
    assert compilations == [path]
    assert (again.kind, again.note) == (first.kind, first.note)
    np.testing.assert_array_equal(samples(again), samples(first))
    (folder,) = entries(tmp_path / "data")
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    assert manifest["identity"]["versions"]["compiler"] == load.DECODER_COMPILER
    proven = {"flow_int8_mel_db", "prompt_kv_mel_db", "vocoder_int8_snr_db"}
    assert make is uncut or set(manifest["proofs"]) == proven


def test_a_decoder_served_as_published_is_remembered_too(tmp_path, compilations):
    model = local_decoder_model()
    model.graph.node[-1].name = "last"
    for node in model.graph.node:
        if node.op_type == "RandomNormalLike":
            node.op_type = "Bernoulli"  # draws where no input can reach
            del node.attribute[:]
    path = saved(model, tmp_path)
    notes = [opened(path, tmp_path / "data").note for _ in range(2)]
    assert notes[0] == notes[1]
    assert len(compilations) == 1


@pytest.fixture(scope="module")
def whole_entry(tmp_path_factory):
    """Return a decoder, the data directory with its compiled form, and its sound."""
    folder = tmp_path_factory.mktemp("whole")
    path = saved(local_decoder_model(), folder)
    return path, folder, samples(opened(path, folder))


def turned(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("flow.onnx", turned),
        pytest.param("flow.onnx", lambda content: content[:-9], marks=SLOW),
        ("vocoder.onnx", lambda _: None),
        pytest.param(MANIFEST_FILE, lambda content: content[:-9], marks=SLOW),
        pytest.param(MANIFEST_FILE, lambda _: b"[]", marks=SLOW),
        (MANIFEST_FILE, lambda content: content.replace(b'"mel": "', b'"mel": "x')),
        (MANIFEST_FILE, lambda content: content.replace(b'"split"', b'"whole"')),
    ],
)
def test_a_damaged_entry_is_made_again(name, damage, whole_entry, tmp_path, compilations, caplog):
    path, data_dir, expected = whole_entry
    shutil.copytree(data_dir / DIRECTORY, tmp_path / DIRECTORY)
    (folder,) = entries(tmp_path)
    content = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / name).unlink()
    if (new := damage(content[name])) is not None:
        (folder / name).write_bytes(new)
    made = opened(path, tmp_path)
    assert len(compilations) == 1
    assert [r.getMessage() for r in caplog.records if "making it again" in r.getMessage()] == [
        f"the compiled graph in {folder} is damaged or was changed; making it again"
    ]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == content
    np.testing.assert_array_equal(samples(made), expected)


def test_an_entry_of_another_model_is_not_taken_for_this_one(whole_entry, tmp_path, compilations):
    path, data_dir, expected = whole_entry
    shutil.copytree(data_dir / DIRECTORY, tmp_path / DIRECTORY)
    (tmp_path / "other").mkdir()
    other = saved(
        local_decoder_model(random_weights(replace(TINY, vocoder=24))), tmp_path / "other"
    )
    (folder,) = entries(tmp_path)
    opened(other, tmp_path / "elsewhere")
    (foreign,) = entries(tmp_path / "elsewhere")
    shutil.rmtree(folder)
    shutil.copytree(foreign, folder)
    made = opened(path, tmp_path)
    assert len(compilations) == 2
    np.testing.assert_array_equal(samples(made), expected)


def test_a_new_version_compiles_again_and_drops_what_was_there(
    whole_entry, tmp_path, compilations, monkeypatch
):
    path, data_dir, _ = whole_entry
    shutil.copytree(data_dir / DIRECTORY, tmp_path / DIRECTORY)
    old = entries(tmp_path)
    monkeypatch.setattr(load, "DECODER_COMPILER", load.DECODER_COMPILER + 1)
    opened(path, tmp_path)
    assert len(compilations) == 1
    assert len(entries(tmp_path)) == 1
    assert entries(tmp_path) != old


def test_a_data_directory_that_cannot_be_written_costs_the_cache_alone(
    whole_entry, tmp_path, compilations, caplog
):
    path, _, expected = whole_entry
    blocked = tmp_path / "a file"
    blocked.write_text("")
    np.testing.assert_array_equal(samples(opened(path, blocked)), expected)
    assert "each start compiles them again" in caplog.text
    assert len(compilations) == 1


def test_a_full_disk_leaves_nothing_half_written(path, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert samples(opened(path, tmp_path / "data")).any()
    assert entries(tmp_path / "data") == []


def test_starts_at_the_same_time_leave_one_whole_entry(path, tmp_path, compilations):
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: opened(path, tmp_path), range(3)))
    heard = [samples(one) for one in made]
    assert len(entries(tmp_path)) == 1
    before = len(compilations)
    heard.append(samples(opened(path, tmp_path)))
    assert len(compilations) == before
    for one in heard[1:]:
        np.testing.assert_array_equal(one, heard[0])


def test_a_start_that_finds_everything_compiled_imports_no_compiler(tmp_path):
    with_compiled_mini(tmp_path)
    program = f"""
import sys
from pathlib import Path
from chatterbox.config import TTSConfig
from chatterbox.families.load import load_model
load_model(TTSConfig(_env_file=None, model="mini", data_dir=Path({str(tmp_path)!r})), print)
print([name for name in sys.modules if name.startswith("chatterbox.compile")])
"""
    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert said.strip().endswith("[]")
