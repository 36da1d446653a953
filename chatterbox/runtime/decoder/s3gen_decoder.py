"""S3Gen's decoders: windows of several streams by a flow and a vocoder; or, where the graph could
not be cut, one by one through all of it.

A window's codes go through the flow behind the voice's prompt. Of the mel that comes out, the
frames behind the stream's last are new; the vocoder is given them behind a few frames that it was
given before, so that its convolutions see no edge where the last window ended.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from chatterbox.arrays import F32
from chatterbox.families.base import DecodeJob, Rendered, StreamingDecoder, Voice
from chatterbox.runtime.cuda_graphs import bucket_sizes
from chatterbox.runtime.decoder.flow import Flow, Part, Stream, fed_to_flow, filled, stream_of
from chatterbox.runtime.decoder.graph_io import (
    LENGTHS,
    WAVEFORM,
    Feeds,
    LinearDim,
    PhaseSum,
    ProbeLength,
    RandomOp,
    Session,
    as_declared,
)
from chatterbox.runtime.decoder.s3gen import (
    CODEC,
    MEL_FRAMES_PER_CODE,
    SAMPLES_PER_CODE,
    TAIL_SILENCE_CODES,
)
from chatterbox.runtime.decoder.stream_inputs import NoiseInputs, PhaseInputs, Place

SAMPLES_PER_FRAME = SAMPLES_PER_CODE // MEL_FRAMES_PER_CODE
FIRST_SIZES = 2
"""Streams begin with one of the smallest windows."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What streaming costs and how good it is: docs/inside/decoder.md has the measurements."""

    prompt_codes: int = 75
    """Of the voice's prompt; 3 s."""
    vocoder_context_frames: int = 8
    """Frames vocoded again before a window's first new one."""
    max_rows: int = 1
    """Windows in one call: one on a CPU, where a second costs as much again."""
    sizes: tuple[int, ...] = ()
    """Fresh codes that windows come in, where rows share calls; none: any."""
    on_gpu: bool = False
    """Parts are made for CUDA graphs, and results of another order of sums count as equal."""
    int8: bool = False
    """The flow's matrix products in 8 bits; for CPUs."""
    memory_bytes: int = 0
    """For the prompts of voices, so that windows need not decode them again; with `int8` alone."""


