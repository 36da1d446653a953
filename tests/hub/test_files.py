"""Tests of checking the files of a model directory."""

import os
import shutil

import made
import pytest

from chatterbox.errors import ModelError
from chatterbox.families.turbo.spec import GRAPHS
from chatterbox.hub.files import PRECISIONS, ModelFiles


@pytest.fixture
def copy(tmp_path) -> ModelFiles:
    directory = tmp_path / "model"
    shutil.copytree(made.path(), directory)
    return ModelFiles(directory, dict.fromkeys(GRAPHS, "q4"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_model_is_whole_in_every_precision(precision):
    ModelFiles(made.path(), dict.fromkeys(GRAPHS, precision)).check()


def test_a_missing_graph_is_named(copy):
    copy.graph("language_model").unlink()
    with pytest.raises(ModelError, match=r"language_model_q4\.onnx is missing"):
        copy.check()


def test_a_missing_sidecar_is_named(copy):
    copy.sidecars("embed_tokens")[0].unlink()
    with pytest.raises(ModelError, match=r"embed_tokens_q4\.onnx_data is missing"):
        copy.check()


def test_a_sidecar_cut_short_is_named(copy):
    sidecar = copy.sidecars("conditional_decoder")[0]
    sidecar.write_bytes(sidecar.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"conditional_decoder_q4\.onnx_data has \d+ bytes but"):
        copy.check()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x00" * 100])
def test_what_is_no_graph_is_named(copy, content):
    copy.graph("speech_encoder").write_bytes(content)
    with pytest.raises(ModelError, match=r"speech_encoder_q4\.onnx is not an ONNX file"):
        copy.check()


def test_the_fingerprint_follows_graph_and_weights(copy):
    before = copy.fingerprint("speech_encoder")
    assert before == copy.fingerprint("speech_encoder")
    sidecar = copy.sidecars("speech_encoder")[0]
    data = bytearray(sidecar.read_bytes())
    data[0] ^= 1
    sidecar.write_bytes(data)
    assert copy.fingerprint("speech_encoder") != before


def test_a_broken_config_is_one_line(copy):
    (copy.directory / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        copy.config()
    (copy.directory / "config.json").unlink()
    assert copy.config() == {}


@pytest.mark.skipif(os.name == "nt", reason="no such files")
@pytest.mark.parametrize("name", ["generation_config.json", "config.json", "graph", "sidecar"])
def test_f91_a_pipe_in_a_model_directory_is_refused_and_not_waited_for(copy, name):
    paths = {"graph": copy.graph("language_model"), "sidecar": copy.sidecars("embed_tokens")[0]}
    path = paths.get(name, copy.directory / name)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(ModelError, match=path.name.replace(".", r"\.")):
        copy.check() if name in paths else (copy.config(), copy.generation_config())


def test_a_config_nested_deeply_is_named(copy):
    (copy.directory / "config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        copy.config()
