"""Tests that every published form compiles to an equal graph or is refused with a reason."""

import dataclasses
import json
import shutil

import made
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from chatterbox.compile.lm import compiler
from chatterbox.compile.lm.compiler import EXACT_TOLERANCE, compile_lm
from chatterbox.compile.lm.equivalence import (
    EXACT_STEPS,
    deviation,
    exact_session,
    random_embedder,
    stock_trial,
)
from chatterbox.compile.lm.match import match
from chatterbox.compile.lm.published import PublishedGraph
from chatterbox.compile.lm.weights import Linear
from chatterbox.compile.lm.write import SIDECAR_FILE, write
from chatterbox.hub.files import PRECISIONS, ModelFiles
from chatterbox.runtime import compiled_cache
from chatterbox.runtime.compiled_cache import DIRECTORY, MANIFEST_FILE
from chatterbox.runtime.compiled_lm import (
    GRAPH_FILE,
    CompiledGraph,
    CompileOptions,
    NotCompiled,
    default_options,
)
from chatterbox.runtime.sessions import SessionSettings, open_session
from tools.stock_forms.plain import Form, plain_model, write_plain
from tools.stock_forms.weights import Size, random_model

CPU = SessionSettings("cpu", 1, {})
TINY = Size(layers=2, heads=2, head_dim=16, inner=64, vocab=83, positions=64)
MODEL = random_model(TINY)
FORMS = [
    *(Form(precision) for precision in PRECISIONS),
    Form(projections="split", linear="gemm", norm="spelled", gelu="operator"),
    Form(norm="skip", gelu="bias"),
    Form(projections="split", attention="mha"),
    Form("q4", attention="mha", table="uint4"),
    Form("q4", attention="gqa", accuracy_level=4),
    Form("q8", projections="split", accuracy_level=4),
    Form("q4f16", projections="split", norm="spelled"),
    Form("fp16", linear="gemm", norm="spelled"),
]


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """Write a plain fp32 graph."""
    return write_plain(MODEL, Form(), tmp_path_factory.mktemp("stock"))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_is_recognised_and_computes_the_same(form, tmp_path):
    source = write_plain(MODEL, form, tmp_path)
    result = compile_lm(source, form.precision, tmp_path / "cache", CPU)
    assert isinstance(result, CompiledGraph)
    tolerance = EXACT_TOLERANCE["fp16" if form.half else "fp32"]
    assert result.exact.worst < tolerance / 3
    assert result.served.argmax_share > 0.8


def test_the_exact_gelu_is_told_from_the_approximate_one(tmp_path):
    model = random_model(TINY, activation="erf")
    for gelu in ("operator", "spelled", "bias"):
        source = write_plain(model, Form(gelu=gelu), tmp_path)
        assert match(PublishedGraph(source)).activation == "erf"
        assert isinstance(compile_lm(source, "fp32", tmp_path / "cache", CPU), CompiledGraph)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_embedded_model_is_compiled(precision, tmp_path):
    names = ("speech_encoder", "embed_tokens", "language_model", "conditional_decoder")
    files = ModelFiles(made.path(), dict.fromkeys(names, precision))
    result = compile_lm(files.graph("language_model"), precision, tmp_path, CPU)
    assert isinstance(result, CompiledGraph)


def test_quantised_weights_are_taken_over_bit_for_bit(tmp_path):
    source = write_plain(MODEL, Form("q4"), tmp_path)
    result = compile_lm(source, "q4", tmp_path / "cache", CPU)
    written = onnx.load(str(result.path))
    arrays = {t.name: numpy_helper.to_array(t) for t in written.graph.initializer}
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(source)).graph.initializer}
    nodes = [n for n in onnx.load(str(source)).graph.node if n.op_type == "MatMulNBits"]
    names = ["qkv", "out", "up", "down"]
    for place, node in enumerate(nodes[:-1]):
        name = f"{place // 4}.{names[place % 4]}"
        for kind, edge in zip(("codes", "scales", "zeros"), node.input[1:4], strict=True):
            assert arrays[f"{name}.{kind}"].tobytes() == stored[edge].tobytes()


