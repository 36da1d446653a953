"""Rewrites a decoder graph into equivalent forms that exporters and optimisers produce.

Each function changes a model of `tools.decoder.model` in place and keeps what it computes, but for
`with_inner_bias`, whose bias is new, and `with_sums_in`, whose sums round otherwise.
"""

from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from chatterbox.compile.decoder.attention import ATTENTION, BIAS, SCORE_BIAS
from chatterbox.compile.graph import EditableGraph
from chatterbox.runtime.decoder.graph_io import CODES, LENGTHS
from tools.decoder.vocoder import HOP, N_FFT

BINS = N_FFT // 2 + 1


def without_masks(model: onnx.ModelProto) -> None:
    """Each attention gets queries, keys and values alone: rows of equal length mask nothing."""
    for _, node in _attentions(model):
        del node.input[3:]


def with_spelled_attention(model: onnx.ModelProto) -> None:
    """Attention written out, without a mask."""
    for add, node in _attentions(model):
        heads = next(a.i for a in node.attribute if a.name == "num_heads")
        scale = (_width(model, node) / heads) ** -0.5
        q, k, v = (
            add("Transpose", [add("Reshape", [x, add.ints(0, 0, heads, -1)])], perm=[0, 2, 1, 3])
            for x in node.input[:3]
        )
        scores = add("MatMul", [q, add("Transpose", [k], perm=[0, 1, 3, 2])])
        shares = add("Softmax", [add("Mul", [scores, add.tensor(np.array(scale))])], axis=-1)
        mixed = add("Transpose", [add("MatMul", [shares, v])], perm=[0, 2, 1, 3])
        del node.input[:], node.attribute[:]
        node.op_type, node.domain = "Reshape", ""
        node.input.extend([mixed, add.ints(0, 0, heads * round(scale**-2))])


def with_sizes_read_out(model: onnx.ModelProto) -> None:
    """As exporters write sizes down: rows' lengths are made from a shape, masks are as long as the
    greatest of them, and spelled attention takes its scale from the width of its heads. `model`
    is one with lengths."""
    graph = model.graph
    graph.input.remove(next(i for i in graph.input if i.name == LENGTHS))
    add = _Nodes(model, "sizes")
    total = add("Gather", [add("Shape", [CODES]), add.tensor(np.array(1))])
    ones = add("Shape", [add("Gather", [CODES, add.tensor(np.array(0))], axis=1)])
    one = helper.make_tensor("", TensorProto.INT64, [1], [1])
    add.nodes.append(
        helper.make_node("Mul", [add("ConstantOfShape", [ones], value=one), total], [LENGTHS])
    )
    makers = {output: n for n in graph.node for output in n.output}
    for node in graph.node:
        if node.op_type == "Less":
            positions, lengths = (makers[name] for name in node.input)
            positions.input[1] = add("ReduceMax", [lengths.input[0]], keepdims=0)
        scaled = makers.get(node.input[0]) if node.op_type == "Softmax" else None
        if scaled is not None and scaled.op_type == "Mul":
            queries = makers[scaled.input[0]].input[0]
            width = add("Gather", [add("Shape", [queries]), add.tensor(np.array(3))])
            root = add("Sqrt", [add("Cast", [width], to=TensorProto.FLOAT)])
            scaled.input[1] = add("Div", [add.tensor(np.array(1.0)), root])
    _insert(model, add.nodes)


def with_attention_bias(model: onnx.ModelProto) -> None:
    """Each attention adds zeros [1, 1, queries, keys] to its scores."""
    for add, node in _attentions(model):
        size = add("Gather", [add("Shape", [node.input[0]]), add.ints(1)], axis=0)
        square = add("Concat", [add.ints(1, 1), size, size], axis=0)
        _give(node, SCORE_BIAS, add("ConstantOfShape", [square]))


def with_inner_bias(model: onnx.ModelProto) -> None:
    """Each attention adds a bias to queries, keys and values itself."""
    rng = np.random.default_rng(3)
    for add, node in _attentions(model):
        _give(node, BIAS, add.tensor(rng.normal(0, 0.1, 3 * _width(model, node))))


def with_packed_qkv(model: onnx.ModelProto) -> None:
    """Queries, keys and values as one tensor [rows, steps, heads, 3, width], which has no kernel on
    a CPU."""
    for add, node in _attentions(model):
        heads = next(a.i for a in node.attribute if a.name == "num_heads")
        parted = [add("Reshape", [name, add.ints(0, 0, heads, 1, -1)]) for name in node.input[:3]]
        node.input[:] = [add("Concat", parted, axis=3), "", "", *node.input[3:]]


