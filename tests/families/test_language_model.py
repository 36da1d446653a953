"""The compiled language model where it is proven, a less rounded one next, else the stock one."""

import gc
import sys
import weakref
from itertools import pairwise

import made
import numpy as np
import pytest

from chatterbox.compile.lm import compiler
from chatterbox.compile.lm.compiler import CompiledGraph
from chatterbox.config import TTSConfig
from chatterbox.families.model import LoadRequest
from chatterbox.families.turbo import load
from chatterbox.families.turbo.load import (
    LanguageModelParts,
    compiled_graph,
    open_language_model,
    open_tokenizer,
)
from chatterbox.families.turbo.spec import GRAPHS
from chatterbox.hub.files import ModelFiles
from chatterbox.runtime import compiled_lm
from chatterbox.runtime.compiled_lm import NotCompiled, default_options
from chatterbox.runtime.embedding import HostEmbedder
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.published_lm import PublishedLanguageModel
from chatterbox.runtime.sessions import SessionSettings

IDS = open_tokenizer(made.path() / "tokenizer.json").encode("How are you?")


def parts(tmp_path, precision="q4", **settings):
    config = TTSConfig(data_dir=tmp_path, max_sequences=2, **settings)
    files = ModelFiles(made.path(), dict.fromkeys(GRAPHS, precision))
    request = LoadRequest(config, SessionSettings("cpu", 1, {}), "a model", files)
    return LanguageModelParts(request, IDS, int(IDS.max()))


PROMPT = PrefixedPrompt(
    "noise", np.random.default_rng(0).standard_normal((20, 64), np.float32), IDS
)


def logits(model):
    first = model.prefill(0, PROMPT)
    return np.stack([first, model.decode([0], np.array([17]))[0]])


@pytest.fixture
def embedded_here(monkeypatch) -> list[int]:
    """One entry for each time that codes are embedded on the host."""
    calls, codes = [], HostEmbedder.codes
    noted = lambda one, given: calls.append(1) or codes(one, given)  # noqa: E731
    monkeypatch.setattr(HostEmbedder, "codes", noted)
    return calls


def test_a_proven_graph_is_served_and_embedded_on_the_host(tmp_path, embedded_here):
    model, note = open_language_model(parts(tmp_path))
    assert isinstance(model, SlottedLanguageModel)
    embedded_here.clear()
    logits(model)
    assert embedded_here
    assert note.startswith("compiled, proven equal; cache in float; 2 slots of ")


def test_it_says_what_the_stock_graph_says(tmp_path):
    compiled, _ = open_language_model(parts(tmp_path, "fp32"))
    stock, note = open_language_model(parts(tmp_path, "fp32", compile_lm=False))
    assert isinstance(stock, PublishedLanguageModel)
    assert note.startswith("as published (compile_lm is false)")
    expected = logits(stock)
    assert np.abs(logits(compiled) - expected).max() < 1e-4 * expected.std()


@pytest.mark.parametrize("asked", ["auto", "int8"])
def test_the_embedded_model_keeps_a_float_cache_as_int8_changes_what_it_says(tmp_path, asked):
    model, note = open_language_model(parts(tmp_path, kv_dtype=asked))
    assert isinstance(model, SlottedLanguageModel)
    assert "cache in float; " in note


def test_where_nothing_changes_the_cache_is_in_int8(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "SPOKEN_MEAN_TOLERANCE", np.inf)
    monkeypatch.setattr(compiler, "SPOKEN_WORST_TOLERANCE", np.inf)
    model, note = open_language_model(parts(tmp_path, kv_dtype="auto"))
    assert isinstance(model, SlottedLanguageModel)
    assert "cache in int8; " in note


def test_a_capture_that_fails_leaves_no_slots_behind(tmp_path, monkeypatch):
    """There may be no room for as many again."""
    tried = []

    def refused(model):
        tried.append(weakref.ref(model))
        raise RuntimeError("not captured")

    monkeypatch.setattr(compiled_lm, "captures", lambda *_: True)
    monkeypatch.setattr(SlottedLanguageModel, "capture_steps", refused)
    open_session = compiled_lm.open_session
    left = []

    def opening(*given, **options):
        left.append([model() for model in tried])
        return open_session(*given, **options)

    monkeypatch.setattr(compiled_lm, "open_session", opening)
    model, note = open_language_model(parts(tmp_path))
    assert isinstance(model, SlottedLanguageModel)
    assert "no CUDA graphs: not captured" in note
    assert left == [[], [None]]


