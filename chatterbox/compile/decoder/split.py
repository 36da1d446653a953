"""Cuts a decoder at its mel into flow and vocoder, and a flow into encoder and estimator.

The mel is the tensor that feeds the first convolutions of the vocoder and of its pitch predictor,
which are recognised by the shapes of their weights, because names differ between exporters.
The estimator is everything that depends on the noise; the encoder is the rest. The estimator's
attention accepts cached keys and values of the prompt, so that the prompt is not computed again.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.decoder.attention import ATTENTION, QUERY_KEY_VALUE
from chatterbox.compile.graph import (
    EditableGraph,
    OpenGraph,
    UnsupportedGraph,
    ancestors,
    element_type,
    extract,
    inputs_of,
    remove_dead_nodes,
    value_info,
)
from chatterbox.runtime.decoder.compiled import probe_feeds
from chatterbox.runtime.decoder.flow import EncoderOutput, PromptKV, run_encoder
from chatterbox.runtime.decoder.graph_io import Feeds, LinearDim, ProbeLength, past_input, time_axis
from chatterbox.runtime.decoder.s3gen import MEL_BANDS

FIRST_CONV_TAPS = 7  # HiFT's conv_pre: 80 → 512 channels
PITCH_CONV_TAPS = 3  # first convolution of the f0 predictor: 80 → 512 channels
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Convolution operators and the index of their weight input."""
PASSING = ("Cast", "Identity", "Pad", "Squeeze", "Unsqueeze")
QUANTIZING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
"""PASSING and QUANTIZING: operators that may stand between the mel and a convolution."""
PROBES = (ProbeLength(5, 6), ProbeLength(5, 9), ProbeLength(8, 6), ProbeLength(9, 8))
"""Lengths of the probe runs: three determine a shape, one checks it. Short, since each costs a run
of the decoder."""


def fit_dims(seen: Mapping[ProbeLength, tuple[int, ...]]) -> list[LinearDim]:
    """Return a tensor's shape as a function of the length, from its shapes in the runs of PROBES.
    Raises UnsupportedGraph if the shape is not linear in the length."""
    base, longer, prompted, check = (seen[p] for p in PROBES)
    if len({len(shape) for shape in seen.values()}) != 1:
        raise UnsupportedGraph("a tensor's rank depends on its length")
    dims = []
    for a, b, c, d in zip(base, longer, prompted, check, strict=True):
        per_code = (b - a) // (PROBES[1].codes - PROBES[0].codes)
        per_prompt = (c - a) // (PROBES[2].prompt - PROBES[0].prompt)
        fixed = a - per_code * PROBES[0].codes - per_prompt * PROBES[0].prompt
        dims.append(LinearDim(per_code, per_prompt, fixed))
        if [dims[-1].at(p) for p in PROBES] != [a, b, c, d]:
            raise UnsupportedGraph("a tensor's size does not follow from its number of codes")
    return dims


def find_mel(model: onnx.ModelProto) -> str:
    """Return the tensor that feeds the first convolutions of the vocoder and its pitch predictor.
    Raises UnsupportedGraph if there is none."""
    graph, dims = EditableGraph(model), _weight_dims(model)
    chains: dict[int, list[list[str]]] = {}  # by the taps of convolutions over mel bands
    for node in graph.of_type(*CONVOLUTIONS):
        weight = dims.get(node.input[CONVOLUTIONS[node.op_type]], ())
        dims_1d = [d for d in weight if d != 1]  # a 1-D convolution may be written as a 2-D one
        if len(dims_1d) != 3 or dims_1d[1] != MEL_BANDS:
            continue
        chain = [node.input[0]]  # tensors that the input is a copy of, nearest first
        while (copy := graph.producer_of(chain[-1], *PASSING, *QUANTIZING)) is not None:
            chain.append(copy.input[0])
        chains.setdefault(dims_1d[2], []).append(chain)
    for first in chains.get(FIRST_CONV_TAPS, []):
        for pitch in chains.get(PITCH_CONV_TAPS, []):
            if common := [tensor for tensor in first if tensor in pitch]:
                return common[0]
    raise UnsupportedGraph("no mel feeds both a vocoder and a pitch predictor")


