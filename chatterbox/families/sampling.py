"""Sampling: what may be drawn next, and functions that change it; a family says which of them
apply, in what order.

Each function changes the `Choice` it is given, and nothing else. Rows do not see each other, so
that a row's token does not depend on its batch. All are written for few calls of NumPy, which cost
more than the numbers where there are few rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64

NEVER = np.float32(-np.inf)
NEGLIGIBLE = np.float32(18)
"""What is so many times e less likely than the best is cut off by any cut: 4096 of them have 6e-5
of the best's mass."""

SAMPLED = 25
"""One column in so many, which has nothing in common with a code's digits in base 3."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Top-k and top-p of a batch's rows, with what follows from them alone."""

    top_k: I64  # [B]; many: off
    top_p: F32  # [B]; infinite: nothing is cut off
    margin: F32  # [B]: what is so much less than the best is cut off
    reached: I64  # [B]: how many of the sampled scores the `top_k` best reach, about
    rest: F32  # [B]: 1 - top_p
    row: I64  # [B]: 0, 1, …
    edges: I64  # [B + 1]: where each row begins in the flattened scores

    @classmethod
    def of(cls, top_k: I64, top_p: F32, columns: int) -> "Cut":
        """0 and 1: off."""
        uncut = (top_k == 0) & (top_p >= 1)
        top_k = np.where((top_k > 0) & (top_k < columns), top_k, columns)
        expected = top_k / SAMPLED
        reached = (expected + 4 * np.sqrt(expected)).astype(np.int64) + 2
        top_p = np.where(uncut, np.float32(np.inf), top_p)
        margin = np.where(uncut, np.float32(np.inf), NEGLIGIBLE)
        row, edges = np.arange(len(top_k)), np.arange(len(top_k) + 1) * columns
        return cls(top_k, top_p, margin, reached, 1 - top_p, row, edges)


@dataclass(frozen=True, slots=True, eq=False)
class SamplingRows:
    """The parameters of a batch's rows, None where all rows have them off. A row that takes the
    best token has all but the penalty off."""

    temperature: F32 | None  # [B, 1]; 1: off
    cut: Cut | None
    min_p: F32 | None  # [B, 1]; 0: off
    penalty: F32 | None  # [B, 1]; 1: off
    window: I64  # [B]: tokens that the penalty looks back
    greedy: Mask | None  # [B]: the best token is taken


class Choice:
    """What may be drawn next in each row of a batch. Its columns are the tokens that may come at
    the row's place, then the stop tokens."""

    def __init__(
        self, rows: SamplingRows, scores: F32, said: NDArray[np.int32], at: I64, count: I64
    ) -> None:
        """`scores` [B, columns] are written to. `said` [any, columns]: after how many tokens each
        was last said, 0: never; in its rows `at` [B]. `count` [B]: tokens so far."""
        self.rows = rows
        self.scores = scores  # [B, K]; -inf for what is not to be drawn
        self.at: I64 | None = None  # [B, K]: of the scores, in all of them; none: these are all
        self._columns = scores.shape[1]
        self._said, self._said_at = said, at
        self._count = count

    def drop(self, dropped: Mask) -> None:
        """Leave none of the `dropped` [B, K]."""
        self.scores[dropped] = NEVER

    def keep_at(self, at: I64) -> None:
        """Leave only what is `at` these of the flattened scores, ascending."""
        rows, width = self.scores.shape
        if rows == 1:
            self.scores = self.scores[:, at]
            self.at = at[None] if self.at is None else self.at[:, at]
            return
        starts = at.searchsorted(np.arange(rows + 1) * width)
        counts = (starts[1:] - starts[:-1])[:, None]
        inside = np.arange(counts.max()) < counts  # each row's go to its beginning
        scores, places = np.full(inside.shape, NEVER), np.zeros(inside.shape, np.int64)
        scores[inside] = self.scores.reshape(-1)[at]
        places[inside] = at if self.at is None else self.at.reshape(-1)[at]
        self.scores, self.at = scores, places

    def column(self, chosen: I64) -> I64:
        """Which columns [B] those `chosen` [B] of the scores are."""
        if self.at is None:
            return chosen
        rows = np.arange(len(chosen))
        column: I64 = self.at[rows, chosen] - rows * self._columns
        return column

    def penalised(self) -> I64:
        """Where, in the flattened scores, there is a token that its row's penalty counts."""
        if self.at is None:
            said = self._said[self._said_at]
        else:
            rows = self._said_at - np.arange(len(self._said_at))
            said = self._said.reshape(-1)[self.at + rows[:, None] * self._columns]
        before = np.maximum(self._count - self.rows.window, 0)  # [B]
        at: I64 = (said > before.astype(np.int32)[:, None]).reshape(-1).nonzero()[0]
        return at


