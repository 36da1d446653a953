"""Analyses a published decoder in a few runs: random tensors, running sums, mel and masks."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from chatterbox.compile.decoder.attention import (
    Observed,
    observe,
    tensors_to_observe,
    unpack_attention,
)
from chatterbox.compile.decoder.gpu import Crossings, find_crossings, observe_crossings
from chatterbox.compile.decoder.phase_carry import check_phase_precision, find_phase_sums
from chatterbox.compile.decoder.random_ops import find_randoms
from chatterbox.compile.decoder.split import PROBES, find_mel, fit_dims
from chatterbox.compile.graph import (
    EditableGraph,
    OpenGraph,
    UnsupportedGraph,
    element_type,
    inline_functions,
    with_outputs,
)
from chatterbox.runtime.decoder.compiled import probe_feeds
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    LENGTHS,
    WAVEFORM,
    Array,
    Feeds,
    LinearDim,
    PhaseSum,
    ProbeLength,
    RandomOp,
    time_axis,
)
from chatterbox.runtime.decoder.s3gen import MEL_BANDS, MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE

PROOF = PROBES[-1]
MEL_SHAPE = [LinearDim(0, 0, 1), LinearDim(0, 0, MEL_BANDS), LinearDim(MEL_FRAMES_PER_CODE, 0, 0)]


@dataclass(frozen=True, slots=True, eq=False)
class DecoderFacts:
    """Results of analysing a decoder. Lists of `LinearDim` are shapes as functions of the
    length."""

    model: onnx.ModelProto  # the published graph with functions and attention unpacked
    draws: Mapping[RandomOp, list[LinearDim]]
    sums: Mapping[PhaseSum, list[LinearDim]]
    mel: str | None  # the tensor between flow and vocoder
    no_mel_reason: str  # why `mel` is None
    attention: Observed
    crossings: Crossings  # empty on a CPU
    proof_values: Feeds  # draws, sums, mel and waveform in the run of length PROOF

    def kind(self, tensor: str) -> int:
        """Return the element type of a draw, a sum or the mel."""
        return element_type(self.proof_values[tensor])


def introspect(
    model: onnx.ModelProto, open_graph: OpenGraph, *, on_gpu: bool = False
) -> DecoderFacts:
    """Analyse a decoder. Raises UnsupportedGraph if its random tensors cannot become inputs, and
    ModelError if it would compute its phase too coarsely on a GPU."""
    model = inline_functions(model)
    _replace_lengths_input(model)
    unpack_attention(model)
    draws, sums = find_randoms(model), find_phase_sums(model)
    mel, no_mel_reason = None, ""
    try:
        mel = find_mel(model)
    except UnsupportedGraph as reason:
        no_mel_reason = str(reason)
    around = tensors_to_observe(model)
    crossed = sorted(set().union(*find_crossings(model)) if on_gpu else ())
    names = [*(d.name for d in draws), *(s.name for s in sums), *([mel] if mel else []), WAVEFORM]
    session = open_graph(with_outputs(model, [*names, *sorted({*around, *crossed})]))
    outputs = [o.name for o in session.get_outputs()]
    runs: dict[ProbeLength, Feeds] = {
        p: dict(zip(outputs, session.run(outputs, probe_feeds(p)), strict=True)) for p in PROBES
    }
    attention = observe(list(runs.values()), around)
    crossings = observe_crossings(runs, crossed)
    shapes = {name: fit_dims({p: run[name].shape for p, run in runs.items()}) for name in names}
    if shapes[WAVEFORM] != [LinearDim(0, 0, 1), LinearDim(SAMPLES_PER_CODE, 0, 0)]:
        raise UnsupportedGraph("the waveform is not 960 samples for each code behind the prompt")
    if mel is not None and shapes[mel] != MEL_SHAPE:
        mel, no_mel_reason = None, "what feeds the vocoder is not a mel of the speech alone"
    values = {name: runs[PROOF][name] for name in names}
    if on_gpu:
        check_phase_precision(model, sums, {s.name: element_type(values[s.name]) for s in sums})
    return DecoderFacts(
        model,
        {d: shapes[d.name] for d in draws},
        {s: shapes[s.name] for s in sums if _is_phase(values[s.name], shapes[s.name])},
        mel,
        no_mel_reason,
        attention,
        crossings,
        values,
    )


def _replace_lengths_input(model: onnx.ModelProto) -> None:
    """Replace the input of row lengths, if any, by the number of codes. Shorter rows are padded
    with silence, as for graphs without that input, so no masks are needed."""
    lengths = next((i for i in model.graph.input if i.name == LENGTHS), None)
    if lengths is None:
        return
    model.graph.input.remove(lengths)
    graph = EditableGraph(model)
    one, new = helper.make_tensor("", TensorProto.INT64, [1], [1]), graph.new(LENGTHS)
    ones = new.add("ConstantOfShape", [new.add("Shape", [CODES], "shape")], "ones", value=one)
    new.add("ReduceSum", [ones, new.stored("axis", [1])], keepdims=0)
    graph.rewrite()


def _is_phase(values: Array, shape: list[LinearDim]) -> bool:
    """Return whether a sum is floating-point along the time of the speech, unlike a mask's sum."""
    axis = time_axis(shape)
    return values.dtype.kind == "f" and axis is not None and shape[axis].per_prompt == 0
