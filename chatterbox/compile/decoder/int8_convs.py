"""Runs one-dimensional convolutions in 8 bits on a CPU.

The runtime's integer convolutions are slow (`ConvInteger`) or want the range of their output
beforehand (`QLinearConv`). So a window of inputs becomes a row of a matrix, in 8 bits, and the
product with the weights comes out in single precision: only the input is rounded, by a scale found
as it runs. docs/inside/decoder.md has the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from chatterbox.compile.decoder.graph_edit import (
    Index,
    NewNodes,
    before,
    forget_unused,
    index,
    replace_nodes,
    stored_values,
)
from chatterbox.compile.decoder.int8_matmul import LEVELS, MICROSOFT, SMALLEST_WEIGHT, use_microsoft

AXIS = "int8_convs.time_axis"
END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class _Shape:
    """A convolution with stride 1 over [rows, inputs, steps]."""

    taps: int
    dilation: int
    pads: tuple[int, int]


def convs_in_int8(model: onnx.ModelProto, folder: Path, exact: Sequence[str] = ()) -> int:
    """Replace convolutions with constant weights; `folder` holds external weights, and what the
    tensors `exact` are made of stays as it is. Returns how many."""
    graph = model.graph
    known = index(graph)
    kept = {name for node in _makers(graph, exact) for name in node.output}
    remove, insert = [], []
    for node in graph.node:
        shape = _shape(node, known)
        if shape is not None and node.output[0] not in kept:
            remove.append(node)
            insert += _product(graph, node, shape, known, folder)
    if remove:
        graph.initializer.append(numpy_helper.from_array(np.array([1]), AXIS))
        replace_nodes(graph, remove, insert)
        forget_unused(graph)
        use_microsoft(model)
    return len(remove)


def _makers(graph: onnx.GraphProto, tensors: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes of `graph` that `tensors` depend on."""
    return before(graph, tensors)[0] if tensors else []


def _shape(node: onnx.NodeProto, known: Index) -> _Shape | None:
    """What kind of convolution this is; None for one that stays."""
    weight = known.initializers.get(node.input[1]) if node.op_type == "Conv" else None
    if weight is None or len(weight.dims) != 3 or weight.data_type != onnx.TensorProto.FLOAT:
        return None
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    usual = given.get("group", 1) == 1 and list(given.get("strides", [1])) == [1]
    if not usual or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    if weight.dims[0] * weight.dims[1] < SMALLEST_WEIGHT:
        return None
    front, back = given.get("pads", [0, 0])
    return _Shape(weight.dims[2], next(iter(given.get("dilations", [1]))), (front, back))


def _product(
    graph: onnx.GraphProto, node: onnx.NodeProto, shape: _Shape, known: Index, folder: Path
) -> list[onnx.NodeProto]:
    """The nodes that stand for the convolution `node`."""
    new = NewNodes(graph, node.output[0])
    levels, scales = _in_levels(stored_values(known.initializers[node.input[1]], folder))
    small = [new.name(what) for what in ("levels", "scale", "zero")]
    new.nodes.append(helper.make_node("DynamicQuantizeLinear", [node.input[0]], small))
    steps = new.add("Transpose", [small[0]], "steps", perm=[0, 2, 1])
    if any(shape.pads):
        pads = new.stored("pads", [0, shape.pads[0], 0, 0, shape.pads[1], 0])
        steps = new.add("Pad", [steps, pads, small[2]], "padded")
    if shape.taps > 1:
        shifted = []
        for tap in range(shape.taps):
            behind = (shape.taps - 1 - tap) * shape.dilation
            begin = new.stored(f"begin{tap}", [tap * shape.dilation])
            end = new.stored(f"end{tap}", [-behind if behind else END])
            shifted.append(new.add("Slice", [steps, begin, end, AXIS], f"tap{tap}"))
        steps = new.add("Concat", shifted, "windows", axis=2)
    factors = [steps, new.stored("weight", levels), small[1], new.stored("scales", scales)]
    bias = ["", node.input[2]] if len(node.input) > 2 and node.input[2] else []
    made = new.add("MatMulIntegerToFloat", [*factors, small[2], *bias], "by_steps", MICROSOFT)
    new.add("Transpose", [made], perm=[0, 2, 1])
    return new.nodes


def _in_levels(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """[outputs, inputs, taps] → int8 [taps × inputs, outputs] and scales [outputs]."""
    largest = np.maximum(np.abs(weight).max(axis=(1, 2)), np.float32(1e-12))
    scales = (largest / LEVELS).astype(np.float32)
    levels = np.rint(weight / scales[:, None, None]).astype(np.int8)
    return np.ascontiguousarray(levels.transpose(2, 1, 0).reshape(-1, len(scales))), scales
