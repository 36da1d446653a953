"""How does a decoder file become a `StreamingDecoder`?

Knows the order: study, draws to inputs, cut, prove; falls back from two parts to one graph, and
from one deterministic graph to the file as it is. Says in one line which it was and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.model.contract import F32, MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE
from chatterbox.model.decoder_contract import StreamingDecoder
from chatterbox.model.split.activations import one_gelu, quick_mish, quick_snake
from chatterbox.model.split.attention import one_attention
from chatterbox.model.split.cut import cut
from chatterbox.model.split.draws import Draw, draws_as_inputs
from chatterbox.model.split.errors import NotSplittable
from chatterbox.model.split.extents import PROBES, Extent, Length, time_axis
from chatterbox.model.split.feeds import Draws, Place, Sums, as_declared
from chatterbox.model.split.int8 import products_in_int8
from chatterbox.model.split.int8_convs import convs_in_int8
from chatterbox.model.split.phase import carry_over
from chatterbox.model.split.prove import (
    EQUAL_DB,
    MEL_LIMIT_DB,
    WAVE_LIMIT_DB,
    likeness_db,
    mel_distance_db,
    rows_alike_db,
    stacked,
)
from chatterbox.model.split.streaming import Part, SplitDecoder, StreamSettings
from chatterbox.model.split.study import WAVEFORM, Feeds, OpenGraph, Study, probe_feeds, study
from chatterbox.model.split.whole import WholeDecoder


@dataclass(frozen=True, slots=True)
class Opened:
    """A decoder and what to tell the operator about it."""

    decoder: StreamingDecoder
    kind: str  # split | whole | as published
    note: str


def open_decoder(path: Path, open_graph: OpenGraph, settings: StreamSettings) -> Opened:
    """`open_graph` must find the weights beside `path`."""
    model = onnx.load(str(path), load_external_data=False)
    try:
        known = study(model, open_graph)
    except NotSplittable as reason:
        decoder = WholeDecoder(open_graph(model), {}, {}, settings)
        return Opened(decoder, "as published", f"the decoder's draws stay its own: {reason}")
    try:
        return _split(known, path.parent, open_graph, settings)
    except NotSplittable as reason:
        return _whole(known, open_graph, settings, str(reason))


def _with_inputs(known: Study) -> onnx.ModelProto:
    """The whole graph, its draws made inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(known.model)
    ranks = {draw.name: len(law) for draw, law in known.draws.items()}
    kinds = {draw.name: known.kind(draw.name) for draw in known.draws}
    draws_as_inputs(model, list(known.draws), ranks, kinds)
    return model


def _carrying(model: onnx.ModelProto, known: Study, *, wide: bool) -> onnx.ModelProto:
    """A copy whose running sums go on from call to call."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    axes = {s.name: axis for s, law in known.sums.items() if (axis := time_axis(law)) is not None}
    carry_over(made, list(known.sums), axes, wide=wide)
    return made


def _unused(known: Study) -> Feeds:
    """The sums' inputs when nothing is carried."""
    return Sums(known.sums).feeds([None], known.proof.length, 0, 0)


def _whole(known: Study, open_graph: OpenGraph, settings: StreamSettings, why: str) -> Opened:
    model = _with_inputs(known)
    session = open_graph(_carrying(model, known, wide=False))
    alike = likeness_db(known.proof.told[WAVEFORM], _proof_run(known, session, WAVEFORM))
    del session
    if alike < EQUAL_DB:
        decoder = WholeDecoder(open_graph(known.model), {}, {}, settings)
        return Opened(decoder, "as published", f"with draws as inputs only {alike:.0f} dB alike")
    session = open_graph(_carrying(model, known, wide=True))
    decoder = WholeDecoder(session, known.draws, known.sums, settings)
    return Opened(decoder, "whole", f"{why}; its draws are inputs ({alike:.0f} dB alike)")


def _split(known: Study, folder: Path, open_graph: OpenGraph, settings: StreamSettings) -> Opened:
    mel = known.mel
    if mel is None:
        raise NotSplittable(known.why_whole)
    flow_model, vocoder_model = cut(_with_inputs(known), mel, known.kind(mel))
    flow, how = _flow(known, flow_model, folder, open_graph, settings)
    vocoder, how_heard = _vocoder(known, vocoder_model, folder, open_graph, settings)
    sharing = _sharing(known, mel, flow, vocoder) if settings.max_rows > 1 else Sharing.ALONE
    if sharing is Sharing.ALONE:
        settings = replace(settings, max_rows=1)
    padded = sharing is Sharing.PADDED
    decoder = SplitDecoder(flow, vocoder, mel, known.sums, settings, padded=padded)
    return Opened(decoder, "split", f"{how}; {how_heard}; {sharing.value}")


def _flow(
    known: Study,
    model: onnx.ModelProto,
    folder: Path,
    open_graph: OpenGraph,
    settings: StreamSettings,
) -> tuple[Part, str]:
    """The flow in the fastest form that holds, and what form that is."""
    assert known.mel is not None
    draws = _draws_of(model, known)
    why = "exact"
    if settings.int8:
        small = onnx.ModelProto()
        small.CopyFrom(model)
        if products_in_int8(small, folder) + convs_in_int8(small, folder):
            quick_mish(small)
            one_gelu(small)
            one_attention(small, known.attention)
            flow = Part(open_graph(small), draws)
            made = _proof_run(known, flow.session, known.mel)
            off_db = mel_distance_db(known.proof.told[known.mel], made)
            if off_db <= MEL_LIMIT_DB:
                return flow, f"flow in 8 bits, {off_db:.2f} dB from exact"
            why = f"exact, since 8 bits are {off_db:.2f} dB off"
    flow = Part(open_graph(model), draws)
    _prove(known, flow, known.mel)
    return flow, f"flow {why}"


