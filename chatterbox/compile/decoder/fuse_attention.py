"""Rewrites attention to one form: `MultiHeadAttention` of queries, keys and values alone.

Spelled out, it is one pattern of nodes: queries, keys and values are split into heads, multiplied,
put through a softmax, and joined again; the operator does it in one pass over the rows, without
writing the scores out. Where the operator is there already, masks that hide nothing are dropped
(`unpack_attention.py` has taken the rest apart). Exporters compute sizes, scales and masks
as they go; what they come to is not read from the nodes but observed in a few runs (`Observed`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from chatterbox.compile.decoder.graph_edit import Index, forget_unused, index, replace_nodes
from chatterbox.compile.decoder.int8_matmul import MICROSOFT, use_microsoft

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


@dataclass(frozen=True, slots=True)
class Observed:
    """What tensors around attention were in every run of the graph."""

    heads: Mapping[str, int]  # of tensors [rows, steps, heads, width]
    widths: Mapping[str, int]  # of float32 tensors [rows, steps, width]
    factors: Mapping[str, float]  # single numbers, always the same
    nothing: frozenset[str]  # always zero: masks that hide nothing when added
    everything: frozenset[str]  # tables that are never zero: masks that say what may be seen


@dataclass(frozen=True, slots=True)
class _Attention:
    """One found pattern."""

    inputs: list[str]  # queries, keys, values: [rows, steps, heads × width]
    output: str
    heads: int
    scale: float
    nodes: list[onnx.NodeProto]


def tensors_to_observe(model: onnx.ModelProto) -> list[str]:
    """The tensors that `observe` needs from every run."""
    known = index(model.graph)
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type == "Softmax":
            names |= dict.fromkeys(_tensors_around(node, known))
        elif node.op_type == ATTENTION:
            names |= dict.fromkeys(name for name in node.input if name)
    return [name for name in names if name in known.producer]


def observe(runs: Sequence[Mapping[str, NDArray[Any]]], names: Sequence[str]) -> Observed:
    """From what the tensors were in runs of different length."""
    heads: dict[str, int] = {}
    widths: dict[str, int] = {}
    factors: dict[str, float] = {}
    nothing: set[str] = set()
    everything: set[str] = set()
    for name in names:
        values = [run[name] for run in runs]
        ranks = {value.ndim for value in values}
        if ranks == {4} and len({value.shape[2:] for value in values}) == 1:
            heads[name] = values[0].shape[2]
        if ranks == {3} and {(v.shape[2], v.dtype.name) for v in values} == {
            (values[0].shape[2], "float32")
        }:
            widths[name] = values[0].shape[2]
        if all(v.size == 1 for v in values) and len({float(v.item()) for v in values}) == 1:
            factors[name] = float(values[0].item())
        if not any(np.any(value) for value in values):
            nothing.add(name)
        if all(value.ndim > 1 and np.all(value) for value in values):  # one axis: lengths
            everything.add(name)
    return Observed(heads, widths, factors, frozenset(nothing), frozenset(everything))


def fuse_attention(model: onnx.ModelProto, observed: Observed) -> int:
    """Rewrite every attention that is masked by nothing, and let go of such masks where it is one
    operator already; returns how many were rewritten. Exact but for rounding."""
    graph = model.graph
    for node in graph.node:
        if node.op_type == ATTENTION and _sees_all(node, observed):
            del node.input[QUERY_KEY_VALUE:]
    known = index(graph)
    found = [a for n in graph.node if n.op_type == "Softmax" and (a := _match(n, known, observed))]
    if found:
        insert = [
            helper.make_node(
                ATTENTION,
                a.inputs,
                [a.output],
                name=f"{a.output}/{ATTENTION}",
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


def _sees_all(node: onnx.NodeProto, observed: Observed) -> bool:
    """Whether all that an attention has besides queries, keys and values hides nothing."""
    harmless = {KEY_MASK: observed.everything, SCORE_BIAS: observed.nothing}
    more = [(i, name) for i, name in enumerate(node.input) if i >= QUERY_KEY_VALUE and name]
    return all(name in harmless.get(i, ()) for i, name in more)


def _tensors_around(softmax: onnx.NodeProto, known: Index) -> list[str]:
    """Whatever may have to be known of an attention: its mask, scales and parted tensors."""
    scores = known.producer.get(softmax.input[0])
    names: list[str] = []
    while scores is not None and scores.op_type in ("Add", *SCALING):
        names += list(scores.input)
        made = (known.producer.get(name) for name in scores.input)
        found = [n for n in made if n is not None and n.op_type in ("MatMul", *SCALING)]
        scores = found[0] if found else None
    weighted = _only_reader(softmax, known)
    if scores is None or scores.op_type != "MatMul" or weighted is None:
        return []
    for name in (*scores.input, weighted.input[-1]):
        node = known.producer.get(name)
        while node is not None and node.op_type in (*SCALING, "Transpose", "Reshape"):
            names += list(node.input)
            node = known.producer.get(node.input[0])
    return names


def _match(softmax: onnx.NodeProto, known: Index, observed: Observed) -> _Attention | None:
    """The attention whose softmax this is; None where anything differs from the pattern."""
    nodes, tensor = [softmax], softmax.input[0]
    masked = known.producer.get(tensor)
    if masked is not None and masked.op_type == "Add":
        nodes.append(masked)
        rest = [name for name in masked.input if name not in observed.nothing]
        if len(rest) != 1:
            return None
        tensor = rest[0]
    scale, tensor, scaling = _scaled(tensor, known, observed)
    nodes += scaling
    scores = known.producer.get(tensor)
    weighted = _only_reader(softmax, known)
    if scores is None or scores.op_type != "MatMul":
        return None
    if weighted is None or weighted.op_type != "MatMul" or weighted.input[0] != softmax.output[0]:
        return None
    nodes += [scores, weighted]
    tensors = []
    for name in scores.input:
        factor, name, scaling = _scaled(name, known, observed)
        scale *= factor
        nodes += scaling
        tensors.append(name)
    turned = known.producer.get(tensors[1])
    if turned is not None and _order(turned) == KEYS_TURNED:
        nodes.append(turned)
        tensors[1] = turned.input[0]
        keys = _split_heads(tensors[1], known, observed)
    else:
        keys = _split_heads(tensors[1], known, observed, KEYS_AT_ONCE)
    parts = [
        _split_heads(tensors[0], known, observed),
        keys,
        _split_heads(weighted.input[1], known, observed),
    ]
    joined = _merge_heads(weighted, known)
    if joined is None or any(part is None for part in parts):
        return None
    whole = [p for p in parts if p is not None]
    nodes += [node for part in whole for node in part[1]] + joined
    own = _exclusive_nodes(nodes, joined[-1], known)
    if own is None or len({heads for _, _, heads in whole}) != 1:
        return None
    inputs = [name for name, _, _ in whole]
    return _Attention(inputs, joined[-1].output[0], whole[0][2], scale, own)


def _scaled(name: str, known: Index, observed: Observed) -> tuple[float, str, list[onnx.NodeProto]]:
    """What `name` is a multiple of, by how much, and the node that multiplies."""
    node = known.producer.get(name)
    if node is None or node.op_type not in SCALING:
        return 1.0, name, []
    constant = known.initializers.get(node.input[1])
    if constant is not None and list(constant.dims) in ([], [1]):
        factor = float(numpy_helper.to_array(constant).item())
    elif node.input[1] in observed.factors:
        factor = observed.factors[node.input[1]]
    else:
        return 1.0, name, []
    return factor if node.op_type == "Mul" else 1 / factor, node.input[0], [node]


def _split_heads(
    name: str, known: Index, observed: Observed, order: Sequence[int] = HEADS_FIRST
) -> tuple[str, list[onnx.NodeProto], int] | None:
    """What was parted into heads to give `name`, the two nodes that did it, and how many heads."""
    turned = known.producer.get(name)
    if turned is None or _order(turned) != list(order):
        return None
    reshaped = known.producer.get(turned.input[0])
    heads = observed.heads.get(turned.input[0], 0)
    if reshaped is None or reshaped.op_type != "Reshape" or heads == 0:
        return None
    return reshaped.input[0], [reshaped, turned], heads


def _merge_heads(weighted: onnx.NodeProto, known: Index) -> list[onnx.NodeProto] | None:
    """The two nodes that put the heads of `weighted` side by side again."""
    turned = _only_reader(weighted, known)
    if turned is None or _order(turned) != HEADS_FIRST:
        return None
    reshaped = _only_reader(turned, known)
    if reshaped is None or reshaped.op_type != "Reshape":
        return None
    return [turned, reshaped]


def _exclusive_nodes(
    nodes: list[onnx.NodeProto], last: onnx.NodeProto, known: Index
) -> list[onnx.NodeProto] | None:
    """The nodes, and those that only work out sizes for them; None if anybody else reads what they
    make on the way."""
    own = {id(node): node for node in nodes}
    made = [name for node in nodes if node is not last for name in node.output]
    for reader in [r for name in made for r in known.consumers.get(name, [])]:
        if id(reader) not in own:
            sizes = _sizes_for(reader, own, known)
            if sizes is None:
                return None
            own |= sizes
    return list(own.values())


def _sizes_for(
    shape: onnx.NodeProto, own: Mapping[int, onnx.NodeProto], known: Index
) -> dict[int, onnx.NodeProto] | None:
    """All that follows from a `Shape`, where it ends in `own`; None where it does not."""
    if shape.op_type != "Shape":
        return None
    met, waiting = {id(shape): shape}, [shape]
    while waiting:
        for output in waiting.pop().output:
            readers = known.consumers.get(output, [])
            if not readers:
                return None
            new = {id(r): r for r in readers if id(r) not in own and id(r) not in met}
            met |= new
            waiting += new.values()
    return met


def _only_reader(node: onnx.NodeProto, known: Index) -> onnx.NodeProto | None:
    readers = known.consumers.get(node.output[0], [])
    return readers[0] if len(readers) == 1 else None


def _order(node: onnx.NodeProto) -> list[int] | None:
    """The order of axes that a Transpose gives; None for other nodes."""
    if node.op_type != "Transpose":
        return None
    return next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
