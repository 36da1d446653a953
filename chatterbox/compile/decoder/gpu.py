"""Rewrites a graph so that a GPU runs it without copies between host and device.

onnxruntime cannot capture a CUDA graph of a session with such copies (Memcpy nodes). Exported
graphs compute sizes: some are read from the device, such as the longest row's length, and others
are computed from shapes on the host and then used on the device. The values of these tensors are
observed in a few runs instead of derived from the nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.decoder.random_ops import RANDOM_OPS
from chatterbox.compile.decoder.split import fit_dims
from chatterbox.compile.graph import (
    EditableGraph,
    NewNodes,
    UnsupportedGraph,
    attributes,
    copy_model,
    element_type,
)
from chatterbox.runtime.decoder.graph_io import Array, Feeds, LinearDim, ProbeLength

REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
SECOND = ("Reshape", "Expand", "Tile", "TopK", "CumSum", "Split", "OneHot", "Squeeze", "Unsqueeze")
HOST_INPUTS: dict[str, tuple[int, ...]] = {
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Resize": (1, 2, 3),
    "Pad": (1, 2, 3),
    "ConstantOfShape": (0,),
    "If": (0,),
    "Loop": (0, 1),
    **dict.fromkeys((*SECOND, "Trilu", *(f"Reduce{kind}" for kind in REDUCTIONS)), (1,)),
}
"""Indices of inputs that onnxruntime's CUDA kernels read on the host, by operator."""


@dataclass(frozen=True, slots=True)
class Crossings:
    """Tensors copied between host and device whose values are known from the probe runs."""

    sizes: Mapping[str, tuple[LinearDim, Array]]  # scalars linear in the length, with an example
    constants: Mapping[str, Array]  # the same in every run


Extent = tuple[str, int, int]
"""A dimension proportional to a graph's length: tensor, axis, and steps per code."""


