"""S3Gen decoders: `SplitDecoder` runs a flow and a vocoder, `WholeDecoder` a graph that could not
be cut in two.

The flow decodes a window's codes after the voice's prompt. The vocoder gets the new mel frames,
preceded by a few frames of the previous window, so that its convolutions see no edge there.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from chatterbox.arrays import F32
from chatterbox.families.base import DecodeJob, Rendered, Voice
from chatterbox.runtime.cuda_graphs import bucket_sizes, round_up
from chatterbox.runtime.decoder import s3gen
from chatterbox.runtime.decoder.flow import Flow, flow_feeds
from chatterbox.runtime.decoder.graph_io import (
    LENGTHS,
    WAVEFORM,
    Feeds,
    LinearDim,
    PhaseSum,
    ProbeLength,
    RandomOp,
    Session,
    cast_feeds,
    pad_rows,
)
from chatterbox.runtime.decoder.stream import StreamDecoder, stream_of
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, PhaseInputs, Place

SAMPLES_PER_FRAME = s3gen.SAMPLES_PER_CODE // s3gen.MEL_FRAMES_PER_CODE
FIRST_SIZES = 2
"""A stream's first window has one of the FIRST_SIZES smallest sizes."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Settings that trade cost for quality; docs/inside/decoder.md has the measurements."""

    prompt_codes: int = 75
    """Codes of the voice's prompt before each window; 3 s."""
    vocoder_context_frames: int = 8
    """Frames that are vocoded again before a window's first new frame."""
    max_rows: int = 1
    """Most windows in one call; 1 on a CPU, where windows take as long together as apart."""
    sizes: tuple[int, ...] = ()
    """Numbers of fresh codes that windows have, so that they can share calls; empty: any."""
    on_gpu: bool = False
    """Make graphs that CUDA can capture; results that differ by the order of sums count as
    equal."""
    int8: bool = False
    """Compute the flow's matrix products in 8 bits; for CPUs."""
    memory_bytes: int = 0
    """Size of the cache of decoded prompts, which needs `int8`; 0: decode them in every window."""


class SplitDecoder(StreamDecoder):
    """A decoder of two graphs, a flow and a vocoder."""

    codec = s3gen.CODEC

    def __init__(
        self,
        flow: Flow,
        vocoder: Session,
        randoms: Mapping[RandomOp, list[LinearDim]],
        mel: str,
        sums: Mapping[PhaseSum, list[LinearDim]],
        settings: StreamSettings,
        *,
        replayed: bool = False,
    ) -> None:
        """`replayed`: pad calls to a few numbers of rows."""
        self.flow, self._vocoder = flow, vocoder
        self._noise = NoiseInputs.of(vocoder, randoms, first_source=len(flow.noise))
        self._mel = mel
        self._sums = PhaseInputs(sums)
        self._settings = settings
        first = [size + s3gen.CODEC.look_ahead_frames for size in settings.sizes]
        later = [s3gen.CODEC.left_context_frames + codes for codes in first]
        self._flow_codes = sorted({*first[:FIRST_SIZES], *later})
        context = settings.vocoder_context_frames
        frames = [s3gen.MEL_FRAMES_PER_CODE * codes for codes in first]
        self._vocoder_frames = sorted({*frames[:FIRST_SIZES], *(context + f for f in frames)})
        self.window_frames, self.max_rows = settings.sizes, settings.max_rows
        self._row_counts = bucket_sizes(settings.max_rows) if replayed else ()

    def warm(self, voice: Voice) -> None:
        self.flow.warm(voice)

    def bucket(self, job: DecodeJob) -> Hashable:
        """Jobs of one bucket have prompts and windows of equal length."""
        window = round_up(self._flow_codes, job.window.fed_frames)
        return self.flow.prompt(job.stream.voice), window

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Run the flow; the returned function runs the vocoder."""
        codes = round_up(self._flow_codes, jobs[0].window.fed_frames)
        mels = self.flow.mels(jobs, codes, round_up(self._row_counts, len(jobs)))
        return partial(self._finish, jobs, mels)

    def _finish(self, jobs: Sequence[DecodeJob], mels: Sequence[F32]) -> list[Rendered]:
        """Run the vocoder. The streams change only at the end, so that a failed call can be
        repeated with fewer jobs."""
        context, frames = self._settings.vocoder_context_frames, self._vocoder_frames
        plans = [_Vocoding(job, mel, context, frames) for job, mel in zip(jobs, mels, strict=True)]
        groups: dict[Hashable, list[_Vocoding]] = defaultdict(list)
        for plan in plans:
            groups[plan.group].append(plan)
        results: dict[_Vocoding, tuple[Rendered, Feeds]] = {}
        for group in groups.values():
            results |= zip(group, self._vocode(group), strict=True)
        for plan, (_, carry) in results.items():
            plan.update_stream(carry)
        return [results[plan][0] for plan in plans]

    def _vocode(self, plans: Sequence["_Vocoding"]) -> list[tuple[Rendered, Feeds]]:
        """Vocode the rows of one group. Returns samples and carried sums for each."""
        first = plans[0]
        length = ProbeLength(0, first.mel.shape[1] // s3gen.MEL_FRAMES_PER_CODE)
        places = [Place(length, plan.first / s3gen.MEL_FRAMES_PER_CODE) for plan in plans]
        rows = round_up(self._row_counts, len(plans))
        feeds = self._noise.feeds([plan.stream.seed for plan in plans], places)
        feeds = pad_rows(feeds | {self._mel: np.stack([plan.mel for plan in plans])}, rows)
        carries = [plan.stream.carry for plan in plans] + [None] * (rows - len(plans))
        feeds |= self._sums.feeds(carries, length, first.anchor, first.mark)
        outputs = [WAVEFORM, *self._sums.outputs]
        waves, *sums = self._vocoder.run(outputs, cast_feeds(self._vocoder, feeds))
        results = []
        for row, plan in enumerate(plans):
            at = plan.first * SAMPLES_PER_FRAME
            samples = np.asarray(waves[row, : plan.job.window.end_sample - at], np.float32)
            results.append((Rendered(samples, at), self._sums.carry(sums, row)))
        return results


class _Vocoding:
    """A job between flow and vocoder."""

    def __init__(
        self, job: DecodeJob, mel: F32, context_frames: int, call_frames: Sequence[int]
    ) -> None:
        """`call_frames`: lengths that the mel is padded to."""
        self.job, self.stream = job, stream_of(job)
        self._context = context_frames
        window = job.window
        before = self.stream.mel
        fresh = (window.fresh - window.begin) * s3gen.MEL_FRAMES_PER_CODE
        frames = np.concatenate([before, mel[:, fresh:]], axis=1)
        padding = round_up(call_frames, frames.shape[1]) - frames.shape[1]
        # The last frame is repeated; the sound of the repetitions is cut off.
        self.mel: F32 = np.pad(frames, [(0, 0), (0, padding)], mode="edge") if padding else frames
        # Index of the mel's first frame in the stream.
        self.first = window.fresh * s3gen.MEL_FRAMES_PER_CODE - before.shape[1]
        self.anchor = job.next_sample - self.first * SAMPLES_PER_FRAME  # sample of the call
        # Nothing follows a last window: with one mark, last windows of any length share a call.
        self.mark = 0 if window.last else job.resume_sample - self.first * SAMPLES_PER_FRAME

    @property
    def group(self) -> Hashable:
        """Jobs of one group can share a call of the vocoder, which has no padding of its own."""
        return self.mel.shape[1], self.anchor, self.mark, self.stream.carry is None

    def update_stream(self, carry: Feeds) -> None:
        """Store the state for the stream's next window."""
        window = self.job.window
        codes = window.end + (s3gen.TAIL_SILENCE_CODES if window.last else 0)
        end = codes * s3gen.MEL_FRAMES_PER_CODE - self.first
        # An even number of frames, so that a call of the vocoder begins with a whole code.
        begin = max(0, end - self._context)
        self.stream.mel = self.mel[:, begin + begin % s3gen.MEL_FRAMES_PER_CODE : end].copy()
        self.stream.carry = carry


