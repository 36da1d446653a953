"""Runs a published decoder a few times to find its random tensors, running sums, mel and masks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from chatterbox.compile.decoder.device_sizes import Crossings, crossing, observe_crossings
from chatterbox.compile.decoder.fit_dims import PROBES, fit_dims
from chatterbox.compile.decoder.fuse_attention import (
    Observed,
    observe,
    tensors_to_observe,
)
from chatterbox.compile.decoder.graph_edit import NewNodes, NotSplittable, inlined, replace_nodes
from chatterbox.compile.decoder.phase_carry import (
    find_sums,
    refuse_coarse_phase,
    sums_as_outputs,
)
from chatterbox.compile.decoder.random_ops import find_randoms, randoms_to_outputs
from chatterbox.compile.decoder.split_mel import find_mel
from chatterbox.compile.decoder.unpack_attention import unpack_attention
from chatterbox.runtime.decoder.compiled import probe_feeds
from chatterbox.runtime.decoder.graph_io import (
    CODES,
    LENGTHS,
    WAVEFORM,
    Feeds,
    LinearDim,
    PhaseSum,
    ProbeLength,
    RandomOp,
    time_axis,
)
from chatterbox.runtime.decoder.s3gen import MEL_BANDS, MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE

OpenGraph = Callable[[onnx.ModelProto], ort.InferenceSession]
"""Opens a graph whose external weights lie beside the file it came from."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of the whole decoder."""

    length: ProbeLength
    feeds: Feeds  # what went in
    told: Feeds  # what it drew, its mel if known, the waveform


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
    proof: Run

    def kind(self, tensor: str) -> int:
        """Element type of a draw, a sum or the mel."""
        return int(helper.np_dtype_to_tensor_dtype(self.proof.told[tensor].dtype))


def introspect(
    model: onnx.ModelProto, open_graph: OpenGraph, *, on_gpu: bool = False
) -> DecoderFacts:
    """Raises NotSplittable when not even the draws can be had, and ModelError on a GPU where a
    phase is lost."""
    model = inlined(model)
    _with_rows_of_one_length(model)
    unpack_attention(model)
    draws = find_randoms(model)
    sums = find_sums(model)
    mel, why = _mel(model)
    told = onnx.ModelProto()
    told.CopyFrom(model)
    randoms_to_outputs(told, draws)
    sums_as_outputs(told, sums)
    if mel is not None:
        told.graph.output.append(helper.make_empty_tensor_value_info(mel))
    asked = tensors_to_observe(model)
    crossed = sorted(set().union(*crossing(model)) if on_gpu else ())
    more = {*asked, *crossed} - {o.name for o in told.graph.output}
    told.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sorted(more))
    session = open_graph(told)
    runs = {length: _run(session, length) for length in PROBES}
    attention = observe(list(runs.values()), asked)
    crossings = observe_crossings(runs, crossed)
    for run in runs.values():
        for name in more:
            del run[name]
    laws = {n: fit_dims({p: r[n].shape for p, r in runs.items()}) for n in runs[PROBES[0]]}
    if laws[WAVEFORM] != [LinearDim(0, 0, 1), LinearDim(SAMPLES_PER_CODE, 0, 0)]:
        raise NotSplittable("the waveform is not 960 samples for each code behind the prompt")
    if mel is not None and laws[mel] != _mel_law():
        mel, why = None, "what feeds the vocoder is not a mel of the speech alone"
    last = PROBES[-1]
    outputs = runs[last]
    proof = Run(last, probe_feeds(last), outputs)
    if on_gpu:
        kinds = {s.name: helper.np_dtype_to_tensor_dtype(outputs[s.name].dtype) for s in sums}
        refuse_coarse_phase(model, sums, kinds)
    carried = [s for s in sums if _is_phase(outputs[s.name], laws[s.name])]
    return DecoderFacts(
        model,
        {d: laws[d.name] for d in draws},
        {s: laws[s.name] for s in carried},
        mel,
        why,
        attention,
        crossings,
        proof,
    )


def _with_rows_of_one_length(model: onnx.ModelProto) -> None:
    """Where a graph asks for the rows' lengths: as many codes as there are. Shorter rows are filled
    up with silence here, as those of graphs are that do not ask; so nothing need be masked."""
    given = next((i for i in model.graph.input if i.name == LENGTHS), None)
    if given is None:
        return
    model.graph.input.remove(given)
    one = helper.make_tensor("", TensorProto.INT64, [1], [1])
    new = NewNodes(model.graph, LENGTHS)
    ones = new.add("ConstantOfShape", [new.add("Shape", [CODES], "shape")], "ones", value=one)
    new.add("ReduceSum", [ones, new.stored("axis", [1])], keepdims=0)
    replace_nodes(model.graph, [], new.nodes)


def _mel(model: onnx.ModelProto) -> tuple[str | None, str]:
    try:
        return find_mel(model), ""
    except NotSplittable as reason:
        return None, str(reason)


def _mel_law() -> list[LinearDim]:
    return [LinearDim(0, 0, 1), LinearDim(0, 0, MEL_BANDS), LinearDim(MEL_FRAMES_PER_CODE, 0, 0)]


def _is_phase(values: NDArray[Any], law: list[LinearDim]) -> bool:
    """A sum over the speech's time, in floating point: not the count of a mask or the like."""
    axis = time_axis(law)
    return values.dtype.kind == "f" and axis is not None and law[axis].per_prompt == 0


def _run(session: ort.InferenceSession, length: ProbeLength) -> Feeds:
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, probe_feeds(length)), strict=True))
