"""Rewrites attention into `MultiHeadAttention` nodes with no inputs but queries, keys and values.

Most exporters write attention as a fixed pattern of nodes: split into heads, multiply, softmax,
multiply, join. The operator does this in one pass over the rows, without writing the scores to
memory. Where the exporter already used the operator, packed inputs are unpacked, the bias is added
separately, and masks that hide nothing are dropped. Exported graphs compute sizes, scales and
masks, so their values are observed in a few runs (`Observed`) instead of derived from the nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto

from chatterbox.compile.graph import MICROSOFT, EditableGraph, attributes
from chatterbox.runtime.decoder.graph_io import Feeds

HEADS_FIRST = [0, 2, 1, 3]
TRANSPOSED_KEYS = [0, 1, 3, 2]
HEADS_FIRST_TRANSPOSED_KEYS = [0, 2, 3, 1]
"""HEADS_FIRST and TRANSPOSED_KEYS in one Transpose."""
ATTENTION = "MultiHeadAttention"
SCALING = ("Mul", "Div")
QUERY_KEY_VALUE = 3  # number of inputs before the optional inputs
BIAS = 3  # index of the bias of queries, keys and values, concatenated
KEY_MASK = 4  # index of the mask of visible keys
SCORE_BIAS = 5  # index of the tensor added to the scores


@dataclass(slots=True)
class Observed:
    """Properties of tensors around attention that every probe run shares, by tensor name."""

    heads: dict[str, int] = field(default_factory=dict)  # of tensors [rows, steps, heads, width]
    widths: dict[str, int] = field(default_factory=dict)  # of float32 tensors [rows, steps, width]
    factors: dict[str, float] = field(default_factory=dict)  # values of constant scalars
    zeros: set[str] = field(default_factory=set)  # always zero: additive masks that hide nothing
    nonzeros: set[str] = field(default_factory=set)  # never zero: masks that show every key


def unpack_attention(model: onnx.ModelProto) -> None:
    """Give every MultiHeadAttention separate queries, keys and values, with the bias already added.

    The operator also accepts keys and values packed into one tensor, one bias for all three, and
    all three packed as [rows, steps, heads, 3, width], for which onnxruntime has no CPU kernel.
    """
    graph = EditableGraph(model)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))

    def split(name: str, prefix: str, count: int, axis: int) -> list[str]:
        attrs = {"axis": axis} | ({"num_outputs": count} if opset >= 18 else {})
        return new.add_many("Split", [name], [f"{prefix}.{i}" for i in range(count)], **attrs)

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
    """Return the tensors whose values `observe` needs from every run."""
    graph = EditableGraph(model)
    names = [name for node in graph.of_type(ATTENTION) for name in node.input]
    for softmax in graph.of_type("Softmax"):
        names += _tensors_around(softmax, graph)
    return [name for name in dict.fromkeys(names) if name in graph.producer]


def _tensors_around(softmax: NodeProto, graph: EditableGraph) -> list[str]:
    """Return the masks, scales and head-split tensors of the attention around `softmax`."""
    names: list[str] = []
    scores = graph.producer_of(softmax.input[0], "Add", "MatMul", *SCALING)
    while scores is not None and scores.op_type != "MatMul":
        names += scores.input
        producers = (graph.producer_of(name, "MatMul", *SCALING) for name in scores.input)
        scores = next(filter(None, producers), None)
    weighted = graph.only_consumer(softmax.output[0], "MatMul")
    if scores is None or weighted is None:
        return []
    for name in (*scores.input, weighted.input[-1]):
        while (node := graph.producer_of(name, *SCALING, "Transpose", "Reshape")) is not None:
            names += node.input
            name = node.input[0]
    return names


def observe(runs: Sequence[Feeds], names: Sequence[str]) -> Observed:
    """Collect the properties of tensors from runs of different length."""
    observed = Observed()
    for name in names:
        values = [run[name] for run in runs]
        first, ranks = values[0], {value.ndim for value in values}
        if ranks == {4} and len({value.shape[2:] for value in values}) == 1:
            observed.heads[name] = first.shape[2]
        of_one_width = ranks == {3} and len({value.shape[2] for value in values}) == 1
        if of_one_width and first.dtype == np.float32:
            observed.widths[name] = first.shape[2]
        if all(v.size == 1 for v in values) and len({float(v.item()) for v in values}) == 1:
            observed.factors[name] = float(first.item())
        if not any(np.any(value) for value in values):
            observed.zeros.add(name)
        if 1 not in ranks and 0 not in ranks and all(np.all(value) for value in values):
            observed.nonzeros.add(name)  # tensors with one axis are lengths, not masks
    return observed


def fuse_attention(model: onnx.ModelProto, observed: Observed) -> int:
    """Replace every unmasked attention pattern by one operator; from existing operators, drop masks
    that hide nothing. Returns the number of replacements. Exact except for rounding."""
    graph = EditableGraph(model)
    harmless = {KEY_MASK: observed.nonzeros, SCORE_BIAS: observed.zeros}
    for node in graph.of_type(ATTENTION):
        optional = [(i, name) for i, name in enumerate(node.input) if i >= QUERY_KEY_VALUE and name]
        if all(name in harmless.get(i, ()) for i, name in optional):
            del node.input[QUERY_KEY_VALUE:]
    for softmax in graph.of_type("Softmax"):
        if (match := _match(softmax, graph, observed)) is not None:
            inputs, output, options = match
            graph.new(output).add(ATTENTION, inputs, "", MICROSOFT, **options)
    return graph.rewrite()


def _match(
    softmax: NodeProto, graph: EditableGraph, observed: Observed
) -> tuple[list[str], str, Mapping[str, float]] | None:
    """Return the inputs, output and attributes of the attention that contains `softmax`; None if it
    differs from the pattern."""
    tensor = softmax.input[0]
    if (masked := graph.producer_of(tensor, "Add")) is not None:
        rest = [name for name in masked.input if name not in observed.zeros]
        if len(rest) != 1:
            return None
        (tensor,) = rest
    scale, tensor = graph.split_scale(tensor, observed.factors)
    scores = graph.producer_of(tensor, "MatMul")
    weighted = graph.only_consumer(softmax.output[0], "MatMul")
    if scores is None or weighted is None or weighted.input[0] != softmax.output[0]:
        return None
    (query_scale, queries), (key_scale, keys) = (
        graph.split_scale(name, observed.factors) for name in scores.input
    )
    untransposed, order = _before_transpose(keys, TRANSPOSED_KEYS, graph), HEADS_FIRST
    if untransposed is None:
        untransposed, order = keys, HEADS_FIRST_TRANSPOSED_KEYS
    parts = [
        _split_heads(queries, HEADS_FIRST, graph, observed),
        _split_heads(untransposed, order, graph, observed),
        _split_heads(weighted.input[1], HEADS_FIRST, graph, observed),
    ]
    mixed = graph.only_consumer(weighted.output[0], "Transpose")
    joined = graph.only_consumer(mixed.output[0], "Reshape") if mixed is not None else None
    if mixed is None or joined is None or attributes(mixed).get("perm") != HEADS_FIRST:
        return None
    inputs, heads = [name for name, _ in parts], {count for _, count in parts}
    if len(heads) != 1 or 0 in heads:
        return None
    scale *= query_scale * key_scale
    return inputs, joined.output[0], {"num_heads": heads.pop(), "scale": scale}


def _before_transpose(name: str, order: Sequence[int], graph: EditableGraph) -> str | None:
    """Return the input of the Transpose with this order of axes that produces `name`, or None."""
    node = graph.producer_of(name, "Transpose")
    return node.input[0] if node is not None and attributes(node).get("perm") == order else None


def _split_heads(
    name: str, order: Sequence[int], graph: EditableGraph, observed: Observed
) -> tuple[str, int]:
    """Return the tensor that is split into heads to produce `name`, and the number of heads; 0 if
    `name` is not split."""
    split = _before_transpose(name, order, graph)
    reshaped = graph.producer_of(split, "Reshape") if split is not None else None
    if split is None or reshaped is None:
        return name, 0
    return reshaped.input[0], observed.heads.get(split, 0)
