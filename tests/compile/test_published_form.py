"""Tests that the published form of the language model is recognised, proven, and of equal size."""

import onnx
import pytest

from chatterbox.compile.lm.compiler import EXACT_TOLERANCE, CompiledGraph, compile_lm
from chatterbox.hub.files import PRECISIONS
from chatterbox.runtime.sessions import SessionSettings
from tools.stock_forms.convert import convert
from tools.stock_forms.genai import genai_graph, write_genai
from tools.stock_forms.weights import TURBO, Size, blank_model, random_model

CPU = SessionSettings("cpu", 1, {})
TINY = Size(layers=2, heads=2, head_dim=32, inner=128, vocab=83, positions=64)
MODEL = random_model(TINY)

PUBLISHED_BYTES = {  # of the graph, which names made up here leave near; of the sidecar, exactly
    "fp32": (207_266, 1_269_724_812),
    "fp16": (209_456, 634_862_406),
    "q8": (279_670, 367_962_860),
    "q4": (274_572, 204_456_572),
    "q4f16": (276_803, 183_981_430),
}
GRAPH_SIZE_TOLERANCE = 0.01


@pytest.mark.parametrize("precision", PRECISIONS)
def test_full_size_files_are_as_large_as_the_published_ones(precision):
    made = genai_graph(blank_model(TURBO), precision)
    graph, sidecar = PUBLISHED_BYTES[precision]
    assert made.sidecar_bytes == sidecar
    assert len(made.model.SerializeToString()) == pytest.approx(graph, rel=GRAPH_SIZE_TOLERANCE)


def test_the_graph_is_the_one_that_was_inferred():
    graph = genai_graph(blank_model(TURBO), "fp32").model.graph
    assert (len(graph.node), len(graph.initializer)) == (397, 389)
    blocks = [n.op_type for n in genai_graph(blank_model(TURBO), "q4f16").model.graph.node]
    assert blocks.count("MatMulNBits") == 145
    assert blocks.count("GroupQueryAttention") == 24


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_is_compiled_in_every_precision(precision, tmp_path):
    source = write_genai(MODEL, precision, tmp_path)
    onnx.checker.check_model(str(source))
    result = compile_lm(source, precision, tmp_path / "cache", CPU)
    assert isinstance(result, CompiledGraph), result
    half = precision in ("fp16", "q4f16")
    assert result.exact.worst < EXACT_TOLERANCE["fp16" if half else "fp32"] / 3


@pytest.mark.parametrize("precision", ["fp16", "q8", "q4", "q4f16"])
def test_public_tools_make_the_same_of_its_fp32(precision, tmp_path):
    """Compare tensors of two quantisers."""
    ours = write_genai(MODEL, precision, tmp_path)
    (tmp_path / "theirs").mkdir()
    source = write_genai(MODEL, "fp32", tmp_path)
    theirs = convert(source, precision, tmp_path / "theirs")
    sizes = [path.with_name(f"{path.name}_data").stat().st_size for path in (ours, theirs)]
    inline = [
        tensor
        for tensor in onnx.load(str(theirs), load_external_data=False).graph.initializer
        if tensor.data_location != onnx.TensorProto.EXTERNAL
    ]
    assert sizes[0] == sizes[1] + sum(len(tensor.raw_data) for tensor in inline)