def test_half_precision_weights_are_widened_exactly(tmp_path):
    source = write_plain(MODEL, Form("fp16"), tmp_path)
    result = compile_lm(source, "fp16", tmp_path / "cache", CPU)
    arrays = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(str(result.path)).graph.initializer
    }
    half = MODEL.layers[0].out.weight.values.astype(np.float16)
    np.testing.assert_array_equal(arrays["0.out"], half.astype(np.float32))


def test_an_int8_cache_that_changes_what_is_said_is_refused(stock, tmp_path, monkeypatch):
    fine = compile_lm(stock, "fp32", tmp_path, CPU, options=CompileOptions(cache="int8"))
    assert isinstance(fine, CompiledGraph)
    monkeypatch.setattr(compiler, "SPOKEN_MEAN_TOLERANCE", 1e-9)
    monkeypatch.setattr(compiler, "VERSION", compiler.VERSION + 1)
    result = compile_lm(stock, "fp32", tmp_path, CPU, options=CompileOptions(cache="int8"))
    assert isinstance(result, NotCompiled)
    assert result.reason.startswith("an int8 cache changes the speech")


def test_the_usual_recipe_suits_the_device():
    cpu = {p: default_options("cpu", p) for p in PRECISIONS}
    assert all(recipe.compute == "fp32" for recipe in cpu.values())
    assert {p for p, recipe in cpu.items() if recipe.cache == "int8"} == {"q8", "q4", "q4f16"}
    cuda = {p: default_options("cuda", p) for p in PRECISIONS}
    assert all(r.compute == "fp16" and r.cache == "float" for r in cuda.values())


def shifted(values):
    return np.roll(values, 1, axis=0)


def with_layer(model, **changes):
    layer = dataclasses.replace(model.layers[0], **changes)
    return dataclasses.replace(model, layers=(layer, *model.layers[1:]))


def swapped(linear):
    """Swap key and value."""
    q, k, v = np.split(linear.weight.values, 3, axis=1)
    weight = dataclasses.replace(linear.weight, values=np.concatenate([q, v, k], axis=1))
    return Linear(weight, linear.bias)


