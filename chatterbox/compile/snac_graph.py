"""Rewrites a SNAC decoder's graph: noise comes in; blocks are cropped, or go on from before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import NodeProto, TensorProto, helper

from chatterbox.compile.decoder.random_ops import RANDOM_OPS
from chatterbox.compile.graph import (
    EditableGraph,
    UnsupportedGraph,
    attributes,
    copy_model,
    remove_dead_nodes,
)
from chatterbox.runtime.decoder.graph_io import RandomOp
from chatterbox.runtime.decoder.snac import BLOCKS, crop_name, noise_name
from chatterbox.runtime.decoder.snac_decoder import given_name, start_name, told_name

END = 2**62
AXIS = 2


def draws_in_single(model: onnx.ModelProto) -> None:
    """Have draws in half precision, for which a CPU has no kernel, rounded to it afterwards."""
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    half = {v.name for v in known if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    graph = EditableGraph(model)
    for node in graph.of_type(*RANDOM_OPS):
        name = node.output[0]
        if name in half:
            _set(node, dtype=TensorProto.FLOAT)
            node.output[0] = f"{name}.single"
            graph.new(name).add("Cast", [node.output[0]], to=TensorProto.FLOAT16)
    graph.rewrite()


def with_noise(published: onnx.ModelProto, draws: Sequence[RandomOp]) -> onnx.ModelProto:
    """A graph that is given what it drew, in blocks' order."""
    model = copy_model(published)
    graph = model.graph
    renamed = {draw.name: noise_name(block) for block, draw in enumerate(draws)}
    for name in renamed.values():
        dims = ["batch", 1, f"{name}.steps"]
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
    for node in [*graph.node]:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.output[0] in renamed:
            graph.node.remove(node)
    return model


def cropped(model: onnx.ModelProto, ups: Sequence[str]) -> onnx.ModelProto:
    """Each block's transposed convolution, named by its output in `ups`, is given a part of what
    the block before made."""
    edit = _Edit(model)
    for block, up in enumerate(ups):
        start, end = (edit.bound(crop_name(block, side)) for side in ("start", "end"))
        node = edit.graph.producer[up]
        node.input[0] = edit.cut(node.input[0], start, end, f"crop.{block}")
    return edit.model()


def carrying(
    model: onnx.ModelProto,
    ups: Sequence[str],
    folder: Path,
    kinds: Mapping[str, tuple[int, int]] | None = None,
) -> tuple[onnx.ModelProto, list[tuple[str, int]]]:
    """A graph that goes on where the call before ended, for one row: what each layer reads of the
    steps before its next ones is an output, and an input of the next call. And of what is carried:
    the tensor of `model` that it is a part of, and its steps at a stream's start. `kinds` are such
    tensors' element types and channels; without them the graph cannot be run."""
    edit = _Edit(model, folder, kinds)
    for node in edit.graph.nodes:
        if node.output[0] in ups:
            edit.raise_rate(node, ups.index(node.output[0]))
        elif node.op_type == "Conv" and edit.taps(node) > 1:
            edit.convolve(node)
        else:
            edit.align(node)
    return edit.model(), edit.carried


