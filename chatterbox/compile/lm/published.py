"""A published language model as a graph: constants that are read when needed, linear layers
(products with constant matrices, their biases and their order) and the normalisations before them.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto
from onnx.reference import ReferenceEvaluator

from chatterbox.compile.graph import (
    INT4_TYPES,
    EditableGraph,
    UnsupportedGraph,
    attributes,
    stored_values,
)
from chatterbox.compile.lm.weights import Linear, Norm, pack_nibbles
from chatterbox.runtime.quantized_weights import Array, Dense, Weight

SHAPING = ("Concat", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
FOLDABLE = frozenset(("Cast", "Constant", "DequantizeLinear", "Div", "Mul", *SHAPING))
"""Operators that exporters leave between a stored tensor and its use."""
SIGN_OF_BOTH_NIBBLES = np.uint8(0x88)
FUSED_ATTENTION = frozenset(("GroupQueryAttention", "MultiHeadAttention", "Attention"))
TRANSPARENT = frozenset(("Cast", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Transpose"))
"""Operators that change how numbers are laid out or typed, not what they are."""
NORMS: dict[str, tuple[int, int | None]] = {
    "LayerNormalization": (1, 2),
    "SkipLayerNormalization": (2, 3),
    "SimplifiedLayerNormalization": (1, None),
    "RMSNormalization": (1, None),
    "SkipSimplifiedLayerNormalization": (2, None),
}
"""Where an operator holds its scale and its shift."""
EPSILON_BELOW = 1e-2
DEFAULT_EPSILON = 1e-5  # GPT-2's and ONNX's LayerNormalization's alike


@dataclass(frozen=True, slots=True, eq=False)
class LinearNode:
    """A linear where it stands in the graph."""

    node: NodeProto
    weight: Weight
    bias: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Quantised codes; `bits` is 0 where the stored type does not say."""

    codes: Array  # uint8
    bits: int
    signed: bool


