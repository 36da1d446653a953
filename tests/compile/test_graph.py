"""Tests of reading and rewriting graphs: the order of new nodes, and the removal of unused ones."""

import numpy as np
import onnx
import pytest
from compile.graphs import model_of, run
from onnx import TensorProto, numpy_helper

from chatterbox.compile.graph import EditableGraph, stored_values

CHAIN = """
g (float[n] x) => (float[n] y) <float two = {2.0}, float unread = {3.0}> {
    a = Mul (x, two)
    b = Abs (a)
    dead = Neg (b)
    c = Identity (b)
    y = Add (c, x)
}"""
X = np.array([-1.0, 2.0], np.float32)


def test_new_nodes_take_the_place_of_what_made_the_same():
    model = model_of(CHAIN)
    graph = EditableGraph(model)
    new = graph.new("b")
    new.add("Neg", [new.add("Relu", ["a"], "positive")])
    assert graph.rewrite() == 1
    assert [node.op_type for node in model.graph.node] == ["Mul", "Relu", "Neg", "Identity", "Add"]
    assert [tensor.name for tensor in model.graph.initializer] == ["two"]
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(run(model, {"x": X})[0], X - np.maximum(2 * X, 0))


def test_new_nodes_read_each_other_and_serve_old_ones():
    model = model_of(CHAIN)
    graph = EditableGraph(model)
    late, early = graph.new("late"), graph.new("early")
    graph.producer["y"].input[1] = late.add("Neg", ["early"])
    early.add("Mul", ["x", early.stored("ten", np.float32(10))])
    assert graph.rewrite() == 2
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(run(model, {"x": X})[0], np.abs(2 * X) - 10 * X)


def test_the_runtimes_own_operators_are_declared():
    model = model_of(CHAIN)
    del model.opset_import[1:]
    graph = EditableGraph(model)
    graph.new("b").add("Gelu", ["a"], "", "com.microsoft")
    graph.rewrite()
    assert [known.domain for known in model.opset_import] == ["", "com.microsoft"]


def test_what_is_around_a_tensor():
    graph = EditableGraph(model_of(CHAIN))
    assert graph.split_scale("a") == (2.0, "x")
    assert graph.split_scale("b") == (1.0, "b")
    assert graph.before_casts("c") == "b"
    assert graph.producer_of("b", "Abs") is not None
    assert graph.producer_of("b", "Neg") is None
    assert graph.only_consumer("a", "Abs") is not None
    assert graph.only_consumer("b", "Identity") is None  # Neg reads it too
    assert (graph.scalar("two"), graph.scalar("x")) == (2.0, None)


@pytest.mark.parametrize(("zeros", "known"), [("zeros", True), ("", True), ("made", False)])
def test_blocks_are_known_where_all_they_are_made_of_is_stored(zeros, known):
    model = model_of(f"""
    g (float[n, 32] x) => (float[n, 2] y) {{
        made = Identity (zeros)
        y = com.microsoft.MatMulNBits <K = 32, N = 2, bits = 4, block_size = 32>
            (x, codes, scales, {zeros})
    }}""")
    arrays = {"codes": np.zeros((2, 1, 16), np.uint8), "zeros": np.zeros(2, np.uint8)}
    arrays["scales"] = np.ones(2, np.float32)
    for name, values in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    found = EditableGraph(model).quantized_weight(model.graph.node[1])
    assert (found is not None) is known
    assert found is None or (found.shape, found.scales.shape) == ((32, 2), (2, 1))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT4])
def test_numbers_beside_the_graph_are_those_in_it(kind, tmp_path):
    numbers = np.arange(-4, 4).reshape(2, 4)
    held = onnx.helper.make_tensor("t", kind, numbers.shape, numbers.ravel())
    raw = numpy_helper.from_array(numpy_helper.to_array(held), "t")
    (tmp_path / "weights").write_bytes(b"....." * 4 + raw.raw_data)
    beside = onnx.TensorProto(name="t", data_type=kind, dims=numbers.shape)
    beside.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights", "offset": 20, "length": len(raw.raw_data)}.items():
        beside.external_data.add(key=key, value=str(value))
    for tensor in (held, beside):
        np.testing.assert_array_equal(stored_values(tensor, tmp_path).astype(np.int64), numbers)
