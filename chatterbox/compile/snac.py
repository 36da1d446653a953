"""Compiles a published SNAC decoder: noise becomes an input, and windows compute only new steps.

The compiled graphs are proven with the noise that the published graph drew: decoding at once, in
windows of one frame, and several rows in one call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from chatterbox.arrays import F32, I64
from chatterbox.compile.decoder.random_ops import find_randoms, randoms_to_inputs
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
from chatterbox.compile.snac_graph import (
    carry_state,
    crop_blocks,
    draw_in_single_precision,
)
from chatterbox.errors import ModelError, first_line
from chatterbox.families.base import DecodeJob, Voice, Window
from chatterbox.runtime.decoder.graph_io import RandomOp, snr_db
from chatterbox.runtime.decoder.snac import (
    AUDIO,
    BLOCKS,
    CODES,
    PLACES,
    SNAC,
    code_feeds,
    noise_name,
)
from chatterbox.runtime.decoder.snac_decoder import CarryingGraph, SnacDecoder

PROOF_FRAMES = 8  # enough for windows at the start, at the end and between
MIN_SNR_DB = {TensorProto.FLOAT: 80.0, TensorProto.FLOAT16: 40.0}
"""Smallest SNR against the published graph, by the element type of its blocks. Measured with random
weights: cropped graphs are bit-equal; carrying graphs, which sum in another order, reach 113 to
126 dB in single and 56 dB in half precision."""
ROWS = 3
VOICE = Voice("", None)
QUANTIZED = ("Integer", "NBits", "Quantize")  # parts of the names of quantised operators


@dataclass(frozen=True, slots=True)
class SnacCompilation:
    """A compiled SNAC decoder and the results of its proofs."""

    graph: onnx.ModelProto | None  # with cropped blocks; None if the published file is served
    note: str
    carrying: onnx.ModelProto | None = None  # carries state between windows
    carried_at_start: Sequence[int] = ()  # steps of each state at the start of a stream
    rows: bool = False  # whether rows can share a call of `graph`
    proofs: dict[str, Any] = field(default_factory=dict)


def compile_snac(path: Path, open_graph: OpenGraph) -> SnacCompilation:
    """Compile the decoder at `path`. `open_graph` must find the weights beside `path`.

    Raises ModelError if the graph is not a usable SNAC decoder.
    """
    published = inline_functions(onnx.load(str(path), load_external_data=False))
    operators = {node.op_type for node in published.graph.node}
    if quantized := {kind for kind in operators if any(part in kind for part in QUANTIZED)}:
        raise ModelError(
            f"{path.name} computes in 8 or 4 bits ({', '.join(sorted(quantized))}), which degrades"
            " SNAC's sound: use fp32 or fp16"
        )
    draw_in_single_precision(published)
    try:
        (wave,) = open_graph(published).run([AUDIO], code_feeds(_tokens(0)[None]))
    except Exception as fault:
        raise ModelError(f"the SNAC decoder cannot be run: {first_line(fault)}") from fault
    if wave.shape != (1, 1, PROOF_FRAMES * SNAC.samples_per_frame):
        raise ModelError("the decoder is not SNAC at 24 kHz: a frame does not have 2048 samples")
    try:
        return _compile(published, path.parent, open_graph)
    except UnsupportedGraph as reason:
        note = f"served as published: {reason}; it draws its own noise, so that seeds do not"
        return SnacCompilation(None, f"{note} repeat and each window decodes all it is fed")


def _compile(published: onnx.ModelProto, folder: Path, open_graph: OpenGraph) -> SnacCompilation:
    """Rewrite and prove the graph. Raises UnsupportedGraph if it has to be served as published."""
    graph = EditableGraph(published)
    nodes = graph.of_type("ConvTranspose")
    if [attributes(n).get("strides") for n in nodes] != [[stride] for stride, _ in BLOCKS]:
        raise UnsupportedGraph("its blocks do not raise the rate by 8, 8, 4 and 2")
    ups = [n.output[0] for n in nodes]
    draws = _draws_by_block(graph, ups)
    noises = {draw: _noise_input(noise_name(block)) for block, draw in enumerate(draws)}
    noise_in = randoms_to_inputs(published, noises)
    states: list[tuple[str, int]] = []  # tensors to carry between windows, with initial steps
    not_carried = ""  # why windows decode their context again
    try:
        states = carry_state(noise_in, ups, folder)[1]
    except UnsupportedGraph as reason:
        not_carried = str(reason)
    names = list(dict.fromkeys([*(d.name for d in draws), ups[0], *(t for t, _ in states)]))
    tokens = _tokens(0)
    session = open_graph(with_outputs(published, names))
    wave, *values = session.run([AUDIO, *names], code_feeds(tokens[None]))
    drawn = values[: len(draws)]
    if [d.shape for d in drawn] != [(1, 1, rate * PROOF_FRAMES) for _, rate in BLOCKS]:
        raise UnsupportedGraph("its draws are not one number per step of each block")
    kinds = {n: (element_type(v), v.shape[1]) for n, v in zip(names, values, strict=True)}
    min_snr_db = MIN_SNR_DB[kinds[ups[0]][0]]
    proofs: dict[str, float] = {}

    def published_noise(_seed: int, block: int, start: int, count: int) -> F32:
        return np.asarray(drawn[block][0, 0, start : start + count], np.float32)

    def prove(name: str, hop: int, carrying: ort.InferenceSession | None = None) -> None:
        """Decode in windows of `hop` frames and compare with the published graph."""
        carried = CarryingGraph(carrying, at_start, published_noise) if carrying else None
        try:
            decoder = SnacDecoder(crop_session, draw=published_noise, carrying=carried)
            jobs = stream_jobs(decoder, tokens, repeat(hop))
            decoded = np.concatenate([decoder.run([job])[0].samples for job in jobs])
        except Exception as fault:
            raise UnsupportedGraph(f"{name}, it cannot be run: {first_line(fault)}") from fault
        proofs[name] = figure = snr_db(wave[0, 0], decoded)
        if figure < min_snr_db:
            raise UnsupportedGraph(f"{name}, it has only {figure:.0f} dB SNR")

    def open_rewritten(model: onnx.ModelProto) -> ort.InferenceSession:
        try:
            return open_graph(model)
        except Exception as fault:
            raise UnsupportedGraph(
                f"rewritten, it cannot be opened: {first_line(fault)}"
            ) from fault

    crop, carry = crop_blocks(noise_in, ups), None
    crop_session, at_start = open_rewritten(crop), [steps for _, steps in states]
    prove("whole", PROOF_FRAMES)
    prove("cropped", 1)
    if states:
        carry, _ = carry_state(noise_in, ups, folder, kinds)
        try:
            prove("carried", 1, open_rewritten(carry))
        except UnsupportedGraph as reason:
            carry, not_carried = None, str(reason)
            proofs.pop("carried", None)
    declared = published.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    rows = declared != 1 and _can_batch(SnacDecoder(crop_session), min_snr_db)
    notes = [
        "noise by seed",
        f"windows with {min(proofs.values()):.0f} dB SNR against the published graph",
        "rows share a call" if rows else "row by row",
        *([f"each window decodes its surroundings again: {not_carried}"] if not_carried else []),
    ]
    return SnacCompilation(crop, "; ".join(notes), carry, at_start, rows, proofs)


def _noise_input(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, f"{name}.steps"])


def _tokens(seed: int) -> I64:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, CODES, (PROOF_FRAMES, PLACES))
    return (codes + CODES * np.arange(PLACES)).reshape(-1)


def stream_jobs(
    decoder: SnacDecoder, tokens: I64, hops: Iterator[int], seed: int = 0
) -> Iterator[DecodeJob]:
    """Yield the decode jobs of a stream. `hops` are the numbers of new frames in each window."""
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


def _can_batch(decoder: SnacDecoder, min_snr_db: float) -> bool:
    """Return whether several rows in one call give the same sound as separate calls."""
    streams = [stream_jobs(decoder, _tokens(seed), repeat(1), seed) for seed in range(ROWS)]
    jobs = [next(islice(stream, 3, None)) for stream in streams]
    try:
        together = decoder.run(jobs)
    except Exception:  # noqa: BLE001 - a graph exported for one row can fail in any way
        return False
    alone = [decoder.run([job])[0] for job in jobs]
    pairs = zip(alone, together, strict=True)
    return all(snr_db(a.samples, b.samples) >= min_snr_db for a, b in pairs)


def _draws_by_block(graph: EditableGraph, ups: list[str]) -> list[RandomOp]:
    """Return each block's random tensor, which is combined with the output of the block's
    transposed convolution. `ups` are these outputs. Raises UnsupportedGraph if a block has none."""
    by_depth: dict[int, RandomOp] = {}
    draws = find_randoms(graph.model)
    for draw in draws:
        tensor, depth = draw.name, 0
        while not depth and len(graph.consumers.get(tensor, [])) == 1:  # Casts and the like
            tensor = graph.consumers[tensor][0].output[0]
            _, sources = ancestors(graph.graph, [tensor], [draw.name])
            depth = len(sources.intersection(ups))
        by_depth[depth] = draw
    is_normal = all(d == RandomOp(d.name, "normal", 0.0, 1.0) for d in draws)
    if not is_normal or len(draws) != len(BLOCKS) or sorted(by_depth) != [1, 2, 3, 4]:
        raise UnsupportedGraph(
            f"{len(draws)} draws, not one of normal numbers in each of its blocks"
        )
    return [by_depth[depth] for depth in sorted(by_depth)]
