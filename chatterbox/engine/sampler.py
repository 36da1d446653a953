"""Samples the next token of each row of a batch, by the family's rules.

Only the tokens allowed at a row's place in the frame are looked at, for all rows in one pass. Every
step works along the last axis only, so a row's result does not depend on the rows beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.families.base import TokenSpec
from chatterbox.families.sampling import EXCLUDED, Candidates, SamplingRows, TopLimits

MIN_TEMPERATURE = 1e-3
"""Below this temperature sampling is greedy: dividing by less could overflow float32."""
MAX_LOGIT = 1e18
"""A row with a logit beyond ± this is rejected, as infinite ones are: float32 ends at 3e38, and the
temperature may multiply a logit by 1000."""
ROWS_PER_PASS = 32
"""Rows sampled in one pass, so that their scores stay in the processor's cache."""
BELOW_ONE = 1 - 2.0**-52
"""The largest random number used: times any mass, it rounds to less than all of it."""
ALL_TOKENS = 2**31
INVALID_ROW = -1
"""Returned in place of a token for a row whose logits are not finite."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """One request's sampling parameters. The defaults change nothing about the model's
    distribution; the authors' recommended values are in `Family.sampling`."""

    temperature: float = 1.0  # < MIN_TEMPERATURE: greedy, as is top_k = 1
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    repetition_penalty: float = 1.0  # 1: off
    min_p: float = 0.0  # 0: off
    penalty_window: int = 0  # number of last tokens that are penalised; 0: all

    @classmethod
    def merge(cls, *sources: Mapping[str, float | None]) -> "Sampling":
        """Merge sources: for each parameter, the first source with a value other than None wins."""
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            merged |= {name: value for name, value in source.items() if value is not None}
        return cls(**{f.name: merged[f.name] for f in fields(cls) if f.name in merged})


def uniforms(seed: int, segment: int, attempt: int, count: int) -> NDArray[np.float64]:
    """The random stream of one row: [count] numbers in [0, 1), the same on every machine.

    Philox is counter-based, so streams of different (seed, segment, attempt) are independent.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(segment, attempt))
    return np.random.Generator(np.random.Philox(sequence)).random(count)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The rows of one pass, with what follows from their slots alone."""

    slots: list[int]
    index: I64  # [B]: the same
    first_place: I64  # [B]: place 0 of each row
    first_seen: I64  # [B]: row of the table of seen tokens for that place
    parameters: SamplingRows


