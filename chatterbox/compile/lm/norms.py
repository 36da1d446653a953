"""Finds the layer normalisation before a linear: one operator, fused with a sum, or spelled out."""

from onnx import NodeProto

from chatterbox.compile.lm.linears import TRANSPARENT
from chatterbox.compile.lm.published import NotRecognizedError, PublishedGraph, attribute
from chatterbox.compile.lm.weights import Array, Norm

EPSILON_BELOW = 1e-2
DEFAULT_EPSILON = 1e-5  # GPT-2's and ONNX's LayerNormalization's alike


def norm_before(graph: PublishedGraph, name: str, linears: set[int]) -> Norm:
    """The normalisation that ends in the edge `name`. `linears`: nodes not to look behind.
    Raises NotRecognizedError."""
    while True:
        node = graph.producer(name)
        if node is None:
            break
        if node.op_type == "LayerNormalization":
            return _norm(graph, node.input[1], node.input[2], node)
        if node.op_type == "SkipLayerNormalization":
            return _norm(graph, node.input[2], node.input[3], node)
        if node.op_type == "Add":
            return _spelled(graph, node, linears)
        if node.op_type not in TRANSPARENT:
            break
        name = node.input[0]
    raise NotRecognizedError("a linear that should follow a normalisation does not")


def _norm(graph: PublishedGraph, gamma: str, beta: str, node: NodeProto) -> Norm:
    scale, shift = graph.constant(gamma), graph.constant(beta)
    if scale is None or shift is None:
        raise NotRecognizedError("a normalisation's scale or shift is not constant")
    return Norm(scale.reshape(-1), shift.reshape(-1), attribute(node, "epsilon", DEFAULT_EPSILON))


def _spelled(graph: PublishedGraph, add: NodeProto, linears: set[int]) -> Norm:
    """A normalisation written out: … × gamma + beta."""
    beta, scaled = _split(graph, add)
    multiply = graph.producer(scaled)
    while multiply is not None and multiply.op_type == "Cast":
        multiply = graph.producer(multiply.input[0])
    if multiply is None or multiply.op_type != "Mul":
        raise NotRecognizedError("a sum that should end a normalisation does not")
    gamma, normal = _split(graph, multiply)
    return Norm(gamma.reshape(-1), beta.reshape(-1), _epsilon(graph, normal, linears))


def _split(graph: PublishedGraph, node: NodeProto) -> tuple[Array, str]:
    """The constant and the other input of a node with one of each."""
    for own, other in (node.input, reversed(node.input)):
        value = graph.constant(own)
        if value is not None and value.ndim >= 1 and value.size > 1:
            return value, other
    raise NotRecognizedError(f"a {node.op_type} that should hold a constant does not")


def _epsilon(graph: PublishedGraph, name: str, linears: set[int]) -> float:
    for node in graph.upstream(name, linears):
        if node.op_type == "Add":
            for edge in node.input:
                value = graph.constant(edge)
                if value is not None and value.size == 1 and 0 < value.item() < EPSILON_BELOW:
                    return float(value.item())
    return DEFAULT_EPSILON