class _Edit:
    """A copy of a graph, with free rows and steps, that is being changed."""

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path = Path(),
        kinds: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self._model, self._kinds = copy_model(model), kinds or {}
        self.carried: list[tuple[str, int]] = []
        self._behind = {i.name: 0 for i in model.graph.input if i.name.startswith("audio_codes")}
        """By how many steps a tensor ends before what its block was given; of tensors of time."""
        self.graph = EditableGraph(self._model, folder)
        for declared in (*self._model.graph.input, *self._model.graph.output):
            tensor, name = declared.type.tensor_type, declared.name
            dims = ["batch", *[1] * (len(tensor.shape.dim) - 2), f"{name}.steps"]
            declared.CopyFrom(helper.make_tensor_value_info(name, tensor.elem_type, dims))

    def model(self) -> onnx.ModelProto:
        """What was written, and no more than leads to its outputs."""
        self.graph.rewrite()
        return remove_dead_nodes(self._model)

    def bound(self, name: str) -> str:
        """A new input, i64 [1]."""
        declared = helper.make_tensor_value_info(name, TensorProto.INT64, [1])
        self._model.graph.input.append(declared)
        return name

    def number(self, value: int) -> str:
        """A constant."""
        return self.graph.store(f"number.{value}", [value])

    def cut(self, x: str, start: str, end: str, output: str) -> str:
        """Part of the steps of `x`."""
        return self.graph.new(output).add("Slice", [x, start, end, self.number(AXIS)])

    def taps(self, node: NodeProto) -> int:
        """How wide a convolution's kernel is."""
        weight = self.graph.stored.get(node.input[1])
        if weight is None:
            raise UnsupportedGraph(f"the weights of {node.name} are computed")
        return int(weight.dims[2])

    def convolve(self, node: NodeProto) -> None:
        """A convolution reads steps on both sides: it ends so many earlier."""
        given = attributes(node)
        reach = (self.taps(node) - 1) // 2 * given.get("dilations", [1])[0]
        behind = self._behind.get(node.input[0])
        keeps_length = given.get("pads") == [reach, reach] and given.get("strides", [1]) == [1]
        if behind is None or not keeps_length:
            raise UnsupportedGraph(f"{node.name} is no convolution that keeps its length")
        node.input[0] = self._joined(node.input[0], 2 * reach, reach)
        _set(node, pads=[0, 0])
        self._behind[node.output[0]] = behind + reach

    def raise_rate(self, node: NodeProto, block: int) -> None:
        """A transposed convolution, whose kernel is two strides wide: each stride of its output is
        the sum of two matrix products, of a step and of the one before it. (Products read weights
        that were packed beforehand: for few steps they take half the time.)"""
        given, stride = attributes(node), BLOCKS[block][0]
        fits = given.get("pads") == [stride // 2] * 2 and given.get("group", 1) == 1
        stored = self.graph.stored.keys() >= {*node.input[1:]}
        if self.taps(node) != 2 * stride or not fits or not stored:
            raise UnsupportedGraph(f"{node.name} has another kernel")
        x, made = node.input[0], node.output[0]
        new = self.graph.new(made)
        by_step = new.add("Transpose", [self._joined(x, 1, 1)], "in", perm=[0, 2, 1])
        kernel = self.graph.values(node.input[1])
        products = []
        for half, (first, end) in enumerate(((1, END), (0, -1))):
            part = kernel[:, :, half * stride : (half + 1) * stride].transpose(0, 2, 1)
            matrix = new.stored(f"{half}.kernel", part.reshape(len(kernel), -1))
            bounds = [self.number(n) for n in (first, end, 1)]
            steps = new.add("Slice", [by_step, *bounds], f"{half}.in")
            products.append(new.add("MatMul", [steps, matrix], f"{half}"))
        shape = new.stored("shape", [1, -1, kernel.shape[1]])
        steps = new.add("Reshape", [new.add("Add", products, "products"), shape], "steps")
        whole = new.add("Transpose", [steps], "whole", perm=[0, 2, 1])
        if len(node.input) > 2:
            bias = new.stored("bias", self.graph.values(node.input[2])[:, None])
            whole = new.add("Add", [whole, bias], "all")
        self.cut(whole, self.bound(start_name(block)), self.number(END), made)
        self._behind[made] = 0

    def align(self, node: NodeProto) -> None:
        """Any other operator takes steps of the same time from all its inputs."""
        known = {n: self._behind[n] for n in node.input if n in self._behind}
        if not known or node.op_type == "Shape":
            return
        most = max(known.values())
        for place, name in enumerate(node.input):
            if (short := most - known.get(name, most)) > 0:
                joined = self._joined(name, short, 0)
                bounds = self.number(0), self.number(-short)
                node.input[place] = self.cut(joined, *bounds, f"{joined}.delayed")
        self._behind |= dict.fromkeys(node.output, most)

    def _joined(self, x: str, steps: int, at_start: int) -> str:
        """`x` behind what was carried; the last `steps` of both are carried on."""
        place = len(self.carried)
        self.carried.append((x, at_start))
        kind, channels = self._kinds.get(x, (TensorProto.FLOAT, 1))
        given, told = given_name(place), told_name(place)
        graph = self._model.graph
        for name, declared in ((given, graph.input), (told, graph.output)):
            dims = [1, channels, f"{name}.steps"]
            declared.append(helper.make_tensor_value_info(name, kind, dims))
        joined = self.graph.new(given).add("Concat", [given, x], "joined", axis=AXIS)
        self.cut(joined, self.number(-steps), self.number(END), told)
        return joined


def _set(node: NodeProto, **changed: Any) -> None:
    given = attributes(node) | changed
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(k, v) for k, v in given.items())
