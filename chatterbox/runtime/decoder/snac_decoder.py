"""The SNAC 24 kHz codec's decoder: tokens → sound, in windows.

A sample depends on 4757 samples on either side. So a window gives out exactly the samples that are
final, and within the decoder each block works on just the steps that those depend on. On a CPU,
where rows gain nothing from sharing a call, a stream goes on where its last window ended, and no
step of any layer is computed twice: what is carried is half a megabyte a stream. Noise is addressed
by seed, block and position: samples are equal however windows fall.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from typing import NamedTuple

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.base import DecodeJob, Rendered, StreamingDecoder, Voice, Window
from chatterbox.runtime.cuda_graphs import bucket_sizes
from chatterbox.runtime.decoder.flow import Stream, filled, stream_of
from chatterbox.runtime.decoder.graph_io import DECLARED, Array, Feeds, Session, as_declared
from chatterbox.runtime.decoder.snac import (
    AUDIO,
    BLOCKS,
    EDGE_REACH,
    LATENTS,
    PLACES,
    SNAC,
    UNITS_REACH,
    Draw,
    addressed_noise,
    code_feeds,
    crop_name,
    noise_name,
)


def given_name(place: int) -> str:
    """Input, [1, channels, steps]: what a layer keeps of the call before."""
    return f"carry.{place}.given"


def told_name(place: int) -> str:
    """Output: the same for the next call."""
    return f"carry.{place}.told"


def start_name(block: int) -> str:
    """Input, i64 [1]: where the new steps begin in what a transposed convolution makes."""
    return f"carry.start.{block}"


@dataclass(frozen=True, slots=True, eq=False)
class Carry:
    """What a stream's next window goes on from."""

    frames: int  # fed so far
    layers: Sequence[Array]
    sound: F32  # that is asked for again
    at: int  # its first sample


class CarryingGraph:
    """All windows of a stream but the last, which hears the end."""

    def __init__(self, session: Session, at_start: Sequence[int], draw: Draw) -> None:
        """`at_start`: the steps of zeros that each layer begins with."""
        self._session, self._draw = session, draw
        inputs = {i.name: i for i in session.get_inputs()}
        self._given = [given_name(place) for place in range(len(at_start))]
        self._outputs = [AUDIO, *(told_name(place) for place in range(len(at_start)))]
        zeros = [
            np.zeros((1, inputs[name].shape[1], steps), DECLARED[inputs[name].type])
            for name, steps in zip(self._given, at_start, strict=True)
        ]
        self._begin = Carry(0, zeros, np.zeros(0, np.float32), 0)

    def goes_on(self, job: DecodeJob) -> bool:
        """Whether the job's window follows on what was kept."""
        carry, window = stream_of(job).carry or self._begin, job.window
        fed = 0 if window.fresh == 0 else window.fresh + SNAC.look_ahead_frames
        return not window.last and bool(carry.frames == fed)

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Decode jobs that go on, one after the other. Raising, it has moved no stream on."""
        made = [self._run(job) for job in jobs]
        for job, (_, carry) in zip(jobs, made, strict=True):
            stream_of(job).carry = carry
        return [rendered for rendered, _ in made]

    def _run(self, job: DecodeJob) -> tuple[Rendered, Carry]:
        stream, window = stream_of(job), job.window
        carry: Carry = stream.carry or self._begin
        feeds = code_feeds(job.tokens[None, (carry.frames - window.begin) * PLACES :])
        feeds |= zip(self._given, carry.layers, strict=True)
        steps = zip(_steps_made(carry.frames), _steps_made(window.stop), strict=True)
        for block, (begin, end) in enumerate(steps):
            noise = self._draw(stream.seed, block, begin, end - begin)
            feeds[noise_name(block)] = noise[None, None]
            before = 0 if carry.frames else BLOCKS[block][0] // 2  # the stream's first sample
            feeds[start_name(block)] = np.array([before], np.int64)
        wave, *layers = self._session.run(self._outputs, as_declared(self._session, feeds))
        sound = np.concatenate([carry.sound, np.asarray(wave[0, 0], np.float32)])
        again = sound[job.next_from - carry.at :]
        rendered = Rendered(sound[job.next_sample - carry.at :], job.next_sample)
        return rendered, Carry(window.stop, layers, again, job.next_from)


def _steps_made(frames: int) -> list[int]:
    """How many steps each block's transposed convolution has made of so many frames: three or more,
    or none yet."""
    if not frames:
        return [0] * len(BLOCKS)
    made, known = [], LATENTS * frames - EDGE_REACH
    for stride, _ in BLOCKS:
        made.append(known * stride - stride // 2)
        known = made[-1] - UNITS_REACH
    return made


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
    """What rows of one call have in common: frames fed, and which of their samples are computed."""

    frames: int
    first: int
    end: int


class _Place(NamedTuple):
    """How a job lies in its call."""

    shape: _Shape
    origin: int  # frame of the stream that the call begins with

    @property
    def origin_sample(self) -> int:
        """The first sample that the call could compute, counted from the segment's first."""
        return self.origin * SNAC.samples_per_frame


