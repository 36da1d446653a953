"""Proves compiled language models: compares graphs and embeddings on random rows.

Deviations are in standard deviations of the published logits. The compiled graph prefills rows of
different length in two pieces and steps them together in slots; the published graph runs each row
alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.compile.lm.published import GATHER, PublishedGraph
from chatterbox.runtime.bound_call import Rows
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_lm import Deviation
from chatterbox.runtime.decoder.graph_io import DECLARED
from chatterbox.runtime.embedding import (
    START_IDS,
    Embedder,
    HostEmbedder,
    TokensInGraph,
    row_count,
)
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings, open_session

TABLE_ROWS = 64
MIN_TEXT_IDS = 256  # text ids that every byte-level vocabulary has
END_IDS = 2  # the last two ids of a text are read as start codes
STEPS = 8  # forced codes for each row
SINGLE_STEPS = [1, 2]  # piece ends for the stock graph: two single steps, then the rest
EXACT_STEPS = 2  # steps compared without int8 rounding, which are slow
SLOTS = 4
ROWS = {0: (7, 5), 3: (4, 11)}
"""Slot → numbers of conditioning rows and text ids: different lengths, free slots between them."""
CAPACITY = 48
EMBEDDING_TRIALS, EMBEDDING_TRIAL_IDS, EMBEDDING_TOLERANCE = 4, 9, 1e-6


class TableEmbedder:
    """Embedder that looks ids up in a small table, modulo its size."""

    def __init__(self, table: F32) -> None:
        self._table = table

    def text(self, ids: I64) -> F32:
        """[S] → [S, hidden]."""
        rows: F32 = self._table[ids % len(self._table)]
        return rows

    codes = text


def random_embedder(hidden: int) -> TableEmbedder:
    rng = np.random.default_rng(0)
    return TableEmbedder(rng.standard_normal((TABLE_ROWS, hidden), np.float32))


def sampled_embedder(embed: Embedder, tokens: int) -> TableEmbedder:
    """Return an embedder with sampled rows of the model's own embedding: text, and speech codes
    below `tokens`."""
    rng = np.random.default_rng(0)
    half = TABLE_ROWS // 2
    text = embed.text(rng.integers(0, MIN_TEXT_IDS, half + END_IDS))[:half]
    return TableEmbedder(np.concatenate([embed.codes(rng.integers(0, tokens, half)), text]))


class StockRow:
    """Runs one row on the stock graph, as the model card's loop does. `columns` are the ranges
    (start, end) of logits to return; all if empty."""

    def __init__(
        self, session: ort.InferenceSession, columns: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._session = session
        self._columns = columns
        inputs = session.get_inputs()
        self._names = {i.name for i in inputs}
        self._past: dict[str, NDArray[Any]] = {
            i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), DECLARED[i.type])
            for i in inputs
            if i.name.startswith("past_key_values.")
        }
        self._length = 0

    def advance(self, rows: Rows) -> F32:
        """Append rows [S, …] and return their logits [S, vocab]."""
        new = len(rows)
        positions = np.arange(self._length, self._length + new)[None]
        self._length += new
        inputs = {
            "inputs_embeds": rows[None],
            "input_ids": rows[None],
            "attention_mask": np.ones((1, self._length), np.int64),
            "position_ids": positions,
        }
        feeds = {name: inputs[name] for name in self._names & inputs.keys()} | self._past
        presents = [name.replace("past_key_values", "present") for name in self._past]
        logits, *caches = self._session.run(["logits", *presents], feeds)
        self._past = dict(zip(self._past, caches, strict=True))
        row_logits: F32 = logits[0]
        if not self._columns:
            return row_logits
        return np.concatenate([row_logits[:, begin:end] for begin, end in self._columns], axis=1)


def sampled_voice(rows: int, embed: Embedder, seed: int) -> PrefixedPrompt:
    """Return conditioning rows like a voice's, which are nearly all embedded speech codes."""
    features = embed.codes(np.random.default_rng(seed).integers(0, TABLE_ROWS, rows))
    return PrefixedPrompt(f"sampled-{rows}-{seed}", features, np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Random rows and their logits from the stock graph."""

    embed: Embedder
    prompts: list[PrefixedPrompt]  # one per slot in ROWS
    codes: I64  # [rows, STEPS]
    logits: F32  # [rows, 1 + STEPS, vocab]: after the prefill and after each step


def stock_trial(
    source: Path, embed: Embedder, threads: int, columns: Sequence[tuple[int, int]] = ()
) -> Trial:
    """Run the rows one by one on the stock graph, on the CPU. After SINGLE_STEPS, steps share one
    call: the stock graph returns the logits of every position, and without int8 rounding each call
    of an 8-bit graph takes a second."""
    session = exact_session(source, threads)
    rng = np.random.default_rng(1)
    prompts = [
        sampled_voice(rows, embed, slot).with_text(rng.integers(0, TABLE_ROWS, ids))
        for slot, (rows, ids) in ROWS.items()
    ]
    codes = rng.integers(0, TABLE_ROWS, (len(ROWS), STEPS))
    logits = []
    for prompt, forced in zip(prompts, codes, strict=True):
        row = StockRow(session, columns)
        first = np.concatenate([prompt.prefix, embed.text(prompt.ids)])
        pieces = np.split(embed.codes(forced), SINGLE_STEPS)
        after = [row.advance(piece) for piece in (first, *pieces)]
        logits.append(np.concatenate([after[0][-1:], *after[1:]]))
    return Trial(embed, prompts, codes, np.stack(logits))


def deviation(
    trial: Trial,
    compiled: ort.InferenceSession,
    *,
    steps: int = STEPS,
    memory: Memory | None = None,
) -> Deviation:
    """Run the rows of a trial together in slots of the compiled graph, and compare the logits."""
    model = SlottedLanguageModel(
        compiled, trial.embed, slots=SLOTS, capacity=CAPACITY, prefix_cache_bytes=0, memory=memory
    )
    logits = [np.stack([model.prefill(*row) for row in zip(ROWS, trial.prompts, strict=True)])]
    logits += [model.decode(list(ROWS), codes).copy() for codes in trial.codes.T[:steps]]
    return compare(trial.logits[:, : 1 + steps], np.stack(logits, axis=1))


def tokens_deviation(
    compiled: ort.InferenceSession, rows: Embedder, memory: Memory | None = None
) -> Deviation:
    """Compare a step that looks tokens up in the graph with a step that is given embeddings."""
    ids = np.arange(2 * END_IDS)
    logits = []
    for embed in (rows, TokensInGraph(rows)):
        model = SlottedLanguageModel(
            compiled, embed, slots=1, capacity=CAPACITY, prefix_cache_bytes=0, memory=memory
        )
        model.prefill(0, PrefixedPrompt("", rows.text(ids)[:0], ids))
        last = model.vocab - 1
        logits.append(np.stack([model.decode([0], np.array([i])).copy() for i in (7, last)]))
    return compare(*logits)


def exact_session(path: Path, threads: int) -> ort.InferenceSession:
    """Open a session on the CPU that computes every product in float, whatever accuracy level the
    file sets."""
    model = onnx.load(str(path), load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            attributes = [a for a in node.attribute if a.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend(attributes)
    cpu = SessionSettings("cpu", threads, {})
    return open_session(model.SerializeToString(), cpu, weights_in=path.parent)


def compare(expected: F32, actual: F32) -> Deviation:
    """Compare logits [..., vocab]."""
    difference = np.abs(expected - actual) / (expected.std() + 1e-12)
    same = expected.argmax(axis=-1) == actual.argmax(axis=-1)
    if not np.isfinite(actual).all():
        return Deviation(float("inf"), float("inf"), 0.0)
    return Deviation(float(difference.max()), float(difference.mean()), float(same.mean()))


def host_embedder(path: Path, session: Embedder, vocab: int, end_id: int) -> HostEmbedder | None:
    """Return an embedder on the tables of the embedding graph at `path`, or None if its rows differ
    from those of `session`, which runs that graph.

    `vocab` is the number of rows of the speech table. The start code, as which the end of a text is
    read, is found by comparing rows.
    """
    graph = PublishedGraph(path)
    tables = [t for node in graph.of_type(*GATHER) if (t := graph.table_of(node)) is not None]
    speech = [table for table in tables if row_count(table) == vocab]
    text = [table for table in tables if row_count(table) != vocab]
    if len(speech) != 1 or len(text) != 1:
        return None
    host = HostEmbedder(text[0], speech[0], start=0)
    start_row = session.text(np.array([0, *[end_id] * START_IDS], np.int64))[-1]
    speech_rows = host.codes(np.arange(vocab))
    start = int(np.abs(speech_rows - start_row).max(axis=1).argmin())
    host = HostEmbedder(text[0], speech_rows, start)
    rng = np.random.default_rng(0)
    for _ in range(EMBEDDING_TRIALS):
        ids = rng.integers(0, row_count(text[0]), EMBEDDING_TRIAL_IDS)
        ids[-START_IDS:] = end_id
        codes = rng.integers(0, start + 1, EMBEDDING_TRIAL_IDS)
        text_equal = rows_equal(host.text(ids), session.text(ids))
        if not text_equal or not rows_equal(host.codes(codes), session.codes(codes)):
            return None
    return host


def rows_equal(rows: F32, expected: F32) -> bool:
    """Return whether two arrays of embeddings are equal to EMBEDDING_TOLERANCE."""
    if rows.shape != expected.shape:
        return False
    return bool(np.abs(rows - expected).max() <= EMBEDDING_TOLERANCE)
