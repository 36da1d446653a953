"""Reads tables of embeddings out of graphs; proves embed_tokens' two against its session."""

from pathlib import Path

import numpy as np
from onnx import NodeProto

from chatterbox.arrays import F32
from chatterbox.compile.graph import attributes
from chatterbox.compile.lm.published import PublishedGraph
from chatterbox.runtime.embedding import START_IDS, Embedder, HostEmbedder, row_count
from chatterbox.runtime.quantized_weights import Array, BlockQuantized

GATHER = ("Gather", "GatherBlockQuantized")


def table_read_by(graph: PublishedGraph, node: NodeProto) -> Array | BlockQuantized | None:
    """What a Gather or GatherBlockQuantized reads from, if it is a table of rows. The rows of one
    in blocks are the outputs of a blocked weight."""
    if node.op_type == "Gather":
        values = graph.constant(node.input[0])
        return values if values is not None and values.ndim == 2 else None
    found, scales = graph.packed(node.input[0]), graph.constant(node.input[2])
    given = attributes(node)
    axes = given.get("gather_axis", 0), given.get("quantize_axis", 1)
    if found is None or scales is None or scales.ndim != 2 or axes != (0, 1):
        return None
    zeros = graph.packed(node.input[3]) if any(node.input[3:4]) else None
    bits = found.bits or given.get("bits", 4)
    rows, count = scales.shape
    offset = zeros.codes if zeros is not None else None
    if offset is None and found.bits and not found.signed:
        offset = np.zeros((rows, -(-count * bits // 8)), np.uint8)  # uint4's own default
    codes, width = found.codes.reshape(rows, count, -1), found.codes.shape[1] * 8 // bits
    return BlockQuantized(codes, scales, offset, bits, given.get("block_size", 128), width)


TRIALS = 4
TRIAL_IDS = 9
TOLERANCE = 1e-6


def host_embedder(path: Path, session: Embedder, vocab: int, end_id: int) -> HostEmbedder | None:
    """An embedder on the tables in the graph at `path` if it gives what `session`, the same graph,
    gives on random ids; else None. `vocab`: rows of the speech table, the logits' width. Which code
    the ends of a text are read as is told from the session."""
    graph = PublishedGraph(path)
    found = (table_read_by(graph, node) for node in graph.of_type(*GATHER))
    tables = [table for table in found if table is not None]
    speech = [table for table in tables if row_count(table) == vocab]
    text = [table for table in tables if row_count(table) != vocab]
    if len(speech) != 1 or len(text) != 1:
        return None
    host = HostEmbedder(text[0], speech[0], start=0)
    read = session.text(np.array([0, *[end_id] * START_IDS], np.int64))[-1]
    known = host.codes(np.arange(vocab))
    start = int(np.abs(known - read).max(axis=1).argmin())
    host = HostEmbedder(text[0], known, start)
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        ids = rng.integers(0, row_count(text[0]), TRIAL_IDS)
        ids[-START_IDS:] = end_id
        codes = rng.integers(0, start + 1, TRIAL_IDS)
        alike = _alike(host.text(ids), session.text(ids))
        if not alike or not _alike(host.codes(codes), session.codes(codes)):
            return None
    return host


def _alike(found: F32, expected: F32) -> bool:
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= TOLERANCE)