Processor = Callable[[Choice], None]


def temperature(choice: Choice) -> None:
    """Divide the scores by it."""
    if choice.rows.temperature is not None:
        np.divide(choice.scores, choice.rows.temperature, out=choice.scores)


def top_k_top_p(choice: Choice) -> None:
    """Leave the `top_k` best; of these, the best until they have `top_p` of their mass."""
    if choice.rows.cut is None:
        return
    cut, scores = choice.rows.cut, choice.scores
    best = np.maximum.reduce(scores, axis=1)
    lowest = guess = best - cut.margin
    sampled = scores[:, ::SAMPLED]
    crowded = (np.add.reduce(sampled >= lowest[:, None], axis=1) >= cut.reached).nonzero()[0]
    if len(crowded):  # a score that their best probably reach, and few others
        guess = lowest.copy()
        ordered = np.sort(sampled[crowded], axis=1)
        guess[crowded] = ordered[cut.row[: len(crowded)], -cut.reached[crowded]]
    at, starts, counts = _reaching(scores, guess, cut)
    if len(crowded) and (too_few := (counts < cut.top_k) & (guess > lowest)).any():
        at, starts, counts = _reaching(scores, np.where(too_few, lowest, guess), cut)
    weights = np.exp(scores.reshape(-1)[at] - best.repeat(counts))
    total = np.add.reduceat(weights, starts)
    least = cut.rest * total / counts  # all that are below are not too many
    for one in (counts > cut.top_k).nonzero()[0].tolist():
        others, begin = counts[one] - cut.top_k[one], starts[one]
        kept = np.partition(weights[begin : begin + counts[one]], others)[others:]
        total[one] = np.add.reduce(kept)
        least[one] = max(kept[0], cut.rest[one] * total[one] / cut.top_k[one])
    choice.keep_at(at[weights >= least.repeat(counts)])
    ordered = np.sort(choice.scores, axis=1)[:, ::-1]  # [B, K], highest first
    mass = np.exp(ordered - best[:, None]).astype(np.float64)
    better = np.add.accumulate(mass, axis=1) - mass  # the mass of all better ones
    count = np.add.reduce(better < (cut.top_p * total)[:, None], axis=1)  # the best is among them
    choice.drop(choice.scores < ordered[cut.row, count - 1][:, None])


def _reaching(scores: F32, lowest: F32, cut: Cut) -> tuple[I64, I64, I64]:
    """Where, in the flattened scores, are those not below their row's `lowest` [B]; where each row
    begins among them [B], and how many it has [B]."""
    at = (scores >= lowest[:, None]).reshape(-1).nonzero()[0]
    starts = at.searchsorted(cut.edges)
    return at, starts[:-1], starts[1:] - starts[:-1]


def min_p(choice: Choice) -> None:
    """Leave those at least `min_p` times as likely as the best."""
    if choice.rows.min_p is not None:
        with np.errstate(divide="ignore"):  # 0: no floor
            floor = choice.scores.max(axis=1, keepdims=True) + np.log(choice.rows.min_p)
        choice.drop(choice.scores < floor)


def repetition_penalty(choice: Choice) -> None:
    """What a row has said: a score below 0 times the penalty, any other divided by it."""
    penalty = choice.rows.penalty
    if penalty is None:
        return
    at, scores = choice.penalised(), choice.scores.reshape(-1)
    values, penalty = scores[at], penalty[at // choice.scores.shape[1], 0]
    scores[at] = values * np.where(values < 0, penalty, 1 / penalty)