class Sampler:
    """Samples the rows of a batch; keeps each slot's parameters, token count and tokens seen."""

    def __init__(self, slots: int, tokens: TokenSpec) -> None:
        self._processors = tokens.processors
        self._width = tokens.width
        self._starts = np.array(tokens.starts)  # [places]
        self._stops = sorted(tokens.stop)
        columns = tokens.width + len(tokens.stop)
        self._tokens = np.empty((len(tokens.starts), columns), np.int64)  # [places, columns]
        self._tokens[:, : tokens.width] = self._starts[:, None] + np.arange(tokens.width)
        self._tokens[:, tokens.width :] = self._stops
        self._scores = np.empty((min(slots, ROWS_PER_PASS), columns), np.float32)
        self._places = len(tokens.starts)
        self._seen = np.zeros((slots * self._places, columns), np.int32)
        """[slots × places, columns]: the row's token count after it last got each; 0: never."""
        self._count = np.zeros(slots, np.int64)  # [slots]: tokens so far
        self._draws = np.zeros((slots, 0))  # [slots, tokens]: uniform in [0, 1)
        self._sampling = [Sampling()] * slots
        self._batches: dict[int, Batch] = {}  # the last ones, by their first slot

    def begin(self, slot: int, sampling: Sampling, draws: NDArray[np.float64]) -> None:
        """Start a new row in `slot`, which gets at most as many tokens as there are `draws`."""
        if len(draws) > self._draws.shape[1]:
            more = len(draws) - self._draws.shape[1]
            self._draws = np.pad(self._draws, ((0, 0), (0, more)))
        self._draws[slot, : len(draws)] = np.minimum(draws, BELOW_ONE)
        self._seen[slot * self._places : (slot + 1) * self._places] = 0
        self._count[slot] = 0
        self._sampling[slot] = sampling
        self._batches.clear()

    def sample(self, logits: F32, slots: list[int]) -> list[int]:
        """One token for each row. `logits` [B, vocabulary], of the rows in `slots` [B].

        A row with a NaN or infinite logit gets INVALID_ROW and leaves its neighbours alone.
        """
        drawn = [
            self._sample(logits[at : at + ROWS_PER_PASS], slots[at : at + ROWS_PER_PASS])
            for at in range(0, len(slots), ROWS_PER_PASS)
        ]
        tokens: list[int] = []
        for (
            index,
            seen_at,
            columns,
            count,
            part,
        ) in drawn:  # last: a call that raises changes nothing
            self._count[index] = self._seen[seen_at, columns] = count
            tokens += part
        return tokens

    def _sample(self, logits: F32, slots: list[int]) -> tuple[I64, I64, I64, I64, list[int]]:
        """Returns slots [B], their rows in `_seen` [B], the columns drawn [B], the rows' token
        counts from now on [B], and the tokens drawn."""
        batch = self._batch(slots)
        count = self._count[batch.index]
        place, seen_at = batch.first_place, batch.first_seen
        if self._places > 1:
            place = count % self._places
            seen_at = seen_at + place
        scores = self._gather(logits, place)
        highest = np.maximum.reduce(scores, axis=1, keepdims=True)
        lowest = np.minimum.reduce(scores, axis=1)
        extremes = zip(lowest.tolist(), highest[:, 0].tolist(), strict=True)
        valid = [low > -MAX_LOGIT and high < MAX_LOGIT for low, high in extremes]
        best = highest if all(valid) else None
        if best is None:
            scores[~np.array(valid)] = 0
        if self._places > 1 or 0 in count.tolist():
            inside_frame = (place > 0) | (count == 0)  # where no row may end
            scores[inside_frame, self._width :] = EXCLUDED
            best = None
        candidates = Candidates(batch.parameters, scores, self._seen, seen_at, count, best)
        for process in self._processors:
            process(candidates)
        columns = _draw(candidates, self._draws[batch.index, count])
        tokens = self._tokens[place, columns].tolist()
        if not all(valid):
            tokens = [token if ok else INVALID_ROW for token, ok in zip(tokens, valid, strict=True)]
        return batch.index, seen_at, columns, count + 1, tokens

    def _batch(self, slots: list[int]) -> Batch:
        """The batch of these slots, kept as long as the same rows step together."""
        batch = self._batches.get(slots[0])
        if batch is None or batch.slots != slots:
            index = np.array(slots)
            sampling = [self._sampling[slot] for slot in slots]
            parameters = _parameters(sampling, self._tokens.shape[1])
            batch = Batch(slots, index, np.zeros_like(index), index * self._places, parameters)
            self._batches[slots[0]] = batch
        return batch

    def _gather(self, logits: F32, place: I64) -> F32:
        """Scores [B, columns] of the tokens allowed at each row's place, and of the stop tokens."""
        scores, width = self._scores[: len(logits)], self._width
        if self._places == 1 or (place == place[0]).all():
            start = int(self._starts[place[0]])
            scores[:, :width] = logits[:, start : start + width]
        else:
            windows = sliding_window_view(logits, width, axis=1)
            scores[:, :width] = windows[np.arange(len(logits)), self._starts[place]]
        for column, stop in enumerate(self._stops, width):
            scores[:, column] = logits[:, stop]
        return scores


def _parameters(batch: list[Sampling], columns: int) -> SamplingRows:
    greedy = np.array([one.temperature < MIN_TEMPERATURE for one in batch], np.bool_)

    def column(name: str, off: float, kind: type) -> NDArray[Any]:
        """One parameter of every row, `off` in greedy rows."""
        return np.where(greedy, kind(off), np.array([getattr(one, name) for one in batch], kind))

    temperature, min_p = column("temperature", 1.0, np.float32), column("min_p", 0.0, np.float32)
    top_k, top_p = column("top_k", 0, np.int64), column("top_p", 1.0, np.float32)
    penalty = np.array([one.repetition_penalty for one in batch], np.float32)
    window = np.array([one.penalty_window or ALL_TOKENS for one in batch], np.int64)
    has_top = (top_k > 0).any() or (top_p < 1).any()
    return SamplingRows(
        temperature=temperature[:, None] if (temperature != 1).any() else None,
        top=TopLimits.of(top_k, top_p, columns) if has_top else None,
        min_p=min_p[:, None] if min_p.any() else None,
        penalty=penalty[:, None] if (penalty != 1).any() else None,
        window=window if (window < ALL_TOKENS).any() else None,
        greedy=greedy if greedy.any() else None,
        row=np.arange(len(batch)),
    )


def _draw(candidates: Candidates, draws: NDArray[np.float64]) -> I64:
    """The column [B] of one draw from the softmax of each row's scores; or of the best."""
    scores, greedy = candidates.scores, candidates.rows.greedy
    weights = np.exp(scores - candidates.best())
    mass = np.add.accumulate(weights, axis=1, dtype=np.float64)  # [B, K]
    chosen = (mass > (draws * mass[:, -1])[:, None]).argmax(axis=1)
    if greedy is not None:
        chosen = np.where(greedy, scores.argmax(axis=1), chosen)
    return candidates.columns(chosen)
