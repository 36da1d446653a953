"""Sampling: what may be drawn next, and functions that change it; a family says which of them
apply, in what order.

Each function changes the `Choice` it is given, and nothing else. Rows do not see each other, so
that a row's token does not depend on its batch. All are written for few calls of NumPy, which cost
more than the numbers where there are few rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64

NEVER = np.float32(-np.inf)
NEGLIGIBLE = 18.0
"""What is so many times e less likely than the best hardly counts."""
REST = math.exp(-NEGLIGIBLE)
"""Mass of such a column at most: 4096 of them have 6e-5 of the best's."""
MANY = 1000
"""Columns that count: where rows have more of them than top-k leaves, all have to be looked at."""
FEW = 2000
"""Columns of all rows together that are sorted without looking for less to sort."""
ROUNDING = 1e-5
"""More than sums of so many float32 err."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class SamplingRows:
    """The parameters of a batch's rows, None where all rows have them off. A row that takes the
    best token has all but the penalty off."""

    temperature: F32 | None  # [B, 1]; 1: off
    top_k_top_p: tuple[I64, F32] | None  # [B, 1] each; 0 and 1: off
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

    def keep(self, kept: Mask) -> None:
        """Leave only what is `kept` [B, K]."""
        self.keep_at(kept.reshape(-1).nonzero()[0])

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
    if choice.rows.top_k_top_p is None:
        return
    (top_k, top_p), scores, at = choice.rows.top_k_top_p, choice.scores, choice.at
    floor, known = _floor_of_likely(choice, top_k, top_p)
    if not known.all():
        unknown = ~known
        choice.scores, choice.at = scores, at
        floor[unknown] = _floor(scores[unknown], top_k[unknown], top_p[unknown])
    choice.keep(choice.scores >= floor)


def _floor(scores: F32, top_k: I64, top_p: F32) -> F32:
    """The least score [B, 1] that `top_k_top_p` leaves."""
    columns = scores.shape[1]
    limit = np.where((top_k > 0) & (top_k < columns), top_k, columns)
    width = int(limit.max())
    best = scores
    if width < columns:
        best = np.partition(scores, columns - width, axis=1)[:, columns - width :]
    best = np.sort(best, axis=1)[:, ::-1]  # [B, width], highest first
    weights = np.exp(best - best[:, :1])
    if int(limit.min()) < width:
        weights *= np.arange(width) < limit
    mass = np.cumsum(weights, axis=1)  # the same whatever the width
    count = (mass - weights < top_p * mass[:, -1:]).sum(axis=1, keepdims=True)
    floor: F32 = np.take_along_axis(best, np.clip(count, 1, limit) - 1, axis=1)
    return np.where((top_k > 0) | (top_p < 1), floor, NEVER)


def _floor_of_likely(choice: Choice, top_k: I64, top_p: F32) -> tuple[F32, Mask]:
    """The same, found among the likely columns, which alone are left; and whether it is known [B]:
    others may matter."""
    scores, (rows, columns) = choice.scores, choice.scores.shape
    best = np.maximum.reduce(scores, axis=1, keepdims=True)
    counting = scores >= best - np.float32(NEGLIGIBLE)
    if np.count_nonzero(counting) > MANY * rows and (top_k > 0).any():
        return best, np.zeros(rows, np.bool_)
    at = counting.reshape(-1).nonzero()[0]
    starts = at.searchsorted(np.arange(rows + 1) * columns)
    counts = (starts[1:] - starts[:-1])[:, None]  # [B, 1]
    total = None
    if at.size > FEW:
        row = np.repeat(np.arange(rows), counts[:, 0])
        weights = np.exp(scores.reshape(-1)[at] - best[row, 0])
        total = np.add.reduceat(weights, starts[:-1])[:, None]
        least = (1 - top_p) * total / (2 * counts)  # all below have half of what is cut off
        at = at[weights >= least[row, 0].astype(np.float32)]
    choice.keep_at(at)
    ordered = np.sort(choice.scores, axis=1)[:, ::-1]  # [B, K], highest first
    weights = np.exp(ordered - best)
    mass = weights.cumsum(axis=1)
    reached = mass[:, -1:]
    total = reached if total is None else total
    low, high = top_p * total * (1 - ROUNDING), top_p * (total * (1 + ROUNDING) + REST * columns)
    mass -= weights  # of all better ones
    last = np.add.reduce(mass < low, axis=1)
    known = (reached >= high) & ((top_k == 0) | (counts < top_k))
    known = known[:, 0] & (last == np.add.reduce(mass < high, axis=1))
    floor: F32 = ordered[np.arange(rows), np.maximum(last, 1) - 1][:, None]
    return floor, known


def min_p(choice: Choice) -> None:
    """Leave those at least `min_p` times as likely as the best."""
    if choice.rows.min_p is not None:
        with np.errstate(divide="ignore"):  # 0: no floor
            floor = choice.scores.max(axis=1, keepdims=True) + np.log(choice.rows.min_p)
        choice.keep(choice.scores >= floor)


def repetition_penalty(choice: Choice) -> None:
    """What a row has said: a score below 0 times the penalty, any other divided by it."""
    penalty = choice.rows.penalty
    if penalty is None:
        return
    at, scores = choice.penalised(), choice.scores.reshape(-1)
    values, penalty = scores[at], penalty[at // choice.scores.shape[1], 0]
    scores[at] = values * np.where(values < 0, penalty, 1 / penalty)
