"""Compiles a published SNAC decoder: noise comes in, blocks are cropped or go on where they ended.

Proven on the published graph's own draws: whole, in windows of one frame, and rows in one call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto

from chatterbox.arrays import F32, I64
from chatterbox.compile.decoder.random_ops import find_randoms
from chatterbox.compile.graph import (
    EditableGraph,
    OpenGraph,
    UnsupportedGraph,
    ancestors,
    attributes,
    element_type,
    inline_functions,
    with_outputs,
)
from chatterbox.compile.snac_graph import carrying, cropped, draws_in_single, with_noise
from chatterbox.errors import ModelError, first_line
from chatterbox.families.base import DecodeJob, Voice, Window
from chatterbox.runtime.decoder.graph_io import RandomOp, snr_db
from chatterbox.runtime.decoder.snac import AUDIO, BLOCKS, CODES, PLACES, SNAC, code_feeds
from chatterbox.runtime.decoder.snac_decoder import CarryingGraph, SnacDecoder

PROOF_FRAMES = 8  # windows at the beginning, at the end and between
LEAST_DB = {TensorProto.FLOAT: 80.0, TensorProto.FLOAT16: 40.0}
"""Of the published graph's sound, by the type its blocks compute in. What is cropped was equal to
the bit with random weights; what is carried, which adds in another order, 113 to 126 dB alike in
single and 56 dB in half precision."""
ROWS = 3
VOICE = Voice("", None)
COARSE = ("Integer", "NBits", "Quantize")  # parts of operators' names


@dataclass(frozen=True, slots=True)
class SnacCompilation:
    """What became of a published decoder."""

    graph: onnx.ModelProto | None  # with crops; None: it is served as it is
    note: str
    carrying: onnx.ModelProto | None = None
    carried_at_start: Sequence[int] = ()
    rows: bool = False  # may share a call of `graph`
    proofs: dict[str, Any] = field(default_factory=dict)


def compile_snac(path: Path, open_graph: OpenGraph) -> SnacCompilation:
    """`open_graph` must find weights beside `path`. Raises ModelError where it is no SNAC decoder
    that should be served."""
    published = inline_functions(onnx.load(str(path), load_external_data=False))
    coarse = {n.op_type for n in published.graph.node if any(c in n.op_type for c in COARSE)}
    if coarse:
        raise ModelError(
            f"{path.name} computes in 8 or 4 bits ({', '.join(sorted(coarse))}). SNAC loses quality"
            " by that: use fp32 or fp16"
        )
    draws_in_single(published)
    try:
        (wave,) = open_graph(published).run([AUDIO], code_feeds(_tokens(0)[None]))
    except Exception as fault:
        raise ModelError(f"the SNAC decoder cannot be run: {first_line(fault)}") from fault
    if wave.shape != (1, 1, PROOF_FRAMES * SNAC.samples_per_frame):
        raise ModelError("the decoder does not give 2048 samples a frame: not SNAC at 24 kHz")
    try:
        return _compiled(published, path.parent, open_graph)
    except UnsupportedGraph as reason:
        note = f"served as published: {reason}; it draws its own noise, so that seeds do not"
        return SnacCompilation(None, f"{note} repeat and each window decodes all it is fed")


def _compiled(published: onnx.ModelProto, folder: Path, open_graph: OpenGraph) -> SnacCompilation:
    graph = EditableGraph(published)
    nodes = graph.of_type("ConvTranspose")
    if [attributes(n).get("strides") for n in nodes] != [[stride] for stride, _ in BLOCKS]:
        raise UnsupportedGraph("its blocks do not raise the rate by 8, 8, 4 and 2")
    ups = [n.output[0] for n in nodes]
    draws = _by_block(graph, ups)
    given = with_noise(published, draws)
    parts: list[tuple[str, int]] = []  # what could be carried between windows
    again = ""
    try:
        parts = carrying(given, ups, folder)[1]
    except UnsupportedGraph as reason:
        again = str(reason)
    names = list(dict.fromkeys([*(d.name for d in draws), ups[0], *(t for t, _ in parts)]))
    tokens = _tokens(0)
    told = open_graph(with_outputs(published, names))
    wave, *values = told.run([AUDIO, *names], code_feeds(tokens[None]))
    drawn = values[: len(draws)]
    if [d.shape for d in drawn] != [(1, 1, rate * PROOF_FRAMES) for _, rate in BLOCKS]:
        raise UnsupportedGraph("its draws are not one number a step of each block")
    kinds = {n: (element_type(v), v.shape[1]) for n, v in zip(names, values, strict=True)}
    least = LEAST_DB[kinds[ups[0]][0]]
    proofs: dict[str, float] = {}

    def retold(_seed: int, block: int, start: int, count: int) -> F32:
        """What the published graph drew."""
        return np.asarray(drawn[block][0, 0, start : start + count], np.float32)

    def prove(name: str, hop: int, carrying: ort.InferenceSession | None = None) -> None:
        carried = CarryingGraph(carrying, at_start, retold) if carrying is not None else None
        try:
            decoder = SnacDecoder(session, draw=retold, carrying=carried)
            jobs = stream_jobs(decoder, tokens, repeat(hop))
            made = np.concatenate([decoder.run([job])[0].samples for job in jobs])
        except Exception as fault:
            raise UnsupportedGraph(f"{name}, it cannot be run: {first_line(fault)}") from fault
        proofs[name] = alike = snr_db(wave[0, 0], made)
        if alike < least:
            raise UnsupportedGraph(f"{name}, it came out {alike:.0f} dB alike")

    def opened(model: onnx.ModelProto) -> ort.InferenceSession:
        try:
            return open_graph(model)
        except Exception as fault:
            raise UnsupportedGraph(
                f"rewritten, it cannot be opened: {first_line(fault)}"
            ) from fault

    crop, carry = cropped(given, ups), None
    session, at_start = opened(crop), [steps for _, steps in parts]
    prove("whole", PROOF_FRAMES)
    prove("cropped", 1)
    if parts:
        carry, _ = carrying(given, ups, folder, kinds)
        try:
            prove("carried", 1, opened(carry))
        except UnsupportedGraph as reason:
            carry, again = None, str(reason)
            proofs.pop("carried", None)
    declared = published.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    rows = declared != 1 and _rows_share(SnacDecoder(session), least)
    told_of = [
        "noise by seed",
        f"windows {min(proofs.values()):.0f} dB alike the published graph's",
        "rows share a call" if rows else "row by row",
        *([f"each window decodes its surroundings again: {again}"] if again else []),
    ]
    return SnacCompilation(crop, "; ".join(told_of), carry, at_start, rows, proofs)


def _tokens(seed: int) -> I64:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, CODES, (PROOF_FRAMES, PLACES))
    return (codes + CODES * np.arange(PLACES)).reshape(-1)


def stream_jobs(
    decoder: SnacDecoder, tokens: I64, hops: Iterator[int], seed: int = 0
) -> Iterator[DecodeJob]:
    """The windows of a stream, of so many fresh frames each."""
    stream, frames = decoder.open(VOICE, seed), len(tokens) // PLACES
    end, sample, last = 0, 0, False
    while not last:
        fresh, end = end, end + next(hops)
        last = end + SNAC.look_ahead_frames > frames
        end, stop = (frames, frames) if last else (end, end + SNAC.look_ahead_frames)
        begin = max(fresh - SNAC.left_context_frames, 0)
        window = Window(begin, fresh, end, stop, last, SNAC)
        part = tokens[begin * PLACES : stop * PLACES]
        yield DecodeJob(stream, window, part, sample, window.end_sample)
        sample = window.end_sample


def _rows_share(decoder: SnacDecoder, least_db: float) -> bool:
    """Whether rows in one call sound as each does alone."""
    streams = [stream_jobs(decoder, _tokens(seed), repeat(1), seed) for seed in range(ROWS)]
    jobs = [next(islice(stream, 3, None)) for stream in streams]
    try:
        together = decoder.run(jobs)
    except Exception:  # noqa: BLE001 - a graph exported for one row may fail in any way on more
        return False
    alone = [decoder.run([job])[0] for job in jobs]
    pairs = zip(alone, together, strict=True)
    return all(snr_db(a.samples, b.samples) >= least_db for a, b in pairs)


def _by_block(graph: EditableGraph, ups: list[str]) -> list[RandomOp]:
    """The draw of each block: it meets what the block's own transposed convolution made."""
    found: dict[int, RandomOp] = {}
    draws = find_randoms(graph.model)
    for draw in draws:
        tensor, depth = draw.name, 0
        while not depth and len(graph.consumers.get(tensor, [])) == 1:  # Casts and the like
            tensor = graph.consumers[tensor][0].output[0]
            _, behind = ancestors(graph.graph, [tensor], [draw.name])
            depth = len(behind.intersection(ups))
        found[depth] = draw
    plain = all(d == RandomOp(d.name, "normal", 0.0, 1.0) for d in draws)
    if not plain or len(draws) != len(BLOCKS) or sorted(found) != [1, 2, 3, 4]:
        raise UnsupportedGraph(
            f"{len(draws)} draws, not one of normal numbers in each of its blocks"
        )
    return [found[depth] for depth in sorted(found)]
