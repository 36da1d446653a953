"""Runs a published decoder a few times to find its random tensors, running sums, mel and masks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from chatterbox.compile.decoder.errors import NotSplittable
from chatterbox.compile.decoder.fit_dims import PROBES, fit_dims
from chatterbox.compile.decoder.fuse_attention import (
    Observed,
    observe,
    tensors_to_observe,
)
from chatterbox.compile.decoder.graph_edit import inlined
from chatterbox.compile.decoder.phase_carry import find_sums, sums_as_outputs
from chatterbox.compile.decoder.random_ops import find_randoms, randoms_to_outputs
from chatterbox.compile.decoder.split_mel import find_mel
from chatterbox.compile.decoder.unpack_attention import unpack_attention
from chatterbox.families.turbo.spec import MEL_BANDS, MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE
from chatterbox.runtime.decoder.graph_io import LENGTHS, WAVEFORM, Feeds, PhaseSum, RandomOp
from chatterbox.runtime.decoder.shape_laws import LinearDim, ProbeLength, time_axis
from chatterbox.runtime.decoder.warmup import probe_feeds

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
    ragged: bool
    draws: Mapping[RandomOp, list[LinearDim]]
    sums: Mapping[PhaseSum, list[LinearDim]]
    mel: str | None  # the tensor between flow and vocoder
    why_whole: str  # why there is none
    attention: Observed  # of one row, or rows of equal length
    proof: Run

    def kind(self, tensor: str) -> int:
        """Element type of a draw, a sum or the mel."""
        return int(helper.np_dtype_to_tensor_dtype(self.proof.told[tensor].dtype))


def introspect(model: onnx.ModelProto, open_graph: OpenGraph) -> DecoderFacts:
    """Raises NotSplittable when not even the draws can be had."""
    model = inlined(model)
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
    told.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in asked)
    session = open_graph(told)
    ragged = any(i.name == LENGTHS for i in model.graph.input)
    runs = {length: _run(session, length, ragged) for length in PROBES}
    # Rows of different length are masked only when they share a call, which these runs don't show.
    attention = observe(list(runs.values()), asked, masks=not ragged)
    for run in runs.values():
        for name in asked:
            del run[name]
    laws = {n: fit_dims({p: r[n].shape for p, r in runs.items()}) for n in runs[PROBES[0]]}
    if laws[WAVEFORM] != [LinearDim(0, 0, 1), LinearDim(SAMPLES_PER_CODE, 0, 0)]:
        raise NotSplittable("the waveform is not 960 samples for each code behind the prompt")
    if mel is not None and laws[mel] != _mel_law():
        mel, why = None, "what feeds the vocoder is not a mel of the speech alone"
    last = PROBES[-1]
    outputs = runs[last]
    proof = Run(last, probe_feeds(last, ragged), outputs)
    carried = [s for s in sums if _is_phase(outputs[s.name], laws[s.name])]
    return DecoderFacts(
        model,
        ragged,
        {d: laws[d.name] for d in draws},
        {s: laws[s.name] for s in carried},
        mel,
        why,
        attention,
        proof,
    )


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


def _run(session: ort.InferenceSession, length: ProbeLength, ragged: bool) -> Feeds:
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, probe_feeds(length, ragged)), strict=True))
