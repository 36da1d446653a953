"""Sampling as pure functions over scores; a family says which of them apply, in what order.

Scores are [rows, columns], float32 and contiguous: a column for each token that may come at a row's
place, then one for each stop token. Each function changes the scores in place, to -inf for what is
not to be drawn, and nothing else. Rows do not see each other, so that a row's token does not depend
on its batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32

NEVER = np.float32(-np.inf)


@dataclass(slots=True, eq=False)
class SamplingRows:
    """The parameters of a batch's rows, and what they have said. A row that takes the best token
    has all but the penalty off."""

    temperature: F32  # [B, 1]; 1: off
    top_k: F32  # [B, 1]: whole numbers; 0: off
    top_p: F32  # [B, 1]; 1: off
    min_p: F32  # [B, 1]; 0: off
    penalty: F32  # [B, 1]; 1: off
    greedy: NDArray[np.bool_]  # [B]: the best token is taken
    seen: NDArray[np.bool_] | None = None  # [B, columns] that a row has said; none: no penalty


Processor = Callable[[F32, SamplingRows], None]


def temperature(scores: F32, rows: SamplingRows) -> None:
    """Divided by it."""
    np.divide(scores, rows.temperature, out=scores)


def top_k_top_p(scores: F32, rows: SamplingRows) -> None:
    """The `top_k` best; of these, the best until they have `top_p` of their mass. One partition
    serves both."""
    columns = scores.shape[-1]
    cut = (rows.top_k[:, 0] > 0) | (rows.top_p[:, 0] < 1)  # [B]
    if not cut.any():
        return
    top_k = np.where(rows.top_k > 0, rows.top_k, columns)  # [B, 1]
    width = min(int(np.where(cut, top_k[:, 0], 1).max()), columns)
    if width < columns:
        best = np.partition(scores, columns - width, axis=-1)[:, columns - width :]
        best.sort(axis=-1)
    else:
        best = np.sort(scores, axis=-1)
    best = best[:, ::-1]  # [B, width], highest first
    weights = np.exp(best - best[:, :1])
    inside = np.arange(width) < top_k  # [B, width]
    weights *= inside
    mass = np.cumsum(weights, axis=-1)  # [B, width]: the same whatever the width
    inside &= mass - weights < rows.top_p * mass[:, -1:]
    last = np.maximum(inside.sum(axis=-1), 1) - 1  # [B]
    floor = np.where(cut, best[np.arange(len(best)), last], NEVER)
    np.copyto(scores, NEVER, where=scores < floor[:, None])


def min_p(scores: F32, rows: SamplingRows) -> None:
    """Those at least `min_p` times as likely as the best."""
    if rows.min_p.any():
        with np.errstate(divide="ignore"):  # 0: no floor
            floor = scores.max(axis=-1, keepdims=True) + np.log(rows.min_p)
        np.copyto(scores, NEVER, where=scores < floor)


def repetition_penalty(scores: F32, rows: SamplingRows) -> None:
    """What a row has said: a score below 0 times the penalty, any other divided by it."""
    if rows.seen is None:
        return
    at = np.flatnonzero(rows.seen)
    flat = scores.reshape(-1)
    values, penalty = flat[at], rows.penalty[at // scores.shape[-1], 0]
    flat[at] = values * np.where(values < 0, penalty, 1 / penalty)
