"""Reads and rewrites ONNX graphs: producers and consumers of tensors, constants, new nodes.

Weights in external files stay references unless their values are read.
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
"""Opens a session on a graph. It must find the external weights of the graph's original file."""
MICROSOFT = "com.microsoft"
INT4_TYPES = frozenset({onnx.TensorProto.UINT4, onnx.TensorProto.INT4})


class UnsupportedGraph(ValueError):
    """The graph differs from the forms that the compiler knows; the message says how."""


class EditableGraph:
    """A model's main graph, with an index of its nodes.

    Nodes from `new` are added by `rewrite`. The index covers only the original nodes.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path = Path()) -> None:
        """`folder` holds the external weights."""
        self.model, self.graph, self.folder = model, model.graph, folder
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes = list(self.graph.node)
        self.producer: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            self.producer |= dict.fromkeys(filter(None, node.output), node)
            for name in dict.fromkeys(inputs_of(node)):
                self.consumers.setdefault(name, []).append(node)
        self._new: list[NewNodes] = []

    def of_type(self, *kinds: str) -> list[NodeProto]:
        """Return the nodes of these operator types, in order."""
        return [node for node in self.nodes if node.op_type in kinds]

    def producer_of(self, name: str, *kinds: str) -> NodeProto | None:
        """Return the node that produces `name` if its type is one of `kinds`, else None."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type in kinds else None

    def only_consumer(self, name: str, *kinds: str) -> NodeProto | None:
        """Return the consumer of `name` if there is just one, of a type in `kinds`; else None."""
        consumers = self.consumers.get(name, [])
        return consumers[0] if len(consumers) == 1 and consumers[0].op_type in kinds else None

    def before_casts(self, name: str) -> str:
        """Return the tensor from which `name` is made by Cast and Identity nodes alone."""
        while (node := self.producer_of(name, "Cast", "Identity")) is not None:
            name = node.input[0]
        return name

    def values(self, name: str) -> Array:
        """Return the values of the initializer `name`."""
        return stored_values(self.stored[name], self.folder)

    def constant(self, name: str) -> Array | None:
        """Return the values of the initializer `name`, or None if `name` is not an initializer."""
        return self.values(name) if name in self.stored else None

    def quantized_weight(self, node: NodeProto) -> BlockQuantized | None:
        """Return the weight of a MatMulNBits; None if it is not stored or has reordered columns."""
        attrs, names = attributes(node), [*node.input, "", ""]
        outputs, count = attrs["N"], -(-attrs["K"] // attrs["block_size"])
        codes, scales, zeros = (self.constant(name) if name else None for name in names[1:4])
        if codes is None or scales is None or (zeros is None and names[3]) or names[4]:
            return None
        return BlockQuantized(
            codes=codes.reshape(outputs, count, -1),
            scales=scales.reshape(outputs, count),
            zero_points=None if zeros is None else zeros.reshape(outputs, -1),
            bits=attrs.get("bits", 4),
            block=attrs["block_size"],
            inputs=attrs["K"],
        )

    def scalar(self, name: str) -> float | None:
        """Return the value of the initializer `name` if it is a single number, else None."""
        tensor = self.stored.get(name)
        if tensor is None or is_external(tensor) or list(tensor.dims) not in ([], [1]):
            return None
        return float(numpy_helper.to_array(tensor).item())

    def split_scale(self, name: str, known: Mapping[str, float] | None = None) -> tuple[float, str]:
        """Return a factor and a tensor whose product is `name`. The factor is a stored or `known`
        scalar; 1 if `name` is not a scaled tensor."""
        node = self.producer_of(name, "Mul", "Div")
        factor = self.scalar(node.input[1]) if node is not None else None
        if node is not None and factor is None and known is not None:
            factor = known.get(node.input[1])
        if node is None or not factor:
            return 1.0, name
        return factor if node.op_type == "Mul" else 1 / factor, node.input[0]

    def store(self, name: str, values: Any) -> str:
        """Add an initializer, unless it exists, and return its name. Python integers are int64."""
        if name not in self.stored:
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
            self.stored[name] = self.graph.initializer[-1]
        return name

    def new(self, tensor: str) -> "NewNodes":
        """Return a group of new nodes named after `tensor`. If they produce `tensor`, they replace
        its producer."""
        self._new.append(NewNodes(self, tensor))
        return self._new[-1]

    def rewrite(self) -> int:
        """Insert each new node before its consumers, and drop nodes and initializers that are no
        longer used. Returns the number of non-empty groups of new nodes."""
        new = {name: node for group in self._new for node in group.nodes for name in node.output}
        old = [node for node in self.nodes if not any(name in new for name in node.output)]
        nodes: list[NodeProto] = []

        def insert(node: NodeProto) -> None:
            for name in node.output:
                new.pop(name, None)
            for name in inputs_of(node):
                if name in new:
                    insert(new[name])
            nodes.append(node)

        for node in old:
            insert(node)
        while new:
            insert(next(iter(new.values())))
        _set_nodes(self.graph, nodes)
        _set_nodes(self.graph, ancestors(self.graph, [o.name for o in self.graph.output])[0])
        drop_unused_initializers(self.graph)
        used = {node.domain for node in nodes}
        if MICROSOFT in used - {opset.domain for opset in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return sum(bool(group.nodes) for group in self._new)


class NewNodes:
    """A group of nodes and constants to add to a graph, all named after one tensor."""

    def __init__(self, graph: EditableGraph, tensor: str) -> None:
        self._graph, self._tensor = graph, tensor
        self.nodes: list[NodeProto] = []

    def _name(self, suffix: str) -> str:
        return f"{self._tensor}.{suffix}" if suffix else self._tensor

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        suffix: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node and return its output: the group's tensor, or that name with a suffix."""
        return self.add_many(kind, inputs, [suffix], domain=domain, **attributes)[0]

    def add_many(
        self, kind: str, inputs: Sequence[str], suffixes: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs and return them."""
        outputs = [self._name(suffix) for suffix in suffixes]
        attributes = {"name": f"{outputs[0]}/{kind}", **attributes}
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def stored(self, suffix: str, values: Any) -> str:
        """Add a constant and return its name."""
        return self._graph.store(self._name(suffix), values)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name. Strings are bytes."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def inputs_of(node: NodeProto) -> list[str]:
    """Return every tensor that a node reads, including outer tensors that its subgraphs read."""
    names = [name for name in node.input if name]
    for sub in subgraphs(node):
        own = {i.name for i in sub.input} | {i.name for i in sub.initializer}
        for inner in sub.node:
            names += [n for n in inputs_of(inner) if n not in own]
            own |= set(inner.output)
        names += [o.name for o in sub.output if o.name not in own]
    return names


def subgraphs(node: NodeProto) -> list[onnx.GraphProto]:
    """Return the subgraphs of a control-flow node such as If or Loop."""
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]


def ancestors(
    graph: onnx.GraphProto, tensors: Iterable[str], stop: Iterable[str] = ()
) -> tuple[list[NodeProto], set[str]]:
    """Return the nodes (in order) and tensors that `tensors` depend on, up to those in `stop`."""
    producer = {name: node for node in graph.node for name in node.output}
    stops = set(stop)
    seen, wanted = set(stops), list(tensors)
    while wanted:
        if (name := wanted.pop()) not in seen:
            seen.add(name)
            wanted += inputs_of(producer[name]) if name in producer else []
    nodes = [n for n in graph.node if any(o in seen and o not in stops for o in n.output)]
    return nodes, seen


def extract(
    model: onnx.ModelProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Return the part of `model` that computes `outputs` from `inputs` (any tensors)."""
    graph, boundary = model.graph, {i.name for i in inputs}
    nodes, names = ancestors(graph, [o.name for o in outputs], boundary)
    needed = {n for node in nodes for n in inputs_of(node)} | {o.name for o in outputs}
    weights = [w for w in graph.initializer if w.name in needed - boundary]
    declared = {i.name for i in graph.input} - {w.name for w in graph.initializer}
    missing = sorted((declared & names) - boundary)
    assert not missing, f"the part also needs {missing}"
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.CopyFrom(helper.make_graph(nodes, graph.name, inputs, outputs, weights))
    return part


def remove_dead_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the part of `model` that leads to its outputs."""
    return extract(model, list(model.graph.input), list(model.graph.output))


def copy_model(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return a copy of `model` that also outputs these tensors."""
    copy = copy_model(model)
    outputs = {o.name for o in copy.graph.output}
    added = [name for name in dict.fromkeys(names) if name not in outputs]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in added)
    return copy


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with model-local functions inlined and Constant nodes turned into
    initializers."""
    copy = inliner.inline_local_functions(model) if model.functions else copy_model(model)
    nodes = []
    for node in copy.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = copy.graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            nodes.append(node)
    _set_nodes(copy.graph, nodes)
    return copy


def value_info(name: str, kind: int, rank: int) -> onnx.ValueInfoProto:
    """Declare an input or output of element type `kind` with free dimensions."""
    return helper.make_tensor_value_info(name, kind, [f"{name}_{axis}" for axis in range(rank)])


def element_type(values: Array) -> int:
    """Return the ONNX element type of an array."""
    return int(helper.np_dtype_to_tensor_dtype(values.dtype))


def stored_values(tensor: onnx.TensorProto, folder: Path) -> Array:
    """Return the values of an initializer. External data in `folder` is memory-mapped."""
    if not is_external(tensor):
        values: Array = numpy_helper.to_array(tensor)
        return values
    data, shape = ExternalData.of(tensor), tuple(tensor.dims)
    if tensor.data_type in INT4_TYPES:  # two values per byte
        inline = onnx.TensorProto(data_type=tensor.data_type, dims=shape)
        inline.raw_data = read_external_bytes(tensor, folder)
        return stored_values(inline, folder)
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if not (count := math.prod(shape)):
        return np.empty(shape, kind)
    mapped = np.memmap(folder / data.location, kind, "r", data.offset, (count,))
    return np.asarray(mapped).reshape(shape)


def drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {output.name for output in graph.output}
    used |= {name for node in graph.node for name in inputs_of(node)}
    initializers = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def _set_nodes(graph: onnx.GraphProto, nodes: Sequence[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
