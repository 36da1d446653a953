"""Samples the next token of each row of a batch, by the family's rules.

Only what may come at a row's place is looked at, in one pass for all rows. Every step works along
the last axis only, so a row's result does not depend on the rows beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64
from chatterbox.families.base import TokenSpec
from chatterbox.families.sampling import NEVER, Choice, Cut, SamplingRows

MIN_TEMPERATURE = 1e-3
"""Below it sampling is greedy: logits divided by less could leave float32's range."""
TOGETHER = 32
"""Rows in one pass, so that their scores stay in the processor's cache."""
BELOW_ONE = 1 - 2.0**-52
"""The largest draw: of any mass, it rounds to less than all."""
ALL_TOKENS = 2**31
INVALID_ROW = -1
"""Returned in place of a token for a row whose logits are not finite."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """One request's sampling parameters. As they are by default, nothing is changed of what the
    model says; what its authors advise is the family's."""

    temperature: float = 1.0  # < MIN_TEMPERATURE: greedy, as is top_k = 1
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    repetition_penalty: float = 1.0  # 1: off
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


class Sampler:
    """Samples the rows of a batch; remembers for each slot how far it is and what it has said."""

    def __init__(self, slots: int, tokens: TokenSpec) -> None:
        self._processors = tokens.processors
        self._width = tokens.width
        self._starts = np.array(tokens.starts)  # [places]
        self._stops = sorted(tokens.stop)
        columns = tokens.width + len(tokens.stop)
        self._tokens = np.empty((len(tokens.starts), columns), np.int64)  # [places, columns]
        self._tokens[:, : tokens.width] = self._starts[:, None] + np.arange(tokens.width)
        self._tokens[:, tokens.width :] = self._stops
        self._scores = np.empty((min(slots, TOGETHER), columns), np.float32)
        self._places = len(tokens.starts)
        self._said = np.zeros((slots * self._places, columns), np.int32)
        """[slots × places, columns]: after how many tokens each was last said; 0: never."""
        self._count = np.zeros(slots, np.int64)  # [slots]: tokens so far
        self._draws = np.zeros((slots, 0))  # [slots, tokens]: uniform in [0, 1)
        self._sampling = [Sampling()] * slots
        self._rows: dict[int, tuple[list[int], I64, SamplingRows]] = {}  # by the first slot

    def begin(self, slot: int, sampling: Sampling, draws: NDArray[np.float64]) -> None:
        """A new row in `slot`, of at most as many tokens as there are `draws`: nothing said yet."""
        if len(draws) > self._draws.shape[1]:
            more = len(draws) - self._draws.shape[1]
            self._draws = np.pad(self._draws, ((0, 0), (0, more)))
        self._draws[slot, : len(draws)] = np.minimum(draws, BELOW_ONE)
        self._said[slot * self._places : (slot + 1) * self._places] = 0
        self._count[slot] = 0
        self._sampling[slot] = sampling
        self._rows.clear()

    def sample(self, logits: F32, slots: list[int]) -> list[int]:
        """One token for each row. `logits` [B, vocabulary], of the rows in `slots` [B].

        A row with a NaN or infinite logit gets INVALID_ROW and leaves its neighbours alone.
        """
        drawn = [
            self._sample(logits[at : at + TOGETHER], slots[at : at + TOGETHER])
            for at in range(0, len(slots), TOGETHER)
        ]
        for part, said_at, column, count, _ in drawn:  # at the end: what fails has changed nothing
            self._count[part] = self._said[said_at, column] = count
        return [token for *_, tokens in drawn for token in tokens.tolist()]

    def _sample(self, logits: F32, slots: list[int]) -> tuple[I64, I64, I64, I64, I64]:
        """Slots [B], where their places stand in `_said`, the columns drawn, how many tokens the
        rows have by now, and what was drawn."""
        at, rows = self._rows_of(slots)
        count = self._count[at]
        place = count % self._places
        scores = self._gather(logits, place)
        finite = np.isfinite(np.vecdot(scores, scores))  # [B]; the quickest look at all of them
        usable = finite.all()
        if not usable:
            scores[~finite] = 0
        if self._places > 1 or not count.all():
            inside_frame = (place > 0) | (count == 0)  # where no row may end
            scores[inside_frame, self._width :] = NEVER
        said_at = at * self._places + place
        choice = Choice(rows, scores, self._said, said_at, count)
        for processor in self._processors:
            processor(choice)
        column = _draw(choice, self._draws[at, count])
        tokens = self._tokens[place, column]
        drawn = tokens if usable else np.where(finite, tokens, INVALID_ROW)
        return at, said_at, column, count + 1, drawn

    def _rows_of(self, slots: list[int]) -> tuple[I64, SamplingRows]:
        """The slots and their rows' parameters, kept as long as the rows stay together."""
        held = self._rows.get(slots[0])
        if held is None or held[0] != slots:
            rows = _parameters([self._sampling[slot] for slot in slots], self._tokens.shape[1])
            held = self._rows[slots[0]] = slots, np.array(slots), rows
        return held[1:]

    def _gather(self, logits: F32, place: I64) -> F32:
        """What may come at each row's place, and the stop tokens: [B, columns]."""
        scores, width = self._scores[: len(logits)], self._width
        if self._places == 1 or (place == place[0]).all():
            start = self._starts[place[0]]
            scores[:, :width] = logits[:, start : start + width]
        else:
            windows = sliding_window_view(logits, width, axis=1)
            scores[:, :width] = windows[np.arange(len(logits)), self._starts[place]]
        for column, stop in enumerate(self._stops, width):
            scores[:, column] = logits[:, stop]
        return scores


def _parameters(batch: list[Sampling], columns: int) -> SamplingRows:
    greedy = np.array([one.temperature < MIN_TEMPERATURE for one in batch], np.bool_)

    def of(name: str, off: float, kind: type, *, cuts: bool = True) -> NDArray[Any]:
        values: NDArray[Any] = np.array([getattr(one, name) for one in batch], kind)
        if cuts:
            values[greedy] = off
        return values

    temperature, min_p = of("temperature", 1.0, np.float32), of("min_p", 0.0, np.float32)
    top_k, top_p = of("top_k", 0, np.int64), of("top_p", 1.0, np.float32)
    penalty = of("repetition_penalty", 1.0, np.float32, cuts=False)
    return SamplingRows(
        temperature=temperature[:, None] if (temperature != 1).any() else None,
        cut=Cut.of(top_k, top_p, columns) if (top_k > 0).any() or (top_p < 1).any() else None,
        min_p=min_p[:, None] if min_p.any() else None,
        penalty=penalty[:, None] if (penalty != 1).any() else None,
        window=np.array([one.penalty_window or ALL_TOKENS for one in batch], np.int64),
        greedy=greedy if greedy.any() else None,
    )


def _draw(choice: Choice, draws: NDArray[np.float64]) -> I64:
    """The column [B] of one draw from the softmax of each row's scores; or of the best."""
    scores, greedy = choice.scores, choice.rows.greedy
    weights = np.exp(scores - np.maximum.reduce(scores, axis=1, keepdims=True))
    mass = np.add.accumulate(weights.astype(np.float64), axis=1)  # [B, K]
    chosen = (mass > (draws * mass[:, -1])[:, None]).argmax(axis=1)
    if greedy is not None:
        chosen = np.where(greedy, scores.argmax(axis=1), chosen)
    return choice.column(chosen)
