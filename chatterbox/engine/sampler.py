"""Samples the next token of each row of a batch, by the family's rules.

Only what may come at a row's place is looked at, in one pass for all rows. Every step works along
the last axis only, so a row's result does not depend on the rows beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.families.base import TokenSpec
from chatterbox.families.sampling import NEVER, SamplingRows

MIN_TEMPERATURE = 1e-3
"""Below it sampling is greedy: logits divided by less could leave float32's range."""
INVALID_ROW = -1
"""Returned in place of a token for a row whose logits are not finite."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """One request's sampling parameters; defaults are upstream's for Turbo."""

    temperature: float = 0.8  # < MIN_TEMPERATURE: greedy, as is top_k = 1
    top_k: int = 1000  # 0: off
    top_p: float = 0.95  # 1: off
    repetition_penalty: float = 1.2  # 1: off
    min_p: float = 0.0  # 0: off
    penalty_window: int = 0  # so many last tokens are penalised; 0: all

    @classmethod
    def first_said(cls, *sources: Mapping[str, float | None]) -> "Sampling":
        """Each parameter from the first source that states it; None and a missing key don't."""
        chosen: dict[str, Any] = {}
        for field in fields(cls):
            stated = (source.get(field.name) for source in sources)
            value = next((v for v in stated if v is not None), None)
            if value is not None:
                chosen[field.name] = value
        return cls(**chosen)


