"""Which model is served, and what happens when it cannot be."""

import made
import pytest

from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.hub import download as hub
from chatterbox.hub import select
from chatterbox.hub.files import needed_files
from chatterbox.runtime.contract import GRAPHS


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test asks the real hub."""
    monkeypatch.setattr(hub, "reachable", lambda *_: False)
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("a test tried to download"))


def config(tmp_path, **settings) -> TTSConfig:
    return TTSConfig(data_dir=tmp_path, **settings)


def test_auto_falls_back_to_mini_and_says_why(tmp_path):
    chosen = select.select(config(tmp_path, model="auto"), "cpu", print)
    assert chosen.name == "mini"
    assert select.HUB_MODEL in (chosen.fallback or "")


@pytest.mark.parametrize("settings", [{"model_dtype": "q4"}, {"embed_tokens_dtype": "fp16"}])
def test_the_embedded_model_has_one_precision_and_says_so(tmp_path, settings):
    with pytest.raises(ModelError, match="in fp32 alone"):
        select.select(config(tmp_path, model="mini", **settings), "cpu", print)
    chosen = select.select(config(tmp_path, model="auto", **settings), "cpu", print)
    assert set(chosen.files.precisions.values()) == {"fp32"}


def test_auto_uses_what_is_on_disk_without_asking_anyone(tmp_path, monkeypatch):
    settings = config(tmp_path, model="auto", model_dtype="q4")
    directory = hub.local_directory(tmp_path, select.HUB_MODEL, settings.model_revision)
    directory.parent.mkdir(parents=True)
    directory.symlink_to(made.path())  # a whole model in the hub's layout
    monkeypatch.setattr(hub, "complete", lambda where, names: where == directory)
    monkeypatch.setattr(hub, "reachable", lambda *_: pytest.fail("asked the network"))
    chosen = select.select(settings, "cpu", print)
    assert (chosen.name, chosen.fallback) == (select.HUB_MODEL, None)


def test_auto_falls_back_when_the_download_breaks(tmp_path, monkeypatch):
    def broken(*_):
        raise ModelError("the line went dead")

    monkeypatch.setattr(hub, "reachable", lambda *_: True)
    monkeypatch.setattr(hub, "fetch", broken)
    chosen = select.select(config(tmp_path, model="auto"), "cpu", print)
    assert (chosen.name, chosen.fallback) == ("mini", "the line went dead")


def test_a_named_model_never_falls_back(tmp_path, monkeypatch):
    def broken(*_):
        raise ModelError("the line went dead")

    monkeypatch.setattr(hub, "fetch", broken)
    with pytest.raises(ModelError, match="the line went dead"):
        select.select(config(tmp_path, model=select.HUB_MODEL), "cpu", print)


@pytest.mark.parametrize("name", ["no/such/directory", "nonsense", "/nowhere"])
def test_a_name_that_is_nothing_is_said_so(tmp_path, name):
    with pytest.raises(ModelError, match="no such directory, and no hub id"):
        select.select(config(tmp_path, model=name), "cpu", print)


def test_an_empty_directory_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        select.select(config(tmp_path, model=str(tmp_path)), "cpu", print)


def test_precision_by_graph_by_model_by_device(tmp_path):
    assert set(select.precisions(config(tmp_path), "cuda").values()) == {"fp16"}
    assert set(select.precisions(config(tmp_path), "cpu").values()) == {"q4"}
    mixed = select.precisions(
        config(tmp_path, model_dtype="q8", conditional_decoder_dtype="fp32"), "cpu"
    )
    assert mixed["conditional_decoder"] == "fp32"
    assert mixed["language_model"] == "q8"
    names = needed_files(mixed)
    assert "onnx/conditional_decoder.onnx_data" in names
    assert "onnx/language_model_quantized.onnx" in names
    assert len(names) == 5 + 2 * len(GRAPHS)


def test_a_model_of_another_family_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match=r"holds Orpheus.* cannot"):
        select.select(config(tmp_path, model=str(tmp_path)), "cpu", print)
