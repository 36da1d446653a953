"""Model directories made of links load; whatever cannot be loaded is one line."""

import json
import os
import shutil
from pathlib import Path

import made
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from chatterbox.compile.graph import stored_values
from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.families.load import load_model
from chatterbox.families.turbo.spec import GRAPHS
from chatterbox.hub.files import is_external
from chatterbox.runtime.sessions import SessionSettings, open_session

PRECISION = "fp32"
CPU = SessionSettings("cpu", 1, {})


@pytest.fixture
def directory(tmp_path) -> Path:
    copy = tmp_path / "model"
    for source in made.path().rglob("*"):
        suffix = source.name.removesuffix("_data").removesuffix(".onnx").rpartition("_")[2]
        if source.is_file() and suffix not in ("fp16", "q4", "q4f16", "quantized"):
            target = copy / source.relative_to(made.path())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return copy


def loaded(directory: Path, tmp_path: Path):
    config = TTSConfig(
        _env_file=None,
        model=str(directory),
        model_dtype=PRECISION,
        device="cpu",
        data_dir=tmp_path / "data",
        compile_lm=False,
    )
    return load_model(config, print)


def of_hard_links(directory: Path) -> Path:
    twin = directory.with_name("twin")
    shutil.copytree(directory, twin, copy_function=os.link)
    return twin


def of_a_hub(directory: Path) -> Path:
    """As a hub's own cache: every file is a link to one named by its hash."""
    blobs = directory.with_name("blobs")
    blobs.mkdir()
    for number, path in enumerate(sorted(p for p in directory.rglob("*") if p.is_file())):
        blob = blobs / f"{number:040x}"
        shutil.move(path, blob)
        path.symlink_to(os.path.relpath(blob, path.parent))
    return directory


def of_weights_elsewhere(directory: Path) -> Path:
    for number, path in enumerate(sorted(directory.rglob("*_data"))):
        disk = directory.with_name(f"disk {number}")  # each in a folder of its own
        disk.mkdir()
        shutil.move(path, disk / path.name)
        path.symlink_to(disk / path.name)
    return directory


def of_graphs_elsewhere(directory: Path) -> Path:
    elsewhere = directory.with_name("elsewhere")
    elsewhere.mkdir()
    for path in sorted(directory.rglob("*.onnx")):
        shutil.move(path, elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
    return directory


def of_linked_folders(directory: Path) -> Path:
    shutil.move(directory / "onnx", directory.with_name("graphs"))
    (directory / "onnx").symlink_to(directory.with_name("graphs"))
    link = directory.with_name("link")
    link.symlink_to(directory)
    return link


LAYOUTS = [
    of_hard_links,
    of_a_hub,
    of_weights_elsewhere,
    of_graphs_elsewhere,
    of_linked_folders,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_directory_of_links_is_the_model_itself(directory, tmp_path, layout):
    audio = np.sin(np.arange(48_000) / 20).astype(np.float32)
    expected = loaded(directory, tmp_path).cloned.encode(audio, None)
    found = loaded(layout(directory), tmp_path)
    assert np.array_equal(found.cloned.encode(audio, None).features, expected.features)
    assert found.cloned.key == loaded(directory, tmp_path).cloned.key


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_in_memory_find_weights_behind_links(directory, layout, graph):
    folder = layout(directory) / "onnx"
    model = onnx.load(str(folder / f"{graph}.onnx"), load_external_data=False)
    open_session(model.SerializeToString(), CPU, weights_in=folder)
    original = onnx.load(str(made.path() / "onnx" / f"{graph}.onnx"))
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in original.graph.initializer}
    for tensor in model.graph.initializer:
        assert np.array_equal(stored_values(tensor, folder), values[tensor.name])


def rewrite(path: Path, change) -> None:
    model = onnx.load(str(path), load_external_data=False)
    change(model, next(filter(is_external, model.graph.initializer)))
    path.write_bytes(model.SerializeToString())


def says(key: str, value: str):
    def change(_model, tensor):
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value

    return change


def without(key: str):
    def change(_model, tensor):
        kept = [entry for entry in tensor.external_data if entry.key != key]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)

    return change


def one_more_row(_model, tensor):
    tensor.dims[0] += 1


def unknown_operator(model, _tensor):
    model.graph.node[0].op_type = "Nonsense"


CHANGES = {
    **{f"offset {v}": says("offset", v) for v in ("abc", "-1", "1e3", "²", "9" * 30, "99999999")},
    "length": says("length", "-5"),
    "no location": without("location"),
    "empty location": says("location", ""),
    "traversal": says("location", "../../../../../../../../etc/passwd"),
    "traversal within": says("location", "x/../../secret"),
    "absolute": says("location", "/etc/passwd"),
    "a drive": says("location", "C:\\secret"),
    "backslashes": says("location", "..\\secret"),
    "zero byte": says("location", "a\0b"),
    "one more row": one_more_row,
    "unknown operator": unknown_operator,
}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_that_cannot_be_loaded_is_one_line(directory, tmp_path, graph, change):
    (directory.with_name("secret")).write_bytes(bytes(10_000_000))
    rewrite(directory / "onnx" / f"{graph}.onnx", CHANGES[change])
    with pytest.raises(ModelError) as caught:
        loaded(directory, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_no_path_that_a_graph_names_leaves_its_directory_through_links(directory, tmp_path):
    of_a_hub(directory)
    graph = directory / "onnx" / "embed_tokens.onnx"
    rewrite(graph, says("location", "../../blobs/" + "0" * 40))
    with pytest.raises(ModelError, match="not in its own directory"):
        loaded(directory, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{", "\xff"])
def test_a_configuration_that_cannot_be_read_is_one_line(directory, tmp_path, name, text):
    (directory / name).write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match=name) as caught:
        loaded(directory, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_pipe_is_no_configuration(directory, tmp_path):
    path = directory / "generation_config.json"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(ModelError, match=r"generation_config\.json cannot be read"):
        loaded(directory, tmp_path)


@pytest.mark.parametrize("shift", ["all", "one"])
def test_a_tokenizer_of_another_model_is_found_out(directory, tmp_path, shift):
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    changed = list(vocabulary) if shift == "all" else [next(iter(vocabulary))]
    vocabulary.update({token: 1_000_000 + vocabulary[token] for token in changed})
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelError, match="different models"):
        loaded(directory, tmp_path)
