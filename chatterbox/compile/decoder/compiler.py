"""Compile a published decoder: find out what it does, rewrite it, prove it.

The order: probe runs, random tensors to inputs, cut between flow and vocoder, the fastest proven
form of each part. Falls back from two parts to one graph, and from one deterministic graph to the
file as it is; the note says in one line which it was and why.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from chatterbox.arrays import F32
from chatterbox.compile.decoder.equivalence import rows_alike_db, stacked
from chatterbox.compile.decoder.errors import NotSplittable
from chatterbox.compile.decoder.fit_dims import PROBES
from chatterbox.compile.decoder.graph_edit import share_equal_weights
from chatterbox.compile.decoder.introspect import DecoderFacts, OpenGraph, introspect
from chatterbox.compile.decoder.random_ops import randoms_to_inputs
from chatterbox.compile.decoder.split_mel import cut
from chatterbox.compile.decoder.variants import VariantBuilder, carrying, draws_of, proof_run
from chatterbox.families.turbo.spec import MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.decoder.captured import CapturedSession
from chatterbox.runtime.decoder.compiled import (
    CompiledDecoder,
    Graph,
    Opened,
    Sharing,
    open_compiled,
)
from chatterbox.runtime.decoder.flow import Part
from chatterbox.runtime.decoder.graph_io import EQUAL_DB, WAVEFORM, Feeds, as_declared, snr_db
from chatterbox.runtime.decoder.shape_laws import ProbeLength
from chatterbox.runtime.decoder.split_decoder import StreamSettings
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, PhaseInputs, Place
from chatterbox.runtime.decoder.warmup import probe_feeds

Progress = Callable[[float, str], None]
"""Given how much of the work is done, 0 to 1, and what is done now."""


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
        known = introspect(model, open_graph)
    except NotSplittable as reason:
        note = f"the decoder's draws stay its own: {reason}"
        return Compilation(CompiledDecoder("as published", note))
    try:
        return _split(known, path.parent, open_graph, settings, progress)
    except NotSplittable as reason:
        progress(0.7, "proving the whole")
        return _whole(known, open_graph, str(reason))


def compile_and_open(
    path: Path, open_model: OpenGraph, settings: StreamSettings, memory: Memory | None = None
) -> Opened:
    """With nothing kept on disk, for tests and tools. With `memory`, it replays shapes there."""
    made = compile_decoder(path, open_model, settings)

    def open_graph(name: Graph) -> ort.InferenceSession:
        published = onnx.load(str(path), load_external_data=False)
        return open_model(made.graphs.get(name, published))

    def capture(name: Graph) -> CapturedSession:
        assert memory is not None
        return CapturedSession(open_graph(name), memory)

    return open_compiled(made.decoder, open_graph, settings, capture if memory else None)


def with_inputs(known: DecoderFacts) -> onnx.ModelProto:
    """The whole graph, its draws made inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(known.model)
    ranks = {draw.name: len(law) for draw, law in known.draws.items()}
    kinds = {draw.name: known.kind(draw.name) for draw in known.draws}
    randoms_to_inputs(model, list(known.draws), ranks, kinds)
    return model


def _whole(known: DecoderFacts, open_graph: OpenGraph, why: str) -> Compilation:
    model = with_inputs(known)
    session = open_graph(carrying(model, known, wide=False))
    alike = snr_db(known.proof.told[WAVEFORM], proof_run(known, session, WAVEFORM))
    proofs = {"whole_snr_db": alike}
    if alike < EQUAL_DB:
        note = f"with draws as inputs only {alike:.0f} dB alike"
        return Compilation(CompiledDecoder("as published", note), proofs=proofs)
    same = "which changes nothing" if alike == np.inf else f"{alike:.0f} dB alike"
    note = f"{why}; its draws are inputs, {same}"
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
    sharing, plain = Sharing.ALONE, flow.graphs.get("flow")
    if settings.max_rows > 1 and plain is not None:
        parts = [Part(open_graph(part), draws_of(part, known)) for part in (plain, vocoder)]
        sharing = _sharing(known, mel, *parts)
    compiled = CompiledDecoder(
        "split",
        f"{flow.note}; {how_heard}",
        mel,
        known.draws,
        known.sums,
        sharing,
        flow.prompt_kv,
    )
    return Compilation(compiled, {**flow.graphs, "vocoder": vocoder}, variants.proofs)


def _sharing(known: DecoderFacts, mel: str, flow: Part, vocoder: Part) -> Sharing:
    """The most that rows may share without one changing another."""
    if not _rows_equal(known, mel, flow, vocoder):
        return Sharing.ALONE
    if known.ragged and _flow_rows_db(flow, mel, (PROBES[1], PROBES[0]), known.ragged) >= EQUAL_DB:
        return Sharing.PADDED
    return Sharing.EQUAL


def _rows_equal(known: DecoderFacts, mel: str, flow: Part, vocoder: Part) -> bool:
    length = PROBES[1]
    try:
        if _flow_rows_db(flow, mel, (length, length), known.ragged) < EQUAL_DB:
            return False
        alone = [_flow_feeds(flow, length, known.ragged, seed) for seed in (1, 2)]
        mels = [flow.session.run([mel], feeds)[0] for feeds in alone]
        return _vocoder_rows_db(known, mel, vocoder, mels) >= EQUAL_DB
    except Exception:  # noqa: BLE001 - a graph exported for one row may fail in any way on two
        return False


def _flow_feeds(flow: Part, length: ProbeLength, ragged: bool, seed: int) -> Feeds:
    draws = NoiseInputs(flow.draws, first_stream=0).feeds([seed], [Place(length, 0)])
    return as_declared(flow.session, {**probe_feeds(length, ragged, seed), **draws})


def _flow_rows_db(flow: Part, mel: str, lengths: Sequence[ProbeLength], ragged: bool) -> float:
    alone = [_flow_feeds(flow, length, ragged, seed) for seed, length in enumerate(lengths)]
    kept = [length.codes * MEL_FRAMES_PER_CODE for length in lengths]
    return rows_alike_db(flow.session, mel, alone, stacked(alone), kept)


def _vocoder_rows_db(known: DecoderFacts, mel: str, vocoder: Part, mels: Sequence[F32]) -> float:
    length = ProbeLength(0, mels[0].shape[2] // MEL_FRAMES_PER_CODE)
    draws, sums = NoiseInputs(vocoder.draws, first_stream=9), PhaseInputs(known.sums)

    def feeds(rows: Sequence[int]) -> Feeds:
        made = draws.feeds(rows, [Place(length, 0)] * len(rows))
        made |= sums.feeds([None] * len(rows), length, 0, 0)
        made |= {mel: np.concatenate([mels[row] for row in rows])}
        return as_declared(vocoder.session, made)

    alone = [feeds([row]) for row in range(len(mels))]
    together = feeds(range(len(mels)))
    samples = [length.codes * SAMPLES_PER_CODE] * len(mels)
    return rows_alike_db(vocoder.session, WAVEFORM, alone, together, samples)
