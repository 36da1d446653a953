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
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, dense

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
    """Return the number of ids in a table."""
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
