"""Compile a published decoder: find out what it does, rewrite it, prove it.

The order: probe runs, random tensors to inputs, cut between flow and vocoder, the fastest proven
form of each part. Falls back from two parts to one graph, and from one deterministic graph to the
file as it is; the note says in one line which it was and why.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from chatterbox.compile.decoder.equivalence import Likeness, alike
from chatterbox.compile.decoder.introspect import DecoderFacts, introspect
from chatterbox.compile.decoder.random_ops import randoms_to_inputs
from chatterbox.compile.decoder.split import PROBES, cut
from chatterbox.compile.decoder.variants import VariantBuilder, carrying, proof_run
from chatterbox.compile.graph import NotSplittable, OpenGraph, copied, forget_unused
from chatterbox.compile.progress import Progress
from chatterbox.errors import first_line
from chatterbox.hub.files import is_external, read_external_bytes
from chatterbox.runtime.decoder.compiled import CompiledDecoder, Graph, probe_feeds
from chatterbox.runtime.decoder.flow import Part
from chatterbox.runtime.decoder.graph_io import WAVEFORM, Array, Feeds, ProbeLength, as_declared
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings
from chatterbox.runtime.decoder.stream_inputs import PhaseInputs, Place

SHARED_BYTES = 4096
"""Smaller weights are not worth looking for twins of."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """What became of a published decoder."""

    decoder: CompiledDecoder
    graphs: dict[Graph, onnx.ModelProto] = field(default_factory=dict)  # as published: none
    proofs: dict[str, Any] = field(default_factory=dict)


def compile_decoder(
    path: Path,
    open_graph: OpenGraph,
    settings: StreamSettings,
    progress: Progress = lambda _done, _stage: None,
) -> Compilation:
    """`open_graph` must find the weights beside `path`; the graphs refer to them there."""
    model = onnx.load(str(path), load_external_data=False)
    share_equal_weights(model, path.parent)
    progress(0.02, "running it in four lengths")
    try:
        known = introspect(model, open_graph, on_gpu=settings.on_gpu)
    except NotSplittable as reason:
        note = f"the decoder's draws stay its own: {reason}"
        return Compilation(CompiledDecoder("as published", note))
    try:
        return _split(known, path.parent, open_graph, settings, progress)
    except NotSplittable as reason:
        progress(0.7, "proving the whole")
        return _whole(known, open_graph, str(reason), on_gpu=settings.on_gpu)


def with_inputs(known: DecoderFacts) -> onnx.ModelProto:
    """The whole graph, its draws made inputs."""
    model = copied(known.model)
    shapes = {draw: (known.kind(draw.name), len(law)) for draw, law in known.draws.items()}
    randoms_to_inputs(model, shapes)
    return model


def _whole(known: DecoderFacts, open_graph: OpenGraph, why: str, *, on_gpu: bool) -> Compilation:
    model = with_inputs(known)
    session = open_graph(carrying(model, known, wide=False))
    made = proof_run(known, session, WAVEFORM)
    found = alike(known.told[WAVEFORM], made, on_gpu=on_gpu, sound=True)
    proofs = {"whole": found.text}
    if not found.same:
        note = f"with draws as inputs only {found.text}"
        return Compilation(CompiledDecoder("as published", note), proofs=proofs)
    note = f"{why}; its draws are inputs, {found.text}"
    compiled = CompiledDecoder("whole", note, randoms=known.draws, sums=known.sums)
    return Compilation(compiled, {"decoder": carrying(model, known, wide=True)}, proofs)


def _split(
    known: DecoderFacts,
    folder: Path,
    open_graph: OpenGraph,
    settings: StreamSettings,
    progress: Progress,
) -> Compilation:
    mel = known.mel
    if mel is None:
        raise NotSplittable(known.why_whole)
    flow_model, vocoder_model = cut(with_inputs(known), mel, known.kind(mel))
    variants = VariantBuilder(known, folder, open_graph, settings)
    progress(0.3, "the flow")
    flow = variants.flow(flow_model)
    progress(0.7, "the vocoder")
    vocoder, how_heard = variants.vocoder(vocoder_model)
    progress(0.9, "rows in one call")
    shared, how_shared = False, "row by row"
    if settings.max_rows > 1 and "flow" in flow.graphs:
        graphs = flow.graphs["flow"], vocoder
        parts = [Part.of(open_graph(graph), known.draws) for graph in graphs]
        shared, how_shared = _rows_share_calls(known, mel, *parts, on_gpu=settings.on_gpu)
    note, drawn = f"{flow.note}; {how_heard}; {how_shared}", known.draws
    compiled = CompiledDecoder("split", note, mel, drawn, known.sums, shared, flow.prompt_kv)
    return Compilation(compiled, {**flow.graphs, "vocoder": vocoder}, variants.proofs)


def _rows_share_calls(
    known: DecoderFacts, mel: str, flow: Part, vocoder: Part, *, on_gpu: bool
) -> tuple[bool, str]:
    """Whether no row of a call changes another; and how alike two are to what they are alone."""
    said, heard = PROBES[1], ProbeLength(0, PROBES[1].codes)

    def fed_to_flow(seed: int) -> Feeds:
        draws = flow.noise(first_stream=0).feeds([seed], [Place(said, 0)])
        return as_declared(flow.session, {**probe_feeds(said, seed), **draws})

    def fed_to_vocoder(*rows: int) -> Feeds:
        feeds = vocoder.noise(first_stream=9).feeds(rows, [Place(heard, 0)] * len(rows))
        feeds |= PhaseInputs(known.sums).feeds([None] * len(rows), heard, 0, 0)
        return as_declared(vocoder.session, {**feeds, mel: np.concatenate([mels[r] for r in rows])})

    def worst(alone: Sequence[Array], together: Array, *, sound: bool) -> Likeness:
        pairs = zip(alone, np.split(together, 2), strict=True)
        judged = (alike(*pair, on_gpu=on_gpu, sound=sound) for pair in pairs)
        return max(judged, key=lambda one: one.off)

    try:
        feeds = [fed_to_flow(seed) for seed in (1, 2)]
        both = {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}
        *mels, mels_together = (flow.session.run([mel], one)[0] for one in (*feeds, both))
        *waves, waves_together = (
            vocoder.session.run([WAVEFORM], fed_to_vocoder(*rows))[0] for rows in ([0], [1], [0, 1])
        )
        found = [worst(mels, mels_together, sound=False), worst(waves, waves_together, sound=True)]
    except Exception as fault:  # noqa: BLE001 - a graph exported for one row may fail in any way on two
        return False, f"row by row: {first_line(fault)}"
    figures = ", ".join(dict.fromkeys(one.text for one in found))
    if all(one.same for one in found):
        return True, f"rows share calls ({figures})"
    return False, f"row by row, since together they are {figures}"


def share_equal_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Keep one of weights that are stored several times, as the published decoder's two unrolled
    steps have them; `folder` holds external ones. Reads every weight once."""
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    for tensor in model.graph.initializer:
        stored = read_external_bytes(tensor, folder) if is_external(tensor) else tensor.raw_data
        if len(stored) >= SHARED_BYTES:
            key = (tensor.data_type, *tensor.dims, hashlib.sha256(stored).digest())
            same[tensor.name] = first.setdefault(key, tensor.name)
    for node in model.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    forget_unused(model.graph)