MISTAKES = {
    "activation": lambda m: dataclasses.replace(m, activation="erf"),
    "positions": lambda m: dataclasses.replace(m, positions=shifted(m.positions)),
    "epsilon": lambda m: dataclasses.replace(m, norm=dataclasses.replace(m.norm, epsilon=0.02)),
    "key and value": lambda m: with_layer(m, qkv=swapped(m.layers[0].qkv)),
    "norms": lambda m: with_layer(m, norm_1=m.layers[0].norm_2),
    "bias": lambda m: with_layer(m, up=Linear(m.layers[0].up.weight, 0 * m.layers[0].up.bias)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_proof_notices_a_wrong_weight(mistake, stock, tmp_path):
    write(MISTAKES[mistake](MODEL), CompileOptions(), tmp_path, lambda _: None)
    session = exact_session(tmp_path / GRAPH_FILE, 1)
    trial = stock_trial(stock, random_embedder(MODEL.hidden), 1)
    found = deviation(trial, session, steps=EXACT_STEPS)
    assert found.worst > EXACT_TOLERANCE["fp32"]


@pytest.mark.parametrize("mistake", ["rows", "active", "seqlens_k", "position_ids"])
def test_the_proof_notices_a_wrong_input(mistake, stock, tmp_path):
    """A graph that reads the wrong row, slot, length or position fails the proof."""
    write(MODEL, CompileOptions(), tmp_path, lambda _: None)
    graph = onnx.load(str(tmp_path / GRAPH_FILE))
    kind = np.int32 if mistake == "seqlens_k" else np.int64
    zero = helper.make_node("Mul", [mistake, "no"], ["wrong"])
    graph.graph.initializer.append(numpy_helper.from_array(np.array(0, kind), "no"))
    for node in graph.graph.node:
        renamed = ["wrong" if name == mistake else name for name in node.input]
        del node.input[:]
        node.input.extend(renamed)
    graph.graph.node.insert(0, zero)
    onnx.save(graph, str(tmp_path / GRAPH_FILE))
    trial = stock_trial(stock, random_embedder(MODEL.hidden), 1)
    session = open_session(tmp_path / GRAPH_FILE, CPU)
    try:
        worst = deviation(trial, session).worst
    except RuntimeError:  # onnxruntime's own check of lengths
        worst = np.inf
    assert worst > EXACT_TOLERANCE["fp32"]


def test_a_graph_that_differs_is_refused_and_that_is_remembered(stock, tmp_path, monkeypatch):
    monkeypatch.setattr(
        compiler, "match", lambda graph, angles: MISTAKES["norms"](match(graph, angles))
    )
    first = compile_lm(stock, "fp32", tmp_path, CPU)
    assert isinstance(first, NotCompiled)
    assert "standard deviations" in first.reason
    monkeypatch.setattr(compiler, "write", None)  # the second time nothing is written
    assert compile_lm(stock, "fp32", tmp_path, CPU) == first
    assert not list(tmp_path.rglob(SIDECAR_FILE))


def test_another_kind_of_graph_is_not_recognised(tmp_path):
    def changed(edit):
        model = plain_model(MODEL, Form())
        edit(model.graph)
        path = tmp_path / "language_model.onnx"
        onnx.save(model, str(path))
        return compile_lm(path, "fp32", tmp_path / "cache", CPU)

    def no_cache(graph):
        for value in graph.input:
            value.name = value.name.replace("past_key_values", "cache")

    def one_matrix_more(graph):
        matrix = np.eye(TINY.hidden, dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(matrix, "more"))
        last = graph.node[-2].input[0]  # what the head's bias is added to
        head = next(node for node in graph.node if last in node.output)
        graph.node.insert(
            len(graph.node) - 3, helper.make_node("MatMul", [head.input[0], "more"], ["turned"])
        )
        head.input[0] = "turned"

    def no_positions(graph):
        for node in graph.node:
            if "position_ids" in node.input:
                node.input[1] = "attention_mask"

    for edit, reason in (
        (no_cache, "past_key_values"),
        (one_matrix_more, "constant matrices"),
        (no_positions, "position_ids"),
    ):
        result = changed(edit)
        assert isinstance(result, NotCompiled)
        assert reason in result.reason


def test_what_was_made_is_found_again(stock, tmp_path, monkeypatch):
    first = compile_lm(stock, "fp32", tmp_path, CPU)
    monkeypatch.setattr(compiler, "write", None)
    assert compile_lm(stock, "fp32", tmp_path, CPU) == first


def one_bit_turned(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        (SIDECAR_FILE, lambda content: content[:-100]),
        (SIDECAR_FILE, lambda content: content[: len(content) // 2].ljust(len(content), b"\0")),
        (SIDECAR_FILE, one_bit_turned),
        (GRAPH_FILE, one_bit_turned),
        (GRAPH_FILE, lambda _: None),
        (MANIFEST_FILE, lambda _: b"{"),
        (MANIFEST_FILE, lambda _: b"{}"),
        (MANIFEST_FILE, lambda content: content.replace(b'"proofs"', b'"profs"')),
        (MANIFEST_FILE, lambda content: content.replace(b'"vocab"', b'"vocal"')),
    ],
)
def test_a_damaged_entry_is_made_again(name, damaged, stock, tmp_path, caplog):
    first = compile_lm(stock, "fp32", tmp_path, CPU)
    directory = first.path.parent
    content = {path.name: path.read_bytes() for path in directory.iterdir()}
    if (new := damaged(content[name])) is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(new)
    assert compile_lm(stock, "fp32", tmp_path, CPU) == first
    assert "making it again" in caplog.text
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == content
    assert list(directory.parent.iterdir()) == [directory]


def test_a_changed_source_is_compiled_anew_and_the_old_forgotten(tmp_path):
    cache = tmp_path / "cache"
    first = compile_lm(write_plain(MODEL, Form(), tmp_path), "fp32", cache, CPU)
    source = write_plain(random_model(TINY, seed=1), Form(), tmp_path)
    second = compile_lm(source, "fp32", cache, CPU)
    assert second.path != first.path
    assert [entry / GRAPH_FILE for entry in (cache / DIRECTORY).iterdir()] == [second.path]


def test_a_new_version_of_the_compiler_compiles_anew(stock, tmp_path, monkeypatch):
    first = compile_lm(stock, "fp32", tmp_path, CPU)
    monkeypatch.setattr(compiler, "VERSION", compiler.VERSION + 1)
    assert compile_lm(stock, "fp32", tmp_path, CPU).path != first.path


def test_a_full_disk_leaves_the_stock_graph_and_nothing_else(stock, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiler, "write", full)
    result = compile_lm(stock, "fp32", tmp_path, CPU)
    assert result == NotCompiled("could not be written: No space left on device")
    assert not list((tmp_path / DIRECTORY).iterdir())


def test_what_a_killed_process_left_is_removed_in_time(stock, tmp_path, monkeypatch):
    root = tmp_path / DIRECTORY
    old, new = root / ".writing-old", root / ".writing-new"
    old.mkdir(parents=True)
    monkeypatch.setattr(compiled_cache, "STALE_S", -1.0)
    compile_lm(stock, "fp32", tmp_path, CPU)
    assert not old.exists()
    monkeypatch.setattr(compiled_cache, "STALE_S", 3600.0)
    shutil.rmtree(next(root.iterdir()))
    new.mkdir()
    compile_lm(stock, "fp32", tmp_path, CPU)
    assert new.exists()


def test_progress_runs_from_nothing_to_all(stock, tmp_path):
    told = []
    compile_lm(
        stock, "fp32", tmp_path, CPU, progress=lambda done, stage: told.append((done, stage))
    )
    done = [share for share, _ in told]
    assert done[0] == 0
    assert done[-1] == 1
    assert done == sorted(done)


def test_the_manifest_holds_the_proof(stock, tmp_path):
    result = compile_lm(stock, "fp32", tmp_path, CPU)
    manifest = json.loads((result.path.parent / MANIFEST_FILE).read_text())
    assert manifest["proofs"]["exact"]["worst"] == result.exact.worst


def test_a_missing_sidecar_is_said(tmp_path):
    source = write_plain(MODEL, Form(), tmp_path)
    (tmp_path / "language_model.onnx_data").unlink()
    result = compile_lm(source, "fp32", tmp_path / "cache", CPU)
    assert isinstance(result, NotCompiled)


def test_a_graph_that_cannot_run_is_refused(stock, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no kernel\nand a long story")

    monkeypatch.setattr(compiler, "stock_trial", broken)
    result = compile_lm(stock, "fp32", tmp_path, CPU)
    assert result == NotCompiled("the proof broke off: no kernel")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_form_for_a_gpu_computes_in_half_precision(precision, tmp_path):
    """Runs on a CPU, which has slow kernels for it."""
    source = write_plain(MODEL, Form(precision), tmp_path)
    recipe = default_options("cuda", precision)
    result = compile_lm(source, precision, tmp_path / "cache", CPU, options=recipe)
    assert isinstance(result, CompiledGraph)
    session = open_session(result.path, CPU)
    assert {i.type for i in session.get_inputs() if i.name.startswith("past.")} == {
        "tensor(float16)"
    }
    assert session.get_outputs()[0].shape[1] % 8 == 0
    assert result.exact.worst < EXACT_TOLERANCE["fp16"]
