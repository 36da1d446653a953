"""Cuts a flow into encoder and estimator, and gives the estimator a cache of keys and values.

The estimator is whatever depends on the noise, the encoder is the rest. Attention of the estimator
gets keys and values from outside before its own, so that a prompt need not go through it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from chatterbox.compile.decoder.fit_dims import PROBES, fit_dims
from chatterbox.compile.decoder.fuse_attention import ATTENTION, QUERY_KEY_VALUE
from chatterbox.compile.decoder.graph_edit import NotSplittable, cut_out, index, reads, value
from chatterbox.compile.decoder.introspect import OpenGraph
from chatterbox.runtime.decoder.compiled import PromptKV, probe_feeds
from chatterbox.runtime.decoder.flow import EncoderOutput, tell
from chatterbox.runtime.decoder.graph_io import Feeds, ProbeLength, past, time_axis


@dataclass(frozen=True, slots=True, eq=False)
class EncoderEstimator:
    """A flow in two graphs."""

    encoder: onnx.ModelProto
    told: list[str]  # the encoder's outputs: all that it tells the estimator
    given: list[str]  # inputs of the flow that the estimator reads itself
    kept: list[str]  # keys and values of the estimator's attentions: [1, frames, width] each


def split_estimator(flow: onnx.ModelProto, noise: Sequence[str]) -> EncoderEstimator | None:
    """None where an attention is not of the one form that can remember."""
    flow = cut_out(flow, list(flow.graph.input), list(flow.graph.output))  # without dead nodes
    estimator, behind = _behind(flow.graph, noise)
    attentions = [node for node in estimator if node.op_type == ATTENTION]
    if not attentions or any(node.op_type == "Softmax" for node in estimator):
        return None
    if any(len(node.input) != QUERY_KEY_VALUE for node in attentions):
        return None
    constant = _constant(flow.graph)
    crossing = {
        name: None
        for node in estimator
        for name in reads(node)
        if name not in behind and name not in constant
    }
    made = index(flow.graph).producer
    told = [name for name in crossing if name in made]
    inputs = [i for i in flow.graph.input if i.name not in noise]
    encoder = cut_out(flow, inputs, [helper.make_empty_tensor_value_info(name) for name in told])
    kept = {name: None for node in attentions for name in node.input[1:]}
    return EncoderEstimator(encoder, told, [n for n in crossing if n not in made], list(kept))


def estimator(
    flow: onnx.ModelProto,
    noise: Sequence[str],
    halved: EncoderEstimator,
    kinds: Mapping[str, tuple[int, int]],
) -> onnx.ModelProto:
    """The second half. `kinds`: element type and rank of what the encoder tells. It has an input
    `past(name)` for every name in `halved.kept`, and gives these as outputs besides the mel."""
    model = onnx.ModelProto()
    model.CopyFrom(flow)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == ATTENTION and node.input[1] in halved.kept:
            for i in range(1, QUERY_KEY_VALUE):
                name = node.input[i]
                both = f"{name}.{len(nodes)}"
                nodes.append(helper.make_node("Concat", [past(name), name], [both], axis=1))
                node.input[i] = both
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    floats = onnx.TensorProto.FLOAT
    declared = [i for i in flow.graph.input if i.name in noise or i.name in halved.given]
    declared += [value(name, *kinds[name]) for name in halved.told]
    pasts = [value(past(name), floats, 3) for name in halved.kept]
    known = {i.name for i in model.graph.input}
    model.graph.input.extend(i for i in [*declared, *pasts] if i.name not in known)
    kept = [value(name, floats, 3) for name in halved.kept]
    return cut_out(model, [*declared, *pasts], [*flow.graph.output, *kept])


def split_for_prompt_kv(
    flow: onnx.ModelProto,
    noise: Sequence[str],
    widths: Mapping[str, int],
    open_graph: OpenGraph,
) -> tuple[onnx.ModelProto, onnx.ModelProto, PromptKV] | None:
    """The encoder, the estimator and what the one hands to the other; `widths` of keys and values;
    None where a flow has no such halves."""
    halved = split_estimator(flow, noise)
    if halved is None or not set(halved.kept) <= set(widths):
        return None
    encoder = open_graph(halved.encoder)
    names = [*halved.told, *halved.given]
    runs = {length: tell(encoder, names, probe_feeds(length)) for length in PROBES}
    try:
        told = {name: _law(name, runs) for name in names}
    except NotSplittable:
        return None
    some = runs[PROBES[0]]
    kinds = {
        name: (int(helper.np_dtype_to_tensor_dtype(some[name].dtype)), some[name].ndim)
        for name in halved.told
    }
    kept = {name: widths[name] for name in halved.kept}
    return halved.encoder, estimator(flow, noise, halved, kinds), PromptKV(told, kept)


def _law(name: str, runs: Mapping[ProbeLength, Feeds]) -> EncoderOutput:
    """Raises NotSplittable where neither sizes nor numbers follow from the length."""
    shape = fit_dims({length: run[name].shape for length, run in runs.items()})
    sized = time_axis(shape) is not None
    if sized or not np.issubdtype(runs[PROBES[0]][name].dtype, np.integer):
        return EncoderOutput(shape, None)
    numbers = {length: tuple(run[name].ravel().tolist()) for length, run in runs.items()}
    return EncoderOutput(shape, fit_dims(numbers))


def _behind(graph: onnx.GraphProto, noise: Sequence[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes and names that depend on the noise; nodes stand in order."""
    names = set(noise)
    nodes = []
    for node in graph.node:
        if any(name in names for name in reads(node)):
            names |= set(node.output)
            nodes.append(node)
    return nodes, names


def _constant(graph: onnx.GraphProto) -> set[str]:
    """Weights, and what is computed from nothing else."""
    names = {i.name for i in graph.initializer}
    for node in graph.node:
        if all(name in names for name in reads(node)):
            names |= set(node.output)
    return names
