"""Rewrites a SNAC decoder's graph: noise comes in; blocks are cropped, or go on from before."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from chatterbox.compile.decoder.graph_edit import NotSplittable, cut_out, index, stored_values
from chatterbox.compile.decoder.random_ops import RANDOM_OPS
from chatterbox.runtime.decoder.graph_io import RandomOp
from chatterbox.runtime.decoder.snac import BLOCKS, crop_name, noise_name
from chatterbox.runtime.decoder.snac_carry import given_name, start_name, told_name

END = 2**62
AXIS = 2


def draws_in_single(model: onnx.ModelProto) -> None:
    """Have draws in half precision, for which a CPU has no kernel, rounded to it afterwards."""
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    half = {v.name for v in known if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes = []
    for node in model.graph.node:
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        if node.op_type in RANDOM_OPS and node.output[0] in half:
            nodes[-1].output[0] = single = f"{node.output[0]}.single"
            _set(nodes[-1], {**_attributes(node), "dtype": TensorProto.FLOAT})
            nodes.append(helper.make_node("Cast", [single], node.output, to=TensorProto.FLOAT16))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def with_noise(published: onnx.ModelProto, draws: Sequence[RandomOp]) -> onnx.ModelProto:
    """A graph that is given what it drew, in blocks' order."""
    model = onnx.ModelProto()
    model.CopyFrom(published)
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
    for node in edit.originals:
        if node.output[0] in ups:
            block = ups.index(node.output[0])
            start, end = (edit.bound(crop_name(block, side)) for side in ("start", "end"))
            node.input[0] = edit.cut(node.input[0], start, end, f"crop.{block}")
        edit.nodes.append(node)
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
    edit = _Carry(model, folder, kinds or {})
    for node in edit.originals:
        if node.output[0] in ups:
            edit.raise_rate(node, ups.index(node.output[0]))
        elif node.op_type == "Conv" and edit.taps(node) > 1:
            edit.convolve(node)
        else:
            edit.align(node)
    return edit.model(), edit.carried


class _Edit:
    """A graph whose nodes are written again, in order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.originals = [
            onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node
        ]
        self.nodes: list[onnx.NodeProto] = []
        self._inputs = [_any_size(i) for i in model.graph.input]
        self._outputs = [_any_size(o) for o in model.graph.output]
        self._numbers: set[int] = set()

    def model(self) -> onnx.ModelProto:
        """What was written, and no more than leads to its outputs."""
        graph = self._model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        for number in self._numbers:
            tensor = helper.make_tensor(f"number.{number}", TensorProto.INT64, [1], [number])
            graph.initializer.append(tensor)
        return cut_out(self._model, self._inputs, self._outputs)

    def bound(self, name: str) -> str:
        """A new input, i64 [1]."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, [1]))
        return name

    def number(self, value: int) -> str:
        """A constant."""
        self._numbers.add(value)
        return f"number.{value}"

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A new node."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def cut(self, x: str, start: str, end: str, output: str) -> str:
        """Part of the steps of `x`."""
        return self.op("Slice", [x, start, end, self.number(AXIS)], output)


