"""Finds a graph's random operators and turns their outputs into inputs or into table lookups."""

from collections.abc import Mapping
from typing import Literal

import onnx
from onnx import NodeProto, TensorProto, helper

from chatterbox.compile.graph import (
    EditableGraph,
    UnsupportedGraph,
    ancestors,
    attributes,
    copy_model,
    subgraphs,
    value_info,
)
from chatterbox.runtime.decoder.graph_io import LinearDim, RandomOp
from chatterbox.runtime.decoder.stream_inputs import RowLayout

NORMAL, UNIFORM = {"mean": 0.0, "scale": 1.0}, {"low": 0.0, "high": 1.0}
"""Default attributes of random operators."""
RANDOM_OPS: dict[str, tuple[Literal["normal", "uniform"], dict[str, float]]] = {
    **dict.fromkeys(("RandomNormal", "RandomNormalLike"), ("normal", NORMAL)),
    **dict.fromkeys(("RandomUniform", "RandomUniformLike"), ("uniform", UNIFORM)),
}
OTHER_RANDOM_OPS = ("Multinomial", "Bernoulli")


def find_randoms(model: onnx.ModelProto) -> list[RandomOp]:
    """Return every random tensor that reaches an output. Raises UnsupportedGraph for random
    operators in subgraphs and for OTHER_RANDOM_OPS."""
    found = []
    for node in ancestors(model.graph, [o.name for o in model.graph.output])[0]:
        if node.op_type in OTHER_RANDOM_OPS or _hidden(node):
            raise UnsupportedGraph(f"{node.op_type} {node.name} draws where no input can reach")
        if node.op_type in RANDOM_OPS:
            kind, defaults = RANDOM_OPS[node.op_type]
            given = defaults | attributes(node)
            found.append(RandomOp(node.output[0], kind, *(given[name] for name in defaults)))
    return found


def _hidden(node: NodeProto) -> bool:
    """Return whether one of the node's subgraphs contains a random operator."""
    inner = [node for sub in subgraphs(node) for node in sub.node]
    return any(n.op_type in (*RANDOM_OPS, *OTHER_RANDOM_OPS) or _hidden(n) for n in inner)


def randoms_to_inputs(
    model: onnx.ModelProto, inputs: Mapping[RandomOp, onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """Return a copy in which random tensors are replaced by the given inputs."""
    copy = copy_model(model)
    names = {op.name: declared.name for op, declared in inputs.items()}
    copy.graph.input.extend(inputs.values())
    for node in [*copy.graph.node]:
        node.input[:] = [names.get(name, name) for name in node.input]
        if names.keys() & set(node.output):
            copy.graph.node.remove(node)
    return copy


def draw_from_table(model: onnx.ModelProto, op: RandomOp, shape: list[LinearDim]) -> bool:
    """Replace the random input `op` by an input of row indices into a stored table. Returns False,
    with the model unchanged, if there is no such input or its shape has no row layout."""
    layout = RowLayout.of(shape)
    fed = next((i for i in model.graph.input if i.name == op.name), None)
    if fed is None or layout is None:
        return False
    kind = helper.tensor_dtype_to_np_dtype(fed.type.tensor_type.elem_type)
    by_steps, time_last = layout.steps == 1, shape[2].per_code > 0
    model.graph.input.remove(fed)
    model.graph.input.append(value_info(op.rows, TensorProto.INT64, 2 if by_steps else 3))
    graph = EditableGraph(model)
    new = graph.new(op.name)
    # [rows, time, width] if a table row is a step; [rows, width, time] if it is a mel frame
    table = new.stored("table", layout.table(op).astype(kind))
    rows = new.add("Gather", [table, op.rows], "gathered", axis=0)
    if not by_steps:
        rows = new.add("Reshape", [rows, new.stored("shape", [0, layout.width, -1])], "joined")
    new.add("Transpose", [rows], perm=[0, 2, 1] if by_steps == time_last else [0, 1, 2])
    graph.rewrite()
    return True
