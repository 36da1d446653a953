"""How does a decoder file become a `StreamingDecoder`?

Knows the order: study, draws to inputs, cut, the form of each part; falls back from two parts to
one graph, and from one deterministic graph to the file as it is. Says in one line which it was and
why.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
import onnx

from chatterbox.compile.decoder.equivalence import EQUAL_DB, rows_alike_db, snr_db, stacked
from chatterbox.compile.decoder.errors import NotSplittable
from chatterbox.compile.decoder.introspect import (
    WAVEFORM,
    DecoderFacts,
    Feeds,
    OpenGraph,
    introspect,
    probe_feeds,
)
from chatterbox.compile.decoder.random_ops import randoms_to_inputs
from chatterbox.compile.decoder.split_mel import cut
from chatterbox.compile.decoder.variants import VariantBuilder, carrying, proof_run
from chatterbox.runtime.contract import F32, MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE
from chatterbox.runtime.decoder.captured import CapturedSession, Record
from chatterbox.runtime.decoder.flow import Part, PlainFlow
from chatterbox.runtime.decoder.shape_laws import PROBES, ProbeLength
from chatterbox.runtime.decoder.split_decoder import SplitDecoder, StreamSettings
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, PhaseInputs, Place, as_declared
from chatterbox.runtime.decoder.unsplit import WholeDecoder
from chatterbox.runtime.decoder.warmup import rehearse
from chatterbox.runtime.streaming_decoder import StreamingDecoder


@dataclass(frozen=True, slots=True)
class Opened:
    """A decoder and what to tell the operator about it."""

    decoder: StreamingDecoder
    kind: str  # split | whole | as published
    note: str


def open_decoder(
    path: Path, open_graph: OpenGraph, settings: StreamSettings, record: Record | None = None
) -> Opened:
    """`open_graph` and `record` must find the weights beside `path`. With `record`, two parts
    replay the shapes of `rehearse`; whatever fails then is raised, and the caller opens it again
    without."""
    model = onnx.load(str(path), load_external_data=False)
    try:
        known = introspect(model, open_graph)
    except NotSplittable as reason:
        decoder = WholeDecoder(open_graph(model), {}, {}, settings)
        return Opened(decoder, "as published", f"the decoder's draws stay its own: {reason}")
    try:
        return _split(known, path.parent, open_graph, settings, record)
    except NotSplittable as reason:
        return _whole(known, open_graph, settings, str(reason))


def with_inputs(known: DecoderFacts) -> onnx.ModelProto:
    """The whole graph, its draws made inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(known.model)
    ranks = {draw.name: len(law) for draw, law in known.draws.items()}
    kinds = {draw.name: known.kind(draw.name) for draw in known.draws}
    randoms_to_inputs(model, list(known.draws), ranks, kinds)
    return model


def _whole(
    known: DecoderFacts, open_graph: OpenGraph, settings: StreamSettings, why: str
) -> Opened:
    model = with_inputs(known)
    session = open_graph(carrying(model, known, wide=False))
    alike = snr_db(known.proof.told[WAVEFORM], proof_run(known, session, WAVEFORM))
    del session
    if alike < EQUAL_DB:
        decoder = WholeDecoder(open_graph(known.model), {}, {}, settings)
        return Opened(decoder, "as published", f"with draws as inputs only {alike:.0f} dB alike")
    session = open_graph(carrying(model, known, wide=True))
    decoder = WholeDecoder(session, known.draws, known.sums, settings)
    same = "which changes nothing" if alike == np.inf else f"{alike:.0f} dB alike"
    return Opened(decoder, "whole", f"{why}; its draws are inputs, {same}")


def _split(
    known: DecoderFacts,
    folder: Path,
    open_graph: OpenGraph,
    settings: StreamSettings,
    record: Record | None,
) -> Opened:
    mel = known.mel
    if mel is None:
        raise NotSplittable(known.why_whole)
    flow_model, vocoder_model = cut(with_inputs(known), mel, known.kind(mel))
    forms = VariantBuilder(known, folder, open_graph, settings, record)
    flow, how = forms.flow(flow_model)
    vocoder, how_heard = forms.vocoder(vocoder_model)
    sharing = Sharing.ALONE
    if settings.max_rows > 1 and isinstance(flow, PlainFlow):
        sharing = _sharing(known, mel, flow.part, vocoder)
    if sharing is Sharing.ALONE:
        settings = replace(settings, max_rows=1)
    padded = sharing is Sharing.PADDED
    parts = [flow.part.session, vocoder.session] if isinstance(flow, PlainFlow) else []
    replays = [part for part in parts if isinstance(part, CapturedSession)]
    decoder = SplitDecoder(
        flow, vocoder, mel, known.sums, settings, padded=padded, replayed=bool(replays)
    )
    how_often = _replayed(decoder, replays, settings.prompt_codes)
    return Opened(decoder, "split", f"{how}; {how_heard}; {sharing.value}{how_often}")


def _replayed(decoder: SplitDecoder, parts: Sequence[CapturedSession], prompt_codes: int) -> str:
    """Have `parts` record what will come; and what came of it."""
    if not parts:
        return ""
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(part.recording())
        rehearse(decoder, prompt_codes)
    recorded, refused = sum(p.recorded for p in parts), sum(p.refused for p in parts)
    differing = f", {refused} not, since they came out otherwise" if refused else ""
    return f"; {recorded} shapes replayed{differing}"


class Sharing(Enum):
    """Which rows may share a call; the values are for the operator."""

    PADDED = "rows of any length share a call"
    EQUAL = "rows of equal length share a call"
    ALONE = "row by row"


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
