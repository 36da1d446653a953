"""Rewrites a SNAC decoder's graph: fp32 noise, cropped blocks, state carried between windows."""

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
from chatterbox.runtime.decoder.snac import BLOCKS, crop_name
from chatterbox.runtime.decoder.snac_decoder import carry_in_name, carry_out_name, start_name

END = 2**62
AXIS = 2


def draw_in_single_precision(model: onnx.ModelProto) -> None:
    """Draw half-precision noise in single precision and cast it, since CPUs have no fp16 kernel."""
    value_info = onnx.shape_inference.infer_shapes(model).graph.value_info
    half = {v.name for v in value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    graph = EditableGraph(model)
    for node in graph.of_type(*RANDOM_OPS):
        name = node.output[0]
        if name in half:
            _set(node, dtype=TensorProto.FLOAT)
            node.output[0] = f"{name}.single"
            graph.new(name).add("Cast", [node.output[0]], to=TensorProto.FLOAT16)
    graph.rewrite()


def crop_blocks(model: onnx.ModelProto, ups: Sequence[str]) -> onnx.ModelProto:
    """Return a copy in which each block reads only a part of the previous block's output, between
    two new inputs. `ups` are the outputs of the blocks' transposed convolutions."""
    edit = _Edit(model)
    for block, up in enumerate(ups):
        start, end = (edit.bound(crop_name(block, side)) for side in ("start", "end"))
        node = edit.graph.producer[up]
        node.input[0] = edit.cut(node.input[0], start, end, f"crop.{block}")
    return edit.model()


def carry_state(
    model: onnx.ModelProto,
    ups: Sequence[str],
    folder: Path,
    kinds: Mapping[str, tuple[int, int]] | None = None,
) -> tuple[onnx.ModelProto, list[tuple[str, int]]]:
    """Return a copy for one row that continues where the previous call ended, and its state
    tensors.

    The last steps that each layer still needs are an output, and an input of the next call. For
    each state, the result lists its source tensor in `model` and its number of steps at a stream's
    start. `kinds` are the element types and channels of these tensors; without them the graph
    cannot run.
    """
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
    """An editable copy of a graph with free numbers of rows and steps."""

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path = Path(),
        kinds: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self._model, self._kinds = copy_model(model), kinds or {}
        self.carried: list[tuple[str, int]] = []
        self._lag = {i.name: 0 for i in model.graph.input if i.name.startswith("audio_codes")}
        """By tensor over time: steps by which its end lags behind its block's input."""
        self.graph = EditableGraph(self._model, folder)
        for declared in (*self._model.graph.input, *self._model.graph.output):
            tensor, name = declared.type.tensor_type, declared.name
            dims = ["batch", *[1] * (len(tensor.shape.dim) - 2), f"{name}.steps"]
            declared.CopyFrom(helper.make_tensor_value_info(name, tensor.elem_type, dims))

    def model(self) -> onnx.ModelProto:
        """Return the rewritten graph without dead nodes."""
        self.graph.rewrite()
        return remove_dead_nodes(self._model)

    def bound(self, name: str) -> str:
        """Add an int64 input of shape [1] and return its name."""
        declared = helper.make_tensor_value_info(name, TensorProto.INT64, [1])
        self._model.graph.input.append(declared)
        return name

    def number(self, value: int) -> str:
        """Store a constant and return its name."""
        return self.graph.store(f"number.{value}", [value])

    def cut(self, x: str, start: str, end: str, output: str) -> str:
        """Slice the steps of `x` from `start` to `end`."""
        return self.graph.new(output).add("Slice", [x, start, end, self.number(AXIS)])

    def taps(self, node: NodeProto) -> int:
        """Return the width of a convolution's kernel."""
        weight = self.graph.stored.get(node.input[1])
        if weight is None:
            raise UnsupportedGraph(f"the weights of {node.name} are computed")
        return int(weight.dims[2])

    def convolve(self, node: NodeProto) -> None:
        """Rewrite a convolution. Its output lags because it reads steps on both sides."""
        attrs = attributes(node)
        reach = (self.taps(node) - 1) // 2 * attrs.get("dilations", [1])[0]
        lag = self._lag.get(node.input[0])
        keeps_length = attrs.get("pads") == [reach, reach] and attrs.get("strides", [1]) == [1]
        if lag is None or not keeps_length:
            raise UnsupportedGraph(f"{node.name} is not a convolution that keeps its length")
        node.input[0] = self._joined(node.input[0], 2 * reach, reach)
        _set(node, pads=[0, 0])
        self._lag[node.output[0]] = lag + reach

    def raise_rate(self, node: NodeProto, block: int) -> None:
        """Rewrite a transposed convolution whose kernel is two strides wide: each stride of the
        output is the sum of two matrix products, of a step and of the step before. For few steps
        this takes half the time, because onnxruntime packs the weights of products in advance."""
        attrs, stride = attributes(node), BLOCKS[block][0]
        fits = attrs.get("pads") == [stride // 2] * 2 and attrs.get("group", 1) == 1
        stored = self.graph.stored.keys() >= {*node.input[1:]}
        if self.taps(node) != 2 * stride or not fits or not stored:
            raise UnsupportedGraph(f"{node.name} has a kernel of another form")
        x, output = node.input[0], node.output[0]
        new = self.graph.new(output)
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
        self.cut(whole, self.bound(start_name(block)), self.number(END), output)
        self._lag[output] = 0

    def align(self, node: NodeProto) -> None:
        """Delay the inputs of any other operator so that all end at the same time."""
        lags = {n: self._lag[n] for n in node.input if n in self._lag}
        if not lags or node.op_type == "Shape":
            return
        largest = max(lags.values())
        for index, name in enumerate(node.input):
            if (delay := largest - lags.get(name, largest)) > 0:
                joined = self._joined(name, delay, 0)
                bounds = self.number(0), self.number(-delay)
                node.input[index] = self.cut(joined, *bounds, f"{joined}.delayed")
        self._lag |= dict.fromkeys(node.output, largest)

    def _joined(self, x: str, steps: int, at_start: int) -> str:
        """Return the carried state followed by `x`. The last `steps` become the next state."""
        index = len(self.carried)
        self.carried.append((x, at_start))
        kind, channels = self._kinds.get(x, (TensorProto.FLOAT, 1))
        state_in, state_out = carry_in_name(index), carry_out_name(index)
        graph = self._model.graph
        for name, declared in ((state_in, graph.input), (state_out, graph.output)):
            dims = [1, channels, f"{name}.steps"]
            declared.append(helper.make_tensor_value_info(name, kind, dims))
        joined = self.graph.new(state_in).add("Concat", [state_in, x], "joined", axis=AXIS)
        self.cut(joined, self.number(-steps), self.number(END), state_out)
        return joined


def _set(node: NodeProto, **changed: Any) -> None:
    attrs = attributes(node) | changed
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(k, v) for k, v in attrs.items())
