"""Sampling as pure functions over scores [rows, vocabulary]; a family says which, in what order.

Each takes the scores and the rows' parameters and gives new scores, -inf for tokens that are not to
be drawn. Rows do not see each other, so that a row's token does not depend on its batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64


@dataclass(frozen=True, slots=True, eq=False)
class SamplingRows:
    """The parameters of a batch's rows, and what they have said."""

    temperature: F32  # [B, 1]
    top_k: I64  # [B]: at most the vocabulary
    top_p: F32  # [B]
    penalty: F32  # [B, 1]
    greedy: NDArray[np.bool_]  # [B]: the best token is taken, so nothing is cut off
    seen: NDArray[np.bool_]  # [B, vocabulary]


Processor = Callable[[F32, SamplingRows], F32]


def temperature(scores: F32, rows: SamplingRows) -> F32:
    """Divided by it."""
    scaled: F32 = scores / rows.temperature
    return scaled


def top_k_top_p(scores: F32, rows: SamplingRows) -> F32:
    """The `top_k` best; of these, the best until they have `top_p` of their mass. One partition
    serves both."""
    vocabulary = scores.shape[-1]
    width = int(rows.top_k.max())
    best = np.partition(scores, -width, axis=-1)[:, -width:] if width < vocabulary else scores
    best = np.sort(best, axis=-1)[:, ::-1]  # [B, width], highest first
    inside = np.arange(width) < rows.top_k[:, None]  # [B, width]
    weights = np.where(inside, np.exp(best - best[:, :1]), np.float32(0.0))
    before = np.cumsum(weights, axis=-1) - weights  # [B, width]: mass of all better ones
    inside &= before < rows.top_p[:, None] * weights.sum(axis=-1, keepdims=True)
    last = np.maximum(inside.sum(axis=-1), 1) - 1  # [B]
    floor = np.take_along_axis(best, last[:, None], axis=-1)
    floor = np.where(rows.greedy[:, None], np.float32(-np.inf), floor)
    return np.where(scores >= floor, scores, np.float32(-np.inf))


def repetition_penalty(scores: F32, rows: SamplingRows) -> F32:
    """What a row has said: a score below 0 times the penalty, any other divided by it."""
    at = np.flatnonzero(rows.seen)
    penalised = scores.copy()
    flat = penalised.reshape(-1)
    values, penalty = flat[at], rows.penalty[at // scores.shape[-1], 0]
    flat[at] = values * np.where(values < 0, penalty, 1 / penalty)
    return penalised
