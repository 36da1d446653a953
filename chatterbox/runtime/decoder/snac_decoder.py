"""The SNAC 24 kHz codec's decoder: tokens → sound, in windows.

A sample depends on 4757 samples on either side. So a window gives out exactly the samples that are
final, and within the decoder each block works on just the steps that those depend on; where a
stream goes on, on none of them twice (`snac_carry.py`). Noise is addressed by seed, block and
position: samples are equal however windows fall.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from chatterbox.families.base import CodecSpec, DecodeJob, Rendered, Voice
from chatterbox.runtime.decoder.graph_io import Feeds, Session, as_declared
from chatterbox.runtime.decoder.snac import (
    AUDIO,
    BLOCKS,
    EDGE_REACH,
    SNAC,
    UNITS_REACH,
    Draw,
    addressed_noise,
    code_feeds,
    crop_name,
    noise_name,
)
from chatterbox.runtime.decoder.snac_carry import CarryingGraph, SnacStream, stream_of


@lru_cache(maxsize=256)
def needed_steps(frames: int, first: int, end: int) -> tuple[range, ...]:
    """Of `frames` that are fed: the steps of each block's input on which the samples from `first`
    to `end` depend."""
    low, high = first - EDGE_REACH, end + EDGE_REACH
    needed = []
    for stride, rate in reversed(BLOCKS):
        low, high = max(low - UNITS_REACH, 0), min(high + UNITS_REACH, frames * rate)
        # Its kernel is two strides wide, half a stride of the output is cut off at both ends.
        low = max((low - stride // 2) // stride, 0)
        high = min((high - 1 + stride // 2) // stride + 1, frames * rate // stride)
        needed.append(range(low, high))
    return tuple(reversed(needed))


class _Shape(NamedTuple):
    """What rows of one call have in common: frames fed, and which samples of theirs are wanted."""

    frames: int
    first: int
    end: int


def _shape(job: DecodeJob) -> _Shape:
    at = job.window.begin * SNAC.samples_per_frame
    return _Shape(job.window.fed_frames, job.next_sample - at, job.window.end_sample - at)


class SnacDecoder:
    """A `StreamingDecoder` of one graph."""

    def __init__(
        self,
        session: Session,
        *,
        max_rows: int = 1,
        sizes: tuple[int, ...] = (),
        draw: Draw = addressed_noise,
        carrying: CarryingGraph | None = None,
    ) -> None:
        """`max_rows`: most windows in one call. `sizes`: fresh frames that windows come in. A
        session without the inputs of `compile/snac.py` draws its own noise. `carrying`: for windows
        that go on where one ended, one row a call."""
        self._session, self._carrying = session, carrying
        self._compiled = any(i.name == noise_name(0) for i in session.get_inputs())
        self._max_rows, self._sizes, self._draw = max_rows, sizes, draw

    @property
    def codec(self) -> CodecSpec:
        """Windows whose noise differs where they meet are blended."""
        return SNAC if self._compiled else replace(SNAC, cross_fade_ms=15)

    @property
    def window_frames(self) -> tuple[int, ...]:
        """Sizes that windows should come in."""
        return self._sizes

    @property
    def max_rows(self) -> int:
        """Most jobs that gain from sharing a call."""
        return self._max_rows

    def open(self, voice: Voice, seed: int) -> SnacStream:
        """A new stream."""
        return SnacStream(voice, seed)

    def warm(self, voice: Voice) -> None:
        """A voice has nothing to keep."""

    def bucket(self, job: DecodeJob) -> Hashable:
        """Rows of one call are cut alike."""
        return _shape(job)

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Nothing yet: one graph has no parts."""
        return partial(self.run, jobs)

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Decode jobs of one bucket together; in order."""
        if self._carrying is not None and all(self._carrying.goes_on(job) for job in jobs):
            return self._carrying.run(jobs)
        shape = _shape(jobs[0])
        if shape.end <= shape.first:
            return [Rendered(np.zeros(0, np.float32), job.next_sample) for job in jobs]
        feeds = code_feeds(np.stack([job.tokens for job in jobs]))
        origin = 0  # of the samples that come out
        if self._compiled:
            needed = needed_steps(shape.frames, shape.first, shape.end)
            feeds |= _crop_feeds(needed)
            feeds |= self._noise_feeds(jobs, needed)
            origin = needed[-1].start * BLOCKS[-1][0]
        (waves,) = self._session.run([AUDIO], as_declared(self._session, feeds))
        wanted = np.asarray(waves[:, 0, shape.first - origin : shape.end - origin], np.float32)
        return [Rendered(wave, job.next_sample) for wave, job in zip(wanted, jobs, strict=True)]

    def _noise_feeds(self, jobs: Sequence[DecodeJob], needed: Sequence[range]) -> Feeds:
        made = {}
        for block, ((stride, rate), steps) in enumerate(zip(BLOCKS, needed, strict=True)):
            rows = []
            for job in jobs:
                start = job.window.begin * rate + steps.start * stride
                rows.append(self._draw(stream_of(job).seed, block, start, len(steps) * stride))
            made[noise_name(block)] = np.stack(rows)[:, None]
        return made


def _crop_feeds(needed: Sequence[range]) -> Feeds:
    """Bounds within what each block's input still has once the block before was cut."""
    made: Feeds = {}
    origin = 0
    for block, ((stride, _), steps) in enumerate(zip(BLOCKS, needed, strict=True)):
        for side, step in (("start", steps.start), ("end", steps.stop)):
            made[crop_name(block, side)] = np.array([step - origin], np.int64)
        origin = steps.start * stride
    return made
