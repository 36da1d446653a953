"""Logits processors: temperature, top-k, top-p, min-p and repetition penalty for a batch of rows.

A family lists its processors in the order in which its authors apply them. A processor modifies
its argument, the `Candidates`, in place. Rows do not affect each other, so a row's token does not
depend on the rest of the batch. With few rows, NumPy calls cost more than the arithmetic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64

EXCLUDED = np.float32(-np.inf)
"""Score of a token that must not be sampled."""
NEGLIGIBLE_GAP = np.float32(18)
"""Top-k and top-p drop scores this far below the row's best score: 4096 such tokens together have
6e-5 of the best token's probability."""
SAMPLE_STRIDE = 25
"""Top-k first samples every 25th column to estimate how many scores are high. The stride has no
factor in common with 3, the base of a speech code's digits."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TopLimits:
    """Top-k and top-p of a batch's rows, with values derived from them."""

    top_k: list[int]  # [B]; the number of columns if off
    smallest_k: int  # smallest `top_k` of all rows
    top_p: F32  # [B]; infinite if top-k and top-p are off
    gap: F32  # [B, 1]; scores this far below the best are dropped
    crowd: list[int]  # [B]; with this many high scores in the sample, a row has more than `top_k`
    rest: list[float]  # [B]; 1 - top_p
    edges: I64  # [B + 1]; start of each row in the flattened scores

    @classmethod
    def of(cls, top_k: I64, top_p: F32, columns: int) -> "TopLimits":
        """Create from `top_k` [B], where 0 is off, and `top_p` [B], where 1 is off."""
        off = (top_k == 0) & (top_p >= 1)
        top_k = np.where((top_k > 0) & (top_k < columns), top_k, columns)
        expected = top_k / SAMPLE_STRIDE
        crowd = (expected + 4 * np.sqrt(expected)).astype(np.int64) + 2
        top_p = np.where(off, np.float32(np.inf), top_p)
        gap = np.where(off, np.float32(np.inf), NEGLIGIBLE_GAP)[:, None]
        edges = np.arange(len(top_k) + 1) * columns
        rest, smallest = (1 - top_p).tolist(), int(top_k.min())
        return cls(top_k.tolist(), smallest, top_p, gap, crowd.tolist(), rest, edges)


@dataclass(frozen=True, slots=True, eq=False)
class SamplingRows:
    """Sampling parameters of a batch's rows; None for a parameter that is off in every row. In a
    greedy row, every parameter except the penalty is off."""

    temperature: F32 | None  # [B, 1]; 1 is off
    top: TopLimits | None
    min_p: F32 | None  # [B, 1]; 0 is off
    penalty: F32 | None  # [B, 1]; 1 is off
    window: I64 | None  # [B]; number of last tokens that the penalty covers; None for all
    greedy: Mask | None  # [B]; whether the best token is taken
    row: I64  # [B]; 0, 1, …


