"""Tests of selecting a model, and of the errors if it is unavailable."""

import shutil
from dataclasses import replace

import made
import pytest

from chatterbox.config import TTSConfig
from chatterbox.errors import ModelError
from chatterbox.families.turbo.spec import FILES
from chatterbox.hub import download as hub
from chatterbox.hub import select
from chatterbox.hub.files import FamilyFiles, Graph, Repository

(HUB_MODEL, REVISION), *_ = FILES.models.values()


def selected(config, device, say, families=(FILES,)):
    return select.Selector(config, device, say, families).select()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Block access to the real hub."""
    monkeypatch.setattr(hub, "reachable", lambda *_: False)
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("a test tried to download"))


def config(tmp_path, **settings) -> TTSConfig:
    return TTSConfig(data_dir=tmp_path, **settings)


def test_auto_falls_back_to_mini_and_says_why(tmp_path):
    chosen = selected(config(tmp_path, model="auto"), "cpu", print)
    assert chosen.name == "mini"
    assert HUB_MODEL in (chosen.fallback or "")


@pytest.mark.parametrize("settings", [{"model_dtype": "q4"}, {"embed_tokens_dtype": "fp16"}])
def test_the_embedded_model_has_one_precision_and_says_so(tmp_path, settings):
    with pytest.raises(ModelError, match="only available in fp32"):
        selected(config(tmp_path, model="mini", **settings), "cpu", print)
    chosen = selected(config(tmp_path, model="auto", **settings), "cpu", print)
    assert set(chosen.files.precisions.values()) == {"fp32"}


def test_auto_uses_what_is_on_disk_without_asking_anyone(tmp_path, monkeypatch):
    settings = config(tmp_path, model="auto", model_dtype="q4")
    directory = hub.local_directory(tmp_path, HUB_MODEL, REVISION)
    directory.parent.mkdir(parents=True)
    directory.symlink_to(made.path())  # a whole model in the hub's layout
    monkeypatch.setattr(hub, "complete", lambda where, names: where == directory)
    monkeypatch.setattr(hub, "reachable", lambda *_: pytest.fail("asked the network"))
    chosen = selected(settings, "cpu", print)
    assert (chosen.name, chosen.fallback) == (HUB_MODEL, None)


def test_auto_falls_back_when_the_download_breaks(tmp_path, monkeypatch):
    def broken(*_):
        raise ModelError("the line went dead")

    monkeypatch.setattr(hub, "reachable", lambda *_: True)
    monkeypatch.setattr(hub, "fetch", broken)
    chosen = selected(config(tmp_path, model="auto"), "cpu", print)
    assert (chosen.name, chosen.fallback) == ("mini", "the line went dead")


def test_a_named_model_never_falls_back(tmp_path, monkeypatch):
    def broken(*_):
        raise ModelError("the line went dead")

    monkeypatch.setattr(hub, "fetch", broken)
    with pytest.raises(ModelError, match="the line went dead"):
        selected(config(tmp_path, model=HUB_MODEL), "cpu", print)


@pytest.mark.parametrize("name", ["no/such/directory", "nonsense", "/nowhere"])
def test_a_name_that_is_nothing_is_said_so(tmp_path, name):
    with pytest.raises(ModelError, match="neither a directory nor a hub id"):
        selected(config(tmp_path, model=name), "cpu", print)


def test_an_empty_directory_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        selected(config(tmp_path, model=str(tmp_path)), "cpu", print)


def test_precision_by_graph_by_model_by_device(tmp_path):
    def chosen(device="cpu", **settings):
        graphs = FILES.repositories[0].graphs
        own = config(tmp_path, **settings)
        return {g.name: select.precisions(own, device, g)[0] for g in graphs}

    on_a_gpu = chosen("cuda")
    assert on_a_gpu.pop("conditional_decoder") == "fp32", "half precision may lose its phase"
    assert set(on_a_gpu.values()) == {"fp16"}
    assert set(chosen("cuda", model_dtype="fp16").values()) == {"fp16"}
    assert set(chosen().values()) == {"q4"}
    mixed = chosen(model_dtype="q8", conditional_decoder_dtype="fp32")
    assert mixed["conditional_decoder"] == "fp32"
    assert mixed["language_model"] == "q8"


def test_a_graph_that_speaks_badly_in_a_precision_is_not_asked_to(tmp_path):
    codec = Graph("codec", "conditional_decoder_dtype", {"cpu": "fp32"}, ("fp32", "fp16"))
    assert select.precisions(config(tmp_path, model_dtype="q4"), "cpu", codec) == ("fp32",)
    assert select.precisions(config(tmp_path, model_dtype="fp16"), "cpu", codec) == ("fp16",)
    with pytest.raises(ModelError, match="codec is usable in fp32 or fp16"):
        select.precisions(config(tmp_path, conditional_decoder_dtype="q4"), "cpu", codec)


CODEC = Graph("codec", "conditional_decoder_dtype", {"cpu": "fp32"})
EARS = replace(CODEC, name="ears", optional=True)
LM = Graph("lm", "language_model_dtype", {"cpu": "q4"})
OTHER = FamilyFiles(
    family="other",
    model_types=frozenset({"parrot"}),
    repositories=(
        Repository((LM,), ("config.json", "tokenizer.json")),
        Repository((CODEC, EARS), hub_id="a/codec", folder="codec"),
    ),
    models={"parrot": ("a/parrot", "1234")},
)


class Hub:
    """Fake hub with every requested file: copies of a Turbo graph, or a `config.json`."""

    def __init__(self, monkeypatch) -> None:
        self.fetched: list[tuple[str, str, str]] = []
        self.lacks: set[str] = set()
        monkeypatch.setattr(hub, "fetch", self.fetch)
        monkeypatch.setattr(hub, "complete", self.complete)

    @staticmethod
    def complete(directory, names) -> bool:
        return all((directory / name).is_file() for name in names)

    def fetch(self, hub_id, revision, files, directory, _say, optional):
        for name in (*files, *optional):
            if name in self.lacks:
                continue
            self.fetched.append((hub_id, revision, name))
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".json"):
                path.write_text('{"model_type": "Parrot"}')
            else:
                source = made.path() / "onnx" / "speech_encoder_q4.onnx"
                shutil.copy(source, path)
                data = f"{source.name}_data"
                shutil.copy(source.with_name(data), path.with_name(data))


def test_a_family_of_several_repositories_is_told_by_its_config_and_fetched(tmp_path, monkeypatch):
    served = Hub(monkeypatch)
    for model, revision in (
        ("parrot", "1234"),
        ("a/parrot", "1234"),
        ("someone/fine-tune", "main"),
    ):
        chosen = selected(config(tmp_path / model, model=model), "cpu", print, (FILES, OTHER))
        assert chosen.family == "other"
        assert chosen.files.graph("codec").is_file()
        assert chosen.files.precisions == {"lm": "q4", "codec": "fp32", "ears": "fp32"}
        own = [of for repository, of, _ in served.fetched if repository == chosen.name]
        assert set(own) == {revision}
        assert ("a/codec", "main", "onnx/codec.onnx") in served.fetched
        served.fetched.clear()


def test_a_revision_that_is_set_is_the_models_own(tmp_path, monkeypatch):
    served = Hub(monkeypatch)
    settings = config(tmp_path, model="parrot", model_revision="2")
    selected(settings, "cpu", print, (FILES, OTHER))
    assert {(of, at) for of, at, _ in served.fetched} == {("a/parrot", "2"), ("a/codec", "main")}


def test_what_is_optional_may_be_missing_and_a_companion_may_lie_in_the_directory(
    tmp_path, monkeypatch
):
    served = Hub(monkeypatch)
    served.lacks = {"onnx/ears.onnx", "hints.json"}
    own = replace(OTHER.repositories[0], optional_files=("hints.json", "song.json"))
    other = replace(OTHER, repositories=(own, OTHER.repositories[1]))
    fetched = selected(config(tmp_path, model="parrot"), "cpu", print, (FILES, other)).files
    assert set(fetched.precisions) == {"lm", "codec"}
    assert (fetched.directory / "song.json").is_file()
    assert not (fetched.directory / "hints.json").exists()
    shutil.copytree(fetched.directory, tmp_path / "model")
    shutil.copytree(fetched.elsewhere["codec"], tmp_path / "model" / "codec")
    served.fetched.clear()
    settings = config(tmp_path / "data", model=str(tmp_path / "model"))
    chosen = selected(settings, "cpu", print, (FILES, OTHER))
    assert (chosen.name, chosen.family) == ("model", "other")
    assert chosen.files.graph("codec") == tmp_path / "model" / "codec" / "onnx" / "codec.onnx"
    assert served.fetched == []


def test_of_precisions_that_are_as_good_the_first_that_is_published_is_fetched(
    tmp_path, monkeypatch
):
    served = Hub(monkeypatch)
    lm = replace(LM, automatic={"cpu": ("fp16", "q8", "fp32")})
    own = replace(OTHER.repositories[0], graphs=(lm,))
    family = replace(OTHER, repositories=(own,))
    has = {"onnx/lm_quantized.onnx", "onnx/lm.onnx"}
    monkeypatch.setattr(hub, "published", lambda _, __, names: has & set(names))
    chosen = selected(config(tmp_path, model="parrot"), "cpu", print, (FILES, family))
    assert chosen.files.precisions == {"lm": "q8"}
    has.clear()  # no network: what is there is taken
    served.fetched.clear()
    again = selected(config(tmp_path, model="parrot"), "cpu", print, (FILES, family))
    assert again.files.precisions == {"lm": "q8"}
    assert served.fetched == []
