"""Cuts a decoder at its mel into flow and vocoder, and a flow into encoder and estimator.

The mel is what feeds the vocoder's two first convolutions, recognised by the shapes of their
weights: names are every exporter's own. The estimator is whatever depends on the noise, the encoder
is the rest. Attention of the estimator gets keys and values from outside before its own, so that a
prompt need not go through it again.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.decoder.attention import ATTENTION, QUERY_KEY_VALUE
from chatterbox.compile.graph import (
    EditableGraph,
    NotSplittable,
    OpenGraph,
    before,
    cut_out,
    element_type,
    reads,
    value,
    without_dead_nodes,
)
from chatterbox.runtime.decoder.compiled import probe_feeds
from chatterbox.runtime.decoder.flow import EncoderOutput, PromptKV, tell
from chatterbox.runtime.decoder.graph_io import Feeds, LinearDim, ProbeLength, past, time_axis
from chatterbox.runtime.decoder.s3gen import MEL_BANDS

FIRST_CONV_TAPS = 7  # HiFT's conv_pre: 80 → 512, 7 taps
PITCH_CONV_TAPS = 3  # the f0 predictor's first: 80 → 512, 3 taps
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Operators that convolve, and at which input their weight stands."""
PASSING = ("Cast", "Identity", "Pad", "Squeeze", "Unsqueeze")
QUANTIZING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
"""What else may stand between the mel and a convolution."""
PROBES = (ProbeLength(5, 6), ProbeLength(5, 9), ProbeLength(8, 6), ProbeLength(9, 8))
"""Three to find an extent, one more to check it. Small, since each is a run of the decoder."""


def fit_dims(seen: Mapping[ProbeLength, tuple[int, ...]]) -> list[LinearDim]:
    """The law of every axis, from a tensor's sizes in a few runs. Raises NotSplittable where they
    follow none."""
    base, longer, prompted, check = (seen[p] for p in PROBES)
    if len({len(shape) for shape in seen.values()}) != 1:
        raise NotSplittable("a tensor's rank depends on its length")
    made = []
    for a, b, c, d in zip(base, longer, prompted, check, strict=True):
        per_code = (b - a) // (PROBES[1].codes - PROBES[0].codes)
        per_prompt = (c - a) // (PROBES[2].prompt - PROBES[0].prompt)
        fixed = a - per_code * PROBES[0].codes - per_prompt * PROBES[0].prompt
        made.append(LinearDim(per_code, per_prompt, fixed))
        if [made[-1].at(p) for p in PROBES] != [a, b, c, d]:
            raise NotSplittable("a tensor's size does not follow from its number of codes")
    return made


def find_mel(model: onnx.ModelProto) -> str:
    """The tensor that feeds both of the vocoder's first convolutions. Raises NotSplittable."""
    graph, dims = EditableGraph(model), _weight_dims(model)
    found: dict[int, list[list[str]]] = {}  # by the taps of convolutions over mel bands
    for node in graph.of_type(*CONVOLUTIONS):
        weight = dims.get(node.input[CONVOLUTIONS[node.op_type]], ())
        plain = [d for d in weight if d != 1]  # a 1-D convolution may be written as a 2-D one
        if len(plain) != 3 or plain[1] != MEL_BANDS:
            continue
        chain = [node.input[0]]  # what it is a copy of, nearest first
        while (copy := graph.maker(chain[-1], *PASSING, *QUANTIZING)) is not None:
            chain.append(copy.input[0])
        found.setdefault(plain[2], []).append(chain)
    for first in found.get(FIRST_CONV_TAPS, []):
        for pitch in found.get(PITCH_CONV_TAPS, []):
            if common := [tensor for tensor in first if tensor in pitch]:
                return common[0]
    raise NotSplittable("no mel feeds both a vocoder and a pitch predictor")


