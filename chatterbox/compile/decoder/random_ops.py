"""Finds a graph's random operators and turns what they draw into inputs."""

import onnx
from onnx import helper

from chatterbox.compile.decoder.errors import NotSplittable
from chatterbox.compile.decoder.graph_edit import before, index
from chatterbox.runtime.decoder.graph_io import RandomOp

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
    """Is there a random operator in one of the node's subgraphs?"""
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
