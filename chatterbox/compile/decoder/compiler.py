"""Compiles a published decoder: analyses it in probe runs, rewrites it, and proves the result.

The steps: random tensors become inputs, the graph is cut into flow and vocoder, and each part takes
its fastest proven form. If the cut fails, the decoder stays one graph with random inputs; if that
fails too, the published file is served. A one-line note says which form was chosen and why.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from chatterbox.compile.decoder.equivalence import Comparison, compare
from chatterbox.compile.decoder.introspect import DecoderFacts, introspect
from chatterbox.compile.decoder.random_ops import randoms_to_inputs
from chatterbox.compile.decoder.split import PROBES, cut
from chatterbox.compile.decoder.variants import VariantBuilder, run_proof, with_phase_inputs
from chatterbox.compile.graph import (
    OpenGraph,
    UnsupportedGraph,
    drop_unused_initializers,
    value_info,
)
from chatterbox.compile.progress import Progress
from chatterbox.errors import first_line
from chatterbox.hub.files import is_external, read_external_bytes
from chatterbox.runtime.decoder.compiled import CompiledDecoder, Graph, probe_feeds
from chatterbox.runtime.decoder.graph_io import (
    WAVEFORM,
    Array,
    Feeds,
    ProbeLength,
    Session,
    cast_feeds,
)
from chatterbox.runtime.decoder.s3gen_decoder import StreamSettings
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, PhaseInputs, Place

MIN_SHARED_BYTES = 4096
"""Smaller weights are not searched for duplicates."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled decoder and the results of its proofs."""

    decoder: CompiledDecoder
    graphs: dict[Graph, onnx.ModelProto] = field(default_factory=dict)  # empty: published file
    proofs: dict[str, Any] = field(default_factory=dict)


def compile_decoder(
    path: Path,
    open_graph: OpenGraph,
    settings: StreamSettings,
    progress: Progress = lambda _done, _stage: None,
) -> Compilation:
    """Compile the decoder at `path`. `open_graph` must find the external weights beside `path`, to
    which the compiled graphs refer."""
    model = onnx.load(str(path), load_external_data=False)
    merge_equal_weights(model, path.parent)
    progress(0.02, "running it in four lengths")
    try:
        facts = introspect(model, open_graph, on_gpu=settings.on_gpu)
    except UnsupportedGraph as reason:
        note = f"the decoder keeps its own random draws: {reason}"
        return Compilation(CompiledDecoder("as published", note))
    try:
        return _compile_split(facts, path.parent, open_graph, settings, progress)
    except UnsupportedGraph as reason:
        progress(0.7, "proving the whole")
        return _compile_whole(facts, open_graph, str(reason), on_gpu=settings.on_gpu)


def draws_to_inputs(facts: DecoderFacts) -> onnx.ModelProto:
    """Return the whole graph with its random tensors as inputs."""
    inputs = {
        draw: value_info(draw.name, facts.kind(draw.name), len(dims))
        for draw, dims in facts.draws.items()
    }
    return randoms_to_inputs(facts.model, inputs)


def _compile_whole(
    facts: DecoderFacts, open_graph: OpenGraph, reason: str, *, on_gpu: bool
) -> Compilation:
    """Compile the decoder as one graph. `reason` says why it was not cut."""
    model = draws_to_inputs(facts)
    session = open_graph(with_phase_inputs(model, facts, wide=False))
    waveform = run_proof(facts, session, WAVEFORM)
    result = compare(facts.proof_values[WAVEFORM], waveform, on_gpu=on_gpu, sound=True)
    proofs = {"whole": result.text}
    if not result.is_equal:
        note = f"with draws as inputs only {result.text}"
        return Compilation(CompiledDecoder("as published", note), proofs=proofs)
    note = f"{reason}; its draws are inputs, {result.text}"
    compiled = CompiledDecoder("whole", note, randoms=facts.draws, sums=facts.sums)
    return Compilation(compiled, {"decoder": with_phase_inputs(model, facts, wide=True)}, proofs)


