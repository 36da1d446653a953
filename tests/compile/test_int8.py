"""Tests of quantising products and convolutions of every form to 8 bits."""

from typing import Any

import numpy as np
import onnx
import pytest
from compile.graphs import run
from onnx import helper, numpy_helper

from chatterbox.compile.decoder.int8 import quantize_convolutions, quantize_products
from chatterbox.runtime.quantized_weights import Dense
from tools.decoder.graph import FLOAT, Graph
from tools.stock_forms.weights import quantize_weight

# --- 8 bits


def product_model(kind: str, k: int = 96, n: int = 80) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    g = Graph({"p.weight": rng.normal(size=(n, k)), "p.bias": rng.normal(size=n)})
    x = g.input("x", FLOAT, ["t", k])
    if kind == "gemm":
        y = g.op("Gemm", x, g.weight("p.weight"), g.weight("p.bias"), transB=1)
    else:
        y = g.linear(x, "p", bias="biased" in kind)
    g.output(y, "y", FLOAT, ["t", n])
    model = g.model()
    if "blocks" in kind:
        in_4_bits(model, rng.normal(size=(k, n)).astype(np.float32))
    return model


def in_4_bits(model: onnx.ModelProto, matrix: Any) -> None:
    """Replace the graph's product by a MatMulNBits, as in the published q4 files."""
    blocks = quantize_weight(Dense(matrix), 4, 32)
    parts = {"q": blocks.codes, "s": blocks.scales.ravel(), "z": blocks.zero_points.ravel()}
    node = model.graph.node[0]
    product = helper.make_node(
        "MatMulNBits", [node.input[0], *parts], [node.output[0]], domain="com.microsoft",
        K=matrix.shape[0], N=matrix.shape[1], bits=4, block_size=32,
    )  # fmt: skip
    node.CopyFrom(product)
    kept = [i for i in model.graph.initializer if i.dims[:] == [matrix.shape[1]]]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in parts.items())


@pytest.mark.parametrize("kind", ["plain", "biased", "gemm", "blocks", "blocks biased"])
def test_products_of_every_make_run_in_8_bits(kind, tmp_path):
    model = product_model(kind)
    x = np.random.default_rng(1).normal(size=(50, 96)).astype(np.float32)
    exact = run(model, {"x": x})[0]
    assert quantize_products(model, tmp_path) == 1
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["DynamicQuantizeMatMul", "Identity"]
    assert len(model.graph.initializer) == 2 + (kind in ("biased", "gemm", "blocks biased"))
    off = run(model, {"x": x})[0] - exact
    assert np.square(off).mean() < np.square(exact).mean() * 10**-3.5


def test_weights_are_read_from_the_file_beside_the_graph(tmp_path):
    model = product_model("biased")
    x = np.ones((2, 96), np.float32)
    exact = run(model, {"x": x})[0]
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=100)
    referring = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert quantize_products(referring, tmp_path) == 1
    np.testing.assert_allclose(run(referring, {"x": x}, tmp_path)[0], exact, atol=0.3)


def test_small_products_and_half_precision_stay(tmp_path):
    assert quantize_products(product_model("plain", k=16, n=16), tmp_path) == 0
    half = product_model("plain")
    for weight in half.graph.initializer:
        values = numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    assert quantize_products(half, tmp_path) == 0


# --- convolutions in 8 bits


def conv_model(taps: int, *, biased: bool = True, width: int = 64, **how: Any) -> onnx.ModelProto:
    rng = np.random.default_rng(taps)
    kernel = rng.normal(size=(width, width, taps), scale=(taps * width) ** -0.5)
    g = Graph({"c.weight": kernel, "c.bias": rng.normal(size=width)})
    inputs = [g.input("x", FLOAT, ["rows", width, "steps"]), g.weight("c.weight")]
    inputs += [g.weight("c.bias")] if biased else []
    g.output(g.op("Conv", *inputs, **how), "y", FLOAT, ["rows", width, "n"])
    return g.model()


@pytest.mark.parametrize(
    "how",
    [
        {"taps": 1},
        {"taps": 3, "pads": [1, 1]},
        {"taps": 3, "biased": False, "pads": [2, 0]},
        {"taps": 7, "pads": [9, 9], "dilations": [3]},
        {"taps": 4},
    ],
)
def test_convolutions_run_in_8_bits(how, tmp_path):
    model = conv_model(**how)
    x = np.random.default_rng(1).normal(size=(1, 64, 50)).astype(np.float32)
    exact = run(model, {"x": x})[0]
    assert quantize_convolutions(model, tmp_path) == 1
    kinds = {node.op_type for node in model.graph.node}
    assert "MatMulIntegerToFloat" in kinds
    assert "Conv" not in kinds
    made = run(model, {"x": x})[0]
    assert made.shape == exact.shape
    assert np.square(made - exact).mean() < np.square(exact).mean() * 10**-3.5


@pytest.mark.parametrize(
    "how",
    [
        {"taps": 3, "strides": [2]},
        {"taps": 3, "width": 16},
        {"taps": 3, "auto_pad": "SAME_UPPER"},
    ],
)
def test_other_convolutions_stay(how, tmp_path):
    assert quantize_convolutions(conv_model(**how), tmp_path) == 0


def test_what_must_be_exact_stays_exact(tmp_path):
    assert quantize_convolutions(conv_model(3), tmp_path, exact=["y"]) == 0
