"""Runs products with constant matrices, and one-dimensional convolutions, in 8 bits on a CPU.

Weights become int8 with one scale for each output, activations uint8 with one scale for each call,
found as it runs. On CPUs with 8-bit dot products this is about three times as fast as single
precision, and twice as fast as `MatMulNBits`, which is made for few rows. The runtime's integer
convolutions are slow (`ConvInteger`) or want the range of their output beforehand (`QLinearConv`):
so a window of inputs becomes a row of a matrix, in 8 bits, and the product with the weights comes
out in single precision. docs/inside/decoder.md has the figures.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from chatterbox.compile.graph import MICROSOFT, EditableGraph, attributes, before
from chatterbox.runtime.quantized_weights import Array, Dense, Weight, dense

SMALLEST_WEIGHT = 64 * 64
"""Smaller products are not worth the quantising of their activations."""
LEVELS = 127
END = np.iinfo(np.int64).max
PLAIN_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}


def products_in_int8(model: onnx.ModelProto, folder: Path) -> int:
    """Replace products of an activation with a constant matrix; `folder` holds external weights.
    Returns how many."""
    graph = EditableGraph(model, folder)
    stored: dict[str, list[str]] = {}
    for node in graph.of_type("MatMul", "Gemm", "MatMulNBits"):
        name, weight = node.input[1], _weight(node, graph)
        if weight is None:
            continue
        bias, output = _bias(node, weight, graph)
        if name not in stored:
            kinds = zip(("int8", "scales"), _in_levels(dense(weight)), strict=True)
            stored[name] = [graph.store(f"{name}/{kind}", values) for kind, values in kinds]
        inputs = [node.input[0], *stored[name], *(["", bias] if bias else [])]
        graph.new(output).add("DynamicQuantizeMatMul", inputs, "", MICROSOFT)
    return graph.rewrite()


def _weight(node: NodeProto, graph: EditableGraph) -> Weight | None:
    """The constant matrix of a product of single precision; None where that is not worth it."""
    if node.op_type == "MatMulNBits":
        blocks = graph.blocks(node)
        return blocks if blocks is not None and blocks.scales.dtype == np.float32 else None
    values, given = graph.constant(node.input[1]), attributes(node)
    if node.op_type == "Gemm" and any(given.get(n, v) != v for n, v in PLAIN_GEMM.items()):
        return None
    if values is None or values.dtype != np.float32 or values.ndim != 2:
        return None
    matrix = Dense(values.T if given.get("transB", 0) else values)
    return matrix if values.size >= SMALLEST_WEIGHT else None


def _bias(node: NodeProto, weight: Weight, graph: EditableGraph) -> tuple[str, str]:
    """The bias of a product and what both make: its own, or a constant row that is added behind it
    if nothing else reads the product."""
    product, own = node.output[0], node.input[5 if node.op_type == "MatMulNBits" else 2 :]
    if node.op_type == "Gemm" or any(own):
        return "".join(own), product
    if (add := graph.reader(product, "Add")) is not None:
        row = next((name for name in add.input if name != product), "")
        if row in graph.stored and list(graph.stored[row].dims) == [weight.shape[1]]:
            return row, add.output[0]
    return "", product


def _in_levels(matrix: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """[inputs, outputs] as int8, and scales [outputs]."""
    largest = np.maximum(np.abs(matrix).max(axis=0), np.float32(1e-12))
    scales = (largest / np.float32(LEVELS)).astype(np.float32)
    return np.ascontiguousarray(np.rint(matrix / scales).astype(np.int8)), scales


def convs_in_int8(model: onnx.ModelProto, folder: Path, exact: Sequence[str] = ()) -> int:
    """Replace convolutions with constant weights; `folder` holds external weights, and what the
    tensors `exact` are made of stays as it is. Returns how many."""
    graph = EditableGraph(model, folder)
    kept = {name for node in before(graph.graph, exact)[0] for name in node.output}
    for node in graph.of_type("Conv"):
        if node.output[0] not in kept and _is_plain(node, graph):
            _convolve(node, graph)
    return graph.rewrite()


def _is_plain(node: NodeProto, graph: EditableGraph) -> bool:
    """Whether it goes over [rows, inputs, steps] with stride 1, and is worth it."""
    weight, given = graph.stored.get(node.input[1]), attributes(node)
    if weight is None or len(weight.dims) != 3 or weight.data_type != onnx.TensorProto.FLOAT:
        return False
    usual = given.get("group", 1) == 1 and given.get("strides", [1]) == [1]
    padded_as_told = given.get("auto_pad", b"NOTSET") == b"NOTSET"
    return bool(usual and padded_as_told and weight.dims[0] * weight.dims[1] >= SMALLEST_WEIGHT)


def _convolve(node: NodeProto, graph: EditableGraph) -> None:
    """Stand for the convolution `node`."""
    new, given, kernel = graph.new(node.output[0]), attributes(node), graph.values(node.input[1])
    outputs, _, taps = kernel.shape
    front, back = given.get("pads", [0, 0])
    (dilation,) = given.get("dilations", [1])
    weight, scales = _in_levels(kernel.transpose(2, 1, 0).reshape(-1, outputs))
    levels, scale, zero = new.add_many(
        "DynamicQuantizeLinear", node.input[:1], ["levels", "scale", "zero"]
    )
    steps = new.add("Transpose", [levels], "steps", perm=[0, 2, 1])
    if front or back:
        pads = new.stored("pads", [0, front, 0, 0, back, 0])
        steps = new.add("Pad", [steps, pads, zero], "padded")
    if taps > 1:
        shifted, axis = [], graph.store("int8.time_axis", [1])
        for tap in range(taps):
            behind = (taps - 1 - tap) * dilation
            begin = new.stored(f"begin{tap}", [tap * dilation])
            end = new.stored(f"end{tap}", [-behind if behind else END])
            shifted.append(new.add("Slice", [steps, begin, end, axis], f"tap{tap}"))
        steps = new.add("Concat", shifted, "windows", axis=2)
    factors = [steps, new.stored("weight", weight), scale, new.stored("scales", scales), zero]
    bias = ["", node.input[2]] if any(node.input[2:]) else []
    made = new.add("MatMulIntegerToFloat", [*factors, *bias], "by_steps", MICROSOFT)
    new.add("Transpose", [made], perm=[0, 2, 1])