def test_a_gpus_form_looks_tokens_up_itself(tmp_path, monkeypatch, embedded_here):
    """Run on a CPU, which has the kernels, if slow ones."""
    plain, _ = open_language_model(parts(tmp_path / "cpu", "fp32"))
    expected = logits(plain)
    monkeypatch.setattr(load, "default_options", lambda *_: default_options("cuda", "fp32"))
    model, _ = open_language_model(parts(tmp_path / "gpu", "fp32"))
    embedded_here.clear()
    found = logits(model)
    assert len(embedded_here) == 1  # the prompt's text
    assert 2 * model.arena_bytes == plain.arena_bytes  # half precision
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.1 * expected.std()


def test_a_gpus_form_whose_tokens_are_others_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "default_options", lambda *_: default_options("cuda", "fp32"))
    write = compiler.write
    turned = lambda *given: write(*given[:-1], given[-1][::-1])  # noqa: E731
    monkeypatch.setattr(compiler, "write", turned)
    model, note = open_language_model(parts(tmp_path, "fp32"))
    assert isinstance(model, PublishedLanguageModel)
    assert "by tokens its logits differ" in note


def test_a_graph_that_is_not_recognised_is_served_as_published(tmp_path, monkeypatch):
    def refuse(_, __):
        raise compiler.UnsupportedGraph("no layers")

    monkeypatch.setattr(compiler, "match", refuse)
    model, note = open_language_model(parts(tmp_path))
    assert isinstance(model, PublishedLanguageModel)
    assert note.startswith("as published (not recognised: no layers)")


def test_an_embedding_that_cannot_be_read_is_called(tmp_path, monkeypatch, embedded_here):
    monkeypatch.setattr(compiler, "host_embedder", lambda *_: None)
    model, _ = open_language_model(parts(tmp_path))
    embedded_here.clear()
    assert logits(model).shape == (2, 6563)
    assert not embedded_here


def test_slots_are_as_long_as_configured_and_the_model_allows(tmp_path):
    assert open_language_model(parts(tmp_path, max_sequence_length=600))[0].capacity == 600
    assert open_language_model(parts(tmp_path, max_sequence_length=8196))[0].capacity == 2047


def test_the_bar_shows_only_while_something_is_made(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    open_language_model(parts(tmp_path))
    err = capfd.readouterr().err
    assert "compiling the language model" in err
    assert "100%" in err
    open_language_model(parts(tmp_path))
    assert not capfd.readouterr().err


def test_a_log_has_a_line_for_each_stage_and_no_bar(tmp_path, capfd):
    open_language_model(parts(tmp_path))
    lines = capfd.readouterr().err.splitlines()
    stages = [line.removeprefix("compiling the language model, ") for line in lines]
    assert stages[0] == "writing"
    assert stages[-1] == "done"
    assert all(one != next_one for one, next_one in pairwise(stages))


def test_what_a_compilation_leaves_in_cycles_is_destroyed_in_its_thread(tmp_path, monkeypatch):
    """A session of another GPU that is destroyed later takes its device along."""
    left = []

    class Cycle:
        def __init__(self):
            self.itself = self
            left.append(weakref.ref(self))

    monkeypatch.setattr(compiler, "compile_lm", lambda *_, **__: Cycle() and NotCompiled("tried"))
    gc.disable()
    try:
        assert compiled_graph(parts(tmp_path)) == NotCompiled("tried")
        assert [cycle() for cycle in left] == [None] * len(left) != []
    finally:
        gc.enable()


def test_tuning_by_hand_prepares_what_the_next_start_serves(tmp_path, capfd):
    given = parts(tmp_path)
    assert isinstance(compiled_graph(given), CompiledGraph)
    capfd.readouterr()
    open_language_model(given)
    assert not capfd.readouterr().err  # nothing was left to make