INDEPENDENT = SNAC.left_context_frames * SNAC.samples_per_frame - SNAC.delay_samples
"""From this sample on, where a stream begins is beyond the reach of all."""


def _place(job: DecodeJob, sizes: Sequence[int]) -> _Place:
    """With `sizes`, of windows: in one of few shapes. What is beyond the reach of the samples that
    are wanted may be anything: frames in front of those that do not begin the stream, and behind a
    window that does not end it."""
    window, context, ahead = job.window, SNAC.left_context_frames, SNAC.look_ahead_frames
    a_frame, fed = SNAC.samples_per_frame, window.fed_frames
    later = job.next_sample >= INDEPENDENT
    usually = [size + ahead + context * later for size in sizes]
    usually += [size + ahead + context for size in sizes[-1:]]
    frames = next((usual for usual in usually if usual >= fed), fed)
    if later:
        origin = window.begin - (frames - fed)
        usual = _Shape(frames, INDEPENDENT, frames * a_frame)
    else:
        origin = 0
        usual = _Shape(frames, 0, (frames - ahead) * a_frame - SNAC.delay_samples)
    first, end = (sample - origin * a_frame for sample in (job.next_sample, window.end_sample))
    if sizes and usual.first <= first <= end <= usual.end:
        return _Place(usual, origin)
    at = window.begin * a_frame
    return _Place(_Shape(fed, job.next_sample - at, window.end_sample - at), window.begin)


def _two_parts(job: DecodeJob, sizes: Sequence[int]) -> list[DecodeJob]:
    """A stream that fits into one window, as two windows that come in few shapes; as it is where it
    is too short."""
    window, context, ahead = job.window, SNAC.left_context_frames, SNAC.look_ahead_frames
    fitting = [size for size in sizes if context <= size <= window.stop - ahead]
    if not fitting or not window.last or job.next_sample >= INDEPENDENT:
        return [job]
    size, begin = fitting[-1], fitting[-1] - context
    first = Window(0, 0, size, size + ahead, last=False, codec=window.codec)
    second = replace(window, begin=begin, fresh=size)
    return [
        replace(job, window=first, tokens=job.tokens[: first.stop * PLACES]),
        replace(
            job, window=second, tokens=job.tokens[begin * PLACES :], next_sample=first.end_sample
        ),
    ]


