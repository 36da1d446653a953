"""Finds a graph's random operators; turns what they draw into inputs, or into rows of a table."""

import onnx
from onnx import TensorProto, helper

from chatterbox.compile.decoder.graph_edit import (
    NewNodes,
    NotSplittable,
    before,
    index,
    replace_nodes,
)
from chatterbox.runtime.decoder.graph_io import LinearDim, RandomOp
from chatterbox.runtime.decoder.stream_inputs import RowLayout

RANDOM_OPS = {
    "RandomNormal": "normal",
    "RandomNormalLike": "normal",
    "RandomUniform": "uniform",
    "RandomUniformLike": "uniform",
}
OTHER_RANDOM_OPS = frozenset({"Multinomial", "Bernoulli"})


def find_randoms(model: onnx.ModelProto) -> list[RandomOp]:
    """Every draw that reaches an output. Raises NotSplittable where one is out of reach."""
    nodes, _ = before(model.graph, [o.name for o in model.graph.output])
    for node in nodes:
        if node.op_type in OTHER_RANDOM_OPS or _hidden(node):
            raise NotSplittable(f"{node.op_type} {node.name} draws where no input can reach")
    return [_draw(node) for node in nodes if node.op_type in RANDOM_OPS]


def _draw(node: onnx.NodeProto) -> RandomOp:
    given = {a.name: a.f for a in node.attribute}
    if RANDOM_OPS[node.op_type] == "normal":
        return RandomOp(node.output[0], "normal", given.get("mean", 0.0), given.get("scale", 1.0))
    return RandomOp(node.output[0], "uniform", given.get("low", 0.0), given.get("high", 1.0))


def _hidden(node: onnx.NodeProto) -> bool:
    """Whether one of the node's subgraphs holds a random operator."""
    subgraphs = [a.g for a in node.attribute if a.HasField("g")]
    subgraphs += [g for a in node.attribute for g in a.graphs]
    return any(
        inner.op_type in RANDOM_OPS or inner.op_type in OTHER_RANDOM_OPS or _hidden(inner)
        for sub in subgraphs
        for inner in sub.node
    )


def randoms_to_outputs(model: onnx.ModelProto, draws: list[RandomOp]) -> None:
    """Let `model` tell what it drew."""
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(
        helper.make_empty_tensor_value_info(d.name) for d in draws if d.name not in present
    )


def randoms_to_inputs(
    model: onnx.ModelProto, draws: list[RandomOp], ranks: dict[str, int], kinds: dict[str, int]
) -> None:
    """Let `model` be told what it would have drawn; `kinds` are element types."""
    producer = index(model.graph).producer
    for draw in draws:
        dims = [f"{draw.name}_{axis}" for axis in range(ranks[draw.name])]
        declared = helper.make_tensor_value_info(draw.name, kinds[draw.name], dims)
        model.graph.input.append(declared)
        model.graph.node.remove(producer[draw.name])


def draw_from_table(model: onnx.ModelProto, op: RandomOp, law: list[LinearDim]) -> bool:
    """Replace the input of a random tensor by an input of row numbers; whether its shape is one
    that can be put together so."""
    graph, layout = model.graph, RowLayout.of(law)
    fed = next((i for i in graph.input if i.name == op.name), None)
    if fed is None or layout is None:
        return False
    kind = fed.type.tensor_type.elem_type
    graph.input.remove(fed)
    dims = [f"{op.rows}_{axis}" for axis in range(2 if layout.steps == 1 else 3)]
    graph.input.append(helper.make_tensor_value_info(op.rows, TensorProto.INT64, dims))
    new = NewNodes(graph, op.name)
    table = new.stored("table", layout.table(op).astype(helper.tensor_dtype_to_np_dtype(kind)))
    # By steps: [rows, time, width], as it is gathered; else [rows, width, time] of mel frames.
    by_steps, time_last = layout.steps == 1, law[2].per_code > 0
    made = new.add("Gather", [table, op.rows], "gathered", axis=0)
    if not by_steps:
        made = new.add("Reshape", [made, new.stored("shape", [0, layout.width, -1])], "joined")
    turned = [0, 2, 1] if by_steps == time_last else [0, 1, 2]
    new.add("Transpose", [made], perm=turned)
    replace_nodes(graph, [], new.nodes)
    return True
