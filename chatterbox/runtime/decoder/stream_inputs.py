"""The numbers that a graph gets for the draws and sums that became its inputs.

Random numbers are addressed, not drawn: the same seed, stream and position always give the same
number, in whatever pieces and order they are asked for. On a GPU a graph holds a table of them and
is told row numbers: drawing 9 numbers for each sample on the host takes longer than the window does
there, and copying them as well.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.runtime.decoder.graph_io import (
    Array,
    Feeds,
    LinearDim,
    PhaseSum,
    ProbeLength,
    RandomOp,
    time_axis,
)
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE

ORIGIN = 1 << 40
"""Positions may be negative (the prompt's frames); this many are."""
WORDS_PER_COUNT = 4  # Philox 4×64 gives four 64-bit words at every count
BLOCK_POSITIONS = 64
"""Positions computed together, counted from the origin, so that no rounding of a vectorised
function can depend on where a piece begins."""


class Noise:
    """One source of numbers of a stream: `stream` tells several sources of one seed apart."""

    def __init__(self, seed: int, stream: int) -> None:
        self._key = np.array([seed & (2**64 - 1), stream], np.uint64)

    def normal(self, start: int, count: int, width: int) -> F32:
        """Standard normal [count, width] for the positions `start` … `start + count - 1`."""
        words = self._words(start, count, (width + 1) // 2)
        high = (words >> np.uint64(32)).astype(np.float32)
        low = (words & np.uint64(2**32 - 1)).astype(np.float32)
        # Box-Muller: two uniforms make two normals; +0.5 keeps the logarithm finite.
        radius = np.sqrt(-2.0 * np.log((high + np.float32(0.5)) * np.float32(2.0**-32)))
        angle = low * np.float32(2.0 * np.pi * 2.0**-32)
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
        flat: F32 = pairs.reshape(len(words), 2 * words.shape[1])[:, :width].astype(np.float32)
        return self._trimmed(flat, start, count)

    def uniform(self, start: int, count: int, width: int, low: float, high: float) -> F32:
        """Uniform in [low, high): [count, width] for the same positions."""
        words = self._words(start, count, width) >> np.uint64(40)
        unit = words.astype(np.float32) * np.float32(2.0**-24)
        return self._trimmed((low + (high - low) * unit).astype(np.float32), start, count)

    def drawn(self, draw: RandomOp, start: int, count: int, width: int) -> F32:
        """As a graph draws them: [count, width] for the same positions."""
        if draw.kind == "uniform":
            return self.uniform(start, count, width, draw.first, draw.second)
        numbers = draw.first + draw.second * self.normal(start, count, width)
        return np.asarray(numbers, np.float32)

    def choices(self, start: int, count: int, width: int, among: int) -> I64:
        """Whole numbers below `among`: [count, width] for the same positions."""
        words = self._words(start, count, width) % np.uint64(among)
        skip = (start + ORIGIN) % BLOCK_POSITIONS
        return words[skip : skip + count].astype(np.int64)

    def _words(
        self, start: int, count: int, words: int
    ) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        """[positions of whole blocks, words]: what Philox has at these positions."""
        assert start >= -ORIGIN
        first = (start + ORIGIN) // BLOCK_POSITIONS * BLOCK_POSITIONS
        last = -(-(start + ORIGIN + count) // BLOCK_POSITIONS) * BLOCK_POSITIONS
        counts = -(-words // WORDS_PER_COUNT)
        philox = np.random.Philox(key=self._key, counter=first * counts)
        raw = philox.random_raw((last - first) * counts * WORDS_PER_COUNT)
        return np.asarray(raw, np.uint64).reshape(last - first, counts * WORDS_PER_COUNT)[:, :words]

    @staticmethod
    def _trimmed(blocks: F32, start: int, count: int) -> F32:
        skip = (start + ORIGIN) % BLOCK_POSITIONS
        return np.ascontiguousarray(blocks[skip : skip + count])


TABLE_NUMBERS = 1 << 21
"""8 MB: 26,214 rows of 80 bands, or 4,369 of the 480 samples of a mel frame."""
TABLE_SEED = 0


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How one random tensor is put together. A row of the table is one step of all the tensor's
    numbers, or, where a mel frame has many steps, one number's steps of a frame."""

    steps: int  # in a row
    width: int  # numbers of a step

    @classmethod
    def of(cls, law: Sequence[LinearDim]) -> "RowLayout | None":
        """For [rows, time, width] or [rows, width, time]; None for others, which are fed."""
        growing = [i for i, dim in enumerate(law) if dim.per_code or dim.per_prompt]
        if len(law) != 3 or len(growing) != 1 or growing[0] == 0:
            return None
        rate, width = law[growing[0]], law[3 - growing[0]].fixed
        steps = rate.per_code // MEL_FRAMES_PER_CODE
        whole = rate.per_code == steps * MEL_FRAMES_PER_CODE and steps > 0 and rate.fixed == 0
        return cls(steps, width) if whole and rate.per_prompt in (0, rate.per_code) else None

    @property
    def row_numbers(self) -> int:
        """Numbers in a row of the table."""
        return self.width if self.steps == 1 else self.steps

    @property
    def table_rows(self) -> int:
        """Rows of the table."""
        return TABLE_NUMBERS // self.row_numbers

    def table(self, op: RandomOp) -> F32:
        """[table_rows, row_numbers]: the same everywhere."""
        return Noise(TABLE_SEED, 0).drawn(op, 0, self.table_rows, self.row_numbers)

    def rows(self, noise: Noise, first: int, frames: int, prompt: int) -> I64:
        """Of one row of the call: [1, frames], or [1, width, frames] where a row of the table is
        one number's. `first`: the mel frame of the stream behind the prompt's frames."""
        width = 1 if self.steps == 1 else self.width
        places = (-prompt, prompt), (first, frames - prompt)
        rows = np.concatenate([noise.choices(*place, width, self.table_rows) for place in places])
        return rows[None, :, 0] if self.steps == 1 else np.ascontiguousarray(rows.T[None])


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a stream a call begins: its first code may be half one (a mel frame)."""

    length: ProbeLength
    begin: float  # codes from the stream's first


class NoiseInputs:
    """The draws of one graph, in their order: each is a noise source of its own."""

    def __init__(
        self,
        laws: Mapping[RandomOp, list[LinearDim]],
        first_stream: int,
        from_table: Collection[RandomOp] = (),
    ) -> None:
        """`from_table`: draws that the graph makes itself, from rows that it is told."""
        self._laws, self._first_stream = laws, first_stream
        self._layouts = {draw: RowLayout.of(laws[draw]) for draw in from_table}

    def feeds(self, seeds: Sequence[int], places: Sequence[Place]) -> Feeds:
        """For rows that need the same size: [rows, …] for each draw."""
        made: Feeds = {}
        for stream, (draw, law) in enumerate(self._laws.items(), self._first_stream):
            layout = self._layouts.get(draw)
            each = [(Noise(seed, stream), at) for seed, at in zip(seeds, places, strict=True)]
            if layout is None:
                made[draw.name] = np.concatenate([_drawn(draw, law, *one) for one in each])
            else:
                made[draw.rows] = np.concatenate([_rows(layout, law, *one) for one in each])
        return made


def _rows(layout: RowLayout, law: list[LinearDim], noise: Noise, place: Place) -> Array:
    """Rows of the table for one row of one draw."""
    axis = time_axis(law)
    assert axis is not None
    prompt = place.length.prompt * law[axis].per_prompt // layout.steps
    frames = law[axis].at(place.length) // layout.steps
    return layout.rows(noise, round(place.begin * MEL_FRAMES_PER_CODE), frames, prompt)


def _drawn(draw: RandomOp, law: list[LinearDim], noise: Noise, place: Place) -> Array:
    """One row of one draw, in the graph's own order of axes."""
    axis = time_axis(law)
    sizes = [extent.at(place.length) for extent in law]
    if axis is None:
        return noise.drawn(draw, 0, 1, math.prod(sizes)).reshape(sizes)
    steps = sizes.pop(axis)
    prompt = place.length.prompt * law[axis].per_prompt
    # The prompt's noise stands before the stream's own, at negative places.
    places = (-prompt, prompt), (round(place.begin * law[axis].per_code), steps - prompt)
    pieces = [noise.drawn(draw, *place, math.prod(sizes)) for place in places]
    return np.moveaxis(np.concatenate(pieces).reshape(steps, *sizes), 0, axis)


class PhaseInputs:
    """The running sums of one graph."""

    def __init__(self, laws: Mapping[PhaseSum, list[LinearDim]]) -> None:
        self._laws = laws
        self.outputs = [running.told for running in laws]  # what a run must be asked for

    def feeds(
        self, carries: Sequence[Feeds | None], length: ProbeLength, anchor: int, mark: int
    ) -> Feeds:
        """For rows that begin alike. `anchor` and `mark` are samples from the call's first;
        `carries` is what `told` gave for the window before, None for a stream's first."""
        made: Feeds = {}
        use = float(carries[0] is not None)
        for running, law in self._laws.items():
            axis = time_axis(law)
            assert axis is not None
            steps = law[axis].at(length)
            one = [1 if i == axis else extent.at(length) for i, extent in enumerate(law)]
            rows = [c[running.carry] if c is not None else np.zeros(one) for c in carries]
            made[running.carry] = np.concatenate(rows)
            made[running.use] = np.array([use])
            for name, sample in ((running.anchor, anchor), (running.mark, mark)):
                step = sample * law[axis].per_code // SAMPLES_PER_CODE
                made[name] = np.array([min(max(step, 0), steps - 1)], np.int64)
        return made

    def told(self, values: Sequence[Array], row: int) -> Feeds:
        """What the row's next window carries on with."""
        named = zip(self._laws, values, strict=True)
        return {running.carry: value[row : row + 1] for running, value in named}
