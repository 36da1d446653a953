"""A published ONNX file as a graph: nodes by edge, and constants that are read when needed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from chatterbox.compile.lm.weights import Array, pack, unpack

SHAPING = ("Concat", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
FOLDABLE = frozenset(("Cast", "Constant", "DequantizeLinear", "Div", "Mul", *SHAPING))
"""Operators that exporters leave between a stored tensor and its use."""

NIBBLE_SIGNED = {TensorProto.UINT4: False, TensorProto.INT4: True}

SIGN_OF_BOTH_NIBBLES = 0x88


class NotRecognizedError(Exception):
    """The graph is not one that this tool knows; the message says what was missed."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Quantised codes; `bits` is 0 where the stored type does not say."""

    codes: Array  # uint8
    bits: int
    signed: bool


class PublishedGraph:
    """A graph and its constants."""

    def __init__(self, path: Path) -> None:
        self._directory = path.parent
        graph = onnx.load(str(path), load_external_data=False).graph
        self.nodes: list[NodeProto] = list(graph.node)  # in order of execution
        self.inputs = {value.name: value for value in graph.input}
        self.outputs = {value.name: value for value in graph.output}
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._folded: dict[str, Array | None] = {}
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)

    @property
    def locations(self) -> list[str]:
        """The files that hold its external data."""
        external = [t for t in self._stored.values() if t.data_location == TensorProto.EXTERNAL]
        return sorted({e.value for t in external for e in t.external_data if e.key == "location"})

    def producer(self, name: str) -> NodeProto | None:
        """The node that makes `name`; None for inputs and stored tensors."""
        return self._producers.get(name)

    def consumers(self, name: str) -> list[NodeProto]:
        """The nodes that read `name`."""
        return self._consumers.get(name, [])

    def constant(self, name: str) -> Array | None:
        """The value of `name` when it depends on no input; else None."""
        if name in self._stored:
            return self._read(self._stored[name])
        if name not in self._folded:
            node = self.producer(name)
            self._folded[name] = self._fold(node, name) if node is not None else None
        return self._folded[name]

    def packed(self, name: str) -> "Packed | None":
        """Codes as they are stored, without unpacking the 4-bit types; signed ones are shifted, so
        that every code is unsigned around the middle."""
        tensor = self._stored.get(name)
        if tensor is None or tensor.data_type not in NIBBLE_SIGNED:
            codes = self.constant(name)
            return None if codes is None or codes.dtype != np.uint8 else Packed(codes, 0, False)
        signed = NIBBLE_SIGNED[tensor.data_type]
        if tensor.dims[-1] % 2:  # rows begin inside a byte
            numbers = self._read(tensor)
            return Packed(pack(numbers + 8 if signed else numbers, 4), 4, signed)
        shape = (*tensor.dims[:-1], tensor.dims[-1] // 2)
        codes = self._bytes(tensor, np.dtype(np.uint8), math.prod(shape)).reshape(shape)
        return Packed(codes ^ np.uint8(SIGN_OF_BOTH_NIBBLES) if signed else codes, 4, signed)

    def upstream(self, name: str, stop: set[int]) -> Iterator[NodeProto]:
        """Every node that `name` comes from, nearest first; nodes whose id is in `stop` are named
        but not passed through. An attention operator's cached key or value comes from that input
        alone."""
        seen: set[str] = set()
        edge = [name]
        while edge:
            current = edge.pop(0)
            node = self.producer(current)
            if node is None or current in seen:
                continue
            seen.add(current)
            yield node
            if id(node) not in stop:
                edge.extend(_sources(node, current))

    def _fold(self, node: NodeProto, name: str) -> Array | None:
        if node.op_type not in FOLDABLE or node.domain not in ("", "ai.onnx"):
            return None
        feeds = {edge: self.constant(edge) for edge in node.input if edge}
        if any(value is None for value in feeds.values()):
            return None
        values = ReferenceEvaluator(node).run(None, feeds)
        found: Array = np.asarray(values[list(node.output).index(name)])
        return found

    def _read(self, tensor: TensorProto) -> Array:
        if tensor.data_type in NIBBLE_SIGNED:
            count = math.prod(tensor.dims)
            raw = self._bytes(tensor, np.dtype(np.uint8), (count + 1) // 2)
            numbers = unpack(raw, 4, count).astype(np.int8)
            if NIBBLE_SIGNED[tensor.data_type]:
                numbers = np.where(numbers > 7, numbers - 16, numbers)
            return numbers.reshape(tuple(tensor.dims))
        if tensor.data_location != TensorProto.EXTERNAL:
            value: Array = numpy_helper.to_array(tensor)
            return value
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return self._bytes(tensor, kind, math.prod(tensor.dims)).reshape(tuple(tensor.dims))

    def _bytes(self, tensor: TensorProto, kind: np.dtype, count: int) -> Array:
        """`count` numbers as they are stored; a sidecar is mapped, not read."""
        if tensor.data_location != TensorProto.EXTERNAL:
            return np.frombuffer(tensor.raw_data, kind, count)
        entry = {e.key: e.value for e in tensor.external_data}
        offset = int(entry.get("offset", 0))
        if not count:
            return np.empty(0, kind)
        return np.memmap(self._directory / entry["location"], kind, "r", offset, (count,))


def attribute(node: NodeProto, name: str, default: float) -> float:
    """A numeric attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return float(helper.get_attribute_value(entry))
    return default


def text_attribute(node: NodeProto, name: str) -> str:
    """A string attribute; empty where there is none."""
    for entry in node.attribute:
        if entry.name == name:
            return str(helper.get_attribute_value(entry).decode())
    return ""


FUSED_ATTENTION = frozenset(("GroupQueryAttention", "MultiHeadAttention", "Attention"))


def _sources(node: NodeProto, output: str) -> list[str]:
    inputs = [name for name in node.input if name]
    place = list(node.output).index(output)
    if node.op_type not in FUSED_ATTENTION or place not in (1, 2):
        return inputs
    split = node.input[place] if len(node.input) > place else ""
    return [split or node.input[0]]  # queries, keys and values may come packed as the first
