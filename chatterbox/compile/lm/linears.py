"""Finds a graph's linear layers: products with constant matrices, their biases and their order."""

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from chatterbox.compile.lm.published import NotRecognizedError, PublishedGraph, attribute
from chatterbox.compile.lm.weights import Array, BlockQuantized, Dense, Linear, Weight

TRANSPARENT = frozenset(("Cast", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Transpose"))
"""Operators that change how numbers are laid out or typed, not what they are."""
LINEAR = frozenset(("MatMul", "Gemm", "MatMulNBits"))


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
        self._found = {
            id(node): found for node in graph.nodes if (found := self._as_linear(node)) is not None
        }

    @property
    def ids(self) -> set[int]:
        """`id` of each linear's node."""
        return set(self._found)

    def _as_linear(self, node: NodeProto) -> LinearNode | None:
        if node.op_type not in LINEAR:
            return None
        weight: Weight
        if node.op_type == "MatMulNBits":
            weight, bias = self._blocks(node)
        else:
            values = self._graph.constant(node.input[1])
            if values is None or values.ndim != 2 or values.dtype.kind != "f":
                return None
            flipped = node.op_type == "Gemm" and attribute(node, "transB", 0) == 1
            weight = Dense(values.T if flipped else values)
            bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
        return LinearNode(node, weight, self._graph.constant(bias) if bias else None)

    def _blocks(self, node: NodeProto) -> tuple[BlockQuantized, str]:
        inputs, outputs, bits, block = (
            int(attribute(node, name, default))
            for name, default in (("K", 0), ("N", 0), ("bits", 4), ("block_size", 0))
        )
        count = -(-inputs // block)
        codes, scales = (self._graph.constant(name) for name in node.input[1:3])
        optional = [*node.input[3:], "", "", ""]
        zeros = self._graph.constant(optional[0]) if optional[0] else None
        if codes is None or scales is None or optional[1]:
            raise NotRecognizedError("a MatMulNBits has inputs of another kind")
        blocks = BlockQuantized(
            codes=codes.reshape(outputs, count, -1),
            scales=scales.reshape(outputs, count),
            zero_points=None if zeros is None else zeros.reshape(outputs, -1),
            bits=bits,
            block=block,
            inputs=inputs,
        )
        return blocks, optional[2]

    def by_depth(self) -> list[list[LinearNode]]:
        """The linears that the logits come from, by how many others each depends on."""
        before: dict[str, int] = {}  # edge → bit set of the linears it depends on
        sets: dict[int, int] = {}
        for order, node in enumerate(self._graph.nodes):
            depends = 0
            for name in node.input:
                depends |= before.get(name, 0)
            if id(node) in self._found:
                sets[id(node)] = depends
                depends |= 1 << order
            before.update(dict.fromkeys(node.output, depends))
        reached = before.get("logits", 0)
        by_depth: dict[int, list[LinearNode]] = {}
        for order, node in enumerate(self._graph.nodes):
            if reached >> order & 1:
                by_depth.setdefault(sets[id(node)].bit_count(), []).append(self._found[id(node)])
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
        for node in self._graph.consumers(name):
            if node.op_type in TRANSPARENT:
                found += self.followers(node.output[0])
            else:
                found.append(node)
        return found


def _addends(node: NodeProto) -> list[str]:
    """The inputs that a node adds to its first: where a bias can be."""
    if node.op_type == "Add":
        return list(node.input)
    place = {"SkipLayerNormalization": 4, "FastGelu": 1, "BiasGelu": 1}.get(node.op_type)
    return [node.input[place]] if place is not None and len(node.input) > place else []