def _vocoder(
    known: Study,
    model: onnx.ModelProto,
    folder: Path,
    open_graph: OpenGraph,
    settings: StreamSettings,
) -> tuple[Part, str]:
    """As `_flow`. What pitch and phase are made of stays exact: a phase adds its errors up."""
    draws = _draws_of(model, known)
    why = "exact"
    if settings.int8:
        small = onnx.ModelProto()
        small.CopyFrom(model)
        if convs_in_int8(small, folder, exact=[s.name for s in known.sums]):
            quick_snake(small)
            narrow = Part(open_graph(_carrying(small, known, wide=False)), draws)
            made = _proof_run(known, narrow.session, WAVEFORM)
            alike = likeness_db(known.proof.told[WAVEFORM], made)
            del narrow
            if alike >= WAVE_LIMIT_DB:
                part = Part(open_graph(_carrying(small, known, wide=True)), draws)
                return part, f"vocoder in 8 bits, {alike:.0f} dB from exact"
            why = f"exact, since in 8 bits it is {alike:.0f} dB from that"
    narrow = Part(open_graph(_carrying(model, known, wide=False)), draws)
    _prove(known, narrow, WAVEFORM)
    del narrow
    return Part(open_graph(_carrying(model, known, wide=True)), draws), f"vocoder {why}"


def _draws_of(part: onnx.ModelProto, known: Study) -> dict[Draw, list[Extent]]:
    inputs = {i.name for i in part.graph.input}
    return {draw: law for draw, law in known.draws.items() if draw.name in inputs}


def _proof_run(known: Study, session: ort.InferenceSession, output: str) -> NDArray[Any]:
    """What a part makes of what the whole was given and drew."""
    feeds = {**known.proof.told, **known.proof.feeds, **_unused(known)}
    wanted = [i.name for i in session.get_inputs()]
    made: NDArray[Any] = session.run([output], {name: feeds[name] for name in wanted})[0]
    return made


def _prove(known: Study, part: Part, output: str) -> None:
    """Raises NotSplittable unless a part gives what the whole gave on the same draws."""
    made = _proof_run(known, part.session, output)
    alike = likeness_db(known.proof.told[output], made)
    if alike < EQUAL_DB:
        raise NotSplittable(f"cut in two it is only {alike:.0f} dB alike")


class Sharing(Enum):
    """Which rows may share a call; the values are for the operator."""

    PADDED = "rows of any length share a call"
    EQUAL = "rows of equal length share a call"
    ALONE = "row by row"


def _sharing(known: Study, mel: str, flow: Part, vocoder: Part) -> Sharing:
    """The most that rows may share without one changing another."""
    if not _rows_equal(known, mel, flow, vocoder):
        return Sharing.ALONE
    if known.ragged and _flow_rows_db(flow, mel, (PROBES[1], PROBES[0]), known.ragged) >= EQUAL_DB:
        return Sharing.PADDED
    return Sharing.EQUAL


def _rows_equal(known: Study, mel: str, flow: Part, vocoder: Part) -> bool:
    length = PROBES[1]
    try:
        if _flow_rows_db(flow, mel, (length, length), known.ragged) < EQUAL_DB:
            return False
        alone = [_flow_feeds(flow, length, known.ragged, seed) for seed in (1, 2)]
        mels = [flow.session.run([mel], feeds)[0] for feeds in alone]
        return _vocoder_rows_db(known, mel, vocoder, mels) >= EQUAL_DB
    except Exception:  # noqa: BLE001 - a graph exported for one row may fail in any way on two
        return False


def _flow_feeds(flow: Part, length: Length, ragged: bool, seed: int) -> Feeds:
    draws = Draws(flow.draws, first_stream=0).feeds([seed], [Place(length, 0)])
    return as_declared(flow.session, {**probe_feeds(length, ragged, seed), **draws})


def _flow_rows_db(flow: Part, mel: str, lengths: Sequence[Length], ragged: bool) -> float:
    alone = [_flow_feeds(flow, length, ragged, seed) for seed, length in enumerate(lengths)]
    kept = [length.codes * MEL_FRAMES_PER_CODE for length in lengths]
    return rows_alike_db(flow.session, mel, alone, stacked(alone), kept)


def _vocoder_rows_db(known: Study, mel: str, vocoder: Part, mels: Sequence[F32]) -> float:
    length = Length(0, mels[0].shape[2] // MEL_FRAMES_PER_CODE)
    draws, sums = Draws(vocoder.draws, first_stream=9), Sums(known.sums)

    def feeds(rows: Sequence[int]) -> Feeds:
        made = draws.feeds(rows, [Place(length, 0)] * len(rows))
        made |= sums.feeds([None] * len(rows), length, 0, 0)
        made |= {mel: np.concatenate([mels[row] for row in rows])}
        return as_declared(vocoder.session, made)

    alone = [feeds([row]) for row in range(len(mels))]
    together = feeds(range(len(mels)))
    samples = [length.codes * SAMPLES_PER_CODE] * len(mels)
    return rows_alike_db(vocoder.session, WAVEFORM, alone, together, samples)
