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
from onnx import TensorProto, helper, numpy_helper

from chatterbox.compile.decoder.errors import NotSplittable
from chatterbox.compile.decoder.fit_dims import fit_dims
from chatterbox.compile.decoder.graph_edit import cut_out, replace_nodes
from chatterbox.compile.decoder.random_ops import RANDOM_OPS
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE
from chatterbox.runtime.decoder.shape_laws import LinearDim, ProbeLength

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
    edit = _Edit(made)
    for name in sorted(crossing(made)[1] & known.sizes.keys()):
        edit.replace(name, edit.from_shapes(name, known.sizes[name], lengths), on_host=True)
    made = edit.done()
    edit = _Edit(made)
    for name in sorted(crossing(made)[0]):
        if name in known.constants:
            edit.replace(name, edit.stored(f"{name}~", known.constants[name]), on_host=False)
        elif name in known.sizes:
            edit.replace(name, edit.counted(name, known.sizes[name]), on_host=False)
    return edit.done()


class _Edit:
    """Has readers of a tensor read another, made by new nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model, self._graph = model, model.graph
        self._new: list[onnx.NodeProto] = []

    def done(self) -> onnx.ModelProto:
        """The model, without what nobody reads any more."""
        replace_nodes(self._graph, [], self._new)
        return cut_out(self._model, list(self._graph.input), list(self._graph.output))

    def stored(self, name: str, values: NDArray[Any]) -> str:
        """A constant."""
        if all(name != i.name for i in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def replace(self, name: str, other: str, *, on_host: bool) -> None:
        """Who reads `name` on the host, or on the device, reads `other`."""
        for node in self._graph.node:
            needed = HOST_INPUTS.get(node.op_type, ())
            for i, read in enumerate(node.input):
                if read == name and (i in needed) == on_host:
                    node.input[i] = other

    def _node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        node = helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes)
        self._new.append(node)
        return output

    def _as_was(self, name: str, made: str, size: Size) -> str:
        """In the element type and shape of `name`."""
        shape = self.stored(f"{name}~rank", np.array(size.shape, np.int64))
        cast = self._node("Cast", [made], f"{name}~cast", to=size.kind)
        return self._node("Reshape", [cast, shape], f"{name}~")

    def from_shapes(self, name: str, size: Size, lengths: Lengths) -> str:
        """`per_code · (codes − prompt) + per_prompt · prompt + fixed`, on the host."""

        def number(value: int) -> str:
            return self.stored(f"~{value}", np.array([value], np.int64))

        def extent(place: tuple[str, int], per_code: int, what: str) -> str:
            shape = self._node("Shape", [place[0]], f"{name}~{what}.shape")
            size = self._node("Gather", [shape, number(place[1])], f"{name}~{what}.size")
            return self._node("Div", [size, number(per_code)], f"{name}~{what}")

        law, made = size.law, extent(lengths.codes, lengths.per_code, "codes")
        made = self._node("Mul", [made, number(law.per_code)], f"{name}~by_code")
        if lengths.prompt is not None:
            prompt = extent(lengths.prompt, MEL_FRAMES_PER_CODE, "prompt")
            rate = number(law.per_prompt - law.per_code)
            prompt = self._node("Mul", [prompt, rate], f"{name}~by_prompt")
            made = self._node("Add", [made, prompt], f"{name}~both")
        made = self._node("Add", [made, number(law.fixed)], f"{name}~whole")
        return self._as_was(name, made, size)

    def counted(self, name: str, size: Size) -> str:
        """A number of the host's on the device."""
        flat = self.stored("~flat", np.array([-1], np.int64))
        whole = self._node("Cast", [name], f"{name}~whole", to=TensorProto.INT64)
        count = self._node("Reshape", [whole, flat], f"{name}~count")
        one = helper.make_tensor("", TensorProto.INT64, [1], [1])
        ones = self._node("ConstantOfShape", [count], f"{name}~ones", value=one)
        return self._as_was(name, self._node("ReduceSum", [ones], f"{name}~total"), size)
