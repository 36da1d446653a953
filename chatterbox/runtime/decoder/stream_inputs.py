"""Inputs of the compiled graphs that replace their random tensors and their sums over time.

Random numbers are addressed rather than drawn: equal seed, source and position always give the same
number, in whatever pieces and order they are requested. On a GPU the graph has a table of random
numbers, and its inputs are row numbers: drawing 9 numbers per sample on the host and copying them
would take longer than decoding the window.
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
    Session,
    time_axis,
)
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE

ORIGIN = 1 << 40
"""Offset that is added to a position, which is negative for the prompt's frames."""
WORDS_PER_COUNT = 4  # Philox 4×64 gives four 64-bit words at every count
BLOCK_POSITIONS = 64
"""Positions computed together, in blocks aligned to the origin, so that the rounding of a
vectorised function does not depend on where a request begins."""


class Noise:
    """One source of a stream's random numbers. `source` distinguishes the sources of one seed."""

    def __init__(self, seed: int, source: int) -> None:
        self._key = np.array([seed & (2**64 - 1), source], np.uint64)

    def normal(self, start: int, count: int, width: int) -> F32:
        """Return standard normal [count, width] for positions `start` … `start + count - 1`."""
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
        """Return uniform [count, width] in [low, high) for the same positions."""
        words = self._words(start, count, width) >> np.uint64(40)
        unit = words.astype(np.float32) * np.float32(2.0**-24)
        return self._trimmed((low + (high - low) * unit).astype(np.float32), start, count)

    def drawn(self, op: RandomOp, start: int, count: int, width: int) -> F32:
        """Return [count, width] of the operator's distribution for the same positions."""
        if op.kind == "uniform":
            return self.uniform(start, count, width, op.first, op.second)
        return np.asarray(op.first + op.second * self.normal(start, count, width), np.float32)

    def choices(self, start: int, count: int, width: int, limit: int) -> I64:
        """Return integers [count, width] in [0, limit) for the same positions."""
        words = self._words(start, count, width) % np.uint64(limit)
        skip = (start + ORIGIN) % BLOCK_POSITIONS
        return words[skip : skip + count].astype(np.int64)

    def _words(
        self, start: int, count: int, words: int
    ) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        """Return Philox's output [positions, words] for the blocks that contain the positions."""
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
"""Numbers in a table, 8 MB: 26,214 rows of 80 bands, or 4,369 of the 480 samples of a mel frame."""
TABLE_SEED = 0


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How a random tensor is composed of a table's rows.

    A table's row holds the numbers of one step. If a mel frame has several steps, a table's row
    holds one channel's steps in one frame.
    """

    steps: int  # in a table's row
    width: int  # channels of the tensor: numbers in a step

    @classmethod
    def of(cls, dims: Sequence[LinearDim]) -> "RowLayout | None":
        """Return the layout of a tensor [rows, time, width] or [rows, width, time]; None for other
        tensors, which are inputs of the graph."""
        growing = [i for i, dim in enumerate(dims) if dim.per_code or dim.per_prompt]
        if len(dims) != 3 or len(growing) != 1 or growing[0] == 0:
            return None
        rate, width = dims[growing[0]], dims[3 - growing[0]].fixed
        steps = rate.per_code // MEL_FRAMES_PER_CODE
        whole = rate.per_code == steps * MEL_FRAMES_PER_CODE and steps > 0 and rate.fixed == 0
        return cls(steps, width) if whole and rate.per_prompt in (0, rate.per_code) else None

    @property
    def row_numbers(self) -> int:
        return self.width if self.steps == 1 else self.steps

    @property
    def table_rows(self) -> int:
        return TABLE_NUMBERS // self.row_numbers

    def table(self, op: RandomOp) -> F32:
        """Return the table [table_rows, row_numbers], which is the same in every process."""
        return Noise(TABLE_SEED, 0).drawn(op, 0, self.table_rows, self.row_numbers)

    def rows(self, noise: Noise, first: int, frames: int, prompt: int) -> I64:
        """Return the row numbers of one row of a call: [1, frames], or [1, width, frames] if a
        table's row holds one channel's steps.

        `prompt` of the frames belong to the prompt; `first` is the stream's frame after them.
        """
        width = 1 if self.steps == 1 else self.width
        places = (-prompt, prompt), (first, frames - prompt)
        rows = np.concatenate([noise.choices(*place, width, self.table_rows) for place in places])
        return rows[None, :, 0] if self.steps == 1 else np.ascontiguousarray(rows.T[None])


@dataclass(frozen=True, slots=True)
class Place:
    """Length of a call, and its position in the stream."""

    length: ProbeLength
    begin: float  # codes before the call; x.5 if it begins with a code's second mel frame


class NoiseInputs:
    """Makes the inputs that replace the random tensors of one graph; each tensor has a source."""

    def __init__(
        self,
        draws: Mapping[RandomOp, list[LinearDim]],
        first_source: int = 0,
        from_table: Collection[RandomOp] = (),
    ) -> None:
        """`from_table`: tensors that the graph makes from a table of its own."""
        self._draws, self._first_source = draws, first_source
        self._layouts = {op: RowLayout.of(draws[op]) for op in from_table}

    @classmethod
    def of(
        cls,
        session: Session,
        randoms: Mapping[RandomOp, list[LinearDim]],
        first_source: int = 0,
    ) -> "NoiseInputs":
        """Select those of `randoms` that are inputs of the session's graph."""
        inputs = {i.name for i in session.get_inputs()}
        draws = {op: dims for op, dims in randoms.items() if {op.name, op.rows} & inputs}
        return cls(draws, first_source, [op for op in draws if op.rows in inputs])

    def __len__(self) -> int:
        return len(self._draws)

    def feeds(self, seeds: Sequence[int], places: Sequence[Place]) -> Feeds:
        """Return the inputs [rows, …] for rows of equal length."""
        feeds: Feeds = {}
        for source, (op, dims) in enumerate(self._draws.items(), self._first_source):
            layout = self._layouts.get(op)
            each = [(Noise(seed, source), place) for seed, place in zip(seeds, places, strict=True)]
            if layout is None:
                feeds[op.name] = np.concatenate([_numbers(op, dims, *row) for row in each])
            else:
                feeds[op.rows] = np.concatenate([_table_rows(layout, dims, *row) for row in each])
        return feeds


