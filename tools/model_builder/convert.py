"""Converts an fp32 model to another precision by rewriting its weights.

Weights are identified by the names that `graph.py` gives them. Arithmetic stays float32 (blocks
are unpacked as they are used); the halves keep weights, and keys and values, in 16 bits.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from chatterbox.families.turbo.spec import GRAPHS, ROOT_FILES, GraphName
from chatterbox.hub.files import Precision, graph_file
from tools.model_builder.graph import BITS, CONTRIB, HALF, LEARNT, Array
from tools.model_builder.quantise import BLOCK, quantise

SOUND: tuple[GraphName, ...] = ("speech_encoder", "conditional_decoder")
SOUND_BITS = 8
"""Four bits are too few for layers this small (docs/inside/mini.md has the word errors)."""
SMALL = 1024
"""Tensors of fewer numbers stay as they are, inside the graph."""


def convert(source: Path, target: Path, precisions: Iterable[Precision]) -> None:
    """Write the fp32 model in `source` to `target` in other precisions."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ROOT_FILES:
        shutil.copyfile(source / name, target / name)
    for precision in precisions:
        for graph in GRAPHS:
            model = onnx.load(str(source / graph_file(graph, "fp32")))
            if precision != "fp32":
                _Conversion(model.graph, precision, _bits(graph, precision)).run()
                _declare_contrib(model)
            _save(model, target, graph, precision)


def _bits(graph: GraphName, precision: Precision) -> int | None:
    """Of a matrix' numbers; None: as they are."""
    bits = BITS.get(precision)
    return max(bits, SOUND_BITS) if bits and graph in SOUND else bits


def _declare_contrib(model: ModelProto) -> None:
    if all(opset.domain != CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def _save(model: ModelProto, target: Path, graph: GraphName, precision: Precision) -> None:
    path = target / graph_file(graph, precision)
    path.parent.mkdir(exist_ok=True)
    sidecar = target / (graph_file(graph, precision) + "_data")
    for old in (path, sidecar):
        old.unlink(missing_ok=True)
    onnx.save_model(
        model, str(path), save_as_external_data=True, location=sidecar.name, size_threshold=SMALL
    )
    sidecar.touch()  # a graph of small tensors alone has one too, as in the hub's layout


class _Conversion:
    """One graph, changed in place."""

    def __init__(self, graph: GraphProto, precision: Precision, bits: int | None) -> None:
        self._graph = graph
        self._bits = bits
        self._half = precision in HALF
        self._weights = {
            tensor.name: tensor
            for tensor in graph.initializer
            if tensor.name.startswith(LEARNT) and np.prod(tensor.dims) >= SMALL
        }

    def run(self) -> None:
        """Blocks where an operator takes them, 16 bits for what is left, where asked for."""
        nodes: list[NodeProto] = []
        for node in self._graph.node:
            nodes += (self._blocks(node) if self._bits else None) or [node]
        used = {edge for node in nodes for edge in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        if self._half:
            casts = [self._halved(t) for t in kept if t.name in self._weights]
            nodes = [*casts, *nodes]
        del self._graph.initializer[:], self._graph.node[:]
        self._graph.initializer.extend(kept)
        self._graph.node.extend(nodes)
        if self._half:
            self._halve_cache()

    def _add(self, name: str, array: Array) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _matrix(self, name: str) -> Array | None:
        tensor = self._weights.get(name)
        return None if tensor is None or len(tensor.dims) != 2 else numpy_helper.to_array(tensor)

    def _blocks(self, node: NodeProto) -> list[NodeProto] | None:
        """The same node on blocks, or None where it has no matrix of weights."""
        product = node.op_type == "MatMul"
        if not product and node.op_type != "Gather":
            return None
        name = node.input[1 if product else 0]
        matrix = self._matrix(name)
        if matrix is None or (not product and matrix.shape[1] % BLOCK):
            return None
        assert self._bits is not None
        blocks = quantise(matrix.T if product else matrix, self._bits)
        codes = blocks.codes if product else blocks.codes.reshape(len(matrix), -1)
        stored = [
            self._add(f"{name}_{node.output[0]}_{part}", array)
            for part, array in (
                ("codes", codes), ("scales", blocks.scales), ("zeros", blocks.zero_points)
            )
        ]  # fmt: skip
        if product:
            inputs, outputs = matrix.shape
            made = helper.make_node(
                "MatMulNBits", [node.input[0], *stored], node.output, node.name, domain=CONTRIB,
                K=inputs, N=outputs, bits=self._bits, block_size=BLOCK,
            )  # fmt: skip
        else:
            made = helper.make_node(
                "GatherBlockQuantized", [stored[0], node.input[1], *stored[1:]], node.output,
                node.name, domain=CONTRIB, gather_axis=0, quantize_axis=1, block_size=BLOCK,
                bits=self._bits,
            )  # fmt: skip
        return [made]

    def _halved(self, tensor: TensorProto) -> NodeProto:
        """Store in 16 bits; the edge of the old name is float32 as before."""
        name, values = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        return helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT)

    def _halve_cache(self) -> None:
        """Keys and values come and go in 16 bits."""
        first, last = [], []
        for edges, where, past in (
            (self._graph.input, first, True),
            (self._graph.output, last, False),
        ):
            for edge in edges:
                if not edge.name.startswith(("past_key_values.", "present.")):
                    continue
                edge.type.tensor_type.elem_type = TensorProto.FLOAT16
                inner = f"{edge.name}_float"
                for node in self._graph.node:
                    for names in (node.input, node.output):
                        for place, name in enumerate(names):
                            if name == edge.name:
                                names[place] = inner
                ends = (edge.name, inner) if past else (inner, edge.name)
                to = TensorProto.FLOAT if past else TensorProto.FLOAT16
                where.append(helper.make_node("Cast", [ends[0]], [ends[1]], to=to))
        nodes = [*first, *self._graph.node, *last]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