class Candidates:
    """Candidates for the next token of each row, with their scores. The columns of a row are the
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
        """`scores` [B, columns] are overwritten. `seen` [any, columns] is the row's token count
        after the last occurrence of each token, or 0; only its rows `seen_at` [B] are used. `count`
        [B] is the number of tokens so far, `best` [B, 1] the highest score of each row if known."""
        self.rows = rows
        self.scores = scores  # [B, K]; EXCLUDED for tokens that must not be sampled
        self.indices: I64 | None = None  # [B, K] into the flattened [B, columns]; None for all
        self._columns = scores.shape[1]
        self._seen, self._seen_at = seen, seen_at
        self._count, self._best = count, best

    def best(self) -> F32:
        """Return the highest score of each row, [B, 1]."""
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
        """Exclude scores below `least` [B, 1], which is at most the best score of each row."""
        self.scores[self.scores < least] = EXCLUDED

    def keep(self, indices: I64) -> None:
        """Drop all scores except those at `indices` of the flattened scores, which are ascending
        and include the best score of each row."""
        rows, width = self.scores.shape
        if rows == 1:
            self.scores = self.scores.take(indices, axis=1)
            self.indices = indices[None] if self.indices is None else self.indices[:, indices]
            return
        starts = indices.searchsorted(np.arange(rows + 1) * width)
        counts = (starts[1:] - starts[:-1])[:, None]
        inside = np.arange(counts.max()) < counts  # each row's scores move to its start
        scores = np.full(inside.shape, EXCLUDED)
        kept = np.zeros(inside.shape, np.int64)
        scores[inside] = self.scores.reshape(-1)[indices]
        kept[inside] = indices if self.indices is None else self.indices.reshape(-1)[indices]
        self.scores, self.indices = scores, kept

    def columns(self, chosen: I64) -> I64:
        """Return the columns [B] of the candidates `chosen` [B], one in each row."""
        if self.indices is None:
            return chosen
        row = self.rows.row
        columns: I64 = self.indices[row, chosen] - row * self._columns
        return columns

    def repeated(self) -> I64:
        """Return indices into the flattened scores of the tokens that the penalty applies to."""
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
    """Keep the `top_k` best tokens, and of these the best whose probabilities sum to `top_p`."""
    if candidates.rows.top is None:
        return
    limits, scores, best = candidates.rows.top, candidates.scores, candidates.best()
    high = scores >= best - limits.gap
    if np.count_nonzero(high) > limits.smallest_k:
        _thin_out(scores, high, limits)
    indices = high.reshape(-1).nonzero()[0]  # into the flattened scores
    bounds = indices.searchsorted(limits.edges).tolist()
    counts = [end - begin for begin, end in pairwise(bounds)]
    alone = len(counts) == 1  # one row's values broadcast
    highest = best[0] if alone else best[:, 0].repeat(counts)
    weights = np.exp(scores.reshape(-1).take(indices) - highest)
    total = np.add.reduceat(weights, bounds[:-1])
    least = []  # weights below sum to less than the row's rest, or are not among its `top_k`
    for row, (count, mass) in enumerate(zip(counts, total.tolist(), strict=True)):
        if count > (top_k := limits.top_k[row]):
            others = count - top_k
            top = np.partition(weights[bounds[row] : bounds[row + 1]], others)[others:]
            total[row] = np.add.reduce(top)
            least.append(max(float(top[0]), limits.rest[row] * float(total[row]) / top_k))
        else:
            least.append(limits.rest[row] * mass / count)
    candidates.keep(indices[weights >= (least[0] if alone else np.array(least).repeat(counts))])
    ordered = candidates.scores.copy()
    ordered.sort(axis=1)
    ordered = ordered[:, ::-1]  # [B, K], highest first
    mass = np.exp(ordered - best)
    better = np.add.accumulate(mass, axis=1, dtype=np.float64) - mass  # mass of all better tokens
    count = np.add.reduce(better < (limits.top_p * total)[:, None], axis=1)  # at least the best
    candidates.drop_below(ordered[candidates.rows.row, count - 1][:, None])


def _thin_out(scores: F32, high: Mask, limits: TopLimits) -> None:
    """Clear low scores from `high` [B, K] in rows with more than `top_k`: those below a bound that
    the `top_k` best probably reach, and few others. A row where fewer reach it is left as it is."""
    sampled = np.add.reduce(high[:, ::SAMPLE_STRIDE], axis=1).tolist()
    crowded = [row for row, count in enumerate(sampled) if count >= limits.crowd[row]]
    if not crowded:
        return
    rows = np.array(crowded)
    ordered = np.sort(scores[rows, ::SAMPLE_STRIDE], axis=1)
    bounds = ordered[range(len(rows)), [-limits.crowd[row] for row in crowded]]
    reached = scores[rows] >= bounds[:, None]
    enough = np.add.reduce(reached, axis=1) >= [limits.top_k[row] for row in crowded]
    high[rows[enough]] = reached[enough]


def min_p(candidates: Candidates) -> None:
    """Drop tokens less than `min_p` times as likely as the best token."""
    if candidates.rows.min_p is not None:
        with np.errstate(divide="ignore"):  # min-p of 0 drops nothing
            candidates.drop_below(candidates.best() + np.log(candidates.rows.min_p))


def repetition_penalty(candidates: Candidates) -> None:
    """Penalise repeated tokens: divide positive scores by the penalty, multiply negative ones."""
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
