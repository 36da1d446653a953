"""The decoder of the SNAC 24 kHz codec: turns windows of tokens into samples.

A sample depends on 4757 samples on either side. A window returns exactly the samples that are
final, and each block of the decoder computes only the steps that these depend on. On a CPU, where
rows gain nothing from sharing a call, a stream continues from the layers' state after its previous
window (half a megabyte), and no step of any layer is computed twice. Noise is addressed by seed,
block and position, so that samples do not depend on how windows are cut.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from typing import NamedTuple

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.base import DecodeJob, Rendered, Voice, Window
from chatterbox.runtime.cuda_graphs import bucket_sizes, round_up
from chatterbox.runtime.decoder import snac
from chatterbox.runtime.decoder.graph_io import (
    DECLARED,
    Array,
    Feeds,
    Session,
    cast_feeds,
    pad_rows,
)
from chatterbox.runtime.decoder.snac import SNAC, Draw
from chatterbox.runtime.decoder.stream import StreamDecoder, stream_of


def carry_in_name(layer: int) -> str:
    """Return the input, [1, channels, steps], with a layer's state after the previous call."""
    return f"carry.{layer}.given"


def carry_out_name(layer: int) -> str:
    """Return the output with a layer's state for the next call."""
    return f"carry.{layer}.told"


def start_name(block: int) -> str:
    """Return the input, i64 [1], with the first new step in a transposed convolution's output."""
    return f"carry.start.{block}"


@dataclass(frozen=True, slots=True, eq=False)
class Carry:
    """State of a stream between two windows."""

    frames: int  # decoded so far
    layers: Sequence[Array]
    sound: F32  # samples that the next window must return again
    first_sample: int  # of `sound`


