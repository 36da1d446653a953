"""The tuned language model where it is proven, a less rounded one next, else the stock one."""

import numpy as np
import pytest

from chatterbox import mini
from chatterbox.config import TTSConfig
from chatterbox.model import language_model
from chatterbox.model.contract import GRAPHS, Voice, VoiceTensors
from chatterbox.model.embedding import HostEmbedder
from chatterbox.model.files import ModelFiles
from chatterbox.model.language_model import (
    LanguageModelParts,
    open_language_model,
    tune_language_model,
)
from chatterbox.model.sessions import SessionSettings
from chatterbox.model.slots import TunedLanguageModel
from chatterbox.model.stock_lm import StockLanguageModel
from chatterbox.model.tune import tuner
from chatterbox.model.tune.tuner import TunedGraph
from chatterbox.text.tokenizer import Tokenizer

IDS = Tokenizer.from_file(mini.path() / "tokenizer.json").encode("How are you?")


def parts(tmp_path, precision="q4", **settings):
    config = TTSConfig(data_dir=tmp_path, max_batch_size=2, **settings)
    files = ModelFiles(mini.path(), dict.fromkeys(GRAPHS, precision))
    return LanguageModelParts(config, files, SessionSettings("cpu", 1, {}), end_id=int(IDS[-1]))


def voice(hidden=64):
    rows = np.random.default_rng(0).standard_normal((20, hidden), np.float32)
    nothing = np.zeros((0, 0), np.float32)
    return Voice("noise", VoiceTensors(rows, np.zeros(0, np.int64), nothing, nothing))


def logits(model):
    first = model.begin(0, voice(), IDS)
    return np.stack([first, model.step([0], np.array([17]))[0]])


@pytest.mark.parametrize(("precision", "kind"), [("q4", np.int8), ("fp32", np.float32)])
def test_a_proven_graph_is_served_with_the_cache_that_suits_it(tmp_path, precision, kind):
    model, note = open_language_model(parts(tmp_path, precision, kv_dtype="auto"))
    assert isinstance(model, TunedLanguageModel)
    assert isinstance(model._embed, HostEmbedder)
    assert model._shape.kv_type == kind
    assert note == "tuned, proven equal"


def test_it_says_what_the_stock_graph_says(tmp_path):
    tuned, _ = open_language_model(parts(tmp_path, "fp32"))
    stock, note = open_language_model(parts(tmp_path, "fp32", tune=False))
    assert isinstance(stock, StockLanguageModel)
    assert note.startswith("as published (tuning is switched off)")
    expected = logits(stock)
    assert np.abs(logits(tuned) - expected).max() < 1e-4 * expected.std()


def test_where_an_int8_cache_is_too_coarse_a_float_one_is_used(tmp_path, monkeypatch):
    monkeypatch.setitem(tuner.SERVED_TOLERANCE, "int8", 0.0)
    model, _ = open_language_model(parts(tmp_path, kv_dtype="auto"))
    assert isinstance(model, TunedLanguageModel)
    assert model._shape.kv_type == np.float32


def test_the_cache_type_asked_for_is_taken_or_none(tmp_path, monkeypatch):
    model, _ = open_language_model(parts(tmp_path, kv_dtype="float"))
    assert model._shape.kv_type == np.float32
    monkeypatch.setitem(tuner.SERVED_TOLERANCE, "int8", 0.0)
    model, note = open_language_model(parts(tmp_path, kv_dtype="int8"))
    assert isinstance(model, StockLanguageModel)
    assert "standard deviations" in note


def test_a_graph_that_is_not_recognised_is_served_as_published(tmp_path, monkeypatch):
    def refuse(_):
        raise tuner.NotRecognisedError("no layers")

    monkeypatch.setattr(tuner, "recognise", refuse)
    model, note = open_language_model(parts(tmp_path))
    assert isinstance(model, StockLanguageModel)
    assert note.startswith("as published (not recognised: no layers)")


def test_an_embedding_that_cannot_be_read_is_called(tmp_path, monkeypatch):
    monkeypatch.setattr(language_model, "host_embedder", lambda *_: None)
    model, _ = open_language_model(parts(tmp_path))
    assert not isinstance(model._embed, HostEmbedder)
    assert logits(model).shape == (2, 6563)


def test_slots_are_as_long_as_configured_and_the_model_allows(tmp_path):
    assert open_language_model(parts(tmp_path, max_positions=600))[0].capacity == 600
    assert open_language_model(parts(tmp_path, max_positions=8196))[0].capacity == 2047


def test_the_bar_shows_only_while_something_is_made(tmp_path, capfd):
    open_language_model(parts(tmp_path))
    assert "tuning the language model" in capfd.readouterr().err
    open_language_model(parts(tmp_path))
    assert not capfd.readouterr().err


def test_tuning_by_hand_prepares_what_the_next_start_serves(tmp_path, capfd):
    given = parts(tmp_path)
    assert isinstance(tune_language_model(given), TunedGraph)
    capfd.readouterr()
    open_language_model(given)
    assert not capfd.readouterr().err  # nothing was left to make
