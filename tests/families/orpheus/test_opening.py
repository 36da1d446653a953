"""The forms in which Orpheus is opened, and the tokens that can be drawn from it.

Knows small Orpheus models with random weights, in several precisions and forms.
"""

import shutil

import numpy as np
import pytest

from chatterbox.config import TTSConfig
from chatterbox.engine.sampler import Sampler, Sampling
from chatterbox.errors import ModelError
from chatterbox.families.load import load_model
from chatterbox.families.model import LoadedModel
from chatterbox.families.orpheus.load import IDS
from chatterbox.families.orpheus.spec import ORPHEUS, STOP
from chatterbox.runtime.kv_slots import PrefixedPrompt
from tools.model_builder.orpheus import SMALL, OrpheusSize, write_orpheus
from tools.stock_forms.llama import random_llama
from tools.stock_forms.llama_plain import write_plain_llama

PROMPT = np.array([128259, 128000, 72, 105, 128009, 128260, 128261, 128257])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens the model in a folder; what was compiled for one test is found by the others."""
    data_dir = tmp_path_factory.mktemp("data")

    def open_model(folder, **settings) -> LoadedModel:
        config = TTSConfig(model=str(folder), data_dir=data_dir, device="cpu", **settings)
        return load_model(config, print)

    return open_model


def said(model: LoadedModel) -> np.ndarray:
    """Logits of a prompt and a frame."""
    lm = model.language_model
    logits = [lm.prefill(1, PrefixedPrompt("", PROMPT[:0], PROMPT))]
    frame = 4096 * np.arange(7) + 99
    logits += [lm.decode([1], frame[place : place + 1])[0].copy() for place in range(7)]
    lm.free(1)
    return np.stack(logits)


@pytest.mark.slow
def test_as_published_in_place_it_says_the_same(orpheus, opened):
    compiled = opened(orpheus)
    published = opened(orpheus, compile_lm=False)
    (note, *_) = [note for note in published.info.notes if note.startswith("language model")]
    assert "as published (compile_lm is false), stepped in place" in note
    assert published.language_model.vocab == compiled.language_model.vocab == STOP + 1
    assert np.abs(said(published) - said(compiled)).max() < 1e-4


@pytest.mark.parametrize("compile_lm", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_plain_export_is_served_compiled_alone(orpheus, opened, tmp_path, compile_lm):
    folder = tmp_path / "plain"
    shutil.copytree(orpheus, folder)
    shutil.rmtree(folder / "onnx")
    write_plain_llama(random_llama(SMALL), SMALL, "fp32", folder / "onnx")
    if compile_lm:
        plain, builders = opened(folder), opened(orpheus)
        assert np.abs(said(plain) - said(builders)).max() < 1e-4
    else:
        with pytest.raises(ModelError, match=r"is not compiled .* cannot be used"):
            opened(folder, compile_lm=False)


@pytest.mark.slow
def test_precisions(opened, tmp_path):
    folder = tmp_path / "halves"
    write_orpheus(folder, OrpheusSize(), ["fp16", "q4"])
    automatic = opened(folder)
    assert automatic.info.precision["model"] == "fp16", "four bits only where they are asked for"
    asked = opened(folder, language_model_dtype="q4")
    assert asked.info.precision["model"] == "q4"
    published = opened(folder, language_model_dtype="q4", compile_lm=False)
    assert np.abs(said(asked) - said(published)).max() < 0.5
    with pytest.raises(ModelError, match="usable in fp32 or fp16"):
        opened(folder, conditional_decoder_dtype="q4")


def test_another_llama_is_no_orpheus(orpheus, opened, tmp_path):
    folder = tmp_path / "llama"
    shutil.copytree(orpheus, folder)
    text = (folder / "tokenizer.json").read_text().replace("<custom_token_", "<extra_token_")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match="not Orpheus' tokenizer"):
        opened(folder)


def test_no_token_at_a_wrong_place_and_no_end_inside_a_frame():
    rng, count = np.random.default_rng(0), 700
    sampler = Sampler(1, ORPHEUS.tokens)
    sampler.begin(0, Sampling(temperature=1.0, top_k=0, top_p=1.0), rng.random(count).tolist())
    ends = []
    for position in range(count):
        logits = rng.standard_normal((1, STOP + 1)).astype(np.float32)
        logits[:, STOP] = 9.0  # the model would end at any place
        (token,) = sampler.sample(logits, [0])
        if token == STOP:
            ends.append(position)
        else:
            assert token // 4096 == position % 7
    assert ends
    assert all(position % 7 == 0 and position for position in ends)


def test_ids_are_those_of_the_published_vocabulary():
    assert IDS.codes(np.array([0, 28671])).tolist() == [128266, 156937]
