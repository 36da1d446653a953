"""Orpheus' language model computes what a Llama does: as published, compiled, in any batch.

Knows small Llamas with random weights in the published form; runs them.
"""

from pathlib import Path

import numpy as np
import pytest
from families.orpheus import llama_reference

from chatterbox.compile.lm.compiler import Embedding, compile_lm
from chatterbox.compile.lm.weights import angles_of
from chatterbox.errors import ModelError
from chatterbox.runtime.compiled_lm import CompiledGraph, CompileOptions, NotCompiled
from chatterbox.runtime.cuda_graphs import Buckets
from chatterbox.runtime.embedding import TokenIds
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.masked_lm import MaskedShape
from chatterbox.runtime.sessions import SessionSettings, open_session
from tools import parity_llama
from tools.stock_forms.llama import LlamaSize, llama_config, random_llama, write_llama
from tools.stock_forms.llama_plain import write_plain_llama

CPU = SessionSettings("cpu", 1, {})
SIZE = parity_llama.SMALL
MODEL = random_llama(SIZE)
FIRST, TOKENS, STOP = 100, 180, 40
COLUMNS = ((FIRST, FIRST + TOKENS), (STOP, STOP + 1))
NAMED = [*range(FIRST, FIRST + TOKENS), STOP]
IDS = TokenIds(FIRST)
OWN = Embedding(IDS, TOKENS, frozenset({TOKENS}))
STEPS = 200


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("llama")
    return {
        precision: write_llama(MODEL, precision, folder, shard_bytes=20_000)
        for precision in ("fp32", "fp16", "q4", "q4f16", "q8")
    }


def compiled(source: Path, precision, cache: Path) -> CompiledGraph:
    options = CompileOptions(head=COLUMNS)
    found = compile_lm(source, precision, cache, CPU, options=options, embedding=OWN)
    assert isinstance(found, CompiledGraph), found
    return found


def in_place(source: Path, slots: int = 4) -> SlottedLanguageModel:
    """The published graph."""
    session = open_session(source, CPU)
    shape = MaskedShape.read(session, COLUMNS, SIZE.positions)
    buckets = Buckets(slots, capture=False)
    return slotted(session, shape=shape, buckets=buckets, slots=slots)


def slotted(session, slots: int = 4, **how) -> SlottedLanguageModel:
    given = {"slots": slots, "capacity": 400, "prefix_cache_bytes": 1 << 20}
    return SlottedLanguageModel(session, IDS, **given, **how)


@pytest.fixture(scope="module")
def models(published, tmp_path_factory):
    cache = tmp_path_factory.mktemp("compiled")
    graph = compiled(published["fp32"], "fp32", cache)
    return {
        "compiled": lambda: slotted(open_session(graph.path, CPU)),
        "published": lambda: in_place(published["fp32"]),
    }


def prompt(seed: int, length: int, reference: int = 0) -> PrefixedPrompt:
    ids = np.random.default_rng(seed).integers(0, SIZE.vocab, reference + length)
    return PrefixedPrompt(f"voice-{seed}", ids[:reference], ids[reference:])


def forced(model: SlottedLanguageModel, slot: int, asked: PrefixedPrompt, tokens) -> np.ndarray:
    logits = [model.prefill(slot, asked)]
    logits += [model.decode([slot], np.array([token]))[0].copy() for token in tokens]
    return np.stack(logits)


def test_the_reference_is_transformers_own_llama():
    """The file: `python -m tools.parity_llama --write`, with PyTorch."""
    expected = np.load(Path(__file__).parent / "llama_transformers.npz")["logits"]
    found = llama_reference.logits(MODEL, parity_llama.forced_ids(SIZE))[parity_llama.PROMPT - 1 :]
    assert np.abs(found[parity_llama.KEPT_STEPS] - expected).max() < 1e-4


@pytest.mark.parametrize("form", ["compiled", "published"])
def test_two_hundred_forced_steps_are_those_of_a_llama(form, models):
    asked = prompt(1, 90, reference=30)  # longer than one call of a prefill
    tokens = np.random.default_rng(2).integers(0, TOKENS, STEPS)
    found = forced(models[form](), 2, asked, tokens)
    ids = np.concatenate([asked.prefix, asked.ids, FIRST + tokens])
    expected = llama_reference.logits(MODEL, ids)[len(asked) - 1 :, NAMED]
    assert np.abs(found - expected).max() < 1e-3
    assert expected.std() > 0.5


