"""Logits processors: temperature, top-k, top-p, min-p and repetition penalty for a batch of rows.

A family lists its processors in the order its authors apply them. Each processor changes the
`Candidates` it is given, and nothing else. Rows do not affect each other, so a row's token does not
depend on its batch. With few rows the number of NumPy calls costs more than the arithmetic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64

EXCLUDED = np.float32(-np.inf)
"""Score of a token that must not be drawn."""
NEGLIGIBLE_GAP = np.float32(18)
"""Top-k and top-p drop scores this far below the row's best: 4096 such tokens together have 6e-5 of
the best token's probability."""
SAMPLE_STRIDE = 25
"""Top-k looks at every 25th column first, to estimate how many scores are high. The stride has no
factor in common with 3, the base of a speech code's digits."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TopLimits:
    """Top-k and top-p of a batch's rows, with values that follow from them alone."""

    top_k: list[int]  # [B]; the number of columns: off
    top_p: F32  # [B]; infinite: nothing is dropped
    gap: F32  # [B, 1]: scores this far below the best are dropped
    crowd: list[int]  # [B]: sampled scores from which a row has more than `top_k` high ones
    rest: F32  # [B]: 1 - top_p
    edges: I64  # [B + 1]: where each row begins in the flattened scores

    @classmethod
    def of(cls, top_k: I64, top_p: F32, columns: int) -> "TopLimits":
        """`top_k` [B], 0: off; `top_p` [B], 1: off."""
        off = (top_k == 0) & (top_p >= 1)
        top_k = np.where((top_k > 0) & (top_k < columns), top_k, columns)
        expected = top_k / SAMPLE_STRIDE
        crowd = (expected + 4 * np.sqrt(expected)).astype(np.int64) + 2
        top_p = np.where(off, np.float32(np.inf), top_p)
        gap = np.where(off, np.float32(np.inf), NEGLIGIBLE_GAP)[:, None]
        edges = np.arange(len(top_k) + 1) * columns
        return cls(top_k.tolist(), top_p, gap, crowd.tolist(), 1 - top_p, edges)


@dataclass(frozen=True, slots=True, eq=False)
class SamplingRows:
    """Sampling parameters of a batch's rows; None where they are off in every row. A greedy row has
    every parameter off except the penalty."""

    temperature: F32 | None  # [B, 1]; 1: off
    top: TopLimits | None
    min_p: F32 | None  # [B, 1]; 0: off
    penalty: F32 | None  # [B, 1]; 1: off
    window: I64 | None  # [B]: number of last tokens that the penalty applies to; None: all
    greedy: Mask | None  # [B]: the best token is taken
    row: I64  # [B]: 0, 1, …


class Candidates:
    """Tokens that may be drawn next in each row, with their scores. The columns of a row are the
    tokens allowed at its place in the frame, then the stop tokens."""

    __slots__ = ("_best", "_columns", "_count", "_seen", "_seen_at", "indices", "rows", "scores")

    def __init__(
        self,
        rows: SamplingRows,
        scores: F32,
        seen: NDArray[np.int32],
        seen_at: I64,
        count: I64,
        best: F32 | None = None,
    ) -> None:
        """`scores` [B, columns] are overwritten. `seen` [any, columns]: the row's token count after
        the last time it got each token, 0: never; rows `seen_at` [B] of it are used. `count` [B]:
        tokens so far. `best` [B, 1]: the highest score of each row, if known."""
        self.rows = rows
        self.scores = scores  # [B, K]; EXCLUDED for tokens that must not be drawn
        self.indices: I64 | None = None  # [B, K]: into the flattened [B, columns]; None: all
        self._columns = scores.shape[1]
        self._seen, self._seen_at = seen, seen_at
        self._count, self._best = count, best

    def best(self) -> F32:
        """The highest score of each row [B, 1]."""
        if self._best is None:
            self._best = np.maximum.reduce(self.scores, axis=1, keepdims=True)
        return self._best

    def divide(self, by: F32) -> None:
        """Divide all scores by `by` [B, 1], which is positive."""
        np.divide(self.scores, by, out=self.scores)
        if self._best is not None:
            self._best = self._best / by

    def replace(self, indices: I64, scores: F32) -> None:
        """Set the scores at `indices` of the flattened scores."""
        self.scores.reshape(-1)[indices] = scores
        self._best = None

    def drop_below(self, least: F32) -> None:
        """Exclude scores below `least` [B, 1], which no row's best is."""
        np.putmask(self.scores, self.scores < least, EXCLUDED)

    def keep(self, indices: I64) -> None:
        """Drop all but these `indices` of the flattened scores, in ascending order. The best of
        each row must be among them."""
        rows, width = self.scores.shape
        if rows == 1:
            self.scores = self.scores.take(indices, axis=1)
            self.indices = indices[None] if self.indices is None else self.indices[:, indices]
            return
        starts = indices.searchsorted(np.arange(rows + 1) * width)
        counts = (starts[1:] - starts[:-1])[:, None]
        inside = np.arange(counts.max()) < counts  # each row's are moved to its beginning
        scores = np.full(inside.shape, EXCLUDED)
        kept = np.zeros(inside.shape, np.int64)
        scores[inside] = self.scores.reshape(-1)[indices]
        kept[inside] = indices if self.indices is None else self.indices.reshape(-1)[indices]
        self.scores, self.indices = scores, kept

    def columns(self, chosen: I64) -> I64:
        """The columns [B] of the candidates `chosen` [B], one in each row."""
        if self.indices is None:
            return chosen
        row = self.rows.row
        columns: I64 = self.indices[row, chosen] - row * self._columns
        return columns

    def repeated(self) -> I64:
        """Indices into the flattened scores of the tokens that the penalty applies to."""
        if self.indices is None:
            seen = self._seen[self._seen_at]
        else:
            shift = (self._seen_at - self.rows.row) * self._columns
            seen = self._seen.reshape(-1).take(self.indices + shift[:, None])
        if (window := self.rows.window) is None:
            return seen.reshape(-1).nonzero()[0]
        before = np.maximum(self._count - window, 0)  # [B]
        indices: I64 = (seen > before.astype(np.int32)[:, None]).reshape(-1).nonzero()[0]
        return indices


