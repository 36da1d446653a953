"""Quantises matrix products with constant weights, and 1-D convolutions, to 8 bits for a CPU.

Weights become int8 with a scale for each output; activations become uint8 with a scale computed in
each call. On CPUs with 8-bit dot products this is about three times as fast as single precision,
and twice as fast as `MatMulNBits`, which is optimised for few rows. onnxruntime's integer
convolutions are slow (`ConvInteger`) or need the range of their output in advance (`QLinearConv`).
A convolution therefore becomes a product of 8-bit input windows with the weights, with a
single-precision result. docs/inside/decoder.md has the measurements.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from chatterbox.compile.graph import MICROSOFT, EditableGraph, ancestors, attributes
from chatterbox.runtime.quantized_weights import Array, Dense, Weight, dense

MIN_WEIGHT_SIZE = 64 * 64
"""For smaller weights, quantising the activations costs more than it saves."""
LEVELS = 127
END = np.iinfo(np.int64).max
PLAIN_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}


def quantize_products(model: onnx.ModelProto, folder: Path) -> int:
    """Quantise products of an activation with a constant matrix; returns how many. `folder` holds
    the external weights."""
    graph = EditableGraph(model, folder)
    stored: dict[str, list[str]] = {}
    for node in graph.of_type("MatMul", "Gemm", "MatMulNBits"):
        name, weight = node.input[1], _weight(node, graph)
        if weight is None:
            continue
        bias, output = _bias(node, weight, graph)
        if name not in stored:
            kinds = zip(("int8", "scales"), _quantize(dense(weight)), strict=True)
            stored[name] = [graph.store(f"{name}/{kind}", values) for kind, values in kinds]
        inputs = [node.input[0], *stored[name], *(["", bias] if bias else [])]
        graph.new(output).add("DynamicQuantizeMatMul", inputs, "", MICROSOFT)
    return graph.rewrite()


def _weight(node: NodeProto, graph: EditableGraph) -> Weight | None:
    """Return the constant matrix of a single-precision product, or None if the product cannot be
    quantised or is too small."""
    if node.op_type == "MatMulNBits":
        blocks = graph.quantized_weight(node)
        return blocks if blocks is not None and blocks.scales.dtype == np.float32 else None
    values, attrs = graph.constant(node.input[1]), attributes(node)
    if node.op_type == "Gemm" and any(attrs.get(n, v) != v for n, v in PLAIN_GEMM.items()):
        return None
    if values is None or values.dtype != np.float32 or values.ndim != 2:
        return None
    matrix = Dense(values.T if attrs.get("transB", 0) else values)
    return matrix if values.size >= MIN_WEIGHT_SIZE else None


def _bias(node: NodeProto, weight: Weight, graph: EditableGraph) -> tuple[str, str]:
    """Return the name of a product's bias ("" if none) and the output after its addition. The
    bias is an input of the node, or a constant row that a following Add adds to the product."""
    product, own = node.output[0], node.input[5 if node.op_type == "MatMulNBits" else 2 :]
    if node.op_type == "Gemm" or any(own):
        return "".join(own), product
    if (add := graph.only_consumer(product, "Add")) is not None:
        row = next((name for name in add.input if name != product), "")
        if row in graph.stored and list(graph.stored[row].dims) == [weight.shape[1]]:
            return row, add.output[0]
    return "", product


def _quantize(matrix: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a matrix [inputs, outputs] as int8 and its scales [outputs]."""
    largest = np.maximum(np.abs(matrix).max(axis=0), np.float32(1e-12))
    scales = (largest / np.float32(LEVELS)).astype(np.float32)
    return np.ascontiguousarray(np.rint(matrix / scales).astype(np.int8)), scales


def quantize_convolutions(model: onnx.ModelProto, folder: Path, exact: Sequence[str] = ()) -> int:
    """Quantise convolutions with constant weights, except those that the tensors in `exact` depend
    on; returns how many. `folder` holds the external weights."""
    graph = EditableGraph(model, folder)
    excluded = {name for node in ancestors(graph.graph, exact)[0] for name in node.output}
    for node in graph.of_type("Conv"):
        if node.output[0] not in excluded and _can_quantize(node, graph):
            _quantize_convolution(node, graph)
    return graph.rewrite()


def _can_quantize(node: NodeProto, graph: EditableGraph) -> bool:
    """Return whether a convolution is one-dimensional with stride 1, explicit padding and a stored
    weight of sufficient size."""
    weight, attrs = graph.stored.get(node.input[1]), attributes(node)
    if weight is None or len(weight.dims) != 3 or weight.data_type != onnx.TensorProto.FLOAT:
        return False
    is_plain = attrs.get("group", 1) == 1 and attrs.get("strides", [1]) == [1]
    has_explicit_pads = attrs.get("auto_pad", b"NOTSET") == b"NOTSET"
    is_large = weight.dims[0] * weight.dims[1] >= MIN_WEIGHT_SIZE
    return bool(is_plain and has_explicit_pads and is_large)


def _quantize_convolution(node: NodeProto, graph: EditableGraph) -> None:
    """Replace `node` by a product of 8-bit windows of its input with its 8-bit weights."""
    new, attrs, kernel = graph.new(node.output[0]), attributes(node), graph.values(node.input[1])
    outputs, _, taps = kernel.shape
    front, back = attrs.get("pads", [0, 0])
    (dilation,) = attrs.get("dilations", [1])
    weight, scales = _quantize(kernel.transpose(2, 1, 0).reshape(-1, outputs))
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
            following = (taps - 1 - tap) * dilation
            begin = new.stored(f"begin{tap}", [tap * dilation])
            end = new.stored(f"end{tap}", [-following if following else END])
            shifted.append(new.add("Slice", [steps, begin, end, axis], f"tap{tap}"))
        steps = new.add("Concat", shifted, "windows", axis=2)
    factors = [steps, new.stored("weight", weight), scale, new.stored("scales", scales), zero]
    bias = ["", node.input[2]] if any(node.input[2:]) else []
    made = new.add("MatMulIntegerToFloat", [*factors, *bias], "by_steps", MICROSOFT)
    new.add("Transpose", [made], perm=[0, 2, 1])
