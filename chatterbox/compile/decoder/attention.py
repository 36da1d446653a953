"""Rewrites attention to one form: `MultiHeadAttention` of queries, keys and values alone.

Spelled out, it is one pattern of nodes: queries, keys and values are split into heads, multiplied,
put through a softmax, and joined again; the operator does it in one pass over the rows, without
writing the scores out. Where the operator is there already, what is packed is taken apart, its bias
is added before it, and masks that hide nothing are dropped. Exporters compute sizes, scales and
masks as they go; what they come to is not read from the nodes but observed in a few runs
(`Observed`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto

from chatterbox.compile.graph import MICROSOFT, EditableGraph, attributes
from chatterbox.runtime.decoder.graph_io import Feeds

HEADS_FIRST = [0, 2, 1, 3]
KEYS_TURNED = [0, 1, 3, 2]
KEYS_AT_ONCE = [0, 2, 3, 1]
"""Both in one Transpose."""
ATTENTION = "MultiHeadAttention"
SCALING = ("Mul", "Div")
QUERY_KEY_VALUE = 3  # its first inputs
BIAS = 3  # its inputs behind these: a bias of queries, keys and values side by side,
KEY_MASK = 4  # which keys may be seen,
SCORE_BIAS = 5  # and what is added to the scores


@dataclass(slots=True)
class Observed:
    """What tensors around attention were in every run of the graph."""

    heads: dict[str, int] = field(default_factory=dict)  # of tensors [rows, steps, heads, width]
    widths: dict[str, int] = field(default_factory=dict)  # of float32 tensors [rows, steps, width]
    factors: dict[str, float] = field(default_factory=dict)  # single numbers, always the same
    nothing: set[str] = field(default_factory=set)  # always zero: masks that hide nothing if added
    everything: set[str] = field(default_factory=set)  # tables never zero: what may be seen


def unpack_attention(model: onnx.ModelProto) -> None:
    """Give every attention queries, keys and values as three inputs, its bias already added. The
    operator also takes all three packed, [rows, steps, heads, 3, width] (for which onnxruntime has
    no kernel on a CPU), keys and values packed likewise, and one bias for all three."""
    graph = EditableGraph(model)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))

    def split(name: str, what: str, count: int, axis: int) -> list[str]:
        given = {"axis": axis} | ({"num_outputs": count} if opset >= 18 else {})
        return new.add_many("Split", [name], [f"{what}.{i}" for i in range(count)], **given)

    for node in graph.of_type(ATTENTION):
        inputs = [*node.input, *[""] * (BIAS + 1 - len(node.input))]
        parts, new = inputs[:QUERY_KEY_VALUE], graph.new(f"{node.output[0]}.unpacked")
        if packed := [part for part in parts if part] if not parts[2] else []:
            flat = new.stored("flat", [0, 0, -1])
            apart = split(packed[-1], "part", 4 - len(packed), 3)
            parts = packed[:-1]
            parts += [new.add("Reshape", [p, flat], f"flat.{i}") for i, p in enumerate(apart)]
        if inputs[BIAS]:
            pairs = zip(parts, split(inputs[BIAS], "bias", QUERY_KEY_VALUE, 0), strict=True)
            parts = [new.add("Add", pair, f"biased.{i}") for i, pair in enumerate(pairs)]
        node.input[:] = [*parts, *([""] if len(inputs) > BIAS + 1 else []), *inputs[BIAS + 1 :]]
    graph.rewrite()


def tensors_to_observe(model: onnx.ModelProto) -> list[str]:
    """The tensors that `observe` needs from every run."""
    graph = EditableGraph(model)
    names = [name for node in graph.of_type(ATTENTION) for name in node.input]
    for softmax in graph.of_type("Softmax"):
        names += _tensors_around(softmax, graph)
    return [name for name in dict.fromkeys(names) if name in graph.producer]


def _tensors_around(softmax: NodeProto, graph: EditableGraph) -> list[str]:
    """Whatever may have to be known of an attention: its mask, scales and parted tensors."""
    names: list[str] = []
    scores = graph.maker(softmax.input[0], "Add", "MatMul", *SCALING)
    while scores is not None and scores.op_type != "MatMul":
        names += scores.input
        made = (graph.maker(name, "MatMul", *SCALING) for name in scores.input)
        scores = next(filter(None, made), None)
    weighted = graph.reader(softmax.output[0], "MatMul")
    if scores is None or weighted is None:
        return []
    for name in (*scores.input, weighted.input[-1]):
        while (node := graph.maker(name, *SCALING, "Transpose", "Reshape")) is not None:
            names += node.input
            name = node.input[0]
    return names


def observe(runs: Sequence[Feeds], names: Sequence[str]) -> Observed:
    """From what the tensors were in runs of different length."""
    found = Observed()
    for name in names:
        values = [run[name] for run in runs]
        first, ranks = values[0], {value.ndim for value in values}
        if ranks == {4} and len({value.shape[2:] for value in values}) == 1:
            found.heads[name] = first.shape[2]
        of_one_width = ranks == {3} and len({value.shape[2] for value in values}) == 1
        if of_one_width and first.dtype == np.float32:
            found.widths[name] = first.shape[2]
        if all(v.size == 1 for v in values) and len({float(v.item()) for v in values}) == 1:
            found.factors[name] = float(first.item())
        if not any(np.any(value) for value in values):
            found.nothing.add(name)
        if 1 not in ranks and 0 not in ranks and all(np.all(value) for value in values):
            found.everything.add(name)  # one axis: lengths
    return found


def fuse_attention(model: onnx.ModelProto, observed: Observed) -> int:
    """Rewrite every attention that is masked by nothing, and let go of such masks where it is one
    operator already; returns how many were rewritten. Exact but for rounding."""
    graph = EditableGraph(model)
    harmless = {KEY_MASK: observed.everything, SCORE_BIAS: observed.nothing}
    for node in graph.of_type(ATTENTION):
        more = [(i, name) for i, name in enumerate(node.input) if i >= QUERY_KEY_VALUE and name]
        if all(name in harmless.get(i, ()) for i, name in more):
            del node.input[QUERY_KEY_VALUE:]
    for softmax in graph.of_type("Softmax"):
        if (found := _match(softmax, graph, observed)) is not None:
            inputs, output, how = found
            graph.new(output).add(ATTENTION, inputs, "", MICROSOFT, **how)
    return graph.rewrite()


def _match(
    softmax: NodeProto, graph: EditableGraph, observed: Observed
) -> tuple[list[str], str, Mapping[str, float]] | None:
    """The inputs, the output and the attributes of the attention whose softmax this is; None where
    anything differs from the pattern."""
    tensor = softmax.input[0]
    if (masked := graph.maker(tensor, "Add")) is not None:
        rest = [name for name in masked.input if name not in observed.nothing]
        if len(rest) != 1:
            return None
        (tensor,) = rest
    scale, tensor = graph.multiple(tensor, observed.factors)
    scores = graph.maker(tensor, "MatMul")
    weighted = graph.reader(softmax.output[0], "MatMul")
    if scores is None or weighted is None or weighted.input[0] != softmax.output[0]:
        return None
    (by_queries, queries), (by_keys, keys) = (
        graph.multiple(name, observed.factors) for name in scores.input
    )
    turned, order = _turned(keys, KEYS_TURNED, graph), HEADS_FIRST
    if turned is None:
        turned, order = keys, KEYS_AT_ONCE
    parts = [
        _split_heads(queries, HEADS_FIRST, graph, observed),
        _split_heads(turned, order, graph, observed),
        _split_heads(weighted.input[1], HEADS_FIRST, graph, observed),
    ]
    mixed = graph.reader(weighted.output[0], "Transpose")
    joined = graph.reader(mixed.output[0], "Reshape") if mixed is not None else None
    if mixed is None or joined is None or attributes(mixed).get("perm") != HEADS_FIRST:
        return None
    inputs, heads = [name for name, _ in parts], {count for _, count in parts}
    if len(heads) != 1 or 0 in heads:
        return None
    scale *= by_queries * by_keys
    return inputs, joined.output[0], {"num_heads": heads.pop(), "scale": scale}


def _turned(name: str, order: Sequence[int], graph: EditableGraph) -> str | None:
    """What `name` is a transposition of, in this order of axes."""
    node = graph.maker(name, "Transpose")
    return node.input[0] if node is not None and attributes(node).get("perm") == order else None


def _split_heads(
    name: str, order: Sequence[int], graph: EditableGraph, observed: Observed
) -> tuple[str, int]:
    """What was parted into heads to give `name`, and into how many; 0: it was not."""
    turned = _turned(name, order, graph)
    reshaped = graph.maker(turned, "Reshape") if turned is not None else None
    if turned is None or reshaped is None:
        return name, 0
    return reshaped.input[0], observed.heads.get(turned, 0)
