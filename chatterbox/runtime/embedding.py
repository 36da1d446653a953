"""How are ids embedded without a session? From the two tables inside embed_tokens, on the host.

Knows the graph's tables and the rule by which it picks one; proves both against the session. The
speech table is held as plain numbers (27 MB for the published model): a step then costs 2 to 5 µs
for one to sixteen codes, where the session takes 11 to 30. The text table stays in its file.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from onnx import NodeProto

from chatterbox.compile.lm.published import PublishedGraph
from chatterbox.compile.lm.tables import GATHER, table_blocks
from chatterbox.compile.lm.weights import Array, Blocks, dense
from chatterbox.runtime.contract import F32, I64, START_CODE

START_IDS = 2  # the last two ids of a text are read as speech codes
TRIALS = 4
TRIAL_IDS = 9
TOLERANCE = 1e-6


class Embedder(Protocol):
    """Ids → rows of the language model."""

    def text(self, ids: I64) -> F32:
        """Text ids [S ≥ 3], the last two of them end tokens → [S, hidden]."""
        ...

    def codes(self, codes: I64) -> F32:
        """Speech codes [B] → [B, hidden]."""
        ...


class HostEmbedder:
    """Implements `Embedder` on two tables."""

    def __init__(self, text: Array | Blocks, speech: Array | Blocks) -> None:
        self._text = text
        self._speech = _rows(speech, np.arange(_count(speech)))

    def text(self, ids: I64) -> F32:
        """The two ends of a text are start codes."""
        start = self.codes(np.full(START_IDS, START_CODE))
        return np.concatenate([_rows(self._text, ids[:-START_IDS]), start])

    def codes(self, codes: I64) -> F32:
        """Rows of the speech table."""
        rows: F32 = self._speech[codes]
        return rows


def host_embedder(path: Path, session: Embedder, vocab: int, end_id: int) -> HostEmbedder | None:
    """An embedder on the tables in the graph at `path` if it gives what `session`, the same graph,
    gives on random ids; else None. `vocab`: rows of the speech table, the logits' width."""
    graph = PublishedGraph(path)
    found = [_table(graph, node) for node in graph.nodes if node.op_type in GATHER]
    tables = [table for table in found if table is not None]
    speech = [table for table in tables if _count(table) == vocab]
    text = [table for table in tables if _count(table) != vocab]
    if len(speech) != 1 or len(text) != 1:
        return None
    host = HostEmbedder(text[0], speech[0])
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        ids = rng.integers(0, _count(text[0]), TRIAL_IDS)
        ids[-START_IDS:] = end_id
        codes = rng.integers(0, START_CODE + 1, TRIAL_IDS)
        alike = _alike(host.text(ids), session.text(ids))
        if not alike or not _alike(host.codes(codes), session.codes(codes)):
            return None
    return host


def _alike(found: F32, expected: F32) -> bool:
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= TOLERANCE)


def _table(graph: PublishedGraph, node: NodeProto) -> Array | Blocks | None:
    if node.op_type == "GatherBlockQuantized":
        return table_blocks(graph, node)
    rows = graph.constant(node.input[0])
    return rows if rows is not None and rows.ndim == 2 else None


def _count(table: Array | Blocks) -> int:
    return len(table.codes) if isinstance(table, Blocks) else len(table)


def _rows(table: Array | Blocks, ids: I64) -> F32:
    if isinstance(table, Blocks):
        zeros = None if table.zero_points is None else table.zero_points[ids]
        some = Blocks(
            table.codes[ids], table.scales[ids], zeros, table.bits, table.block, table.inputs
        )
        return dense(some).T.astype(np.float32)
    rows: F32 = table[ids].astype(np.float32)
    return rows