def _table_rows(layout: RowLayout, dims: list[LinearDim], noise: Noise, place: Place) -> Array:
    """Return the table's rows for one row of a tensor."""
    axis = time_axis(dims)
    assert axis is not None
    prompt = place.length.prompt * dims[axis].per_prompt // layout.steps
    frames = dims[axis].at(place.length) // layout.steps
    return layout.rows(noise, round(place.begin * MEL_FRAMES_PER_CODE), frames, prompt)


def _numbers(op: RandomOp, dims: list[LinearDim], noise: Noise, place: Place) -> Array:
    """Return one row of a tensor, in the graph's order of axes."""
    axis = time_axis(dims)
    sizes = [dim.at(place.length) for dim in dims]
    if axis is None:
        return noise.drawn(op, 0, 1, math.prod(sizes)).reshape(sizes)
    steps = sizes.pop(axis)
    prompt = place.length.prompt * dims[axis].per_prompt
    # The prompt's noise is at negative positions, before the stream's own.
    spans = (-prompt, prompt), (round(place.begin * dims[axis].per_code), steps - prompt)
    pieces = [noise.drawn(op, *span, math.prod(sizes)) for span in spans]
    return np.moveaxis(np.concatenate(pieces).reshape(steps, *sizes), 0, axis)


class PhaseInputs:
    """Makes the inputs that let one graph's running sums continue from window to window."""

    def __init__(self, sums: Mapping[PhaseSum, list[LinearDim]]) -> None:
        self._sums = sums
        self.outputs = [phase.carry_out for phase in sums]  # outputs that a run must return

    def feeds(
        self, carries: Sequence[Feeds | None], length: ProbeLength, anchor: int, mark: int
    ) -> Feeds:
        """Return the inputs for rows that all begin a stream, or all continue one.

        `carries`: the result of `carry` for each row's previous window, None for a first window.
        `anchor`, `mark`: samples from the beginning of the call (see `PhaseSum`).
        """
        feeds: Feeds = {}
        use = float(carries[0] is not None)
        for phase, dims in self._sums.items():
            axis = time_axis(dims)
            assert axis is not None
            steps = dims[axis].at(length)
            one_step = [1 if i == axis else dim.at(length) for i, dim in enumerate(dims)]
            rows = [np.zeros(one_step) if c is None else c[phase.carry] for c in carries]
            feeds[phase.carry] = np.concatenate(rows)
            feeds[phase.use] = np.array([use])
            for name, sample in ((phase.anchor, anchor), (phase.mark, mark)):
                step = sample * dims[axis].per_code // SAMPLES_PER_CODE
                feeds[name] = np.array([min(max(step, 0), steps - 1)], np.int64)
        return feeds

    def carry(self, values: Sequence[Array], row: int) -> Feeds:
        """Return the state for a row's next window, from the values of `outputs`."""
        named = zip(self._sums, values, strict=True)
        return {phase.carry: value[row : row + 1] for phase, value in named}