class _Carry(_Edit):
    def __init__(
        self, model: onnx.ModelProto, folder: Path, kinds: Mapping[str, tuple[int, int]]
    ) -> None:
        super().__init__(model)
        self._folder = folder
        self._weights = index(model.graph).initializers
        self._kinds = kinds
        self.carried: list[tuple[str, int]] = []
        self._behind = {i.name: 0 for i in model.graph.input if i.name.startswith("audio_codes")}
        """By how many steps a tensor ends before what its block was given; of tensors of time."""

    def taps(self, node: onnx.NodeProto) -> int:
        """How wide a convolution's kernel is."""
        weight = self._weights.get(node.input[1])
        if weight is None:
            raise NotSplittable(f"the weights of {node.name} are computed")
        return int(weight.dims[2])

    def convolve(self, node: onnx.NodeProto) -> None:
        """A convolution reads steps on both sides: it ends so many earlier."""
        given = _attributes(node)
        reach = (self.taps(node) - 1) // 2 * given.get("dilations", [1])[0]
        behind = self._behind.get(node.input[0])
        keeps_length = given.get("pads") == [reach, reach] and given.get("strides", [1]) == [1]
        if behind is None or not keeps_length:
            raise NotSplittable(f"{node.name} is no convolution that keeps its length")
        node.input[0] = self._joined(node.input[0], 2 * reach, reach)
        self._append(node, {**given, "pads": [0, 0]}, behind + reach)

    def raise_rate(self, node: onnx.NodeProto, block: int) -> None:
        """A transposed convolution, whose kernel is two strides wide: each stride of its output is
        the sum of two matrix products, of a step and of the one before it. (Products read weights
        that were packed beforehand: for few steps they take half the time.)"""
        given, stride = _attributes(node), BLOCKS[block][0]
        fits = given.get("pads") == [stride // 2] * 2 and given.get("group", 1) == 1
        if (
            self.taps(node) != 2 * stride
            or not fits
            or not self._weights.keys() >= {*node.input[1:]}
        ):
            raise NotSplittable(f"{node.name} has another kernel")
        x, made = node.input[0], node.output[0]
        by_step = self.op("Transpose", [self._joined(x, 1, 1)], f"{made}.in", perm=[0, 2, 1])
        kernel = stored_values(self._weights[node.input[1]], self._folder)
        products = []
        for half, (first, end) in enumerate(((1, END), (0, -1))):
            part = kernel[:, :, half * stride : (half + 1) * stride].transpose(0, 2, 1)
            matrix = self._weight(f"{made}.{half}.kernel", part.reshape(len(kernel), -1))
            bounds = [self.number(n) for n in (first, end, 1)]
            steps = self.op("Slice", [by_step, *bounds], f"{made}.{half}.in")
            products.append(self.op("MatMul", [steps, matrix], f"{made}.{half}"))
        shape = self._weight(f"{made}.shape", np.array([1, -1, kernel.shape[1]]))
        together = self.op("Add", products, f"{made}.products")
        steps = self.op("Reshape", [together, shape], f"{made}.steps")
        whole = self.op("Transpose", [steps], f"{made}.whole", perm=[0, 2, 1])
        if len(node.input) > 2:
            bias = stored_values(self._weights[node.input[2]], self._folder)
            whole = self.op(
                "Add", [whole, self._weight(f"{made}.bias", bias[:, None])], f"{made}.all"
            )
        self.cut(whole, self.bound(start_name(block)), self.number(END), made)
        self._behind[made] = 0

    def _weight(self, name: str, values: NDArray[Any]) -> str:
        self._model.graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(values), name)
        )
        return name

    def align(self, node: onnx.NodeProto) -> None:
        """Any other operator takes steps of the same time from all its inputs."""
        known = {n: self._behind[n] for n in node.input if n in self._behind}
        if known and node.op_type != "Shape":
            most = max(known.values())
            node.input[:] = [
                self._delayed(n, most - known[n]) if known.get(n, most) < most else n
                for n in node.input
            ]
            self._behind |= dict.fromkeys(node.output, most)
        self.nodes.append(node)

    def _delayed(self, x: str, steps: int) -> str:
        joined = self._joined(x, steps, 0)
        return self.cut(joined, self.number(0), self.number(-steps), f"{joined}.delayed")

    def _joined(self, x: str, steps: int, at_start: int) -> str:
        """`x` behind what was carried; the last `steps` of both are carried on."""
        place = len(self.carried)
        self.carried.append((x, at_start))
        kind, channels = self._kinds.get(x, (TensorProto.FLOAT, 1))
        given, told = given_name(place), told_name(place)
        dims = [1, channels, f"{given}.steps"]
        self._inputs.append(helper.make_tensor_value_info(given, kind, dims))
        self._outputs.append(
            helper.make_tensor_value_info(told, kind, [1, channels, f"{told}.steps"])
        )
        joined = self.op("Concat", [given, x], f"{given}.joined", axis=AXIS)
        self.cut(joined, self.number(-steps), self.number(END), told)
        return joined

    def _append(self, node: onnx.NodeProto, attributes: Mapping[str, Any], behind: int) -> None:
        _set(node, attributes)
        self.nodes.append(node)
        self._behind[node.output[0]] = behind


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _set(node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())


def _any_size(given: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """The same, with free rows and steps."""
    tensor = given.type.tensor_type
    channels = [1] * (len(tensor.shape.dim) - 2)
    dims = ["batch", *channels, f"{given.name}.steps"]
    return helper.make_tensor_value_info(given.name, tensor.elem_type, dims)
