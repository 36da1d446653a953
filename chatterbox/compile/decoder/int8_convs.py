"""Runs one-dimensional convolutions in 8 bits on a CPU.

The runtime's integer convolutions are slow (`ConvInteger`) or want the range of their output
beforehand (`QLinearConv`). So a window of inputs becomes a row of a matrix, in 8 bits, and the
product with the weights comes out in single precision: only the input is rounded, by a scale found
as it runs. docs/decoder.md has the figures.
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
    output = node.output[0]

    def part(what: str) -> str:
        return f"{output}.{what}"

    def constant(what: str, values: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(values, part(what)))
        return part(what)

    def make(kind: str, inputs: list[str], outputs: list[str], **more: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, outputs, name=f"{outputs[0]}/{kind}", **more)

    levels, scales = _in_levels(stored_values(known.initializers[node.input[1]], folder))
    small = [part("levels"), part("scale"), part("zero")]
    nodes = [
        make("DynamicQuantizeLinear", [node.input[0]], small),
        make("Transpose", [small[0]], [part("steps")], perm=[0, 2, 1]),
    ]
    steps = part("steps")
    if any(shape.pads):
        front, back = shape.pads
        pads = constant("pads", np.array([0, front, 0, 0, back, 0]))
        nodes.append(make("Pad", [steps, pads, small[2]], [part("padded")]))
        steps = part("padded")
    rows = steps
    if shape.taps > 1:
        shifted = []
        for tap in range(shape.taps):
            behind = (shape.taps - 1 - tap) * shape.dilation
            begin = constant(f"begin{tap}", np.array([tap * shape.dilation]))
            end = constant(f"end{tap}", np.array([-behind if behind else END]))
            shifted.append(part(f"tap{tap}"))
            nodes.append(make("Slice", [steps, begin, end, AXIS], [shifted[-1]]))
        rows = part("windows")
        nodes.append(make("Concat", shifted, [rows], axis=2))
    factors = [rows, constant("weight", levels), small[1], constant("scales", scales), small[2]]
    bias = ["", node.input[2]] if len(node.input) > 2 and node.input[2] else []
    made = [part("by_steps")]
    nodes.append(make("MatMulIntegerToFloat", factors + bias, made, domain=MICROSOFT))
    nodes.append(make("Transpose", made, [output], perm=[0, 2, 1]))
    return nodes


def _in_levels(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """[outputs, inputs, taps] → int8 [taps × inputs, outputs] and scales [outputs]."""
    largest = np.maximum(np.abs(weight).max(axis=(1, 2)), np.float32(1e-12))
    scales = (largest / LEVELS).astype(np.float32)
    levels = np.rint(weight / scales[:, None, None]).astype(np.int8)
    return np.ascontiguousarray(levels.transpose(2, 1, 0).reshape(-1, len(scales))), scales
