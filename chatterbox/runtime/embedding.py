"""Turns token ids into the input of a language model.

`HostEmbedder` reads the two tables of the published graph embed_tokens, which are extracted and
proven when the language model is compiled. The speech table is kept in memory as plain numbers
(27 MB for the published model): embedding 1 to 16 codes takes 2 to 5 µs, where a session takes 11
to 30. The text table stays in its file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.runtime.gpu import SEVERITY_FATAL
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, dense
from chatterbox.runtime.sessions import require

SPEECH_FILE, TEXT_FILE = "embedding.speech.npy", "embedding.text.npy"
SCALES_FILE, ZEROS_FILE = "embedding.text_scales.npy", "embedding.text_zeros.npy"
START_IDS = 2  # the last two ids of a text are read as speech codes


class Embedder(Protocol):
    """Turns ids into the rows that a language model takes: embeddings, or ids."""

    def text(self, ids: I64) -> NDArray[Any]:
        """Embed text ids [S ≥ 3], of which the last two are end tokens. Returns [S, hidden]."""

    def codes(self, codes: I64) -> NDArray[Any]:
        """Embed speech codes [B]. Returns [B, hidden]."""


@dataclass(frozen=True, slots=True)
class TokenIds:
    """An `Embedder` for graphs that take ids."""

    first: int  # the id of token 0

    def text(self, ids: I64) -> I64:
        return ids

    def codes(self, codes: I64) -> I64:
        return codes + self.first


@dataclass(frozen=True, slots=True)
class TokensInGraph:
    """An `Embedder` for graphs that look up speech codes, and take text as embeddings."""

    rows: Embedder

    def text(self, ids: I64) -> NDArray[Any]:
        return self.rows.text(ids)

    def codes(self, codes: I64) -> I64:
        return codes


class EmbeddingSession:
    """An `Embedder` that runs the published graph embed_tokens."""

    def __init__(self, session: ort.InferenceSession) -> None:
        require(session, "embed_tokens", {"input_ids"}, {"inputs_embeds"})
        self._session = session

    def text(self, ids: I64) -> F32:
        assert len(ids) > START_IDS, "an id standing alone would be read as a speech code"
        rows: F32 = self._run(ids[None])[0]
        return rows

    def codes(self, codes: I64) -> F32:
        rows: F32 = self._run(codes[:, None])[:, 0]  # a single id is read as a speech code
        return rows

    def has_row(self, text_id: int, end_id: int) -> bool:
        """Return whether a text may contain the id `text_id`."""
        options = ort.RunOptions()
        options.log_severity_level = SEVERITY_FATAL
        try:
            self._run(np.array([[text_id, end_id, end_id]], np.int64), options)
        except Exception:  # noqa: BLE001 - onnxruntime raises its own kinds
            return False
        return True

    def _run(self, ids: I64, options: ort.RunOptions | None = None) -> F32:
        embeds: F32 = self._session.run(["inputs_embeds"], {"input_ids": ids}, options)[0]
        return embeds


class CodeTable:
    """An `Embedder` that keeps another embedder's rows of all speech codes: a lookup takes 2 µs,
    a run of the session 20."""

    def __init__(self, embedder: Embedder, codes: int) -> None:
        """`codes`: number of speech codes."""
        self.text = embedder.text
        self._table = embedder.codes(np.arange(codes)).copy()

    def codes(self, codes: I64) -> NDArray[Any]:
        rows: NDArray[Any] = self._table[codes]
        return rows


class HostEmbedder:
    """An `Embedder` that reads two tables on the host."""

    def __init__(
        self, text: Array | BlockQuantized, speech: Array | BlockQuantized, start: int
    ) -> None:
        """`start`: the code that the last two ids of a text are read as."""
        self._text = text
        self._speech = _rows(speech, np.arange(row_count(speech)))
        self._start = np.full(START_IDS, start)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the tables into `folder`. Returns the facts that `load` needs."""
        facts: dict[str, Any] = {"bits": None}
        arrays = {SPEECH_FILE: self._speech}
        if isinstance(self._text, BlockQuantized):
            text = self._text
            facts = {"bits": text.bits, "block": text.block, "inputs": text.inputs}
            arrays |= {TEXT_FILE: text.codes, SCALES_FILE: text.scales}
            if text.zero_points is not None:
                arrays[ZEROS_FILE] = text.zero_points
        else:
            arrays[TEXT_FILE] = self._text
        for name, values in arrays.items():
            np.save(folder / name, values, allow_pickle=False)
        return facts | {"start": int(self._start[0])}

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any]) -> "HostEmbedder":
        """Open the tables that `save` wrote; the text table is memory-mapped."""

        def mapped(name: str) -> Array:
            values: Array = np.load(folder / name, mmap_mode="r", allow_pickle=False)
            return values

        speech = np.load(folder / SPEECH_FILE, allow_pickle=False)
        blocks = dict(facts)
        start = blocks.pop("start")
        if blocks["bits"] is None:
            return cls(mapped(TEXT_FILE), speech, start)
        zeros = mapped(ZEROS_FILE) if (folder / ZEROS_FILE).is_file() else None
        text = BlockQuantized(mapped(TEXT_FILE), mapped(SCALES_FILE), zeros, **blocks)
        return cls(text, speech, start)

    @property
    def text_rows(self) -> int:
        return row_count(self._text)

    def text(self, ids: I64) -> F32:
        return np.concatenate([_rows(self._text, ids[:-START_IDS]), self.codes(self._start)])

    def codes(self, codes: I64) -> F32:
        rows: F32 = self._speech[codes]
        return rows


def row_count(table: Array | BlockQuantized) -> int:
    return len(table.codes) if isinstance(table, BlockQuantized) else len(table)


def _rows(table: Array | BlockQuantized, ids: I64) -> F32:
    if isinstance(table, BlockQuantized):
        zeros = None if table.zero_points is None else table.zero_points[ids]
        selected = BlockQuantized(
            table.codes[ids], table.scales[ids], zeros, table.bits, table.block, table.inputs
        )
        return dense(selected).T.astype(np.float32)
    rows: F32 = table[ids].astype(np.float32)
    return rows
