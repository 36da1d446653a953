"""Finds the normalisation before a linear: one operator, fused with a sum, or spelled out."""

from onnx import NodeProto

from chatterbox.compile.lm.linears import TRANSPARENT
from chatterbox.compile.lm.published import NotRecognizedError, PublishedGraph, attribute
from chatterbox.compile.lm.weights import Array, Norm

OPERATORS: dict[str, tuple[int, int | None]] = {
    "LayerNormalization": (1, 2),
    "SkipLayerNormalization": (2, 3),
    "SimplifiedLayerNormalization": (1, None),
    "RMSNormalization": (1, None),
    "SkipSimplifiedLayerNormalization": (2, None),
}
"""Where an operator holds its scale and its shift."""
EPSILON_BELOW = 1e-2
DEFAULT_EPSILON = 1e-5  # GPT-2's and ONNX's LayerNormalization's alike


def norm_before(graph: PublishedGraph, name: str, linears: set[int]) -> Norm:
    """The normalisation that ends in the edge `name`. `linears`: nodes not to look behind.
    Raises NotRecognizedError."""
    while True:
        node = graph.producer(name)
        if node is None:
            break
        if node.op_type in OPERATORS:
            return _norm(graph, node, *OPERATORS[node.op_type])
        if node.op_type == "Add":
            return _spelled(graph, node, linears)
        if node.op_type == "Mul":
            gamma, normal = _split(graph, node)
            return Norm(gamma.reshape(-1), None, _epsilon(graph, normal, linears))
        if node.op_type not in TRANSPARENT:
            break
        name = node.input[0]
    raise NotRecognizedError("a linear that should follow a normalisation does not")


def _norm(graph: PublishedGraph, node: NodeProto, scale: int, shift: int | None) -> Norm:
    gamma = graph.constant(node.input[scale])
    beta = None if shift is None else graph.constant(node.input[shift])
    if gamma is None or (beta is None and shift is not None):
        raise NotRecognizedError("a normalisation's scale or shift is not constant")
    epsilon = attribute(node, "epsilon", DEFAULT_EPSILON)
    return Norm(gamma.reshape(-1), None if beta is None else beta.reshape(-1), epsilon)


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
