"""Which code comes next: upstream's sampler, vectorised over the rows of a batch.

Knows no slots, no model and no clock: logits, parameters and uniform numbers in, codes out.

Order as in the authors' `T3.inference_turbo` (chatterbox-tts 0.1.7): temperature → top-k → top-p →
repetition penalty, last → softmax → one draw. Every step works along the last axis only, so a row's
result does not depend on the rows beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.runtime.contract import F32, I64, START_CODE, STOP_CODE

MIN_TEMPERATURE = 1e-3
"""Below it sampling is greedy: logits divided by less could leave float32's range."""
INVALID_ROW = -1
"""Returned in place of a code for a row whose logits are not finite."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """One request's sampling parameters; defaults are upstream's for Turbo."""

    temperature: float = 0.8  # < MIN_TEMPERATURE: greedy, as is top_k = 1
    top_k: int = 1000  # 0: off
    top_p: float = 0.95  # 1: off
    repetition_penalty: float = 1.2  # 1: off

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


class Sampler:
    """Samples the rows of a batch; remembers, for each slot, which codes it has given."""

    def __init__(self, slots: int, vocab: int) -> None:
        self._vocab = vocab
        self._seen = np.zeros((slots, vocab), dtype=np.bool_)  # [slots, vocab]
        self._temperature = np.ones(slots, np.float32)  # [slots]
        self._top_k = np.full(slots, vocab, np.int64)  # [slots]
        self._top_p = np.ones(slots, np.float32)  # [slots]
        self._penalty = np.ones(slots, np.float32)  # [slots]
        self._greedy = np.zeros(slots, np.bool_)  # [slots]

    def begin(self, slot: int, sampling: Sampling) -> None:
        """A new row in `slot`: nothing said yet."""
        self._seen[slot] = False
        greedy = sampling.temperature < MIN_TEMPERATURE
        self._greedy[slot] = greedy
        self._temperature[slot] = 1.0 if greedy else sampling.temperature
        self._top_k[slot] = 1 if greedy else min(sampling.top_k or self._vocab, self._vocab)
        self._top_p[slot] = sampling.top_p
        self._penalty[slot] = sampling.repetition_penalty

    def sample(
        self, logits: F32, slots: NDArray[np.intp], draws: NDArray[np.float64], first: bool = False
    ) -> I64:
        """One code for each row. `logits` [B, vocab], `slots` [B], `draws` [B] uniform in [0, 1).

        `first`: these rows have no code yet, and an answer of no codes at all is no speech, so the
        stop code is masked. The start code always is. A row with a NaN or infinite logit gets
        INVALID_ROW and leaves its neighbours alone.
        """
        finite = np.isfinite(logits.sum(axis=-1))  # [B]
        scores = np.where(finite[:, None], logits, np.float32(0.0))  # [B, vocab], a copy
        scores /= self._temperature[slots, None]
        scores[:, START_CODE] = -np.inf
        if first:
            scores[:, STOP_CODE] = -np.inf

        keep = scores >= self._floor(scores, slots)  # [B, vocab]
        codes = np.full(len(slots), INVALID_ROW, dtype=np.int64)
        for row in np.flatnonzero(finite):
            codes[row] = self._draw(scores[row], keep[row], int(slots[row]), float(draws[row]))
        self._seen[slots[finite], codes[finite]] = True
        return codes

    def _floor(self, scores: F32, slots: NDArray[np.intp]) -> F32:
        """[B, 1]: the least score that top-k, then top-p among those, keep."""
        top_k, top_p = self._top_k[slots], self._top_p[slots]
        width = int(top_k.max())
        best = np.partition(scores, -width, axis=-1)[:, -width:] if width < self._vocab else scores
        best = np.sort(best, axis=-1)[:, ::-1]  # [B, width], highest first
        inside = np.arange(width) < top_k[:, None]  # [B, width]
        weights = np.where(inside, np.exp(best - best[:, :1]), np.float32(0.0))
        before = np.cumsum(weights, axis=-1) - weights  # [B, width]: mass of all better ones
        inside &= before < top_p[:, None] * weights.sum(axis=-1, keepdims=True)
        last = np.maximum(inside.sum(axis=-1), 1) - 1  # [B]
        floor = np.take_along_axis(best, last[:, None], axis=-1)
        return np.where(self._greedy[slots, None], np.float32(-np.inf), floor)

    def _draw(self, scores: F32, keep: NDArray[np.bool_], slot: int, draw: float) -> int:
        """One row: penalty on the kept candidates, then one draw (or the best, if greedy)."""
        kept = np.flatnonzero(keep)  # [K], ascending codes
        values = scores[kept]
        if (penalty := self._penalty[slot]) != 1.0:
            given = self._seen[slot, kept]
            values = np.where(given, values * np.where(values < 0, penalty, 1 / penalty), values)
        if self._greedy[slot]:
            return int(kept[values.argmax()])
        mass = np.cumsum(np.exp(values - values.max()), dtype=np.float64)
        return int(kept[min(np.searchsorted(mass, draw * mass[-1], side="right"), len(kept) - 1)])
