"""Samples the next token of each row of a batch, by the family's rules.

Every step works along the last axis only, so a row's result does not depend on the rows beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.families.base import TokenSpec
from chatterbox.families.sampling import SamplingRows

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
    """Samples the rows of a batch; remembers, for each slot, which tokens it has given."""

    def __init__(self, slots: int, tokens: TokenSpec) -> None:
        self._tokens = tokens
        self._stop = sorted(tokens.stop)
        vocabulary = tokens.vocabulary
        self._seen = np.zeros((slots, vocabulary), dtype=np.bool_)  # [slots, vocabulary]
        self._temperature = np.ones((slots, 1), np.float32)  # [slots, 1]
        self._top_k = np.full(slots, vocabulary, np.int64)  # [slots]
        self._top_p = np.ones(slots, np.float32)  # [slots]
        self._penalty = np.ones((slots, 1), np.float32)  # [slots, 1]
        self._greedy = np.zeros(slots, np.bool_)  # [slots]

    def begin(self, slot: int, sampling: Sampling) -> None:
        """A new row in `slot`: nothing said yet."""
        self._seen[slot] = False
        most = self._tokens.vocabulary
        greedy = sampling.temperature < MIN_TEMPERATURE
        self._greedy[slot] = greedy
        self._temperature[slot] = 1.0 if greedy else sampling.temperature
        self._top_k[slot] = 1 if greedy else min(sampling.top_k or most, most)
        self._top_p[slot] = sampling.top_p
        self._penalty[slot] = sampling.repetition_penalty

    def sample(
        self,
        logits: F32,
        slots: NDArray[np.intp],
        draws: NDArray[np.float64],
        positions: Sequence[int],
    ) -> I64:
        """One token for each row. `logits` [B, vocabulary], `slots` [B], `draws` [B] uniform in
        [0, 1), `positions` [B]: how many tokens the row has.

        A row with a NaN or infinite logit gets INVALID_ROW and leaves its neighbours alone.
        """
        finite = np.isfinite(logits.sum(axis=-1))  # [B]
        scores = np.where(finite[:, None], logits, np.float32(0.0))  # [B, vocabulary], a copy
        self._mask(scores, positions)
        rows = SamplingRows(
            self._temperature[slots],
            self._top_k[slots],
            self._top_p[slots],
            self._penalty[slots],
            self._greedy[slots],
            self._seen[slots],
        )
        for processor in self._tokens.processors:
            scores = processor(scores, rows)
        chosen = np.full(len(slots), INVALID_ROW, dtype=np.int64)
        for row in np.flatnonzero(finite):
            chosen[row] = _draw(scores[row], float(draws[row]), greedy=bool(rows.greedy[row]))
        self._seen[slots[finite], chosen[finite]] = True
        return chosen

    def _mask(self, scores: F32, positions: Sequence[int]) -> None:
        """Nothing but what the family allows at each row's position."""
        allowed = [self._tokens.allowed(position) for position in positions]
        alike = allowed.count(allowed[0]) == len(allowed)  # as a rule
        views = [scores] if alike else [scores[row : row + 1] for row in range(len(scores))]
        for view, (tokens, stop) in zip(views, allowed, strict=False):
            stops = view[:, self._stop]  # a copy
            view[:, : tokens.start] = -np.inf
            view[:, tokens.stop :] = -np.inf
            if stop:
                view[:, self._stop] = stops


def _draw(scores: F32, draw: float, *, greedy: bool) -> int:
    """One draw from the softmax of one row's scores; or the best."""
    kept = np.flatnonzero(scores > -np.inf)  # [K], ascending tokens
    values = scores[kept]
    if greedy:
        return int(kept[values.argmax()])
    mass = np.cumsum(np.exp(values - values.max()), dtype=np.float64)
    return int(kept[min(np.searchsorted(mass, draw * mass[-1], side="right"), len(kept) - 1)])