class SnacDecoder(StreamingDecoder):
    """Of one graph."""

    def __init__(
        self,
        session: Session,
        *,
        max_rows: int = 1,
        sizes: tuple[int, ...] = (),
        draw: Draw = addressed_noise,
        carrying: CarryingGraph | None = None,
        replayed: bool = False,
    ) -> None:
        """`max_rows`: most windows in one call. `sizes`: fresh frames that windows come in. A
        session without the inputs of `compile/snac.py` draws its own noise. `carrying`: for windows
        that go on where one ended, one row a call. `replayed`: calls come in few numbers of
        rows."""
        self._session, self._carrying = session, carrying
        self._compiled = any(i.name == noise_name(0) for i in session.get_inputs())
        # Windows whose noise differs where they meet are blended.
        self.codec = SNAC if self._compiled else replace(SNAC, cross_fade_ms=15)
        self.max_rows, self.window_frames, self._draw = max_rows, sizes, draw
        self._sizes = sizes if self._compiled else ()
        self._row_counts = bucket_sizes(max_rows) if replayed else ()

    def open(self, voice: Voice, seed: int) -> Stream:
        return Stream(voice, seed)

    def warm(self, voice: Voice) -> None:
        """A voice has nothing to keep."""

    def bucket(self, job: DecodeJob) -> Hashable:
        """Rows of one call are cut alike."""
        return _place(job, self._sizes).shape

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Nothing yet: one graph has no parts."""
        return partial(self._decoded, jobs)

    def _decoded(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        if self._carrying is not None and all(self._carrying.goes_on(job) for job in jobs):
            return self._carrying.run(jobs)
        parts = [_two_parts(job, self._sizes) for job in jobs]
        if len(parts[0]) > 1:
            both_parts = [self._decoded(some) for some in zip(*parts, strict=True)]
            return [
                Rendered(np.concatenate([a.samples, b.samples]), a.at)
                for a, b in zip(*both_parts, strict=True)
            ]
        places = [_place(job, self._sizes) for job in jobs]
        shape = places[0].shape
        if shape.end <= shape.first:
            return [Rendered(np.zeros(0, np.float32), job.next_sample) for job in jobs]
        both = list(zip(jobs, places, strict=True))
        feeds = code_feeds(np.stack([_tokens(job, place) for job, place in both]))
        origin = 0  # of the samples that come out
        if self._compiled:
            needed = needed_steps(shape.frames, shape.first, shape.end)
            feeds |= self._noise_feeds(both, needed)
            origin = needed[-1].start * BLOCKS[-1][0]
        feeds = filled(feeds, next((n for n in self._row_counts if n >= len(jobs)), len(jobs)))
        if self._compiled:
            feeds |= _crop_feeds(needed)
        (waves,) = self._session.run([AUDIO], as_declared(self._session, feeds))
        rendered = []
        for (job, place), wave in zip(both, waves[:, 0], strict=False):
            at = place.origin_sample + origin
            wanted = wave[job.next_sample - at : job.window.end_sample - at]
            rendered.append(Rendered(np.asarray(wanted, np.float32), job.next_sample))
        return rendered

    def rehearse(self, voice: Voice) -> None:
        """Every shape that windows come in, in every number of rows; for a session that records."""
        context, ahead = SNAC.left_context_frames, SNAC.look_ahead_frames
        sizes = self.window_frames
        begun = [*product(sizes, (0, context)), (sizes[-1], context - 1)]
        for rows, (size, fresh) in product(self._row_counts, begun):
            end, begin = fresh + size, max(0, fresh - context)
            window = Window(begin, fresh, end, end + ahead, last=False, codec=SNAC)
            tokens = np.zeros(window.fed_frames * PLACES, np.int64)
            wanted = max(0, fresh * SNAC.samples_per_frame - SNAC.delay_samples)
            streams = [self.open(voice, seed) for seed in range(rows)]
            self.run([DecodeJob(s, window, tokens, wanted, window.end_sample) for s in streams])

    def _noise_feeds(
        self, both: Sequence[tuple[DecodeJob, _Place]], needed: Sequence[range]
    ) -> Feeds:
        made = {}
        for block, ((stride, rate), steps) in enumerate(zip(BLOCKS, needed, strict=True)):
            first, count = steps.start * stride, len(steps) * stride
            seeded = [(stream_of(job).seed, place.origin * rate) for job, place in both]
            rows = [self._draw(seed, block, origin + first, count) for seed, origin in seeded]
            made[noise_name(block)] = np.stack(rows)[:, None]
        return made


def _tokens(job: DecodeJob, place: _Place) -> I64:
    """Of all frames of the call."""
    before = (job.window.begin - place.origin) * PLACES
    behind = place.shape.frames * PLACES - before - len(job.tokens)
    return np.pad(job.tokens, (before, behind))


def _crop_feeds(needed: Sequence[range]) -> Feeds:
    """Bounds within what each block's input still has once the block before was cut."""
    made: Feeds = {}
    origin = 0
    for block, ((stride, _), steps) in enumerate(zip(BLOCKS, needed, strict=True)):
        for side, step in (("start", steps.start), ("end", steps.stop)):
            made[crop_name(block, side)] = np.array([step - origin], np.int64)
        origin = steps.start * stride
    return made
