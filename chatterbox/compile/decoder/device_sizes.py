"""Keeps sizes on the host and numbers on the device, so that a graph copies nothing in between.

onnxruntime makes no CUDA graph of a session that has such copies (Memcpy nodes). Exporters compute
sizes as they go: some are read out of the device (the greatest of the rows' lengths), others, which
the host made of shapes, are multiplied with the device's numbers. What such tensors come to is not
read from the nodes but observed in a few runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from chatterbox.compile.decoder.fit_dims import fit_dims
from chatterbox.compile.decoder.graph_edit import NewNodes, NotSplittable, cut_out, replace_nodes
from chatterbox.compile.decoder.random_ops import RANDOM_OPS
from chatterbox.runtime.decoder.graph_io import LinearDim, ProbeLength
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE

REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
HOST_INPUTS: dict[str, tuple[int, ...]] = {
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Resize": (1, 2, 3),
    "Pad": (1, 2, 3),
    "ConstantOfShape": (0,),
    "If": (0,),
    "Loop": (0, 1),
    **dict.fromkeys(("Reshape", "Expand", "Tile", "TopK", "CumSum", "Split", "OneHot"), (1,)),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Trilu"), (1,)),
    **dict.fromkeys((f"Reduce{kind}" for kind in REDUCTIONS), (1,)),
}
"""Inputs that onnxruntime's CUDA kernels read on the host."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a tensor of one number came to."""

    law: LinearDim
    shape: tuple[int, ...]
    kind: int  # element type


@dataclass(frozen=True, slots=True)
class Crossings:
    """Tensors that cross between host and device, as far as it is known what they come to."""

    sizes: Mapping[str, Size]  # that follow from the length
    constants: Mapping[str, NDArray[Any]]  # the same in every run


@dataclass(frozen=True, slots=True)
class Lengths:
    """Where a graph's length can be read from shapes: tensor and axis."""

    codes: tuple[str, int]  # prompt included
    prompt: tuple[str, int] | None  # mel frames; none: there is no prompt
    per_code: int = 1  # steps of `codes` that are one code


def crossing(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """What goes from host to device, and from device to host. onnxruntime leaves on the host
    whatever is made of shapes alone."""
    graph = model.graph
    stored = {i.name for i in graph.initializer}
    given = {i.name for i in graph.input}
    host: set[str] = set()
    down: set[str] = set()
    up: set[str] = set()
    for node in graph.node:
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


def observe_crossings(
    runs: Mapping[ProbeLength, Mapping[str, NDArray[Any]]], names: Sequence[str]
) -> Crossings:
    """From what the tensors were in runs of different length."""
    sizes: dict[str, Size] = {}
    constants: dict[str, NDArray[Any]] = {}
    for name in names:
        values = [run[name] for run in runs.values()]
        if all(np.array_equal(values[0], other) for other in values[1:]):
            constants[name] = values[0]
        elif all(v.size == 1 and float(v.item()).is_integer() for v in values):
            try:
                (law,) = fit_dims({p: (int(run[name].item()),) for p, run in runs.items()})
            except NotSplittable:
                continue
            kind = int(helper.np_dtype_to_tensor_dtype(values[0].dtype))
            sizes[name] = Size(law, values[0].shape, kind)
    return Crossings(sizes, constants)


def keep_apart(model: onnx.ModelProto, lengths: Lengths, known: Crossings) -> onnx.ModelProto:
    """A copy that copies nothing between host and device, as far as `known` goes. The same numbers
    in another way: a size read out of the device follows from shapes, a constant is stored, and a
    size that the device needs is the sum of so many ones."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for on_host in (True, False):
        down, up = crossing(made)
        nodes: list[onnx.NodeProto] = []
        for name in sorted(up if on_host else down):
            new = NewNodes(made.graph, f"{name}.apart")
            if not on_host and name in known.constants:
                other = new.stored("", known.constants[name])
            elif name in known.sizes:
                size = known.sizes[name]
                number = _from_shapes(new, size.law, lengths) if on_host else _counted(new, name)
                number = new.add("Cast", [number], "number", to=size.kind)
                rank = new.stored("rank", np.array(size.shape, np.int64))
                other = new.add("Reshape", [number, rank])
            else:
                continue
            _read_instead(made.graph, name, other, on_host=on_host)
            nodes += new.nodes
        replace_nodes(made.graph, [], nodes)
        made = cut_out(made, list(made.graph.input), list(made.graph.output))  # without dead nodes
    return made


def _read_instead(graph: onnx.GraphProto, name: str, other: str, *, on_host: bool) -> None:
    """Who reads `name` on the host, or on the device, reads `other`."""
    for node in graph.node:
        needed = HOST_INPUTS.get(node.op_type, ())
        for i, read in enumerate(node.input):
            if read == name and (i in needed) == on_host:
                node.input[i] = other


def _from_shapes(new: NewNodes, law: LinearDim, lengths: Lengths) -> str:
    """`per_code · (codes − prompt) + per_prompt · prompt + fixed`, on the host."""

    def times(place: tuple[str, int], per_code: int, rate: int, what: str) -> str:
        shape = new.add("Shape", [place[0]], f"{what}.shape")
        extent = new.add(
            "Gather", [shape, new.stored(f"{what}.axis", [place[1]])], f"{what}.extent"
        )
        codes = new.add("Div", [extent, new.stored(f"{what}.unit", [per_code])], what)
        return new.add("Mul", [codes, new.stored(f"{what}.rate", [rate])], f"{what}.times")

    made = times(lengths.codes, lengths.per_code, law.per_code, "codes")
    if lengths.prompt is not None:
        rate = law.per_prompt - law.per_code
        prompt = times(lengths.prompt, MEL_FRAMES_PER_CODE, rate, "prompt")
        made = new.add("Add", [made, prompt], "both")
    return new.add("Add", [made, new.stored("fixed", [law.fixed])], "size")


def _counted(new: NewNodes, name: str) -> str:
    """A number of the host's on the device."""
    whole = new.add("Cast", [name], "whole", to=TensorProto.INT64)
    count = new.add("Reshape", [whole, new.stored("flat", [-1])], "count")
    one = helper.make_tensor("", TensorProto.INT64, [1], [1])
    return new.add("ReduceSum", [new.add("ConstantOfShape", [count], "ones", value=one)], "total")
