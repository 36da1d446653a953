"""Runs a published decoder a few times to find its random tensors, running sums, mel and masks."""

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
from chatterbox.compile.decoder.gpu import Crossings, crossing, observe_crossings
from chatterbox.compile.decoder.phase_carry import find_sums, refuse_coarse_phase
from chatterbox.compile.decoder.random_ops import find_randoms
from chatterbox.compile.decoder.split import PROBES, find_mel, fit_dims
from chatterbox.compile.graph import (
    EditableGraph,
    NotSplittable,
    OpenGraph,
    element_type,
    inlined,
    telling,
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
MEL_LAW = [LinearDim(0, 0, 1), LinearDim(0, 0, MEL_BANDS), LinearDim(MEL_FRAMES_PER_CODE, 0, 0)]


@dataclass(frozen=True, slots=True, eq=False)
class DecoderFacts:
    """What is known of a decoder graph. `model` is as it was, with functions and packed attention
    written out."""

    model: onnx.ModelProto
    draws: Mapping[RandomOp, list[LinearDim]]
    sums: Mapping[PhaseSum, list[LinearDim]]
    mel: str | None  # the tensor between flow and vocoder
    why_whole: str  # why there is none
    attention: Observed
    crossings: Crossings  # of a flow on a GPU
    told: Feeds  # what it drew, its mel if known and the waveform, in the run of `PROOF`

    def kind(self, tensor: str) -> int:
        """Element type of a draw, a sum or the mel."""
        return element_type(self.told[tensor])


def introspect(
    model: onnx.ModelProto, open_graph: OpenGraph, *, on_gpu: bool = False
) -> DecoderFacts:
    """Raises NotSplittable when not even the draws can be had, and ModelError on a GPU where a
    phase is lost."""
    model = inlined(model)
    _with_rows_of_one_length(model)
    unpack_attention(model)
    draws, sums = find_randoms(model), find_sums(model)
    mel, why = None, ""
    try:
        mel = find_mel(model)
    except NotSplittable as reason:
        why = str(reason)
    around = tensors_to_observe(model)
    crossed = sorted(set().union(*crossing(model)) if on_gpu else ())
    kept = [*(d.name for d in draws), *(s.name for s in sums), *([mel] if mel else []), WAVEFORM]
    session = open_graph(telling(model, [*kept, *sorted({*around, *crossed})]))
    names = [o.name for o in session.get_outputs()]
    runs: dict[ProbeLength, Feeds] = {
        p: dict(zip(names, session.run(names, probe_feeds(p)), strict=True)) for p in PROBES
    }
    attention = observe(list(runs.values()), around)
    crossings = observe_crossings(runs, crossed)
    laws = {name: fit_dims({p: run[name].shape for p, run in runs.items()}) for name in kept}
    if laws[WAVEFORM] != [LinearDim(0, 0, 1), LinearDim(SAMPLES_PER_CODE, 0, 0)]:
        raise NotSplittable("the waveform is not 960 samples for each code behind the prompt")
    if mel is not None and laws[mel] != MEL_LAW:
        mel, why = None, "what feeds the vocoder is not a mel of the speech alone"
    told = {name: runs[PROOF][name] for name in kept}
    if on_gpu:
        refuse_coarse_phase(model, sums, {s.name: element_type(told[s.name]) for s in sums})
    return DecoderFacts(
        model,
        {d: laws[d.name] for d in draws},
        {s: laws[s.name] for s in sums if _is_phase(told[s.name], laws[s.name])},
        mel,
        why,
        attention,
        crossings,
        told,
    )


def _with_rows_of_one_length(model: onnx.ModelProto) -> None:
    """Where a graph asks for the rows' lengths: as many codes as there are. Shorter rows are filled
    up with silence here, as those of graphs are that do not ask; so nothing need be masked."""
    given = next((i for i in model.graph.input if i.name == LENGTHS), None)
    if given is None:
        return
    model.graph.input.remove(given)
    graph = EditableGraph(model)
    one, new = helper.make_tensor("", TensorProto.INT64, [1], [1]), graph.new(LENGTHS)
    ones = new.add("ConstantOfShape", [new.add("Shape", [CODES], "shape")], "ones", value=one)
    new.add("ReduceSum", [ones, new.stored("axis", [1])], keepdims=0)
    graph.rewrite()


def _is_phase(values: Array, law: list[LinearDim]) -> bool:
    """A sum over the speech's time, in floating point: not the count of a mask or the like."""
    axis = time_axis(law)
    return values.dtype.kind == "f" and axis is not None and law[axis].per_prompt == 0
