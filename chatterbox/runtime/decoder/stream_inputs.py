"""The numbers that a graph gets for the draws and sums that became its inputs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chatterbox.runtime.decoder.graph_io import Array, Feeds, PhaseSum, RandomOp
from chatterbox.runtime.decoder.noise_table import RowLayout
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE
from chatterbox.runtime.decoder.shape_laws import LinearDim, ProbeLength, time_axis
from chatterbox.runtime.noise import Noise


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
        self._laws = [(d, law, first_stream + i) for i, (d, law) in enumerate(laws.items())]
        self._layouts = {draw: RowLayout.of(laws[draw]) for draw in from_table}

    def feeds(self, seeds: Sequence[int], places: Sequence[Place]) -> Feeds:
        """For rows that need the same size: [rows, …] for each draw."""
        made: Feeds = {}
        for draw, law, stream in self._laws:
            layout = self._layouts.get(draw)
            rows = [
                _drawn(draw, law, Noise(seed, stream), place)
                if layout is None
                else _rows(layout, law, Noise(seed, stream), place)
                for seed, place in zip(seeds, places, strict=True)
            ]
            made[draw.name if layout is None else draw.rows] = np.concatenate(rows)
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
        return _numbers(draw, noise, 0, 1, int(np.prod(sizes))).reshape(sizes)
    rate = law[axis]
    others = sizes[:axis] + sizes[axis + 1 :]
    width = int(np.prod(others))
    prompt = place.length.prompt * rate.per_prompt
    # The prompt's noise stands before the stream's own, at negative places.
    pieces = [_numbers(draw, noise, -prompt, prompt, width)] if prompt else []
    start = round(place.begin * rate.per_code)
    pieces.append(_numbers(draw, noise, start, sizes[axis] - prompt, width))
    by_time = np.concatenate(pieces).reshape(sizes[axis], *others)
    return np.moveaxis(by_time, 0, axis)


def _numbers(draw: RandomOp, noise: Noise, start: int, count: int, width: int) -> Array:
    if draw.kind == "normal":
        return draw.first + draw.second * noise.normal(start, count, width)
    return noise.uniform(start, count, width, draw.first, draw.second)


class PhaseInputs:
    """The running sums of one graph."""

    def __init__(self, laws: Mapping[PhaseSum, list[LinearDim]]) -> None:
        self._laws = []
        for running, law in laws.items():
            axis = time_axis(law)
            assert axis is not None
            self._laws.append((running, law, axis))

    @property
    def outputs(self) -> list[str]:
        """What a run must be asked for."""
        return [running.told for running, _, _ in self._laws]

    def feeds(
        self, carries: Sequence[Feeds | None], length: ProbeLength, anchor: int, mark: int
    ) -> Feeds:
        """For rows that begin alike. `anchor` and `mark` are samples from the call's first;
        `carries` is what `told` gave for the window before, None for a stream's first."""
        made: Feeds = {}
        use = float(carries[0] is not None)
        for running, law, axis in self._laws:
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
        return {running.carry: value[row : row + 1] for (running, _, _), value in named}