def with_sums_in(model: onnx.ModelProto, kind: int) -> None:
    """Running sums in another element type, and back."""
    for node in [n for n in model.graph.node if n.op_type == "CumSum"]:
        terms, output = node.input[0], node.output[0]
        node.input[0], node.output[0] = f"{output}.terms", f"{output}.sum"
        casts = [
            helper.make_node("Cast", [terms], [node.input[0]], f"{output}/in", to=kind),
            helper.make_node(
                "Cast", [node.output[0]], [output], f"{output}/out", to=TensorProto.FLOAT
            ),
        ]
        _insert(model, casts)


def with_stft(model: onnx.ModelProto) -> None:
    """The source's spectrum by the operator STFT in place of a convolution."""
    weights = {i.name: list(i.dims) for i in model.graph.initializer}
    (conv,) = [
        n
        for n in model.graph.node
        if n.op_type == "Conv" and weights[n.input[1]] == [2 * BINS, 1, N_FFT]
    ]
    add = _Nodes(model, f"{conv.name}/stft")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    signal = add("Transpose", [conv.input[0]], perm=[0, 2, 1])
    sizes = [add.tensor(np.array(n, np.int64)) for n in (HOP, N_FFT)]
    spectrum = add("STFT", [signal, sizes[0], add.tensor(window), sizes[1]], onesided=1)
    turned = add("Transpose", [spectrum], perm=[0, 3, 2, 1])
    shape = add.ints(0, 2 * BINS, -1)
    add.nodes.append(helper.make_node("Reshape", [turned, shape], list(conv.output)))
    _insert(model, add.nodes)


def with_weights_twice(model: onnx.ModelProto) -> None:
    """A weight that several nodes read is stored once for each of them."""
    stored = {i.name: i for i in model.graph.initializer if len(i.dims) > 1}
    met: Counter[str] = Counter()
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name not in stored:
                continue
            met[name] += 1
            if met[name] > 1:
                copy = model.graph.initializer.add()
                copy.CopyFrom(stored[name])
                copy.name = node.input[place] = f"{name}.{met[name]}"


def with_other_names(model: onnx.ModelProto) -> None:
    """Names of an optimiser's own for all but the inputs and outputs."""
    graph = model.graph
    fixed = {value.name for value in (*graph.input, *graph.output)} | {""}
    names = [i.name for i in graph.initializer] + [o for n in graph.node for o in n.output]
    new = {name: f"t{i}" for i, name in enumerate(names) if name not in fixed}
    for tensor in graph.initializer:
        tensor.name = new[tensor.name]
    for place, node in enumerate(graph.node):
        node.name = f"n{place}"
        for edges in (node.input, node.output):
            edges[:] = [new.get(name, name) for name in edges]
    del graph.value_info[:]


class _Nodes:
    """Nodes and constants to be added to a model, named after where they belong."""

    def __init__(self, model: onnx.ModelProto, scope: str) -> None:
        self._graph = model.graph
        self._scope = scope
        self.nodes: list[onnx.NodeProto] = []

    def __call__(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{self._scope}/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def tensor(self, values: Any) -> str:
        name = f"{self._scope}/{len(self._graph.initializer)}"
        kept = values if values.dtype == np.int64 else values.astype(np.float32)
        self._graph.initializer.append(numpy_helper.from_array(kept, name))
        return name

    def ints(self, *values: int) -> str:
        return self.tensor(np.array(values, np.int64))


def _attentions(model: onnx.ModelProto) -> Any:
    """Each attention operator, and a way to add nodes before it."""
    attentions = [n.output[0] for n in model.graph.node if n.op_type == ATTENTION]
    for output in attentions:
        node = next(n for n in model.graph.node if output in n.output)
        add = _Nodes(model, f"{output}/form")
        yield add, node
        _insert(model, add.nodes)


def _insert(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Where they are read, in the place of what made the same."""
    graph = EditableGraph(model)
    graph.new("form").nodes += nodes
    graph.rewrite()


def _give(node: onnx.NodeProto, place: int, name: str) -> None:
    """Make `name` the input at `place`."""
    node.input.extend([""] * (place + 1 - len(node.input)))
    node.input[place] = name


def _width(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    """heads × width of an attention, from the product that makes its values."""
    makers = {output: n for n in model.graph.node for output in n.output}
    weights = {i.name: list(i.dims) for i in model.graph.initializer}
    return next(weights[n][-1] for n in makers[node.input[2]].input if n in weights)