def find_crossings(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """Return the tensors copied from host to device and those copied from device to host.
    onnxruntime computes values that depend only on shapes on the host."""
    stored = {i.name for i in model.graph.initializer}
    graph_inputs = {i.name for i in model.graph.input}
    host: set[str] = set()
    down: set[str] = set()
    up: set[str] = set()
    for node in model.graph.node:
        inputs = [(i, name) for i, name in enumerate(node.input) if name and name not in stored]
        needed = HOST_INPUTS.get(node.op_type, ())
        of_sizes = inputs and all(name in host and i not in needed for i, name in inputs)
        if of_sizes or node.op_type in ("Shape", "Size"):
            host |= set(node.output)
        elif not inputs and node.op_type not in RANDOM_OPS:
            stored |= set(node.output)
        else:
            down |= {name for i, name in inputs if name in host and i not in needed}
            up |= {name for i, name in inputs if i in needed and name not in host | graph_inputs}
    return down, up


def observe_crossings(runs: Mapping[ProbeLength, Feeds], names: Sequence[str]) -> Crossings:
    """Determine the values of `names` from runs of different length."""
    sizes, constants = {}, {}
    for name in names:
        values = {length: run[name] for length, run in runs.items()}
        first, *others = values.values()
        if all(np.array_equal(first, other) for other in others):
            constants[name] = first
        elif all(v.size == 1 and float(v.item()).is_integer() for v in values.values()):
            try:
                (dim,) = fit_dims({length: (int(v.item()),) for length, v in values.items()})
            except UnsupportedGraph:
                continue
            sizes[name] = dim, first
    return Crossings(sizes, constants)


def remove_copies(
    model: onnx.ModelProto, known: Crossings, codes: Extent, prompt: Extent | None = None
) -> onnx.ModelProto:
    """Return a copy of `model` without the copies between host and device that `known` covers.

    For the host, a size is computed from the shapes of `codes`, which include the prompt, and of
    `prompt`. For the device, a constant is stored, and a size is computed by summing a tensor of
    that many ones. Results are unchanged.
    """
    copy = copy_model(model)
    for on_host in (True, False):
        down, up = find_crossings(copy)
        graph = EditableGraph(copy)
        for name in sorted(up if on_host else down):
            new = graph.new(f"{name}.apart")
            if not on_host and name in known.constants:
                other = new.stored("", known.constants[name])
            elif name in known.sizes:
                dim, example = known.sizes[name]
                number = _from_shapes(new, dim, codes, prompt) if on_host else _on_device(new, name)
                number = new.add("Cast", [number], "number", to=element_type(example))
                rank = new.stored("rank", np.array(example.shape, np.int64))
                other = new.add("Reshape", [number, rank])
            else:
                continue
            for node in graph.consumers[name]:
                needed = HOST_INPUTS.get(node.op_type, ())
                for i, read in enumerate(node.input):
                    if read == name and (i in needed) == on_host:
                        node.input[i] = other
        graph.rewrite()
    return copy


def _from_shapes(new: NewNodes, dim: LinearDim, codes: Extent, prompt: Extent | None) -> str:
    """Compute `per_code · (codes − prompt) + per_prompt · prompt + fixed` on the host."""

    def times(extent: Extent, rate: int, suffix: str) -> str:
        tensor, axis, per_code = extent
        stored = {
            name: new.stored(f"{suffix}.{name}", [number])
            for name, number in (("axis", axis), ("unit", per_code), ("rate", rate))
        }
        shape = new.add("Shape", [tensor], f"{suffix}.shape")
        steps = new.add("Gather", [shape, stored["axis"]], f"{suffix}.extent")
        count = new.add("Div", [steps, stored["unit"]], suffix)
        return new.add("Mul", [count, stored["rate"]], f"{suffix}.times")

    total = times(codes, dim.per_code, "codes")
    if prompt is not None:
        correction = times(prompt, dim.per_prompt - dim.per_code, "prompt")
        total = new.add("Add", [total, correction], "both")
    return new.add("Add", [total, new.stored("fixed", [dim.fixed])], "size")


def _on_device(new: NewNodes, name: str) -> str:
    """Compute the host scalar `name` on the device, by summing a tensor of that many ones."""
    whole = new.add("Cast", [name], "whole", to=TensorProto.INT64)
    count = new.add("Reshape", [whole, new.stored("flat", [-1])], "count")
    one = helper.make_tensor("", TensorProto.INT64, [1], [1])
    return new.add("ReduceSum", [new.add("ConstantOfShape", [count], "ones", value=one)], "total")


def stft_as_convolution(model: onnx.ModelProto, folder: Path) -> int:
    """Replace every STFT of a real signal with stored step, window and length by an equivalent
    convolution, because onnxruntime has no CUDA kernel for STFT. `folder` holds the weights.
    Returns the number of replacements. Exact except for rounding."""
    graph = EditableGraph(model, folder)
    for node in graph.of_type("STFT"):
        signal, step, window, length = (*node.input, "", "")[:4]
        if any(name and name not in graph.stored for name in (step, window, length)):
            continue
        size = int(graph.values(length).item()) if length else len(graph.values(window))
        shape = graph.values(window) if window else np.ones(size, np.float32)
        bins = size // 2 + 1 if attributes(node).get("onesided", 1) else size
        angles = np.outer(np.arange(bins), np.arange(size)) % size * (2 * np.pi / size)
        parts = np.stack([np.cos(angles), -np.sin(angles)], axis=1) * shape  # [bins, 2, size]
        kernel = parts.reshape(2 * bins, 1, size).astype(shape.dtype)
        new = graph.new(node.output[0])
        row = new.add("Reshape", [signal, new.stored("one.channel", [0, 1, -1])], "row")
        hop = [int(graph.values(step).item())]
        spectrum = new.add("Conv", [row, new.stored("kernel", kernel)], "parts", strides=hop)
        frames = new.add("Transpose", [spectrum], "frames", perm=[0, 2, 1])
        new.add("Reshape", [frames, new.stored("bins", [0, 0, bins, 2])])
    return graph.rewrite()
