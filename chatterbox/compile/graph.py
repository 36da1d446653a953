"""An ONNX graph as compilers read and rewrite it: who makes a tensor, who reads it, what is stored,
and new nodes in the place of old ones.

Weights in external files stay references unless they are read.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import NodeProto, helper, inliner, numpy_helper

from chatterbox.hub.files import ExternalData, is_external, read_external_bytes
from chatterbox.runtime.quantized_weights import Array, BlockQuantized

OpenGraph = Callable[[onnx.ModelProto], ort.InferenceSession]
"""Opens a graph whose external weights lie beside the file it came from."""
MICROSOFT = "com.microsoft"
NIBBLES = frozenset({onnx.TensorProto.UINT4, onnx.TensorProto.INT4})


class NotSplittable(ValueError):
    """The graph is not built as expected here; the message says how."""


class EditableGraph:
    """A model's top level. Its index is of the nodes that it began with, until `rewrite`."""

    def __init__(self, model: onnx.ModelProto, folder: Path = Path()) -> None:
        """`folder` holds external weights."""
        self.model, self.graph, self.folder = model, model.graph, folder
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes = list(self.graph.node)
        self.producer: dict[str, NodeProto] = {}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            self.producer |= dict.fromkeys(filter(None, node.output), node)
            for name in dict.fromkeys(reads(node)):
                self.readers.setdefault(name, []).append(node)
        self._new: list[NewNodes] = []

    def of_type(self, *kinds: str) -> list[NodeProto]:
        """All such nodes, in order."""
        return [node for node in self.nodes if node.op_type in kinds]

    def maker(self, name: str, *kinds: str) -> NodeProto | None:
        """The node that makes `name`, if it is of one of these kinds."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type in kinds else None

    def reader(self, name: str, *kinds: str) -> NodeProto | None:
        """The only node that reads `name`, if it is of one of these kinds."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type in kinds else None

    def through(self, name: str) -> str:
        """The tensor that `name` is a mere copy of."""
        while (node := self.maker(name, "Cast", "Identity")) is not None:
            name = node.input[0]
        return name

    def values(self, name: str) -> Array:
        """The numbers that are stored as `name`."""
        return stored_values(self.stored[name], self.folder)

    def constant(self, name: str) -> Array | None:
        """The same; None where nothing is stored."""
        return self.values(name) if name in self.stored else None

    def blocks(self, node: NodeProto) -> BlockQuantized | None:
        """The weight of a MatMulNBits; None where it is computed, or its columns are reordered."""
        given, names = attributes(node), [*node.input, "", ""]
        outputs, count = given["N"], -(-given["K"] // given["block_size"])
        codes, scales, zeros = (self.constant(name) if name else None for name in names[1:4])
        if codes is None or scales is None or (zeros is None and names[3]) or names[4]:
            return None
        return BlockQuantized(
            codes=codes.reshape(outputs, count, -1),
            scales=scales.reshape(outputs, count),
            zero_points=None if zeros is None else zeros.reshape(outputs, -1),
            bits=given.get("bits", 4),
            block=given["block_size"],
            inputs=given["K"],
        )

    def number(self, name: str) -> float | None:
        """The one number that is stored in the graph as `name`."""
        tensor = self.stored.get(name)
        if tensor is None or is_external(tensor) or list(tensor.dims) not in ([], [1]):
            return None
        return float(numpy_helper.to_array(tensor).item())

    def multiple(self, name: str, known: Mapping[str, float] | None = None) -> tuple[float, str]:
        """By which number, stored or `known`, `name` is a multiple of which tensor."""
        node = self.maker(name, "Mul", "Div")
        factor = self.number(node.input[1]) if node is not None else None
        if node is not None and factor is None and known is not None:
            factor = known.get(node.input[1])
        if node is None or not factor:
            return 1.0, name
        return factor if node.op_type == "Mul" else 1 / factor, node.input[0]

    def store(self, name: str, values: Any) -> str:
        """A constant, if it is not there yet; of integers, where these are Python's."""
        if name not in self.stored:
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
            self.stored[name] = self.graph.initializer[-1]
        return name

    def new(self, tensor: str) -> "NewNodes":
        """Nodes to be added, named after `tensor`; if they make it, in the place of its maker."""
        self._new.append(NewNodes(self, tensor))
        return self._new[-1]

    def rewrite(self) -> int:
        """Put every new node before those that read it, and drop what nothing reads any more; for
        how many tensors there are new nodes."""
        new = {made: node for one in self._new for node in one.nodes for made in node.output}
        old = [node for node in self.nodes if not any(name in new for name in node.output)]
        nodes: list[NodeProto] = []

        def place(node: NodeProto) -> None:
            for name in node.output:
                new.pop(name, None)
            for name in reads(node):
                if name in new:
                    place(new[name])
            nodes.append(node)

        for node in old:
            place(node)
        while new:
            place(next(iter(new.values())))
        _set_nodes(self.graph, nodes)
        _set_nodes(self.graph, before(self.graph, [o.name for o in self.graph.output])[0])
        forget_unused(self.graph)
        used = {node.domain for node in nodes}
        if MICROSOFT in used - {known.domain for known in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return sum(bool(one.nodes) for one in self._new)


class NewNodes:
    """Nodes and constants that are added to a graph, all named after one tensor."""

    def __init__(self, graph: EditableGraph, tensor: str) -> None:
        self._graph, self._tensor = graph, tensor
        self.nodes: list[NodeProto] = []

    def name(self, what: str) -> str:
        """Of a tensor on the way; of the tensor itself, if nothing else is said."""
        return f"{self._tensor}.{what}" if what else self._tensor

    def add(
        self, kind: str, inputs: Sequence[str], what: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """One more node; what it makes."""
        return self.add_many(kind, inputs, [what], domain=domain, **attributes)[0]

    def add_many(
        self, kind: str, inputs: Sequence[str], whats: Sequence[str], **attributes: Any
    ) -> list[str]:
        """The same, of a node that makes several tensors."""
        made = [self.name(what) for what in whats]
        named = {"name": f"{made[0]}/{kind}", **attributes}
        self.nodes.append(helper.make_node(kind, list(inputs), made, **named))
        return made

    def stored(self, what: str, values: Any) -> str:
        """A constant of these nodes."""
        return self._graph.store(self.name(what), values)


def attributes(node: NodeProto) -> dict[str, Any]:
    """By name; texts are bytes."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def reads(node: NodeProto) -> list[str]:
    """Every tensor a node needs, those its subgraphs take from outside included."""
    names = [name for name in node.input if name]
    for sub in subgraphs(node):
        own = {i.name for i in sub.input} | {i.name for i in sub.initializer}
        for inner in sub.node:
            names += [n for n in reads(inner) if n not in own]
            own |= set(inner.output)
        names += [o.name for o in sub.output if o.name not in own]
    return names


def subgraphs(node: NodeProto) -> list[onnx.GraphProto]:
    """Of an If, a Loop or the like."""
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]


def before(
    graph: onnx.GraphProto, tensors: Iterable[str], stop: Iterable[str] = ()
) -> tuple[list[NodeProto], set[str]]:
    """The nodes (in order) and names that `tensors` depend on, not looking behind `stop`."""
    producer = {name: node for node in graph.node for name in node.output}
    stops = set(stop)
    seen, wanted = set(stops), list(tensors)
    while wanted:
        if (name := wanted.pop()) not in seen:
            seen.add(name)
            wanted += reads(producer[name]) if name in producer else []
    nodes = [n for n in graph.node if any(o in seen and o not in stops for o in n.output)]
    return nodes, seen


def cut_out(
    model: onnx.ModelProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """The part of `model` that makes `outputs` out of `inputs` (tensors of any depth)."""
    graph, given = model.graph, {i.name for i in inputs}
    nodes, names = before(graph, [o.name for o in outputs], given)
    needed = {n for node in nodes for n in reads(node)} | {o.name for o in outputs}
    weights = [w for w in graph.initializer if w.name in needed - given]
    declared = {i.name for i in graph.input} - {w.name for w in graph.initializer}
    missing = sorted((declared & names) - given)
    assert not missing, f"the part also needs {missing}"
    made = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    made.graph.CopyFrom(helper.make_graph(nodes, graph.name, inputs, outputs, weights))
    return made


def without_dead_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """What leads to the outputs."""
    return cut_out(model, list(model.graph.input), list(model.graph.output))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """To be changed while the original stays."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def telling(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy that gives these tensors too."""
    made = copied(model)
    told = {o.name for o in made.graph.output}
    more = [name for name in dict.fromkeys(names) if name not in told]
    made.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in more)
    return made


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which functions of the model's own are written out, and constants stand among the
    weights."""
    made = inliner.inline_local_functions(model) if model.functions else copied(model)
    kept = []
    for node in made.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = made.graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    _set_nodes(made.graph, kept)
    return made


def value(name: str, kind: int, rank: int) -> onnx.ValueInfoProto:
    """A declaration whose every dimension is free."""
    return helper.make_tensor_value_info(name, kind, [f"{name}_{axis}" for axis in range(rank)])


def element_type(values: Array) -> int:
    """ONNX's number for the type of `values`."""
    return int(helper.np_dtype_to_tensor_dtype(values.dtype))


def stored_values(tensor: onnx.TensorProto, folder: Path) -> Array:
    """The numbers of an initializer; a file in `folder` is mapped, not read."""
    if not is_external(tensor):
        values: Array = numpy_helper.to_array(tensor)
        return values
    place, shape = ExternalData.of(tensor), tuple(tensor.dims)
    if tensor.data_type in NIBBLES:  # two in a byte
        held = onnx.TensorProto(data_type=tensor.data_type, dims=shape)
        held.raw_data = read_external_bytes(tensor, folder)
        return stored_values(held, folder)
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if not (count := math.prod(shape)):
        return np.empty(shape, kind)
    mapped = np.memmap(folder / place.location, kind, "r", place.offset, (count,))
    return np.asarray(mapped).reshape(shape)


def forget_unused(graph: onnx.GraphProto) -> None:
    """Drop initializers that nothing reads any more."""
    used = {name for node in graph.node for name in reads(node)} | {o.name for o in graph.output}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _set_nodes(graph: onnx.GraphProto, nodes: Sequence[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