class CarryingGraph:
    """Decodes windows that continue from their stream's previous window, except a stream's end."""

    def __init__(self, session: Session, steps_at_start: Sequence[int], draw: Draw) -> None:
        """`steps_at_start`: the number of zeros that each layer's state begins with."""
        self._session, self._draw = session, draw
        inputs = {i.name: i for i in session.get_inputs()}
        layers = range(len(steps_at_start))
        self._inputs = [carry_in_name(layer) for layer in layers]
        self._outputs = [snac.AUDIO, *(carry_out_name(layer) for layer in layers)]
        zeros = [
            np.zeros((1, inputs[name].shape[1], steps), DECLARED[inputs[name].type])
            for name, steps in zip(self._inputs, steps_at_start, strict=True)
        ]
        self._start = Carry(0, zeros, np.zeros(0, np.float32), 0)

    def continues(self, job: DecodeJob) -> bool:
        """Return whether the job's window begins where its stream's state ends."""
        carry, window = stream_of(job).carry or self._start, job.window
        frames = 0 if window.fresh == 0 else window.fresh + SNAC.look_ahead_frames
        return not window.last and bool(carry.frames == frames)

    def run(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        """Decode jobs one after the other. If it raises, no stream has changed."""
        results = [self._run(job) for job in jobs]
        for job, (_, carry) in zip(jobs, results, strict=True):
            stream_of(job).carry = carry
        return [rendered for rendered, _ in results]

    def _run(self, job: DecodeJob) -> tuple[Rendered, Carry]:
        stream, window = stream_of(job), job.window
        carry: Carry = stream.carry or self._start
        feeds = snac.code_feeds(job.tokens[None, (carry.frames - window.begin) * snac.PLACES :])
        feeds |= zip(self._inputs, carry.layers, strict=True)
        steps = zip(_block_steps(carry.frames), _block_steps(window.stop), strict=True)
        for block, (begin, end) in enumerate(steps):
            noise = self._draw(stream.seed, block, begin, end - begin)
            feeds[snac.noise_name(block)] = noise[None, None]
            start = 0 if carry.frames else snac.BLOCKS[block][0] // 2  # the stream's first sample
            feeds[start_name(block)] = np.array([start], np.int64)
        wave, *layers = self._session.run(self._outputs, cast_feeds(self._session, feeds))
        sound = np.concatenate([carry.sound, np.asarray(wave[0, 0], np.float32)])
        rendered = Rendered(sound[job.next_sample - carry.first_sample :], job.next_sample)
        again = sound[job.resume_sample - carry.first_sample :]
        return rendered, Carry(window.stop, layers, again, job.resume_sample)


def _block_steps(frames: int) -> list[int]:
    """Return the number of steps that each block's transposed convolution outputs. `frames` is 0
    or at least 3."""
    if not frames:
        return [0] * len(snac.BLOCKS)
    steps, inputs = [], snac.LATENTS * frames - snac.EDGE_REACH
    for stride, _ in snac.BLOCKS:
        steps.append(inputs * stride - stride // 2)
        inputs = steps[-1] - snac.UNITS_REACH
    return steps


@lru_cache(maxsize=256)
def needed_steps(frames: int, first: int, end: int) -> tuple[range, ...]:
    """Return the steps of each block's input that samples `first` … `end - 1` depend on, in a call
    of `frames` frames."""
    low, high = first - snac.EDGE_REACH, end + snac.EDGE_REACH
    needed = []
    for stride, rate in reversed(snac.BLOCKS):
        low, high = max(low - snac.UNITS_REACH, 0), min(high + snac.UNITS_REACH, frames * rate)
        # The kernel is two strides wide; half a stride of the output is cut off at both ends.
        low = max((low - stride // 2) // stride, 0)
        high = min((high - 1 + stride // 2) // stride + 1, frames * rate // stride)
        needed.append(range(low, high))
    return tuple(reversed(needed))


class _Shape(NamedTuple):
    """Frames of a call, and the range of its samples that is computed."""

    frames: int
    first: int
    end: int


INDEPENDENT = SNAC.left_context_frames * SNAC.samples_per_frame - SNAC.delay_samples
"""First sample of a call that does not depend on whether the call begins the stream."""


def _place(job: DecodeJob, sizes: Sequence[int]) -> tuple[_Shape, int]:
    """Return the shape of a job's call, and the stream's frame that the call begins with. With
    `sizes`, calls have few shapes: frames that do not affect the window's samples are added before
    a window that does not begin the stream, or after a window that does not end it.
    """
    window, context, ahead = job.window, SNAC.left_context_frames, SNAC.look_ahead_frames
    per_frame, fed = SNAC.samples_per_frame, window.fed_frames
    is_later = job.next_sample >= INDEPENDENT
    lengths = [size + ahead + context * is_later for size in sizes]
    lengths += [size + ahead + context for size in sizes[-1:]]
    frames = round_up(lengths, fed)
    if is_later:
        origin = window.begin - (frames - fed)
        shape = _Shape(frames, INDEPENDENT, frames * per_frame)
    else:
        origin = 0
        shape = _Shape(frames, 0, (frames - ahead) * per_frame - SNAC.delay_samples)
    first, end = (sample - origin * per_frame for sample in (job.next_sample, window.end_sample))
    if sizes and shape.first <= first <= end <= shape.end:
        return shape, origin
    at = window.begin * per_frame
    return _Shape(fed, job.next_sample - at, window.end_sample - at), window.begin


def _split_in_two(job: DecodeJob, sizes: Sequence[int]) -> list[DecodeJob]:
    """Split a stream of a single window into two windows of common shapes, if it is long enough."""
    window, context, ahead = job.window, SNAC.left_context_frames, SNAC.look_ahead_frames
    fitting = [size for size in sizes if context <= size <= window.stop - ahead]
    if not fitting or not window.last or job.next_sample >= INDEPENDENT:
        return [job]
    size, begin = fitting[-1], fitting[-1] - context
    first = Window(0, 0, size, size + ahead, last=False, codec=window.codec)
    second = replace(window, begin=begin, fresh=size)
    before, after = job.tokens[: first.stop * snac.PLACES], job.tokens[begin * snac.PLACES :]
    return [
        replace(job, window=first, tokens=before),
        replace(job, window=second, tokens=after, next_sample=first.end_sample),
    ]


class SnacDecoder(StreamDecoder):
    """A `StreamingDecoder` of one graph."""

    def __init__(
        self,
        session: Session,
        *,
        max_rows: int = 1,
        sizes: tuple[int, ...] = (),
        draw: Draw = snac.addressed_noise,
        carrying: CarryingGraph | None = None,
        replayed: bool = False,
    ) -> None:
        """`session`: a graph that `compile/snac.py` wrote, or a published graph, which draws its
        own noise. `max_rows`: most windows in one call. `sizes`: fresh frames of windows.
        `carrying`: decodes windows that continue from the previous one. `replayed`: pad calls to a
        few numbers of rows.
        """
        self._session, self._carrying = session, carrying
        self._compiled = any(i.name == snac.noise_name(0) for i in session.get_inputs())
        # Windows with different noise where they overlap are cross-faded.
        self.codec = SNAC if self._compiled else replace(SNAC, cross_fade_ms=15)
        self.max_rows, self.window_frames, self._draw = max_rows, sizes, draw
        self._sizes = sizes if self._compiled else ()
        self._row_counts = bucket_sizes(max_rows) if replayed else ()

    def bucket(self, job: DecodeJob) -> Hashable:
        """Jobs of one bucket have calls of the same shape."""
        return _place(job, self._sizes)[0]

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Return a function that decodes the jobs; a single graph has no part to run first."""
        return partial(self._decode, jobs)

    def _decode(self, jobs: Sequence[DecodeJob]) -> list[Rendered]:
        if self._carrying is not None and all(self._carrying.continues(job) for job in jobs):
            return self._carrying.run(jobs)
        parts = [_split_in_two(job, self._sizes) for job in jobs]
        if len(parts[0]) > 1:
            halves = [self._decode(part) for part in zip(*parts, strict=True)]
            return [
                Rendered(np.concatenate([first.samples, second.samples]), first.at)
                for first, second in zip(*halves, strict=True)
            ]
        places = [_place(job, self._sizes) for job in jobs]
        shape = places[0][0]
        placed = [(job, origin) for job, (_, origin) in zip(jobs, places, strict=True)]
        if shape.end <= shape.first:
            return [Rendered(np.zeros(0, np.float32), job.next_sample) for job in jobs]
        feeds = snac.code_feeds(np.stack([_tokens(job, shape, origin) for job, origin in placed]))
        first_output = 0  # sample of the call that the graph's output begins with
        if self._compiled:
            needed = needed_steps(shape.frames, shape.first, shape.end)
            feeds |= self._noise_feeds(placed, needed)
            first_output = needed[-1].start * snac.BLOCKS[-1][0]
        feeds = pad_rows(feeds, round_up(self._row_counts, len(jobs)))
        if self._compiled:
            feeds |= _crop_feeds(needed)
        (waves,) = self._session.run([snac.AUDIO], cast_feeds(self._session, feeds))
        results = []
        for (job, origin), wave in zip(placed, waves[:, 0], strict=False):
            at = origin * SNAC.samples_per_frame + first_output
            wanted = wave[job.next_sample - at : job.window.end_sample - at]
            results.append(Rendered(np.asarray(wanted, np.float32), job.next_sample))
        return results

    def run_all_shapes(self, voice: Voice) -> None:
        """Decode windows of every size in every number of rows, so that every shape has run
        once."""
        context, ahead = SNAC.left_context_frames, SNAC.look_ahead_frames
        sizes = self.window_frames
        windows = [*product(sizes, (0, context)), (sizes[-1], context - 1)]
        for rows, (size, fresh) in product(self._row_counts, windows):
            end, begin = fresh + size, max(0, fresh - context)
            window = Window(begin, fresh, end, end + ahead, last=False, codec=SNAC)
            tokens = np.zeros(window.fed_frames * snac.PLACES, np.int64)
            first = max(0, fresh * SNAC.samples_per_frame - SNAC.delay_samples)
            streams = [self.open(voice, seed) for seed in range(rows)]
            self.run([DecodeJob(s, window, tokens, first, window.end_sample) for s in streams])

    def _noise_feeds(
        self, placed: Sequence[tuple[DecodeJob, int]], needed: Sequence[range]
    ) -> Feeds:
        feeds = {}
        for block, ((stride, rate), steps) in enumerate(zip(snac.BLOCKS, needed, strict=True)):
            first, count = steps.start * stride, len(steps) * stride
            rows = [
                self._draw(stream_of(job).seed, block, origin * rate + first, count)
                for job, origin in placed
            ]
            feeds[snac.noise_name(block)] = np.stack(rows)[:, None]
        return feeds


def _tokens(job: DecodeJob, shape: _Shape, origin: int) -> I64:
    """Return a job's tokens, padded to all frames of its call."""
    before = (job.window.begin - origin) * snac.PLACES
    return np.pad(job.tokens, (before, shape.frames * snac.PLACES - before - len(job.tokens)))


def _crop_feeds(needed: Sequence[range]) -> Feeds:
    """Return the crop inputs: `needed`, counted from the previous block's first computed step."""
    feeds: Feeds = {}
    origin = 0
    for block, ((stride, _), steps) in enumerate(zip(snac.BLOCKS, needed, strict=True)):
        for side, step in (("start", steps.start), ("end", steps.stop)):
            feeds[snac.crop_name(block, side)] = np.array([step - origin], np.int64)
        origin = steps.start * stride
    return feeds
