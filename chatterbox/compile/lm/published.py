"""Reads a published language model: constants, tables, linear layers and normalisations."""

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
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense, Weight

SHAPING = ("Concat", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
FOLDABLE = frozenset(("Cast", "Constant", "DequantizeLinear", "Div", "Mul", *SHAPING))
"""Operators that exporters leave between a stored tensor and its use. Their constant results are
computed here."""
SIGN_BITS = np.uint8(0x88)  # of two 4-bit numbers in a byte
GATHER = ("Gather", "GatherBlockQuantized")
FUSED_ATTENTION = frozenset(("GroupQueryAttention", "MultiHeadAttention", "Attention"))
TRANSPARENT = frozenset(("Cast", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Transpose"))
"""Operators that change the layout or type of numbers, not their values."""
NORMS: dict[str, tuple[int, int | None]] = {
    "LayerNormalization": (1, 2),
    "SkipLayerNormalization": (2, 3),
    "SimplifiedLayerNormalization": (1, None),
    "RMSNormalization": (1, None),
    "SkipSimplifiedLayerNormalization": (2, None),
}
"""Input indices of the scale and the shift of normalisation operators."""
MAX_EPSILON = 1e-2  # a larger constant added before a root is not an epsilon
DEFAULT_EPSILON = 1e-5  # of both GPT-2 and ONNX's LayerNormalization


@dataclass(frozen=True, slots=True, eq=False)
class LinearNode:
    """A linear layer: the node of the product, its weight, and the node's own bias."""

    node: NodeProto
    weight: Weight
    bias: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Quantised codes. `bits` is 0 if the stored type does not imply the number."""

    codes: Array  # uint8
    bits: int
    signed: bool


class PublishedGraph(EditableGraph):
    """A published graph with access to its constants and layers."""

    def __init__(self, path: Path) -> None:
        super().__init__(onnx.load(str(path), load_external_data=False), path.parent)
        self.inputs = {value.name: value for value in self.graph.input}
        self._folded: dict[str, Array | None] = {}

    def constant(self, name: str) -> Array | None:
        """Return the value of `name` if it depends on no input, else None."""
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
        """Return quantised codes without unpacking 4-bit types, or None if `name` has none.
        Signed codes are shifted to unsigned codes with the middle as zero."""
        tensor = self.stored.get(name)
        if tensor is None or tensor.data_type not in INT4_TYPES:
            codes = self.constant(name)
            return None if codes is None or codes.dtype != np.uint8 else Packed(codes, 0, False)
        signed = tensor.data_type == TensorProto.INT4
        if tensor.dims[-1] % 2:  # rows begin inside a byte
            numbers = self.values(name).astype(np.int8)
            return Packed(pack_nibbles(numbers + 8 if signed else numbers), 4, signed)
        bytewise = onnx.TensorProto()
        bytewise.CopyFrom(tensor)
        bytewise.data_type = TensorProto.UINT8
        bytewise.dims[-1] //= 2
        codes = stored_values(bytewise, self.folder)
        return Packed(codes ^ SIGN_BITS if signed else codes, 4, signed)

    def table_of(self, node: NodeProto) -> Array | BlockQuantized | None:
        """Return the table of rows that a Gather or GatherBlockQuantized reads, or None if it reads
        anything else. A block-quantised table is the transpose of a weight: rows are outputs."""
        if node.op_type == "Gather":
            values = self.constant(node.input[0])
            return values if values is not None and values.ndim == 2 else None
        table, scales = self.packed(node.input[0]), self.constant(node.input[2])
        attrs = attributes(node)
        axes = attrs.get("gather_axis", 0), attrs.get("quantize_axis", 1)
        if table is None or scales is None or scales.ndim != 2 or axes != (0, 1):
            return None
        zeros = self.packed(node.input[3]) if any(node.input[3:4]) else None
        bits = table.bits or attrs.get("bits", 4)
        rows, count = scales.shape
        offset = zeros.codes if zeros is not None else None
        if offset is None and table.bits and not table.signed:
            offset = np.zeros((rows, -(-count * bits // 8)), np.uint8)  # the default of uint4
        codes, width = table.codes.reshape(rows, count, -1), table.codes.shape[1] * 8 // bits
        return BlockQuantized(codes, scales, offset, bits, attrs.get("block_size", 128), width)

    def upstream(self, name: str, stop: Container[int]) -> Iterator[NodeProto]:
        """Yield every node that `name` depends on, nearest first.

        Nodes whose id is in `stop` are yielded but not passed. An attention operator's cached key
        or value depends on the matching input alone.
        """
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
        """Linear layers by the `id` of their node."""
        linears = (self._as_linear(node) for node in self.of_type("MatMul", "Gemm", "MatMulNBits"))
        return {id(linear.node): linear for linear in linears if linear is not None}

    def _as_linear(self, node: NodeProto) -> LinearNode | None:
        weight: Weight | None
        if node.op_type == "MatMulNBits":
            weight, bias = self.quantized_weight(node), node.input[5:6]
            if weight is None:
                raise UnsupportedGraph("a MatMulNBits has unexpected inputs")
        else:
            values, bias = self.constant(node.input[1]), node.input[2:3]
            if values is None or values.ndim != 2 or values.dtype.kind != "f":
                return None
            weight = Dense(values.T if attributes(node).get("transB", 0) == 1 else values)
        return LinearNode(node, weight, self.constant(bias[0]) if any(bias) else None)

    def by_depth(self) -> list[list[LinearNode]]:
        """Return the linear layers that the logits depend on, grouped and sorted by the number of
        linear layers each of them depends on."""
        dependencies: dict[str, int] = {}  # tensor → bit set of the linears it depends on
        linears: list[tuple[int, LinearNode]] = []
        for node in self.nodes:
            bits = 0
            for name in node.input:
                bits |= dependencies.get(name, 0)
            if (linear := self.linears.get(id(node))) is not None:
                linears.append((bits, linear))
                bits |= 1 << len(linears)
            dependencies.update(dict.fromkeys(node.output, bits))
        reached = dependencies.get("logits", 0)
        by_depth: dict[int, list[LinearNode]] = {}
        for bit, (bits, linear) in enumerate(linears, 1):
            if reached >> bit & 1:
                by_depth.setdefault(bits.bit_count(), []).append(linear)
        return [by_depth[depth] for depth in sorted(by_depth)]

    def with_bias(self, linear: LinearNode) -> Linear:
        """Return a linear layer with its bias, wherever the graph adds the bias."""
        width = linear.weight.shape[1]
        bias = np.zeros(width, np.float32) if linear.bias is None else linear.bias.reshape(-1)
        for node in self.followers(linear.node.output[0]):
            for name in _addends(node):
                added = self.constant(name)
                if added is not None and added.size == width and added.shape[-1] == width:
                    bias = bias + added.reshape(-1)
        return Linear(linear.weight, bias)

    def followers(self, name: str) -> list[NodeProto]:
        """Return the consumers of `name`, past nodes that only change layout or type."""
        consumers: list[NodeProto] = []
        for node in self.consumers.get(name, []):
            passes = node.op_type in TRANSPARENT
            consumers += self.followers(node.output[0]) if passes else [node]
        return consumers

    def norm_before(self, linear: LinearNode) -> Norm:
        """Return the normalisation of a linear layer's input: one operator, possibly fused with
        a sum, or several that end in … × gamma + beta. Raises UnsupportedGraph if there is none."""
        name = linear.node.input[0]
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
        raise UnsupportedGraph("a linear layer does not follow a normalisation")


def _sources(node: NodeProto, output: str) -> list[str]:
    """Return the inputs that an output depends on."""
    inputs = [name for name in node.input if name]
    index = list(node.output).index(output)
    if node.op_type not in FUSED_ATTENTION or index not in (1, 2):
        return inputs
    split = node.input[index] if len(node.input) > index else ""
    return [split or node.input[0]]  # the first input may hold queries, keys and values


def _addends(node: NodeProto) -> list[str]:
    """Return the inputs of a node that can be a bias added to its first input."""
    if node.op_type == "Add":
        return list(node.input)
    index = {"SkipLayerNormalization": 4, "FastGelu": 1, "BiasGelu": 1}.get(node.op_type)
    return [] if index is None else list(node.input[index : index + 1])


def _split(graph: PublishedGraph, node: NodeProto) -> tuple[Array, str]:
    """Return the constant input of a node, flattened, and the name of its other input."""
    for own, other in (node.input, reversed(node.input)):
        value = graph.constant(own)
        if value is not None and value.ndim >= 1 and value.size > 1:
            return value.reshape(-1), other
    raise UnsupportedGraph(f"a {node.op_type} has no constant input")


def _epsilon(graph: PublishedGraph, name: str) -> float:
    """Return the epsilon of a normalisation: a small constant added upstream of `name`."""
    for node in graph.upstream(name, graph.linears.keys()):
        for edge in node.input if node.op_type == "Add" else ():
            value = graph.constant(edge)
            if value is not None and value.size == 1 and 0 < value.item() < MAX_EPSILON:
                return float(value.item())
    return DEFAULT_EPSILON