def uniforms(seed: int, segment: int, attempt: int, count: int) -> NDArray[np.float64]:
    """The random stream of one row: [count] numbers in [0, 1), the same wherever it runs.

    Philox is counter-based, so streams of different (seed, segment, attempt) are independent.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(segment, attempt))
    return np.random.Generator(np.random.Philox(sequence)).random(count)


@dataclass(slots=True, eq=False)
class _Batch:
    """Rows that are sampled together, as long as they stay the same."""

    slots: NDArray[np.intp]  # [B]
    first_column: NDArray[np.intp]  # [B]: of each row, in the flattened scores
    rows: SamplingRows
    penalised: bool
    window: F32  # [B]; 0: all tokens
    any_greedy: bool


class Sampler:
    """Samples the rows of a batch; remembers for each slot how far it is and what it has said."""

    def __init__(self, slots: int, tokens: TokenSpec) -> None:
        self._processors = tokens.processors
        self._width = tokens.width
        self._starts = np.array(tokens.starts)  # [places]
        self._stops = np.array(sorted(tokens.stop))
        columns = tokens.width + len(tokens.stop)
        self._scores = np.empty((slots, columns), np.float32)
        self._said = np.zeros((slots, len(tokens.starts), columns), np.int32)
        """[slots, places, columns]: after how many tokens each was last said; 0: never."""
        self._count = np.zeros(slots, np.int64)  # [slots]: tokens so far
        self._draws = np.zeros((slots, 0))  # [slots, tokens]: uniform in [0, 1)
        self._parameters = np.zeros((slots, 7), np.float32)
        self._batch: _Batch | None = None

    def begin(self, slot: int, sampling: Sampling, draws: NDArray[np.float64]) -> None:
        """A new row in `slot`, of at most as many tokens as there are `draws`: nothing said yet."""
        if len(draws) > self._draws.shape[1]:
            more = len(draws) - self._draws.shape[1]
            self._draws = np.pad(self._draws, ((0, 0), (0, more)))
        self._draws[slot, : len(draws)] = draws
        self._said[slot] = 0
        self._count[slot] = 0
        greedy = sampling.temperature < MIN_TEMPERATURE
        cuts = (1, 0, 1, 0) if greedy else _cuts(sampling)
        penalty = sampling.repetition_penalty, sampling.penalty_window
        self._parameters[slot] = (*cuts, *penalty, greedy)
        self._batch = None

    def sample(self, logits: F32, slots: Sequence[int]) -> list[int]:
        """One token for each row. `logits` [B, vocabulary], of the rows in `slots` [B].

        A row with a NaN or infinite logit gets INVALID_ROW and leaves its neighbours alone.
        """
        batch = self._batch_of(slots)
        at, count = batch.slots, self._count[batch.slots]
        place = count % len(self._starts)
        scores = self._gather(logits, place)
        finite = np.isfinite(scores.sum(axis=-1))  # [B]
        if not finite.all():
            scores[~finite] = 0
        between_frames = (place == 0) & (count > 0)  # where a row may end
        if not between_frames.all():
            scores[~between_frames, self._width :] = NEVER
        batch.rows.seen = self._seen(batch, count, place)
        for processor in self._processors:
            processor(scores, batch.rows)
        column = _draw(scores, self._draws[at, count], batch)
        self._said[at, place, column] = count + 1
        self._count[at] = count + 1
        tokens = np.where(
            column < self._width,
            self._starts[place] + column,
            self._stops[np.maximum(column - self._width, 0)],
        )
        chosen: list[int] = np.where(finite, tokens, INVALID_ROW).tolist()
        return chosen

    def _batch_of(self, slots: Sequence[int]) -> _Batch:
        at = np.asarray(slots)
        batch = self._batch
        if batch is None or not np.array_equal(batch.slots, at):
            temperature, top_k, top_p, min_p, penalty, window, greedy = (
                self._parameters[at, i : i + 1] for i in range(7)
            )
            best = greedy[:, 0] > 0
            rows = SamplingRows(temperature, top_k, top_p, min_p, penalty, best)
            batch = self._batch = _Batch(
                at,
                np.arange(len(at)) * self._scores.shape[1],
                rows,
                bool((penalty != 1).any()),
                window[:, 0],
                bool(best.any()),
            )
        return batch

    def _gather(self, logits: F32, place: NDArray[np.int64]) -> F32:
        """What may come at each row's place, and the stop tokens: [B, columns]."""
        scores, width = self._scores[: len(logits)], self._width
        start = self._starts[place[0]]
        if (place == place[0]).all():
            scores[:, :width] = logits[:, start : start + width]
        else:
            windows = sliding_window_view(logits, width, axis=1)
            scores[:, :width] = windows[np.arange(len(logits)), self._starts[place]]
        scores[:, width:] = logits[:, self._stops]
        return scores

    def _seen(
        self, batch: _Batch, count: NDArray[np.int64], place: NDArray[np.int64]
    ) -> NDArray[np.bool_] | None:
        """What the rows have said at their places, as far back as the penalty goes."""
        if not batch.penalised:
            return None
        before = np.where(batch.window > 0, np.maximum(count - batch.window, 0), 0)
        seen: NDArray[np.bool_] = self._said[batch.slots, place] > before[:, None]
        return seen


def _cuts(sampling: Sampling) -> tuple[float, float, float, float]:
    return sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p


def _draw(scores: F32, draws: NDArray[np.float64], batch: _Batch) -> I64:
    """The column [B] of one draw from the softmax of each row's scores; or of the best."""
    kept = scores > NEVER
    at = np.flatnonzero(kept)  # row after row, ascending
    counts = np.count_nonzero(kept, axis=-1)  # [B]
    inside = np.arange(counts.max()) < counts[:, None]  # [B, K]
    values = np.full(inside.shape, NEVER)
    values[inside] = scores.reshape(-1)[at]
    weights = np.exp(values - values.max(axis=-1, keepdims=True))
    mass = np.cumsum(weights, axis=-1, dtype=np.float64)  # [B, K]
    chosen = (mass <= (draws * mass[:, -1])[:, None]).sum(axis=-1)
    chosen = np.minimum(chosen, counts - 1)
    if batch.any_greedy:
        chosen = np.where(batch.rows.greedy, values.argmax(axis=-1), chosen)
    column: I64 = at[np.cumsum(counts) - counts + chosen] - batch.first_column
    return column
