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
    sampled: I64  # [B]: which of the sampled scores, ascending, the `top_k` best reach; 0: none

    @classmethod
    def of(cls, top_k: I64, top_p: F32, columns: int) -> "Cut":
        """0 and 1: off."""
        uncut = (top_k == 0) & (top_p >= 1)
        top_k = np.where((top_k > 0) & (top_k < columns), top_k, columns)
        expected = top_k / SAMPLED
        sampled = -(-columns // SAMPLED) - (expected + 4 * np.sqrt(expected)).astype(np.int64) - 2
        return cls(
            top_k,
            np.where(uncut, np.float32(np.inf), top_p),
            np.where(uncut, np.float32(np.inf), NEGLIGIBLE),
            np.maximum(sampled, 0),
        )


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
        np.copyto(self.scores, NEVER, where=dropped)

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
    cut, scores, row = choice.rows.cut, choice.scores, np.arange(len(choice.scores))
    best = np.maximum.reduce(scores, axis=1)
    lowest = best - cut.margin
    guess = np.maximum(lowest, _reached_by_best(scores, cut.sampled))
    at, starts = _reaching(scores, guess)
    too_few = (starts[1:] - starts[:-1] < cut.top_k) & (guess > lowest)
    if too_few.any():
        at, starts = _reaching(scores, np.where(too_few, lowest, guess))
    counts = starts[1:] - starts[:-1]
    weights = np.exp(scores.reshape(-1)[at] - best.repeat(counts))
    total, least = np.add.reduceat(weights, starts[:-1]), np.zeros(len(row), np.float32)
    for one in (cut.top_k < counts).nonzero()[0].tolist():
        others = counts[one] - cut.top_k[one]
        kept = np.partition(weights[starts[one] : starts[one + 1]], others)[others:]
        total[one], least[one] = np.add.reduce(kept), kept[0]
    below = (1 - cut.top_p) * total / np.minimum(cut.top_k, counts)  # all of these are not too many
    choice.keep_at(at[weights >= np.maximum(least, below).repeat(counts)])
    ordered = np.sort(choice.scores, axis=1)[:, ::-1]  # [B, K], highest first
    weights = np.exp(ordered - best[:, None])
    mass = weights.cumsum(axis=1, dtype=np.float64)
    mass -= weights  # of all better ones
    count = np.add.reduce(mass < (cut.top_p * total)[:, None], axis=1)
    choice.drop(choice.scores < ordered[row, np.maximum(count, 1) - 1][:, None])


def _reaching(scores: F32, lowest: F32) -> tuple[I64, I64]:
    """Where, in the flattened scores, are those not below their row's `lowest` [B]; and where each
    row begins among them [B + 1]."""
    at = (scores >= lowest[:, None]).reshape(-1).nonzero()[0]
    return at, at.searchsorted(np.arange(len(scores) + 1) * scores.shape[1])


def _reached_by_best(scores: F32, sampled: I64) -> F32:
    """A score [B] that the best probably reach, and few others, as a few columns tell."""
    if not sampled.any():
        return np.full(len(sampled), NEVER)
    few = np.sort(scores[:, ::SAMPLED], axis=1)
    few[:, 0] = NEVER
    reached: F32 = few[np.arange(len(few)), sampled]
    return reached


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