@pytest.mark.slow
def test_two_layers_of_the_published_width(tmp_path):
    size = LlamaSize(layers=2, vocab=1000, positions=8192)
    model, rng = random_llama(size), np.random.default_rng(4)
    source = write_llama(model, "fp32", tmp_path)
    head = CompileOptions(head=((0, size.vocab),))
    made = compile_lm(
        source,
        "fp32",
        tmp_path / "cache",
        CPU,
        options=head,
        embedding=Embedding(TokenIds(0), size.vocab, frozenset()),
    )
    assert isinstance(made, CompiledGraph), made
    how = {"slots": 1, "capacity": 300, "prefix_cache_bytes": 0}
    lm = SlottedLanguageModel(open_session(made.path, CPU), TokenIds(0), **how)
    ids = rng.integers(0, size.vocab, 60 + STEPS)
    found = forced(lm, 0, PrefixedPrompt("", ids[:0], ids[:60]), ids[60:])
    expected = llama_reference.logits(model, ids)[59:]
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("form", ["compiled", "published"])
def test_a_row_in_company_is_to_the_bit_what_it_is_alone(form, models):
    model, rng = models[form](), np.random.default_rng(3)
    asked = {slot: prompt(slot, 5 + 11 * slot) for slot in range(4)}
    tokens = rng.integers(0, TOKENS, (12, 4))
    alone = {}
    for slot in asked:
        alone[slot] = forced(models[form](), slot, asked[slot], tokens[:, slot])
    together = {slot: [model.prefill(slot, asked[slot])] for slot in asked}
    for step, row in enumerate(tokens):
        slots = [0, 1, 2, 3] if step % 3 else [3, 1]  # some pause
        done = {slot: len(together[slot]) - 1 for slot in slots}
        logits = model.decode(slots, np.array([tokens[done[slot], slot] for slot in slots]))
        for slot, one in zip(slots, logits, strict=True):
            together[slot].append(one.copy())
        assert len(row) == 4
    for slot in asked:
        count = len(together[slot])
        assert np.array_equal(np.stack(together[slot]), alone[slot][:count])


@pytest.mark.parametrize("form", ["compiled", "published"])
def test_a_cached_reference_changes_nothing_that_counts(form, models):
    model, asked = models[form](), prompt(5, 20, reference=70)
    cold = model.prefill(0, asked)
    model.cache_prefix(asked)
    assert model.prefix_bytes > 0
    assert np.array_equal(model.prefill(1, asked), cold)
    whole = PrefixedPrompt("whole", asked.prefix[:0], np.concatenate([asked.prefix, asked.ids]))
    assert np.abs(model.prefill(2, whole) - cold).max() < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "fp16", "q4", "q8", "q4f16"])
def test_every_precision_is_recognised_and_proven(precision, published, tmp_path):
    found = compiled(published[precision], precision, tmp_path)
    assert found.vocab == len(NAMED)
    assert found.exact.worst < (2e-2 if precision in ("fp16", "q4f16") else 1e-4)
    assert found.served.worst < 0.3


def test_weights_in_several_files_are_read(published):
    folder = published["fp32"].parent
    assert len(list(folder.glob("model.onnx_data*"))) > 2
    assert (folder / "model.onnx_data_1").is_file()


@pytest.mark.parametrize("precision", ["fp32", "q4"])
def test_the_published_form_in_place_says_what_the_compiled_one_says(
    precision, published, tmp_path
):
    graph = compiled(published[precision], precision, tmp_path)
    asked, tokens = prompt(7, 25), np.random.default_rng(7).integers(0, TOKENS, 40)
    ours = forced(slotted(open_session(graph.path, CPU)), 1, asked, tokens)
    theirs = forced(in_place(published[precision]), 1, asked, tokens)
    assert np.abs(ours - theirs).max() < (1e-4 if precision == "fp32" else 0.5)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "q4"])
def test_a_plain_export_is_compiled_too_and_cannot_be_stepped_in_place(precision, tmp_path):
    source = write_plain_llama(MODEL, SIZE, precision, tmp_path / "onnx")
    options = CompileOptions(head=COLUMNS)
    angles = angles_of(llama_config(SIZE))
    how = {"options": options, "embedding": OWN}
    unknown = compile_lm(source, precision, tmp_path / "cache", CPU, **how)
    assert isinstance(unknown, NotCompiled)  # how queries are turned
    found = compile_lm(source, precision, tmp_path / "other", CPU, angles=angles, **how)
    assert isinstance(found, CompiledGraph), found
    assert found.exact.worst < (2e-2 if precision == "fp16" else 1e-4)
    with pytest.raises(RuntimeError):  # its keys and values grow
        in_place(source).prefill(0, prompt(8, 5))


@pytest.mark.parametrize("form", ["split", "outside"])
def test_other_forms_of_the_builder(form, tmp_path):
    source = write_llama(MODEL, "fp32", tmp_path, form=form)
    found = compiled(source, "fp32", tmp_path / "cache")
    assert found.exact.worst < 1e-4
    asked, tokens = prompt(9, 25), np.random.default_rng(9).integers(0, TOKENS, 10)
    ours = forced(slotted(open_session(found.path, CPU)), 1, asked, tokens)
    if form == "outside":
        with pytest.raises(ModelError, match="another form: position_ids"):
            in_place(source)
    else:
        assert np.abs(forced(in_place(source), 1, asked, tokens) - ours).max() < 1e-4


@pytest.mark.parametrize("precision", ["fp16", "q4f16"])
def test_half_precision_is_stepped_in_place_as_published(precision, published, tmp_path):
    graph = compiled(published[precision], precision, tmp_path)
    asked, tokens = prompt(10, 25), np.random.default_rng(10).integers(0, TOKENS, 10)
    ours = forced(slotted(open_session(graph.path, CPU)), 1, asked, tokens)
    theirs = forced(in_place(published[precision]), 1, asked, tokens)
    assert np.abs(ours - theirs).max() < (0.02 if precision == "fp16" else 0.5)