class PublishedGraph(EditableGraph):
    """A graph, its constants and its layers."""

    def __init__(self, path: Path) -> None:
        super().__init__(onnx.load(str(path), load_external_data=False), path.parent)
        self.inputs = {value.name: value for value in self.graph.input}
        self._folded: dict[str, Array | None] = {}

    def constant(self, name: str) -> Array | None:
        """The value of `name` when it depends on no input; else None."""
        if name in self.stored:
            values = self.values(name)
            return values.astype(np.int8) if self.stored[name].data_type in INT4_TYPES else values
        if name not in self._folded:
            node = self.producer.get(name)
            self._folded[name] = self._fold(node, name) if node is not None else None
        return self._folded[name]

    def _fold(self, node: NodeProto, name: str) -> Array | None:
        if node.op_type not in FOLDABLE or node.domain not in ("", "ai.onnx"):
            return None
        feeds = {edge: self.constant(edge) for edge in node.input if edge}
        if any(value is None for value in feeds.values()):
            return None
        values = ReferenceEvaluator(node).run(None, feeds)
        return np.asarray(values[list(node.output).index(name)])

    def packed(self, name: str) -> Packed | None:
        """Codes as they are stored, without unpacking the 4-bit types; signed ones are shifted, so
        that every code is unsigned around the middle."""
        tensor = self.stored.get(name)
        if tensor is None or tensor.data_type not in INT4_TYPES:
            codes = self.constant(name)
            return None if codes is None or codes.dtype != np.uint8 else Packed(codes, 0, False)
        signed = tensor.data_type == TensorProto.INT4
        if tensor.dims[-1] % 2:  # rows begin inside a byte
            numbers = self.values(name).astype(np.int8)
            return Packed(pack_nibbles(numbers + 8 if signed else numbers), 4, signed)
        by_bytes = onnx.TensorProto()
        by_bytes.CopyFrom(tensor)
        by_bytes.data_type = TensorProto.UINT8
        by_bytes.dims[-1] //= 2
        codes = stored_values(by_bytes, self.folder)
        return Packed(codes ^ SIGN_OF_BOTH_NIBBLES if signed else codes, 4, signed)

    def upstream(self, name: str, stop: Container[int]) -> Iterator[NodeProto]:
        """Every node that `name` comes from, nearest first; nodes whose id is in `stop` are named
        but not passed through. An attention operator's cached key or value comes from that input
        alone."""
        seen: set[str] = set()
        edges = [name]
        for current in edges:
            node = self.producer.get(current)
            if node is not None and current not in seen:
                seen.add(current)
                yield node
                edges += [] if id(node) in stop else _sources(node, current)

    @cached_property
    def linears(self) -> dict[int, LinearNode]:
        """By the `id` of each one's node."""
        found = (self._as_linear(node) for node in self.of_type("MatMul", "Gemm", "MatMulNBits"))
        return {id(one.node): one for one in found if one is not None}

    def _as_linear(self, node: NodeProto) -> LinearNode | None:
        weight: Weight | None
        if node.op_type == "MatMulNBits":
            weight, bias = self.quantized_weight(node), node.input[5:6]
            if weight is None:
                raise UnsupportedGraph("a MatMulNBits has inputs of another kind")
        else:
            values, bias = self.constant(node.input[1]), node.input[2:3]
            if values is None or values.ndim != 2 or values.dtype.kind != "f":
                return None
            weight = Dense(values.T if attributes(node).get("transB", 0) == 1 else values)
        return LinearNode(node, weight, self.constant(bias[0]) if any(bias) else None)

    def by_depth(self) -> list[list[LinearNode]]:
        """The linears that the logits come from, by how many others each depends on."""
        before: dict[str, int] = {}  # edge → bit set of the linears it depends on
        sets: list[tuple[int, LinearNode]] = []
        for node in self.nodes:
            depends = 0
            for name in node.input:
                depends |= before.get(name, 0)
            if (found := self.linears.get(id(node))) is not None:
                sets.append((depends, found))
                depends |= 1 << len(sets)
            before.update(dict.fromkeys(node.output, depends))
        reached = before.get("logits", 0)
        by_depth: dict[int, list[LinearNode]] = {}
        for place, (depends, found) in enumerate(sets, 1):
            if reached >> place & 1:
                by_depth.setdefault(depends.bit_count(), []).append(found)
        return [by_depth[depth] for depth in sorted(by_depth)]

    def with_bias(self, found: LinearNode) -> Linear:
        """With its bias, wherever the graph adds it."""
        width = found.weight.shape[1]
        bias = np.zeros(width, np.float32) if found.bias is None else found.bias.reshape(-1)
        for node in self.followers(found.node.output[0]):
            for name in _addends(node):
                added = self.constant(name)
                if added is not None and added.size == width and added.shape[-1] == width:
                    bias = bias + added.reshape(-1)
        return Linear(found.weight, bias)

    def followers(self, name: str) -> list[NodeProto]:
        """The nodes that read `name`, seen through layout changes."""
        found: list[NodeProto] = []
        for node in self.consumers.get(name, []):
            passes = node.op_type in TRANSPARENT
            found += self.followers(node.output[0]) if passes else [node]
        return found

    def norm_before(self, found: LinearNode) -> Norm:
        """The normalisation of its input: one operator, fused with a sum, or spelled out as
        … × gamma + beta. Raises UnsupportedGraph."""
        name = found.node.input[0]
        beta: Array | None = None
        while (node := self.producer.get(name)) is not None:
            if node.op_type in NORMS and beta is None:
                scale, shift = NORMS[node.op_type]
                gamma = self.constant(node.input[scale])
                beta = None if shift is None else self.constant(node.input[shift])
                if gamma is None or (beta is None and shift is not None):
                    raise UnsupportedGraph("a normalisation's scale or shift is not constant")
                epsilon = attributes(node).get("epsilon", DEFAULT_EPSILON)
                return Norm(gamma.reshape(-1), None if beta is None else beta.reshape(-1), epsilon)
            if node.op_type == "Add" and beta is None:
                beta, name = _split(self, node)
            elif node.op_type == "Mul":
                gamma, normal = _split(self, node)
                return Norm(gamma, beta, _epsilon(self, normal))
            elif node.op_type in TRANSPARENT:
                name = node.input[0]
            else:
                break
        raise UnsupportedGraph("a linear that should follow a normalisation does not")


def _sources(node: NodeProto, output: str) -> list[str]:
    inputs = [name for name in node.input if name]
    place = list(node.output).index(output)
    if node.op_type not in FUSED_ATTENTION or place not in (1, 2):
        return inputs
    split = node.input[place] if len(node.input) > place else ""
    return [split or node.input[0]]  # queries, keys and values may come packed as the first


def _addends(node: NodeProto) -> list[str]:
    """The inputs that a node adds to its first: where a bias can be."""
    if node.op_type == "Add":
        return list(node.input)
    place = {"SkipLayerNormalization": 4, "FastGelu": 1, "BiasGelu": 1}.get(node.op_type)
    return [] if place is None else list(node.input[place : place + 1])


def _split(graph: PublishedGraph, node: NodeProto) -> tuple[Array, str]:
    """The constant, as one axis, and the other input of a node with one of each."""
    for own, other in (node.input, reversed(node.input)):
        value = graph.constant(own)
        if value is not None and value.ndim >= 1 and value.size > 1:
            return value.reshape(-1), other
    raise UnsupportedGraph(f"a {node.op_type} that should hold a constant does not")


def _epsilon(graph: PublishedGraph, name: str) -> float:
    """The small number that is added on the way to `name`."""
    for node in graph.upstream(name, graph.linears.keys()):
        for edge in node.input if node.op_type == "Add" else ():
            value = graph.constant(edge)
            if value is not None and value.size == 1 and 0 < value.item() < EPSILON_BELOW:
                return float(value.item())
    return DEFAULT_EPSILON
