"""Does the tuned graph compute what the stock graph computes? Both run on the same random rows.

Knows both contracts; does not know how one was made from the other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.model.contract import F32, I64, Voice, VoiceTensors
from chatterbox.model.memory import Memory
from chatterbox.model.sessions import SEVERITY_ERROR
from chatterbox.model.slots import TunedLanguageModel

TABLE_ROWS = 64
STEPS = 8
SLOTS = 4
ROWS = {0: (7, 5), 3: (4, 11), 2: (9, 3)}
"""Slot → conditioning rows and text ids: rows of different length, with a free slot between."""
CAPACITY = 48
PREFIX_CACHE_BYTES = 1 << 20  # big enough for some of the prefixes of a small model, for none else
DATA_FOLDER_KEY = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far the tuned graph's logits are from the stock's, in standard deviations of these."""

    worst: float
    mean: float
    argmax_share: float  # rows whose most likely code is the same


class RandomEmbedder:
    """Rows of a fixed random table, as wide as the model, in place of the embedding."""

    def __init__(self, hidden: int, seed: int = 0) -> None:
        self._table = np.random.default_rng(seed).standard_normal((TABLE_ROWS, hidden), np.float32)

    def text(self, ids: I64) -> F32:
        """[S] → [S, hidden]."""
        rows: F32 = self._table[ids % TABLE_ROWS]
        return rows

    codes = text


class StockRow:
    """One row driven by the stock graph alone: the card's own loop."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._past: dict[str, NDArray[Any]] = {}
        for value in session.get_inputs():
            if value.name.startswith("past_key_values."):
                kind = np.float16 if value.type == "tensor(float16)" else np.float32
                _, heads, _, head_dim = value.shape
                self._past[value.name] = np.zeros((1, heads, 0, head_dim), kind)
        self._length = 0

    def advance(self, embeds: F32) -> F32:
        """Append rows [S, hidden]; logits [S, vocab]."""
        new = len(embeds)
        positions = np.arange(self._length, self._length + new)[None]
        self._length += new
        feeds = {
            "inputs_embeds": embeds[None],
            "attention_mask": np.ones((1, self._length), np.int64),
            "position_ids": positions,
            **self._past,
        }
        presents = [name.replace("past_key_values", "present") for name in self._past]
        logits, *caches = self._session.run(["logits", *presents], feeds)
        self._past = dict(zip(self._past, caches, strict=True))
        rows: F32 = logits[0]
        return rows


def random_voice(rows: int, hidden: int, seed: int) -> Voice:
    """A voice of conditioning rows only."""
    features = np.random.default_rng(seed).standard_normal((rows, hidden), np.float32)
    nothing = np.zeros(0, np.float32)
    return Voice(
        f"random-{rows}-{seed}",
        VoiceTensors(features, np.zeros(0, np.int64), nothing, nothing.reshape(0, 0)),
    )


def exact_deviation(source: Path, tuned: Path, hidden: int, threads: int) -> Deviation:
    """Both graphs on the CPU with every product in float, whatever accuracy they ask for."""
    return deviation(_exact_session(source, threads), _exact_session(tuned, threads), hidden)


def _exact_session(path: Path, threads: int) -> ort.InferenceSession:
    model = onnx.load(str(path), load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            kept = [a for a in node.attribute if a.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend(kept)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = SEVERITY_ERROR
    options.add_session_config_entry(DATA_FOLDER_KEY, str(path.parent))
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def deviation(
    stock: ort.InferenceSession,
    tuned: ort.InferenceSession,
    hidden: int,
    memory: Memory | None = None,
) -> Deviation:
    """Run prefills and STEPS steps on both. The tuned side steps all rows together, in slots that
    do not lie side by side; the stock side runs each row by itself."""
    embed = RandomEmbedder(hidden)
    model = TunedLanguageModel(
        tuned,
        embed,
        slots=SLOTS,
        capacity=CAPACITY,
        prefix_cache_bytes=PREFIX_CACHE_BYTES,
        memory=memory,
    )
    rng = np.random.default_rng(1)
    expected, found, rows = [], [], {}
    for slot, (voice_rows, ids) in ROWS.items():
        voice = random_voice(voice_rows, hidden, slot)
        text = rng.integers(0, TABLE_ROWS, ids)
        rows[slot] = StockRow(stock)
        together = np.concatenate([voice.tensors.features, embed.text(text)])
        expected.append(rows[slot].advance(together)[-1])
        found.append(model.begin(slot, voice, text))
    for _ in range(STEPS):
        codes = rng.integers(0, TABLE_ROWS, len(rows))
        embeds = embed.codes(codes)
        expected += [row.advance(embeds[i : i + 1])[-1] for i, row in enumerate(rows.values())]
        found += list(model.step(list(rows), codes))
    return compare(np.stack(expected), np.stack(found))


def compare(expected: F32, found: F32) -> Deviation:
    """Logits [rows, vocab] against each other."""
    difference = np.abs(expected - found) / (expected.std() + 1e-12)
    same = expected.argmax(axis=1) == found.argmax(axis=1)
    if not np.isfinite(found).all():
        return Deviation(float("inf"), float("inf"), 0.0)
    return Deviation(float(difference.max()), float(difference.mean()), float(same.mean()))
