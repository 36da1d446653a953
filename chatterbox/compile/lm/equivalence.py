"""Compares a compiled language model with the published one on the same random rows.

Deviations are in standard deviations of the published logits. Rows differ in length, are prefilled
in two pieces and then stepped together in slots; the published graph runs each row by itself.
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
from chatterbox.runtime.bound_call import Rows
from chatterbox.runtime.buffers import Memory
from chatterbox.runtime.compiled_lm import Deviation
from chatterbox.runtime.decoder.graph_io import DECLARED
from chatterbox.runtime.embedding import Embedder, TokensInGraph
from chatterbox.runtime.kv_slots import PrefixedPrompt, SlottedLanguageModel
from chatterbox.runtime.sessions import SessionSettings, open_session

TABLE_ROWS = 64
SURE_TEXT_IDS = 256  # a byte-level vocabulary has at least these
END_IDS = 2  # the last two ids of a text are read as start codes
STEPS = 8  # forced codes for each row
SINGLE_STEPS = [1, 2]  # where the stock graph's pieces end: two single steps, then the rest
EXACT_STEPS = 2  # that the compiled graph makes without rounding, where it is as slow
SLOTS = 4
ROWS = {0: (7, 5), 3: (4, 11)}
"""Slot → conditioning rows and text ids: rows of different length, with free slots between."""
CAPACITY = 48


class TableEmbedder:
    """Rows of a small table in place of the embedding; an id is taken modulo its size."""

    def __init__(self, table: F32) -> None:
        self._table = table

    def text(self, ids: I64) -> F32:
        """[S] → [S, hidden]."""
        rows: F32 = self._table[ids % len(self._table)]
        return rows

    codes = text


def random_embedder(hidden: int) -> TableEmbedder:
    """Rows of noise."""
    rng = np.random.default_rng(0)
    return TableEmbedder(rng.standard_normal((TABLE_ROWS, hidden), np.float32))


def sampled_embedder(embed: Embedder, tokens: int) -> TableEmbedder:
    """Some rows of the model's own embedding, of its speech `tokens` and of text."""
    rng = np.random.default_rng(0)
    half = TABLE_ROWS // 2
    text = embed.text(rng.integers(0, SURE_TEXT_IDS, half + END_IDS))[:half]
    return TableEmbedder(np.concatenate([embed.codes(rng.integers(0, tokens, half)), text]))


class StockRow:
    """One row driven by the stock graph alone: the card's own loop. Of the logits, `columns` count,
    from and up to; none: all."""

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
        """Append rows [S, …]; logits [S, vocab]."""
        new = len(rows)
        positions = np.arange(self._length, self._length + new)[None]
        self._length += new
        known = {
            "inputs_embeds": rows[None],
            "input_ids": rows[None],
            "attention_mask": np.ones((1, self._length), np.int64),
            "position_ids": positions,
        }
        feeds = {name: known[name] for name in self._names & known.keys()} | self._past
        presents = [name.replace("past_key_values", "present") for name in self._past]
        logits, *caches = self._session.run(["logits", *presents], feeds)
        self._past = dict(zip(self._past, caches, strict=True))
        found: F32 = logits[0]
        if not self._columns:
            return found
        return np.concatenate([found[:, begin:end] for begin, end in self._columns], axis=1)


def sampled_voice(rows: int, embed: Embedder, seed: int) -> PrefixedPrompt:
    """A voice's conditioning rows; nearly all of a real one are embedded speech codes."""
    features = embed.codes(np.random.default_rng(seed).integers(0, TABLE_ROWS, rows))
    return PrefixedPrompt(f"sampled-{rows}-{seed}", features, np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Random rows and what the stock graph says to them."""

    embed: Embedder
    prompts: list[PrefixedPrompt]  # one for each of ROWS
    codes: I64  # [rows, STEPS]
    logits: F32  # [rows, 1 + STEPS, vocab]: after the prefill and after each step


def stock_trial(
    source: Path, embed: Embedder, threads: int, columns: Sequence[tuple[int, int]] = ()
) -> Trial:
    """The rows one by one through the stock graph, on the CPU. Only some steps are made one at a
    time, for the stock graph gives the logits of every position of a longer piece (and without
    int8 rounding takes a second for each call in 8 bits)."""
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
    """The same rows on the compiled graph, stepped together in slots that lie apart."""
    model = SlottedLanguageModel(
        compiled, trial.embed, slots=SLOTS, capacity=CAPACITY, prefix_cache_bytes=0, memory=memory
    )
    logits = [np.stack([model.prefill(*one) for one in zip(ROWS, trial.prompts, strict=True)])]
    logits += [model.decode(list(ROWS), codes).copy() for codes in trial.codes.T[:steps]]
    return compare(trial.logits[:, : 1 + steps], np.stack(logits, axis=1))


def tokens_deviation(
    compiled: ort.InferenceSession, rows: Embedder, memory: Memory | None = None
) -> Deviation:
    """A step by tokens that the graph looks up, against one by rows of them."""
    ids = np.arange(2 * END_IDS)
    found = []
    for embed in (rows, TokensInGraph(rows)):
        model = SlottedLanguageModel(
            compiled, embed, slots=1, capacity=CAPACITY, prefix_cache_bytes=0, memory=memory
        )
        model.prefill(0, PrefixedPrompt("", rows.text(ids)[:0], ids))
        last = model.vocab - 1
        found.append(np.stack([model.decode([0], np.array([i])).copy() for i in (7, last)]))
    return compare(*found)


def exact_session(path: Path, threads: int) -> ort.InferenceSession:
    """On the CPU, every product in float whatever accuracy the file asks for."""
    model = onnx.load(str(path), load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            kept = [a for a in node.attribute if a.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend(kept)
    cpu = SessionSettings("cpu", threads, {})
    return open_session(model.SerializeToString(), cpu, weights_in=path.parent)


def compare(expected: F32, found: F32) -> Deviation:
    """Logits [..., vocab] against each other."""
    difference = np.abs(expected - found) / (expected.std() + 1e-12)
    same = expected.argmax(axis=-1) == found.argmax(axis=-1)
    if not np.isfinite(found).all():
        return Deviation(float("inf"), float("inf"), 0.0)
    return Deviation(float(difference.max()), float(difference.mean()), float(same.mean()))
