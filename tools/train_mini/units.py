"""Defines what a code means: two phones of 20 ms each, and a pitch level relative to the speaker.

1640 pairs of phones × 4 levels = 6560 codes; the tokens of large models are
taught by a recogniser in the same spirit, so that a code says what is spoken and not by whom.
"""

from pathlib import Path

import numpy as np
import torch

from . import align, data
from .features import BANDS, FRAMES_PER_CODE

PAIRS, LEVELS = 1640, 4
CODES = 6561
PHONES = len(align.PHONES)
PAUSE = align.PHONES.index("pau")
HALF_S = 0.02
LEVEL_EDGES = (-0.09, 0.0, 0.09)
"""Log f0 less the speaker's mean; a quarter of voiced speech lies in each."""
MIDDLE_LEVEL = 1
SILENCE = 4299
ROW = 2 * PHONES + LEVELS
"""Width of a code's description: two phones and a level, one-hot."""


def halves(phones: str, codes: int) -> np.ndarray:
    """The phone in the middle of each 20 ms: [codes, 2]."""
    ids, ends = align.parse(phones)
    ids = np.where(ids == align.PHONES.index("ssil"), PAUSE, ids)
    middle = (np.arange(2 * codes) + 0.5) * HALF_S
    at = np.minimum(np.searchsorted(ends, middle), len(ids) - 1)
    found = ids[at]
    found[middle > ends[-1]] = PAUSE
    return found.reshape(codes, 2)


def levels(log_f0: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Pitch level of each code from frames relative to the speaker; held where none is voiced."""
    codes = len(log_f0) // FRAMES_PER_CODE
    f0 = log_f0[: codes * FRAMES_PER_CODE].reshape(codes, -1)
    sure = (voiced[: codes * FRAMES_PER_CODE].reshape(codes, -1) > 0) & (np.abs(f0) < 0.5)
    count = sure.sum(1)
    mean = (f0 * sure).sum(1) / np.maximum(count, 1)
    own = np.digitize(mean, LEVEL_EDGES)
    held, last = np.empty(codes, int), MIDDLE_LEVEL
    for i in range(codes):
        last = int(own[i]) if count[i] >= 2 else last
        held[i] = last
    return held


class Units:
    """The pairs in use, and codes from and to them."""

    def __init__(self, pairs: np.ndarray) -> None:
        assert pairs.shape == (PAIRS, 2)
        self.pairs = pairs
        # Pairs that never were fall back on their second phone alone.
        self.index = np.zeros((PHONES, PHONES), np.int64)
        exact = {(int(a), int(b)): i for i, (a, b) in enumerate(pairs)}
        for a in range(PHONES):
            for b in range(PHONES):
                self.index[a, b] = exact.get((a, b), exact.get((b, b), exact[PAUSE, PAUSE]))
        quiet = exact[PAUSE, PAUSE] * LEVELS + MIDDLE_LEVEL
        self.swapped = quiet  # silence and the reserved code change places

    @classmethod
    def of(cls, counts: np.ndarray) -> "Units":
        """The most frequent pairs; each phone with itself is always among them."""
        counts = counts + np.eye(PHONES) * 1e9
        best = np.argsort(-counts.ravel(), kind="stable")[:PAIRS]
        return cls(np.stack(np.unravel_index(best, counts.shape), 1).astype(np.int64))

    @classmethod
    def load(cls, folder: Path) -> "Units":
        """What `prepare` found."""
        with np.load(folder / "units.npz") as found:
            return cls(found["pairs"])

    def swap(self, codes: np.ndarray) -> np.ndarray:
        """Its own inverse."""
        return np.where(
            codes == self.swapped, SILENCE, np.where(codes == SILENCE, self.swapped, codes)
        )

    def encode(self, phones: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Phones [n, 2] and levels [n] → codes [n]; silence has one code only."""
        pair = self.index[phones[:, 0], phones[:, 1]]
        quiet = (phones == PAUSE).all(1)
        return self.swap(pair * LEVELS + np.where(quiet, MIDDLE_LEVEL, level))

    def parts(self) -> np.ndarray:
        """Of every code: first phone, second phone, level. [CODES, 3]"""
        raw = self.swap(np.arange(CODES))
        pair = np.minimum(raw // LEVELS, PAIRS - 1)
        return np.concatenate([self.pairs[pair], (raw % LEVELS)[:, None]], 1)

    def rows(self) -> torch.Tensor:
        """One-hot descriptions [CODES, ROW]."""
        parts = torch.from_numpy(self.parts())
        hot = [torch.nn.functional.one_hot(parts[:, k], n)
               for k, n in enumerate((PHONES, PHONES, LEVELS))]  # fmt: skip
        return torch.cat(hot, 1).float()


def prepare(corpus: data.Corpus, folder: Path, known: Units | None = None) -> None:
    """Write `units.npz`: the pairs, or those that are known, and every utterance's codes."""
    found = [
        halves(p, int(n) // FRAMES_PER_CODE)
        for p, n in zip(corpus.phones, corpus.lengths, strict=True)
    ]
    counts = np.zeros((PHONES, PHONES))
    for phones in found:
        np.add.at(counts, (phones[:, 0], phones[:, 1]), 1)
    units = known or Units.of(counts)
    codes = []
    for i, phones in enumerate(found):
        span = slice(corpus.starts[i], corpus.starts[i] + corpus.lengths[i])
        track = corpus.features[span, -2:].float().numpy()
        relative = track[:, 0] - float(corpus.stats[corpus.voices[i], BANDS])
        codes.append(units.encode(phones, levels(relative, track[:, 1])))
    np.savez(folder / "units.npz", pairs=units.pairs, codes=np.concatenate(codes).astype(np.int16))
    covered = sum(counts[a, b] for a, b in units.pairs) / counts.sum()
    print(f"{len(set(np.concatenate(codes)))} codes in use; pairs cover {covered:.5f}")