Processor = Callable[[Candidates], None]


def temperature(candidates: Candidates) -> None:
    """Divide scores by the temperature."""
    if candidates.rows.temperature is not None:
        candidates.divide(candidates.rows.temperature)


def top_k_top_p(candidates: Candidates) -> None:
    """Keep the `top_k` best; of these, the best until their probabilities sum to `top_p`."""
    if candidates.rows.top is None:
        return
    limits, scores, best = candidates.rows.top, candidates.scores, candidates.best()
    lowest = guess = best - limits.gap
    sampled = scores[:, ::SAMPLE_STRIDE]
    high = np.add.reduce(sampled >= lowest, axis=1).tolist()
    crowded = [row for row, count in enumerate(high) if count >= limits.crowd[row]]
    if crowded:  # raise the bound to a score that probably the `top_k` best reach, and few others
        guess = lowest.copy()
        ordered = np.sort(sampled[crowded], axis=1)
        guess[crowded, 0] = ordered[range(len(crowded)), [-limits.crowd[row] for row in crowded]]
    indices, starts, counts = _reaching(scores, guess, limits)
    too_few = [row for row in crowded if counts[row] < limits.top_k[row]]
    if too_few:
        guess[too_few] = lowest[too_few]
        indices, starts, counts = _reaching(scores, guess, limits)
    weights = np.exp(scores.reshape(-1).take(indices) - _spread(best[:, 0], counts))
    total = np.add.reduceat(weights, starts)
    least = limits.rest * total / np.array(counts)  # scores below it sum to less than the rest
    for row, (begin, count, top_k) in enumerate(zip(starts, counts, limits.top_k, strict=True)):
        if count > top_k:
            others = count - top_k
            top = np.partition(weights[begin : begin + count], others)[others:]
            total[row] = np.add.reduce(top)
            least[row] = max(top[0], float(limits.rest[row] * total[row]) / top_k)
    candidates.keep(indices[weights >= _spread(least, counts)])
    ordered = np.sort(candidates.scores, axis=1)[:, ::-1]  # [B, K], highest first
    mass = np.exp(ordered - best)
    better = np.add.accumulate(mass, axis=1, dtype=np.float64) - mass  # mass of all better tokens
    count = np.add.reduce(better < (limits.top_p * total)[:, None], axis=1)  # at least the best
    candidates.drop_below(ordered[candidates.rows.row, count - 1][:, None])


def _reaching(scores: F32, lowest: F32, limits: TopLimits) -> tuple[I64, list[int], list[int]]:
    """Indices into the flattened scores of those not below their row's `lowest` [B, 1]; where each
    row begins among the indices, and how many it has."""
    indices = (scores >= lowest).reshape(-1).nonzero()[0]
    bounds = indices.searchsorted(limits.edges).tolist()
    return indices, bounds[:-1], [end - begin for begin, end in pairwise(bounds)]


def _spread(values: NDArray[np.floating], counts: list[int]) -> NDArray[np.floating]:
    """Each row's value [B] repeated `counts` times; a single row's broadcasts."""
    return values if len(counts) == 1 else values.repeat(counts)


def min_p(candidates: Candidates) -> None:
    """Drop tokens less than `min_p` times as likely as the best."""
    if candidates.rows.min_p is not None:
        with np.errstate(divide="ignore"):  # 0: no floor
            candidates.drop_below(candidates.best() + np.log(candidates.rows.min_p))


def repetition_penalty(candidates: Candidates) -> None:
    """Multiply a negative score of a repeated token by the penalty, divide any other by it."""
    penalty = candidates.rows.penalty
    if penalty is None:
        return
    indices, scores = candidates.repeated(), candidates.scores
    if len(indices):
        values = scores.reshape(-1).take(indices)
        if len(scores) > 1:
            penalty = penalty[indices // scores.shape[1]]
        penalty = penalty[:, 0]
        candidates.replace(indices, values * np.where(values < 0, penalty, 1 / penalty))
