"""A published language model as a graph, with constants that are read when needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto
from onnx.reference import ReferenceEvaluator

from chatterbox.compile.graph import NIBBLES, EditableGraph, stored_values
from chatterbox.compile.lm.weights import pack
from chatterbox.runtime.quantized_weights import Array

SHAPING = ("Concat", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
FOLDABLE = frozenset(("Cast", "Constant", "DequantizeLinear", "Div", "Mul", *SHAPING))
"""Operators that exporters leave between a stored tensor and its use."""
SIGN_OF_BOTH_NIBBLES = np.uint8(0x88)
FUSED_ATTENTION = frozenset(("GroupQueryAttention", "MultiHeadAttention", "Attention"))


class NotRecognizedError(Exception):
    """The graph is not one that this tool knows; the message says what was missed."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Quantised codes; `bits` is 0 where the stored type does not say."""

    codes: Array  # uint8
    bits: int
    signed: bool


class PublishedGraph(EditableGraph):
    """A graph and its constants."""

    def __init__(self, path: Path) -> None:
        super().__init__(onnx.load(str(path), load_external_data=False), path.parent)
        self.inputs = {value.name: value for value in self.graph.input}
        self._folded: dict[str, Array | None] = {}

    def constant(self, name: str) -> Array | None:
        """The value of `name` when it depends on no input; else None."""
        if name in self.stored:
            values = self.values(name)
            return values.astype(np.int8) if self.stored[name].data_type in NIBBLES else values
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
        if tensor is None or tensor.data_type not in NIBBLES:
            codes = self.constant(name)
            return None if codes is None or codes.dtype != np.uint8 else Packed(codes, 0, False)
        signed = tensor.data_type == TensorProto.INT4
        if tensor.dims[-1] % 2:  # rows begin inside a byte
            numbers = self.values(name).astype(np.int8)
            return Packed(pack(numbers + 8 if signed else numbers, 4), 4, signed)
        by_bytes = onnx.TensorProto()
        by_bytes.CopyFrom(tensor)
        by_bytes.data_type = TensorProto.UINT8
        by_bytes.dims[-1] //= 2
        codes = stored_values(by_bytes, self.folder)
        return Packed(codes ^ SIGN_OF_BOTH_NIBBLES if signed else codes, 4, signed)

    def upstream(self, name: str, stop: set[int]) -> Iterator[NodeProto]:
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


def _sources(node: NodeProto, output: str) -> list[str]:
    inputs = [name for name in node.input if name]
    place = list(node.output).index(output)
    if node.op_type not in FUSED_ATTENTION or place not in (1, 2):
        return inputs
    split = node.input[place] if len(node.input) > place else ""
    return [split or node.input[0]]  # queries, keys and values may come packed as the first
