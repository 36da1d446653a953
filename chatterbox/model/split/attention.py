"""How does attention run as one operator?

Knows one pattern of nodes: queries, keys and values are parted into heads, multiplied, put through
a softmax without a mask, and joined again. `MultiHeadAttention` does it in one pass over the rows,
without writing the scores out.
"""

from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper

from chatterbox.model.split.graph_edit import Index, forget_unused, index, replace_nodes
from chatterbox.model.split.int8 import MICROSOFT, use_microsoft

HEADS_FIRST = [0, 2, 1, 3]
KEYS_TURNED = [0, 1, 3, 2]


@dataclass(frozen=True, slots=True)
class _Attention:
    """One found pattern."""

    inputs: list[str]  # queries, keys, values: [rows, steps, heads × width]
    output: str
    heads: int
    scale: float
    nodes: list[onnx.NodeProto]


def one_attention(model: onnx.ModelProto) -> int:
    """Rewrite every attention without a mask; returns how many. Exact but for rounding."""
    graph = model.graph
    known = index(graph)
    found = [a for n in graph.node if n.op_type == "Softmax" and (a := _around(n, known))]
    if found:
        insert = [
            helper.make_node(
                "MultiHeadAttention",
                a.inputs,
                [a.output],
                name=f"{a.output}/MultiHeadAttention",
                domain=MICROSOFT,
                num_heads=a.heads,
                scale=a.scale,
            )
            for a in found
        ]
        replace_nodes(graph, [node for a in found for node in a.nodes], insert)
        forget_unused(graph)
        use_microsoft(model)
    return len(found)


def _around(softmax: onnx.NodeProto, known: Index) -> _Attention | None:
    """The attention whose softmax this is; None where anything differs from the pattern."""
    nodes = [softmax]
    scores = known.producer.get(softmax.input[0])
    weighted = _only_reader(softmax, known)
    if scores is None or scores.op_type != "MatMul":
        return None
    if weighted is None or weighted.op_type != "MatMul" or weighted.input[0] != softmax.output[0]:
        return None
    nodes += [scores, weighted]
    query, scale = scores.input[0], 1.0
    scaled = known.producer.get(query)
    if scaled is not None and scaled.op_type == "Mul":
        factor = known.initializers.get(scaled.input[1])
        if factor is None or list(factor.dims) not in ([], [1]):
            return None
        nodes.append(scaled)
        query, scale = scaled.input[0], float(numpy_helper.to_array(factor).item())
    key = scores.input[1]
    turned = known.producer.get(key)
    if turned is not None and _order(turned) == KEYS_TURNED:
        nodes.append(turned)
        key = turned.input[0]
    parts = [_parted(name, known) for name in (query, key, weighted.input[1])]
    joined = _joined(weighted, known)
    if joined is None or any(part is None for part in parts):
        return None
    whole = [p for p in parts if p is not None]
    nodes += [node for part in whole for node in part[1]] + joined
    if len({heads for _, _, heads in whole}) != 1 or not _ours(nodes, joined[-1], known):
        return None
    inputs = [name for name, _, _ in whole]
    return _Attention(inputs, joined[-1].output[0], whole[0][2], scale, nodes)


def _parted(name: str, known: Index) -> tuple[str, list[onnx.NodeProto], int] | None:
    """What was parted into heads to give `name`, the two nodes that did it, and how many heads."""
    turned = known.producer.get(name)
    if turned is None or _order(turned) != HEADS_FIRST:
        return None
    reshaped = known.producer.get(turned.input[0])
    if reshaped is None or reshaped.op_type != "Reshape":
        return None
    shape = known.initializers.get(reshaped.input[1])
    if shape is None or list(shape.dims) != [4]:
        return None
    heads = int(numpy_helper.to_array(shape)[2])
    return (reshaped.input[0], [reshaped, turned], heads) if heads > 0 else None


def _joined(weighted: onnx.NodeProto, known: Index) -> list[onnx.NodeProto] | None:
    """The two nodes that put the heads of `weighted` side by side again."""
    turned = _only_reader(weighted, known)
    if turned is None or _order(turned) != HEADS_FIRST:
        return None
    reshaped = _only_reader(turned, known)
    if reshaped is None or reshaped.op_type != "Reshape":
        return None
    return [turned, reshaped]


def _ours(nodes: list[onnx.NodeProto], last: onnx.NodeProto, known: Index) -> bool:
    """Whether nobody else reads what the nodes make on the way."""
    own = {id(node) for node in nodes}
    return all(
        id(reader) in own
        for node in nodes
        if node is not last
        for output in node.output
        for reader in known.consumers.get(output, [])
    )


def _only_reader(node: onnx.NodeProto, known: Index) -> onnx.NodeProto | None:
    readers = known.consumers.get(node.output[0], [])
    return readers[0] if len(readers) == 1 else None


def _order(node: onnx.NodeProto) -> list[int] | None:
    """The order of axes that a Transpose gives; None for other nodes."""
    if node.op_type != "Transpose":
        return None
    return next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
