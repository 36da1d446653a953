"""Finds, cuts out and replaces parts of an ONNX graph.

Weights in external files stay references unless they are read.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, inliner, numpy_helper

from chatterbox.hub.external_data import is_external, read_bytes


class NotSplittable(ValueError):
    """The graph is not built as expected here; the message says how."""


SHARED_BYTES = 4096
"""Smaller weights are not worth looking for twins of."""


@dataclass(slots=True)
class Index:
    """Who makes a tensor and who reads it. Valid until nodes are added or removed."""

    producer: dict[str, onnx.NodeProto] = field(default_factory=dict)
    consumers: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)


@dataclass(slots=True)
class NewNodes:
    """Nodes and constants to be put into a graph, all named after one tensor."""

    graph: onnx.GraphProto
    tensor: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def name(self, what: str) -> str:
        """Of a tensor on the way; of the tensor itself, if nothing else is said."""
        return f"{self.tensor}.{what}" if what else self.tensor

    def add(
        self, kind: str, inputs: Sequence[str], what: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """One more node; what it makes."""
        made = self.name(what)
        named = {"name": f"{made}/{kind}", "domain": domain, **attributes}
        self.nodes.append(helper.make_node(kind, list(inputs), [made], **named))
        return made

    def stored(self, what: str, values: Any) -> str:
        """A constant; of integers, where these are Python's."""
        name, numbers = self.name(what), np.asarray(values)
        self.graph.initializer.append(numpy_helper.from_array(numbers, name))
        return name


def index(graph: onnx.GraphProto) -> Index:
    """Of the graph's top level."""
    made = Index(initializers={i.name: i for i in graph.initializer})
    for node in graph.node:
        for name in node.output:
            if name:
                made.producer[name] = node
        for name in reads(node):
            made.consumers.setdefault(name, []).append(node)
    return made


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which functions of the model's own are written out, and constants stand among the
    weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if model.functions:
        copy = inliner.inline_local_functions(copy)
    kept = []
    for node in copy.graph.node:
        value = node.attribute[0].t if _holds_a_tensor(node) else None
        if value is None:
            kept.append(node)
        else:
            value.name = node.output[0]
            copy.graph.initializer.append(value)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def _holds_a_tensor(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == "Constant" and node.attribute[0].name == "value")


def reads(node: onnx.NodeProto) -> list[str]:
    """Every tensor a node needs, those its subgraphs take from outside included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for sub in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            own = {i.name for i in sub.input} | {i.name for i in sub.initializer}
            for inner in sub.node:
                names += [n for n in reads(inner) if n not in own]
                own |= set(inner.output)
            names += [o.name for o in sub.output if o.name not in own]
    return names


def before(
    graph: onnx.GraphProto, tensors: Iterable[str], stop: Iterable[str] = ()
) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes (in order) and names that `tensors` depend on, not looking behind `stop`."""
    producer = index(graph).producer
    seen: set[str] = set(stop)
    wanted = [t for t in tensors if t not in seen]
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        node = producer.get(name)
        if node is not None:
            wanted += [n for n in reads(node) if n not in seen]
    stops = set(stop)
    nodes = [n for n in graph.node if any(o in seen and o not in stops for o in n.output)]
    return nodes, seen


def cut_out(
    model: onnx.ModelProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """The part of `model` that makes `outputs` out of `inputs` (tensors of any depth)."""
    graph = model.graph
    nodes, names = before(graph, [o.name for o in outputs], [i.name for i in inputs])
    needed = {n for node in nodes for n in reads(node)} | {o.name for o in outputs}
    given = {i.name for i in inputs}
    weights = [w for w in graph.initializer if w.name in needed and w.name not in given]
    declared = {i.name for i in graph.input} - {w.name for w in graph.initializer}
    missing = sorted((declared & names) - given)
    assert not missing, f"the part also needs {missing}"
    part = helper.make_graph(nodes, graph.name, inputs, outputs, weights)
    made = onnx.ModelProto()
    made.ir_version = model.ir_version
    made.opset_import.extend(model.opset_import)
    made.graph.CopyFrom(part)
    return made


def value(name: str, kind: int, rank: int) -> onnx.ValueInfoProto:
    """A declaration whose every dimension is free."""
    return helper.make_tensor_value_info(name, kind, [f"{name}_{axis}" for axis in range(rank)])


def through(
    name: str, graph: Index, passing: frozenset[str] = frozenset({"Cast", "Identity"})
) -> str:
    """The tensor that `name` is a mere copy of, following `passing` operators upwards."""
    node = graph.producer.get(name)
    while node is not None and node.op_type in passing:
        name = node.input[0]
        node = graph.producer.get(name)
    return name


def stored_values(tensor: onnx.TensorProto, folder: Path) -> NDArray[Any]:
    """The numbers of an initializer, read from its file in `folder` where they lie there."""
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    if is_external(copy):  # onnx's own reader refuses files with links
        copy.raw_data = read_bytes(tensor, folder)
        copy.data_location = onnx.TensorProto.DEFAULT
        del copy.external_data[:]
    values: NDArray[Any] = numpy_helper.to_array(copy)
    return values


def share_equal_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Keep one of weights that are stored several times, as the published decoder's two unrolled
    steps have them; `folder` holds external ones. Reads every weight once."""
    graph = model.graph
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        stored = read_bytes(tensor, folder) if is_external(tensor) else tensor.raw_data
        if len(stored) >= SHARED_BYTES:
            digest = hashlib.sha256(stored).digest()
            key = (tensor.data_type, tuple(tensor.dims), digest)
            same[tensor.name] = first.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    forget_unused(graph)


def forget_unused(graph: onnx.GraphProto) -> None:
    """Drop initializers that nothing reads any more."""
    used = {name for node in graph.node for name in reads(node)}
    used |= {o.name for o in graph.output}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def replace_nodes(
    graph: onnx.GraphProto, remove: Sequence[onnx.NodeProto], insert: Sequence[onnx.NodeProto]
) -> None:
    """Take nodes out and put others in, each where its inputs are known."""
    gone = {id(n) for n in remove}
    kept = [n for n in graph.node if id(n) not in gone]
    ordered = in_order([*kept, *insert], graph)
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def in_order(nodes: Sequence[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes so that each stands behind those it reads from."""
    producer = {o: i for i, node in enumerate(nodes) for o in node.output if o}
    order: list[onnx.NodeProto] = []
    state = [0] * len(nodes)  # 0 unseen, 1 waiting for its inputs, 2 placed
    for start in range(len(nodes)):
        stack = [start]
        while stack:
            at = stack[-1]
            if state[at] == 2:
                stack.pop()
                continue
            needs = {producer[n] for n in reads(nodes[at]) if n in producer}
            waiting = [n for n in needs if state[n] != 2]
            if not waiting:
                order.append(nodes[at])
                state[at] = 2
                stack.pop()
                continue
            assert state[at] == 0, f"{graph.name}: nodes in a circle"
            state[at] = 1
            stack += waiting
    return order
