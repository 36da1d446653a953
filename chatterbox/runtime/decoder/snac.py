"""The SNAC 24 kHz codec's decoder: tokens → sound, in windows.

A sample depends on 4757 samples on either side. So a window gives out exactly the samples that are
final, and within the decoder each block works on just the steps that those depend on. Noise is
addressed by seed, block and position: samples are equal however windows fall.

A token is `4096 * place + code`, places 0 … 6 of a frame: place 0 belongs to the first codebook, 1
and 4 to the second, 2, 3, 5 and 6 to the third.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.base import CodecSpec, DecodeJob, Rendered, Voice
from chatterbox.runtime.decoder.graph_io import Feeds, Session, as_declared
from chatterbox.runtime.noise import Noise

CODES, PLACES = 4096, 7
CODEBOOK_PLACES = ((0,), (1, 4), (2, 3, 5, 6))
BLOCKS = ((8, 32), (8, 256), (4, 1024), (2, 2048))
"""Of the decoder, each: by how much it raises the rate, and the steps a frame that it gives."""
UNITS_REACH = 39  # of a block's residual units: three steps aside in dilations 1, 3 and 9
LAST_REACH = 3  # of the convolution behind the blocks
AUDIO = "audio_values"

SNAC = CodecSpec(
    sample_rate_hz=24_000,
    tokens_per_frame=PLACES,
    samples_per_frame=2048,
    look_ahead_frames=2,
    left_context_frames=3,
    delay_samples=661,
)
"""4757 samples to the right are two frames and 661 samples. To the left of a window lie 4757 and
those 661, which are within three frames, and what a cross-fade takes too."""

Draw = Callable[[int, int, int, int], F32]
"""Standard normal numbers [count] by seed, block, first position and count."""


def addressed_noise(seed: int, block: int, start: int, count: int) -> F32:
    """The same number at the same place of a seed's stream, in whatever pieces it is asked for."""
    return Noise(seed, block).normal(start, count, 1)[:, 0]


def crop_name(block: int, side: str) -> str:
    """Input, i64 [1]: the first step (`start`) of its input that a block needs, or the `end`."""
    return f"crop.{block}.{side}"


def noise_name(block: int) -> str:
    """Input, [B, 1, steps]: what a block mixes into its steps."""
    return f"noise.{block}"


@lru_cache(maxsize=256)
def needed_steps(frames: int, first: int, end: int) -> tuple[range, ...]:
    """Of `frames` that are fed: the steps of each block's input on which the samples from `first`
    to `end` depend."""
    low, high = first - LAST_REACH, end + LAST_REACH
    needed = []
    for stride, rate in reversed(BLOCKS):
        low, high = max(low - UNITS_REACH, 0), min(high + UNITS_REACH, frames * rate)
        # Its kernel is two strides wide, half a stride of the output is cut off at both ends.
        low = max((low - stride // 2) // stride, 0)
        high = min((high - 1 + stride // 2) // stride + 1, frames * rate // stride)
        needed.append(range(low, high))
    return tuple(reversed(needed))


@dataclass(frozen=True, slots=True)
class SnacStream:
    """A stream: between its windows nothing is kept."""

    voice: Voice
    seed: int


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

    codec = SNAC

    def __init__(
        self,
        session: Session,
        *,
        max_rows: int = 1,
        sizes: tuple[int, ...] = (),
        draw: Draw = addressed_noise,
    ) -> None:
        """`max_rows`: most windows in one call. `sizes`: fresh frames that windows come in. A
        session without the inputs of `compile/snac.py` draws its own noise."""
        self._session = session
        self._compiled = any(i.name == noise_name(0) for i in session.get_inputs())
        self._max_rows, self._sizes, self._draw = max_rows, sizes, draw

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
                assert isinstance(job.stream, SnacStream), "opened by this decoder"
                start = job.window.begin * rate + steps.start * stride
                rows.append(self._draw(job.stream.seed, block, start, len(steps) * stride))
            made[noise_name(block)] = np.stack(rows)[:, None]
        return made


def code_feeds(tokens: I64) -> Feeds:
    """The three codebooks' inputs of rows of tokens."""
    codes = tokens.reshape(len(tokens), -1, PLACES) % CODES
    return {
        f"audio_codes.{i}": np.ascontiguousarray(codes[:, :, places]).reshape(len(tokens), -1)
        for i, places in enumerate(CODEBOOK_PLACES)
    }


def _crop_feeds(needed: Sequence[range]) -> Feeds:
    """Bounds within what each block's input still has once the block before was cut."""
    made: Feeds = {}
    origin = 0
    for block, ((stride, _), steps) in enumerate(zip(BLOCKS, needed, strict=True)):
        for side, step in (("start", steps.start), ("end", steps.stop)):
            made[crop_name(block, side)] = np.array([step - origin], np.int64)
        origin = steps.start * stride
    return made