def _weight_dims(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Dimensions of initializers and constants, and of what is computed from these alone."""
    dims = {i.name: list(i.dims) for i in model.graph.initializer}
    for node in model.graph.node:  # nodes stand in order
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            dims[node.output[0]] = list(node.attribute[0].t.dims)
        elif node.input and all(name in dims for name in reads(node)):
            widest = max((dims[n] for n in reads(node)), key=math.prod)
            dims |= dict.fromkeys(node.output, widest)  # weight norm: elementwise, reductions
    return dims


def cut(model: onnx.ModelProto, mel: str, kind: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The flow, which gives the tensor `mel` of element type `kind`, and the vocoder, which is
    given it. Raises NotSplittable if the vocoder needs anything else of the flow."""
    graph, middle = model.graph, value(mel, kind, 3)
    _, behind = before(graph, [o.name for o in graph.output], [mel])
    _, ahead = before(graph, [mel])
    shared = sorted({i.name for i in graph.input} & behind & ahead)
    if shared:
        raise NotSplittable(f"the vocoder also reads {', '.join(shared)}")
    flow = cut_out(model, [i for i in graph.input if i.name in ahead], [middle])
    inputs = [middle, *(i for i in graph.input if i.name in behind)]
    return flow, cut_out(model, inputs, list(graph.output))


def split_for_prompt_kv(
    flow: onnx.ModelProto, noise: Sequence[str], widths: Mapping[str, int], open_graph: OpenGraph
) -> tuple[onnx.ModelProto, onnx.ModelProto, PromptKV] | None:
    """The encoder, the estimator and what the one hands to the other; `widths` of keys and values.
    The estimator has an input `past(name)` for all of these, and gives them besides the mel. None
    where a flow has no such halves: where an attention is not of the one form that can remember."""
    flow = without_dead_nodes(flow)
    graph, behind, nodes = EditableGraph(flow), set(noise), []
    constant = set(graph.stored)
    for node in flow.graph.node:
        if not behind.isdisjoint(reads(node)):
            behind |= set(node.output)
            nodes.append(node)
        elif constant.issuperset(reads(node)):
            constant |= set(node.output)
    attentions = [node for node in nodes if node.op_type == ATTENTION]
    if not attentions or any(node.op_type == "Softmax" for node in nodes):
        return None
    kept = dict.fromkeys(name for node in attentions for name in node.input[1:])
    if any(len(node.input) != QUERY_KEY_VALUE for node in attentions) or kept.keys() - widths:
        return None
    crossing = dict.fromkeys(n for node in nodes for n in reads(node) if n not in behind | constant)
    told = [name for name in crossing if name in graph.producer]
    given = [name for name in crossing if name not in graph.producer]
    inputs = [i for i in flow.graph.input if i.name not in noise]
    encoder = cut_out(flow, inputs, [helper.make_empty_tensor_value_info(name) for name in told])
    session = open_graph(encoder)
    runs = {p: tell(session, [*told, *given], probe_feeds(p)) for p in PROBES}
    try:
        outputs = {name: _law(name, runs) for name in (*told, *given)}
    except NotSplittable:
        return None
    for node in attentions:
        new = graph.new(node.output[0])
        for i, name in enumerate(node.input[1:], 1):
            node.input[i] = new.add("Concat", [past(name), name], f"{i}.behind_past", axis=1)
    graph.rewrite()
    some = runs[PROBES[0]]
    read = [i for i in flow.graph.input if i.name in noise or i.name in given]
    read += [value(name, element_type(some[name]), some[name].ndim) for name in told]
    read += [value(past(name), TensorProto.FLOAT, 3) for name in kept]
    made = [*flow.graph.output, *(value(name, TensorProto.FLOAT, 3) for name in kept)]
    prompt_kv = PromptKV(outputs, {name: widths[name] for name in kept})
    return encoder, cut_out(flow, read, made), prompt_kv


def _law(name: str, runs: Mapping[ProbeLength, Feeds]) -> EncoderOutput:
    """Raises NotSplittable where neither sizes nor numbers follow from the length."""
    shape = fit_dims({length: run[name].shape for length, run in runs.items()})
    sized = time_axis(shape) is not None
    if sized or not np.issubdtype(runs[PROBES[0]][name].dtype, np.integer):
        return EncoderOutput(shape, None)
    numbers = {length: tuple(run[name].ravel().tolist()) for length, run in runs.items()}
    return EncoderOutput(shape, fit_dims(numbers))
