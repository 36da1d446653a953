"""Finds a graph's linear layers (products with constant matrices, their biases and their order) and
the normalisations before them."""

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from chatterbox.compile.graph import attributes
from chatterbox.compile.lm.published import NotRecognizedError, PublishedGraph
from chatterbox.compile.lm.weights import Linear, Norm
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense, Weight

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


class Linears:
    """All linears of a graph."""

    def __init__(self, graph: PublishedGraph) -> None:
        self._graph = graph
        found = (self._as_linear(node) for node in graph.of_type("MatMul", "Gemm", "MatMulNBits"))
        self._found = {id(one.node): one for one in found if one is not None}
        self.ids = set(self._found)  # of each one's node

    def _as_linear(self, node: NodeProto) -> LinearNode | None:
        weight: Weight | None
        if node.op_type == "MatMulNBits":
            weight, bias = self._blocks(node), node.input[5:6]
        else:
            values, bias = self._graph.constant(node.input[1]), node.input[2:3]
            if values is None or values.ndim != 2 or values.dtype.kind != "f":
                return None
            weight = Dense(values.T if attributes(node).get("transB", 0) == 1 else values)
        return LinearNode(node, weight, self._graph.constant(bias[0]) if any(bias) else None)

    def _blocks(self, node: NodeProto) -> BlockQuantized:
        given = attributes(node)
        inputs, outputs, block = given["K"], given["N"], given["block_size"]
        codes, scales = (self._graph.constant(name) for name in node.input[1:3])
        zeros = self._graph.constant(node.input[3]) if any(node.input[3:4]) else None
        if codes is None or scales is None or any(node.input[4:5]):
            raise NotRecognizedError("a MatMulNBits has inputs of another kind")
        blocks = -(-inputs // block)
        return BlockQuantized(
            codes=codes.reshape(outputs, blocks, -1),
            scales=scales.reshape(outputs, blocks),
            zero_points=None if zeros is None else zeros.reshape(outputs, -1),
            bits=given.get("bits", 4),
            block=block,
            inputs=inputs,
        )

    def by_depth(self) -> list[list[LinearNode]]:
        """The linears that the logits come from, by how many others each depends on."""
        before: dict[str, int] = {}  # edge → bit set of the linears it depends on
        sets: list[tuple[int, LinearNode]] = []
        for node in self._graph.nodes:
            depends = 0
            for name in node.input:
                depends |= before.get(name, 0)
            if (found := self._found.get(id(node))) is not None:
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
                added = self._graph.constant(name)
                if added is not None and added.size == width and added.shape[-1] == width:
                    bias = bias + added.reshape(-1)
        return Linear(found.weight, bias)

    def followers(self, name: str) -> list[NodeProto]:
        """The nodes that read `name`, seen through layout changes."""
        found: list[NodeProto] = []
        for node in self._graph.readers.get(name, []):
            passes = node.op_type in TRANSPARENT
            found += self.followers(node.output[0]) if passes else [node]
        return found

    def norm_before(self, found: LinearNode) -> Norm:
        """The normalisation of its input: one operator, fused with a sum, or spelled out as
        … × gamma + beta. Raises NotRecognizedError."""
        graph, name, beta = self._graph, found.node.input[0], None
        while (node := graph.producer.get(name)) is not None:
            if node.op_type in NORMS and beta is None:
                return _norm(graph, node)
            if node.op_type == "Add" and beta is None:
                beta, name = _split(graph, node)
            elif node.op_type == "Mul":
                gamma, normal = _split(graph, node)
                return Norm(gamma, beta, _epsilon(graph, normal, self.ids))
            elif node.op_type in TRANSPARENT:
                name = node.input[0]
            else:
                break
        raise NotRecognizedError("a linear that should follow a normalisation does not")


def _addends(node: NodeProto) -> list[str]:
    """The inputs that a node adds to its first: where a bias can be."""
    if node.op_type == "Add":
        return list(node.input)
    place = {"SkipLayerNormalization": 4, "FastGelu": 1, "BiasGelu": 1}.get(node.op_type)
    return [] if place is None else list(node.input[place : place + 1])


def _norm(graph: PublishedGraph, node: NodeProto) -> Norm:
    scale, shift = NORMS[node.op_type]
    gamma = graph.constant(node.input[scale])
    beta = None if shift is None else graph.constant(node.input[shift])
    if gamma is None or (beta is None and shift is not None):
        raise NotRecognizedError("a normalisation's scale or shift is not constant")
    epsilon = attributes(node).get("epsilon", DEFAULT_EPSILON)
    return Norm(gamma.reshape(-1), None if beta is None else beta.reshape(-1), epsilon)


def _split(graph: PublishedGraph, node: NodeProto) -> tuple[Array, str]:
    """The constant, as one axis, and the other input of a node with one of each."""
    for own, other in (node.input, reversed(node.input)):
        value = graph.constant(own)
        if value is not None and value.ndim >= 1 and value.size > 1:
            return value.reshape(-1), other
    raise NotRecognizedError(f"a {node.op_type} that should hold a constant does not")


def _epsilon(graph: PublishedGraph, name: str, linears: set[int]) -> float:
    """The small number that is added on the way to `name`."""
    for node in graph.upstream(name, linears):
        for edge in node.input if node.op_type == "Add" else ():
            value = graph.constant(edge)
            if value is not None and value.size == 1 and 0 < value.item() < EPSILON_BELOW:
                return float(value.item())
    return DEFAULT_EPSILON