class SplitDecoder(StreamingDecoder):
    """Of two graphs."""

    codec = CODEC

    def __init__(
        self,
        flow: Flow,
        vocoder: Part,
        mel: str,
        sums: Mapping[PhaseSum, list[LinearDim]],
        settings: StreamSettings,
        *,
        replayed: bool = False,
    ) -> None:
        """`replayed`: calls come in few numbers of rows."""
        self.flow, self._vocoder = flow, vocoder.session
        self._vocoder_draws = vocoder.noise(first_stream=flow.sources)
        self._mel = mel
        self._sums = PhaseInputs(sums)
        self._settings = settings
        first = [size + CODEC.look_ahead_frames for size in settings.sizes]
        later = [CODEC.left_context_frames + codes for codes in first]
        self._flow_codes = sorted({*first[:FIRST_SIZES], *later})
        context = settings.vocoder_context_frames
        frames = [MEL_FRAMES_PER_CODE * codes for codes in first]
        self._vocoder_frames = sorted({*frames[:FIRST_SIZES], *(context + f for f in frames)})
        self.window_frames, self.max_rows = settings.sizes, settings.max_rows
        self._row_counts = bucket_sizes(settings.max_rows) if replayed else ()

    def open(self, voice: Voice, seed: int) -> Stream:
        return Stream(voice, seed)

    def warm(self, voice: Voice) -> None:
        self.flow.warm(voice)

    def bucket(self, job: DecodeJob) -> Hashable:
        """Rows of one call have equally long prompts, and equally many codes."""
        return self.flow.prompt(job.stream.voice), _usual(self._flow_codes, job.window.fed_frames)

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        """The flow; the vocoder is the rest."""
        codes = _usual(self._flow_codes, jobs[0].window.fed_frames)
        mels = self.flow.mels(jobs, codes, _usual(self._row_counts, len(jobs)))
        return partial(self._finish, jobs, mels)

    def _finish(self, jobs: Sequence[DecodeJob], mels: Sequence[F32]) -> list[Rendered]:
        """Streams move on once all is done, so that a call that failed can be made again with
        fewer."""
        context, frames = self._settings.vocoder_context_frames, self._vocoder_frames
        plans = [_Vocoding(job, mel, context, frames) for job, mel in zip(jobs, mels, strict=True)]
        groups: dict[Hashable, list[_Vocoding]] = defaultdict(list)
        for plan in plans:
            groups[plan.group].append(plan)
        made: dict[_Vocoding, tuple[Rendered, Feeds]] = {}
        for some in groups.values():
            made |= zip(some, self._vocoded(some), strict=True)
        for plan, (_, told) in made.items():
            plan.keep(told)
        return [made[plan][0] for plan in plans]

    def _vocoded(self, plans: Sequence["_Vocoding"]) -> list[tuple[Rendered, Feeds]]:
        """The vocoder, for rows that begin alike; and what their next windows need of it."""
        one = plans[0]
        frames = one.mel.shape[1]
        length = ProbeLength(0, frames // MEL_FRAMES_PER_CODE)
        places = [Place(length, plan.first / MEL_FRAMES_PER_CODE) for plan in plans]
        rows = _usual(self._row_counts, len(plans))
        feeds = self._vocoder_draws.feeds([plan.stream.seed for plan in plans], places)
        feeds = filled(feeds | {self._mel: np.stack([plan.mel for plan in plans])}, rows)
        carries = [plan.stream.carry for plan in plans] + [None] * (rows - len(plans))
        feeds |= self._sums.feeds(carries, length, one.anchor, one.mark)
        outputs = [WAVEFORM, *self._sums.outputs]
        waves, *told = self._vocoder.run(outputs, as_declared(self._vocoder, feeds))
        made = []
        for row, plan in enumerate(plans):
            at = plan.first * SAMPLES_PER_FRAME
            end = plan.job.window.end_sample
            sound = Rendered(np.asarray(waves[row, : end - at], np.float32), at)
            made.append((sound, self._sums.told(told, row)))
        return made


def _usual(sizes: Sequence[int], size: int) -> int:
    """The next of the sizes; the size itself where none is as large."""
    return next((usual for usual in sizes if usual >= size), size)


class _Vocoding:
    """One job on its way through the vocoder."""

    def __init__(
        self, job: DecodeJob, mel: F32, context_frames: int, usual_frames: Sequence[int]
    ) -> None:
        self.job, self.stream = job, stream_of(job)
        self._context = context_frames
        window = job.window
        known = self.stream.mel
        fresh = (window.fresh - window.begin) * MEL_FRAMES_PER_CODE
        frames = np.concatenate([known, mel[:, fresh:]], axis=1)
        more = _usual(usual_frames, frames.shape[1]) - frames.shape[1]
        # The last frame goes on up to a usual size; what that sounds like is cut off.
        self.mel: F32 = np.pad(frames, [(0, 0), (0, more)], mode="edge") if more else frames
        self.first = window.fresh * MEL_FRAMES_PER_CODE - known.shape[1]  # frame of the stream
        self.anchor = job.next_sample - self.first * SAMPLES_PER_FRAME  # sample of the call
        # Nothing goes on behind a last window, so that those of any length share a call.
        self.mark = 0 if window.last else job.next_from - self.first * SAMPLES_PER_FRAME

    @property
    def group(self) -> Hashable:
        """Rows that can share a call of the vocoder, which knows no padding."""
        return self.mel.shape[1], self.anchor, self.mark, self.stream.carry is None

    def keep(self, told: Feeds) -> None:
        """What the stream's next window needs of this one."""
        window = self.job.window
        codes = window.end + (TAIL_SILENCE_CODES if window.last else 0)
        end = codes * MEL_FRAMES_PER_CODE - self.first
        # An even number of frames, so that a call of the vocoder begins with a whole code.
        begin = max(0, end - self._context)
        self.stream.mel = self.mel[:, begin + begin % MEL_FRAMES_PER_CODE : end].copy()
        self.stream.carry = told


class WholeDecoder(StreamingDecoder):
    """Of one graph, one row a call: the last resort. A window goes through all of it, prompt and
    left context included. Its draws are inputs, where it has any, so that the same seed gives the
    same samples; its running sums, where it has any, go on from window to window."""

    codec = replace(CODEC, left_context_frames=16)
    """Further than the embedded model's decoder looks back."""
    window_frames: tuple[int, ...] = ()  # no two rows ever meet
    max_rows = 1

    def __init__(
        self,
        session: Session,
        draws: Mapping[RandomOp, list[LinearDim]],
        sums: Mapping[PhaseSum, list[LinearDim]],
        settings: StreamSettings,
    ) -> None:
        self._session = session
        self._draws = NoiseInputs(draws, first_stream=0)
        self._sums = PhaseInputs(sums)
        self._prompt_codes = settings.prompt_codes
        self._ragged = any(i.name == LENGTHS for i in session.get_inputs())

    def open(self, voice: Voice, seed: int) -> Stream:
        return Stream(voice, seed)

    def warm(self, voice: Voice) -> None:
        """Nothing is kept."""

    def bucket(self, job: DecodeJob) -> Hashable:
        """Every job goes alone."""
        return id(job)

    def start(self, jobs: Sequence[DecodeJob]) -> Callable[[], list[Rendered]]:
        return lambda: [self._decoded(job) for job in jobs]

    def _decoded(self, job: DecodeJob) -> Rendered:
        stream, window = stream_of(job), job.window
        prompt = min(len(stream.voice.data.prompt_codes), self._prompt_codes)
        length = ProbeLength(prompt, window.fed_frames)
        feeds = fed_to_flow(stream.voice, prompt, job.tokens, length.codes)
        if self._ragged:
            feeds[LENGTHS] = np.array([prompt + length.codes], np.int64)
        at = window.begin * SAMPLES_PER_CODE
        feeds |= self._draws.feeds([stream.seed], [Place(length, window.begin)])
        feeds |= self._sums.feeds([stream.carry], length, job.next_sample - at, job.next_from - at)
        outputs = [WAVEFORM, *self._sums.outputs]
        wave, *told = self._session.run(outputs, as_declared(self._session, feeds))
        stream.carry = self._sums.told(told, 0)
        return Rendered(np.asarray(wave[0, : window.end_sample - at], np.float32), at)