def _compile_split(
    facts: DecoderFacts,
    folder: Path,
    open_graph: OpenGraph,
    settings: StreamSettings,
    progress: Progress,
) -> Compilation:
    """Compile the decoder as flow and vocoder. Raises UnsupportedGraph if it cannot be cut."""
    mel = facts.mel
    if mel is None:
        raise UnsupportedGraph(facts.no_mel_reason)
    flow_model, vocoder_model = cut(draws_to_inputs(facts), mel, facts.kind(mel))
    variants = VariantBuilder(facts, folder, open_graph, settings)
    progress(0.3, "the flow")
    flow = variants.flow(flow_model)
    progress(0.7, "the vocoder")
    vocoder, vocoder_note = variants.vocoder(vocoder_model)
    progress(0.9, "rows in one call")
    batched, batch_note = False, "row by row"
    if settings.max_rows > 1 and "flow" in flow.graphs:
        sessions = open_graph(flow.graphs["flow"]), open_graph(vocoder)
        batched, batch_note = _check_batching(facts, mel, *sessions, on_gpu=settings.on_gpu)
    note = f"{flow.note}; {vocoder_note}; {batch_note}"
    compiled = CompiledDecoder("split", note, mel, facts.draws, facts.sums, batched, flow.prompt_kv)
    return Compilation(compiled, {**flow.graphs, "vocoder": vocoder}, variants.proofs)


def _check_batching(
    facts: DecoderFacts, mel: str, flow: Session, vocoder: Session, *, on_gpu: bool
) -> tuple[bool, str]:
    """Return whether two rows in one call give the same results as two calls, and a note."""
    flow_length, vocoder_length = PROBES[1], ProbeLength(0, PROBES[1].codes)
    flow_noise = NoiseInputs.of(flow, facts.draws)
    vocoder_noise = NoiseInputs.of(vocoder, facts.draws, first_source=9)

    def flow_feeds(seed: int) -> Feeds:
        draws = flow_noise.feeds([seed], [Place(flow_length, 0)])
        return cast_feeds(flow, {**probe_feeds(flow_length, seed), **draws})

    def vocoder_feeds(*rows: int) -> Feeds:
        feeds = vocoder_noise.feeds(rows, [Place(vocoder_length, 0)] * len(rows))
        feeds |= PhaseInputs(facts.sums).feeds([None] * len(rows), vocoder_length, 0, 0)
        return cast_feeds(vocoder, {**feeds, mel: np.concatenate([mels[r] for r in rows])})

    def worst(alone: Sequence[Array], together: Array, *, sound: bool) -> Comparison:
        pairs = zip(alone, np.split(together, 2), strict=True)
        comparisons = (compare(*pair, on_gpu=on_gpu, sound=sound) for pair in pairs)
        return max(comparisons, key=lambda comparison: comparison.error)

    try:
        single = [flow_feeds(seed) for seed in (1, 2)]
        both = {name: np.concatenate([feeds[name] for feeds in single]) for name in single[0]}
        *mels, mels_together = (flow.run([mel], feeds)[0] for feeds in (*single, both))
        *waves, waves_together = (
            vocoder.run([WAVEFORM], vocoder_feeds(*rows))[0] for rows in ([0], [1], [0, 1])
        )
        results = [
            worst(mels, mels_together, sound=False),
            worst(waves, waves_together, sound=True),
        ]
    except Exception as fault:  # noqa: BLE001 - a graph exported for one row can fail in any way
        return False, f"row by row: {first_line(fault)}"
    figures = ", ".join(dict.fromkeys(result.text for result in results))
    if all(result.is_equal for result in results):
        return True, f"rows share calls ({figures})"
    return False, f"row by row, since together they are {figures}"


def merge_equal_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Keep one copy of weights that are stored several times, as in the two unrolled steps of the
    published decoder. Reads every weight once; `folder` holds the external weights."""
    first: dict[tuple[Any, ...], str] = {}  # key of the content → first name
    renamed: dict[str, str] = {}
    for tensor in model.graph.initializer:
        stored = read_external_bytes(tensor, folder) if is_external(tensor) else tensor.raw_data
        if len(stored) >= MIN_SHARED_BYTES:
            key = (tensor.data_type, *tensor.dims, hashlib.sha256(stored).digest())
            renamed[tensor.name] = first.setdefault(key, tensor.name)
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    drop_unused_initializers(model.graph)