class WholeDecoder(StreamDecoder):
    """A decoder of one graph that could not be cut, one row a call.

    Every call decodes the prompt, the left context and the window. Random tensors that the compiler
    made inputs are repeatable, and running sums continue from window to window.
    """

    codec = replace(s3gen.CODEC, left_context_frames=16)
    """The left context is longer than the embedded model's decoder looks back."""
    window_frames: tuple[int, ...] = ()  # rows never share a call
    max_rows = 1

    def __init__(
        self,
        session: Session,
        randoms: Mapping[RandomOp, list[LinearDim]],
        sums: Mapping[PhaseSum, list[LinearDim]],
        settings: StreamSettings,
    ) -> None:
        self._session = session
        self._noise = NoiseInputs.of(session, randoms)
        self._sums = PhaseInputs(sums)
        self._prompt_codes = settings.prompt_codes
        self._has_lengths = any(i.name == LENGTHS for i in session.get_inputs())

    def bucket(self, job: DecodeJob) -> Hashable:
        """No two jobs share a bucket."""
        return id(job)

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """Return a function that decodes the jobs one after the other."""
        return lambda: [self._decode(job) for job in jobs]

    def _decode(self, job: DecodeJob) -> Rendered:
        stream, window = stream_of(job), job.window
        prompt = min(len(stream.voice.data.prompt_codes), self._prompt_codes)
        length = ProbeLength(prompt, window.fed_frames)
        feeds = flow_feeds(stream.voice, prompt, job.tokens, length.codes)
        if self._has_lengths:
            feeds[LENGTHS] = np.array([prompt + length.codes], np.int64)
        at = window.begin * s3gen.SAMPLES_PER_CODE
        feeds |= self._noise.feeds([stream.seed], [Place(length, window.begin)])
        feeds |= self._sums.feeds(
            [stream.carry], length, job.next_sample - at, job.resume_sample - at
        )
        outputs = [WAVEFORM, *self._sums.outputs]
        wave, *sums = self._session.run(outputs, cast_feeds(self._session, feeds))
        stream.carry = self._sums.carry(sums, 0)
        return Rendered(np.asarray(wave[0, : window.end_sample - at], np.float32), at)