def _weight_dims(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Return the dimensions of initializers, constants, and tensors computed from these alone."""
    dims = {i.name: list(i.dims) for i in model.graph.initializer}
    for node in model.graph.node:  # nodes are in topological order
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            dims[node.output[0]] = list(node.attribute[0].t.dims)
        elif node.input and all(name in dims for name in inputs_of(node)):
            widest = max((dims[n] for n in inputs_of(node)), key=math.prod)
            # Weight normalisation uses only elementwise operators and reductions.
            dims |= dict.fromkeys(node.output, widest)
    return dims


def cut(model: onnx.ModelProto, mel: str, kind: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Cut a decoder into the flow, with output `mel` of element type `kind`, and the vocoder, with
    input `mel`. Raises UnsupportedGraph if both parts read the same input."""
    graph, middle = model.graph, value_info(mel, kind, 3)
    _, in_vocoder = ancestors(graph, [o.name for o in graph.output], [mel])
    _, in_flow = ancestors(graph, [mel])
    shared = sorted({i.name for i in graph.input} & in_vocoder & in_flow)
    if shared:
        raise UnsupportedGraph(f"the vocoder also reads {', '.join(shared)}")
    flow = extract(model, [i for i in graph.input if i.name in in_flow], [middle])
    inputs = [middle, *(i for i in graph.input if i.name in in_vocoder)]
    return flow, extract(model, inputs, list(graph.output))


def split_for_prompt_kv(
    flow: onnx.ModelProto, noise: Sequence[str], widths: Mapping[str, int], open_graph: OpenGraph
) -> tuple[onnx.ModelProto, onnx.ModelProto, PromptKV] | None:
    """Split a flow into encoder and estimator, and return both with the interface between them.

    `noise` names the random inputs; `widths` are the widths of keys and values. The estimator has
    an input `past_input(name)` for each key and value, and outputs these besides the mel. Returns
    None if an attention has another form, or a size does not follow from the length.
    """
    flow = remove_dead_nodes(flow)
    graph, noisy, nodes = EditableGraph(flow), set(noise), []
    constant = set(graph.stored)
    for node in flow.graph.node:
        if not noisy.isdisjoint(inputs_of(node)):
            noisy |= set(node.output)
            nodes.append(node)
        elif constant.issuperset(inputs_of(node)):
            constant |= set(node.output)
    attentions = [node for node in nodes if node.op_type == ATTENTION]
    if not attentions or any(node.op_type == "Softmax" for node in nodes):
        return None
    cached = dict.fromkeys(name for node in attentions for name in node.input[1:])
    if any(len(node.input) != QUERY_KEY_VALUE for node in attentions) or cached.keys() - widths:
        return None
    crossing = dict.fromkeys(
        n for node in nodes for n in inputs_of(node) if n not in noisy | constant
    )
    computed = [name for name in crossing if name in graph.producer]
    given = [name for name in crossing if name not in graph.producer]
    inputs = [i for i in flow.graph.input if i.name not in noise]
    encoder = extract(
        flow, inputs, [helper.make_empty_tensor_value_info(name) for name in computed]
    )
    session = open_graph(encoder)
    runs = {p: run_encoder(session, [*computed, *given], probe_feeds(p)) for p in PROBES}
    try:
        outputs = {name: _encoder_output(name, runs) for name in (*computed, *given)}
    except UnsupportedGraph:
        return None
    for node in attentions:
        new = graph.new(node.output[0])
        for i, name in enumerate(node.input[1:], 1):
            node.input[i] = new.add("Concat", [past_input(name), name], f"{i}.behind_past", axis=1)
    graph.rewrite()
    example = runs[PROBES[0]]
    inputs = [i for i in flow.graph.input if i.name in noise or i.name in given]
    inputs += [value_info(n, element_type(example[n]), example[n].ndim) for n in computed]
    inputs += [value_info(past_input(name), TensorProto.FLOAT, 3) for name in cached]
    made = [*flow.graph.output, *(value_info(name, TensorProto.FLOAT, 3) for name in cached)]
    prompt_kv = PromptKV(outputs, {name: widths[name] for name in cached})
    return encoder, extract(flow, inputs, made), prompt_kv


def _encoder_output(name: str, runs: Mapping[ProbeLength, Feeds]) -> EncoderOutput:
    """Describe a tensor between encoder and estimator. Raises UnsupportedGraph if neither its sizes
    nor its values follow from the length."""
    shape = fit_dims({length: run[name].shape for length, run in runs.items()})
    has_time = time_axis(shape) is not None
    if has_time or not np.issubdtype(runs[PROBES[0]][name].dtype, np.integer):
        return EncoderOutput(shape, None)
    numbers = {length: tuple(run[name].ravel().tolist()) for length, run in runs.items()}
    return EncoderOutput(shape, fit_dims(numbers))
