"""Finds the mel between flow and vocoder, and cuts the graph there.

The mel is what feeds the vocoder's two first convolutions, recognised by the shapes of their
weights: names are every exporter's own.
"""

import math
from collections.abc import Sequence

import onnx

from chatterbox.compile.decoder.graph_edit import (
    Index,
    NotSplittable,
    before,
    cut_out,
    index,
    reads,
    value,
)
from chatterbox.runtime.decoder.s3gen import MEL_BANDS

FIRST_CONV_TAPS = 7  # HiFT's conv_pre: 80 → 512, 7 taps
PITCH_CONV_TAPS = 3  # the f0 predictor's first: 80 → 512, 3 taps
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Operators that convolve, and at which input their weight stands."""
PASSING = frozenset(
    {"Cast", "Identity", "Pad", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}
    | {"DynamicQuantizeLinear"}
)
"""What may stand between the mel and a convolution."""


def find_mel(model: onnx.ModelProto) -> str:
    """The tensor that feeds both of the vocoder's first convolutions. Raises NotSplittable."""
    graph = index(model.graph)
    dims = _weight_dims(model)
    found = {
        taps: [
            node
            for node in model.graph.node
            if node.op_type in CONVOLUTIONS
            and _taps(dims.get(node.input[CONVOLUTIONS[node.op_type]], ())) == taps
        ]
        for taps in (FIRST_CONV_TAPS, PITCH_CONV_TAPS)
    }
    for first in found[FIRST_CONV_TAPS]:
        for pitch in found[PITCH_CONV_TAPS]:
            behind = set(_upwards(pitch.input[0], graph))
            for tensor in _upwards(first.input[0], graph):
                if tensor in behind:
                    return tensor
    raise NotSplittable("no mel feeds both a vocoder and a pitch predictor")


def _taps(dims: Sequence[int]) -> int | None:
    """Taps of a convolution over mel bands, None if the weight is not one."""
    plain = [d for d in dims if d != 1]  # a 1-D convolution may be written as a 2-D one
    return plain[2] if len(plain) == 3 and plain[1] == MEL_BANDS else None


def _upwards(tensor: str, graph: Index) -> list[str]:
    """`tensor` and what it is a copy of, nearest first."""
    chain = [tensor]
    while (node := graph.producer.get(chain[-1])) is not None and node.op_type in PASSING:
        chain.append(node.input[0])
    return chain


def _weight_dims(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Dimensions of initializers and constants, and of what is computed from these alone."""
    dims = {i.name: list(i.dims) for i in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                dims[node.output[0]] = list(attribute.t.dims)
    constant = set(dims)
    for node in model.graph.node:  # nodes stand in order
        if node.input and all(name in constant for name in reads(node)):
            constant |= set(node.output)
            widest = max((dims[n] for n in reads(node)), key=math.prod)
            dims |= dict.fromkeys(node.output, widest)  # weight norm: elementwise, reductions
    return dims


def cut(model: onnx.ModelProto, mel: str, kind: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The flow, which gives the tensor `mel` of element type `kind`, and the vocoder, which is
    given it. Raises NotSplittable if the vocoder needs anything else of the flow."""
    graph = model.graph
    declared = {i.name: i for i in graph.input}
    middle = value(mel, kind, 3)
    _, behind = before(graph, [o.name for o in graph.output], [mel])
    _, ahead = before(graph, [mel])
    shared = sorted(n for n in declared if n in behind and n in ahead)
    if shared:
        raise NotSplittable(f"the vocoder also reads {', '.join(shared)}")
    flow = cut_out(model, [i for n, i in declared.items() if n in ahead], [middle])
    inputs = [middle, *(i for n, i in declared.items() if n in behind)]
    return flow, cut_out(model, inputs, list(graph.output))
