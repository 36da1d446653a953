"""Rewrites a graph so that a GPU runs it without copies between host and device.

onnxruntime makes no CUDA graph of a session that has such copies (Memcpy nodes). Exporters compute
sizes as they go: some are read out of the device (the greatest of the rows' lengths), others, which
the host made of shapes, are multiplied with the device's numbers. What such tensors come to is not
read from the nodes but observed in a few runs.
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
    NotSplittable,
    attributes,
    copied,
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
"""Inputs that onnxruntime's CUDA kernels read on the host."""


@dataclass(frozen=True, slots=True)
class Crossings:
    """Tensors that cross between host and device, as far as it is known what they come to."""

    sizes: Mapping[str, tuple[LinearDim, Array]]  # one number, by the length; and one such tensor
    constants: Mapping[str, Array]  # the same in every run


Extent = tuple[str, int, int]
"""Where a graph's length can be read from a shape: tensor, axis, and steps that are one code."""


def crossing(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """What goes from host to device, and from device to host. onnxruntime leaves on the host
    whatever is made of shapes alone."""
    stored = {i.name for i in model.graph.initializer}
    given = {i.name for i in model.graph.input}
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
            up |= {name for i, name in inputs if i in needed and name not in host | given}
    return down, up


def observe_crossings(runs: Mapping[ProbeLength, Feeds], names: Sequence[str]) -> Crossings:
    """From what the tensors were in runs of different length."""
    sizes, constants = {}, {}
    for name in names:
        values = {length: run[name] for length, run in runs.items()}
        first, *others = values.values()
        if all(np.array_equal(first, other) for other in others):
            constants[name] = first
        elif all(v.size == 1 and float(v.item()).is_integer() for v in values.values()):
            try:
                (law,) = fit_dims({length: (int(v.item()),) for length, v in values.items()})
            except NotSplittable:
                continue
            sizes[name] = law, first
    return Crossings(sizes, constants)


def keep_apart(
    model: onnx.ModelProto, known: Crossings, codes: Extent, prompt: Extent | None = None
) -> onnx.ModelProto:
    """A copy that copies nothing between host and device, as far as `known` goes. The same numbers
    in another way: a size read out of the device follows from shapes (of `codes`, those of a
    `prompt` included), a constant is stored, and a size that the device needs is the sum of so many
    ones."""
    made = copied(model)
    for on_host in (True, False):
        down, up = crossing(made)
        graph = EditableGraph(made)
        for name in sorted(up if on_host else down):
            new = graph.new(f"{name}.apart")
            if not on_host and name in known.constants:
                other = new.stored("", known.constants[name])
            elif name in known.sizes:
                law, like = known.sizes[name]
                number = _from_shapes(new, law, codes, prompt) if on_host else _counted(new, name)
                number = new.add("Cast", [number], "number", to=element_type(like))
                rank = new.stored("rank", np.array(like.shape, np.int64))
                other = new.add("Reshape", [number, rank])
            else:
                continue
            for node in graph.readers[name]:  # on the host, or on the device
                needed = HOST_INPUTS.get(node.op_type, ())
                for i, read in enumerate(node.input):
                    if read == name and (i in needed) == on_host:
                        node.input[i] = other
        graph.rewrite()
    return made


def _from_shapes(new: NewNodes, law: LinearDim, codes: Extent, prompt: Extent | None) -> str:
    """`per_code · (codes − prompt) + per_prompt · prompt + fixed`, on the host."""

    def times(place: Extent, rate: int, what: str) -> str:
        tensor, axis, per_code = place
        stored = {
            name: new.stored(f"{what}.{name}", [number])
            for name, number in (("axis", axis), ("unit", per_code), ("rate", rate))
        }
        shape = new.add("Shape", [tensor], f"{what}.shape")
        extent = new.add("Gather", [shape, stored["axis"]], f"{what}.extent")
        count = new.add("Div", [extent, stored["unit"]], what)
        return new.add("Mul", [count, stored["rate"]], f"{what}.times")

    made = times(codes, law.per_code, "codes")
    if prompt is not None:
        behind = times(prompt, law.per_prompt - law.per_code, "prompt")
        made = new.add("Add", [made, behind], "both")
    return new.add("Add", [made, new.stored("fixed", [law.fixed])], "size")


def _counted(new: NewNodes, name: str) -> str:
    """A number of the host's on the device."""
    whole = new.add("Cast", [name], "whole", to=TensorProto.INT64)
    count = new.add("Reshape", [whole, new.stored("flat", [-1])], "count")
    one = helper.make_tensor("", TensorProto.INT64, [1], [1])
    return new.add("ReduceSum", [new.add("ConstantOfShape", [count], "ones", value=one)], "total")


def stft_as_convolution(model: onnx.ModelProto, folder: Path) -> int:
    """Write every STFT whose step, window and length are stored and whose signal is real as a
    convolution, which it is; returns how many. Exact but for rounding. `folder` holds the file's
    weights. onnxruntime has no CUDA kernel of the operator."""
    graph = EditableGraph(model, folder)
    for node in graph.of_type("STFT"):
        signal, step, window, length = (*node.input, "", "")[:4]
        if any(name and name not in graph.stored for name in (step, window, length)):
            continue
        size = int(graph.values(length).item()) if length else len(graph.values(window))
        shape = graph.values(window) if window else np.ones(size, np.float32)
        bins = size // 2 + 1 if attributes(node).get("onesided", 1) else size
        turns = np.outer(np.arange(bins), np.arange(size)) % size * (2 * np.pi / size)
        parts = np.stack([np.cos(turns), -np.sin(turns)], axis=1) * shape  # [bins, 2, size]
        kernel = parts.reshape(2 * bins, 1, size).astype(shape.dtype)
        new = graph.new(node.output[0])
        row = new.add("Reshape", [signal, new.stored("one.channel", [0, 1, -1])], "row")
        hop = [int(graph.values(step).item())]
        made = new.add("Conv", [row, new.stored("kernel", kernel)], "parts", strides=hop)
        turned = new.add("Transpose", [made], "frames", perm=[0, 2, 1])
        new.add("Reshape", [turned, new.stored("bins", [0, 0, bins, 2])])
    return graph.rewrite()
