"""A take on its way to sound: its next window, how urgent that is, its cross-fades.

First windows go first: those of the tenant with the least in work, then those who have waited
longest; after them the listener whose audio ends first. The most urgent window decides the bucket
of a call; others of that bucket join it, in the same order. Owned by the vocoding thread; calls no
decoder.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.audio.shaping import Ceiling
from chatterbox.engine.fairness import PrioritySnapshot, awaits_first_audio
from chatterbox.engine.sequence import LOW_BUFFER_S, Take
from chatterbox.engine.windows import DecodeCost, Windows, WindowSettings
from chatterbox.families.base import DecodeJob, DecodeStream, Rendered, StreamingDecoder, Window

T = TypeVar("T")

GATHER_S = 0.003
"""How long a due window may wait for others where a call takes several rows: between the 2 and 5 ms
that cost no listener anything."""
LOOK_AGAIN_S = 0.01
"""How often streams are to be asked again without news: their audio runs on meanwhile."""
PATIENCE_S = 5.0
"""A window that nobody waits for is as urgent after this long as one that is due now."""


@dataclass(frozen=True, slots=True, eq=False)
class PendingWindow(Generic[T]):
    """A window that could be decoded now."""

    what: T  # whatever the caller wants back
    bucket: Hashable  # windows of equal bucket can share a call
    first: bool  # its listener has heard nothing yet
    in_work: int  # of its tenant: of first windows, who has least goes first
    slack_s: float  # how long their audio lasts
    waited_s: float  # since the window could first have been decoded
    index: int = 0  # of the segment within its request: earlier ones go first

    @property
    def urgency(self) -> tuple[bool, int, float, int]:
        """The smallest goes first."""
        if self.first:
            return False, self.in_work, -self.waited_s, 0
        return True, 0, min(self.slack_s, PATIENCE_S - self.waited_s), self.index


def select_batch(due: Sequence[PendingWindow[T]], max_rows: int) -> list[PendingWindow[T]]:
    """The windows of the next call, most urgent first; at most `max_rows`."""
    ordered = sorted(due, key=lambda d: d.urgency)  # stable: equals in order of arrival
    return [d for d in ordered if d.bucket == ordered[0].bucket][:max_rows]


def load(slacks_s: Iterable[float], max_rows: int) -> float:
    """How many calls' worth of listeners want the decoder; scales the expected cost."""
    return max(1.0, sum(slack_s < LOW_BUFFER_S for slack_s in slacks_s) / max_rows)


class Crossfader:
    """Joins the windows' samples into one continuous stream; owned as `Windows` is.

    The last samples of every window are held back and blended into the next one's.
    """

    def __init__(self, cross_fade_samples: int) -> None:
        # Raised cosine: the two weights sum to 1, since both windows render the same sound.
        phase = (np.arange(cross_fade_samples, dtype=np.float32) + 0.5) / max(cross_fade_samples, 1)
        self._ramp: F32 = (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)
        self._held: F32 = np.zeros(0, np.float32)
        self.next_sample = 0  # samples let go so far: the next window's begin there or before

    def join(self, samples: F32, at: int, last: bool) -> F32:
        """`samples` [n] are final from `at` on, counted from the segment's first sample; returns
        those that may leave."""
        assert at <= self.next_sample, "a window begins where the one before it ended, or earlier"
        body = samples[self.next_sample - at :].astype(np.float32)  # a copy
        held = self._held.size
        assert body.size >= held, "a window covers what was held back"
        body[:held] = self._held + (body[:held] - self._held) * self._ramp[:held]
        keep = 0 if last else min(self._ramp.size, body.size)
        out, self._held = body[: body.size - keep], body[body.size - keep :]
        self.next_sample += out.size
        return out


class StreamState:
    """A take on its way to sound."""

    def __init__(
        self,
        take: Take,
        stream: DecodeStream,
        settings: WindowSettings,
        loudest_rms: float | None = None,
    ) -> None:
        self.take, self.request = take, take.request
        self.in_work = False  # a window of it is being decoded, or waits within its batch
        self.look_s = math.inf
        """When a window may be due, by the last plan, though no more tokens have come."""
        self._ceiling = Ceiling(loudest_rms) if loudest_rms else None
        self._seams = Crossfader(settings.cross_fade_samples)
        self._stream = stream
        self._settings = settings
        self._per_frame = settings.codec.tokens_per_frame
        speed, fixed = take.request.playback.speed, take.request.deterministic
        self._windows = Windows(settings, fixed_schedule=fixed, speed=speed)
        self._held: list[F32] = []
        self._due_since_s: float | None = None

    @property
    def over(self) -> bool:
        """Whether nobody wants the sound of this take any more."""
        outbox = self.request.outbox
        return self.take.discarded or outbox.closed or outbox.ended

    def next_window(
        self,
        decoder: StreamingDecoder,
        now_s: float,
        cost: DecodeCost,
        snapshot: PrioritySnapshot | None,
    ) -> "PendingWindow[VocoderJob] | None":
        """The window to decode now, if any, and what its choice needs to know of it. None for a
        reader who is far behind, and none before the window in work is done: windows follow each
        other. `snapshot`: where there is somebody to be fair to."""
        request = self.request
        if self.in_work or request.outbox.full:
            return None
        if not self.take.wanted and now_s < self.look_s:
            return None
        slack_s = request.playback.buffered_s(now_s)
        window = self._plan(slack_s, cost)
        if window is None:
            frames, until_s = self._windows.wait_for
            self.take.wanted_tokens = frames * self._per_frame
            self.look_s = now_s + slack_s - until_s
            return None
        self.look_s = now_s
        if snapshot is not None and snapshot.too_early(request, cost.seconds(window.fed_frames)):
            return None
        job = self._decode_job(window)
        self._due_since_s = now_s if self._due_since_s is None else self._due_since_s
        return PendingWindow(
            what=(self, job),
            bucket=decoder.bucket(job),
            first=awaits_first_audio(request),
            in_work=0 if snapshot is None else snapshot.in_work(request),
            slack_s=slack_s,
            index=request.index,
            waited_s=now_s - self._due_since_s,
        )

    def update_listener(self, cost: DecodeCost) -> None:
        """Note how much work there is until the listener of this segment has more sound."""
        request, take = self.request, self.take
        if request.index == request.playback.segment:
            frames = take.ready // self._per_frame
            next_window_s = self._windows.next_window_s(frames, take.end is not None, cost)
            request.playback.next_window_s = next_window_s

    def _plan(self, slack_s: float, cost: DecodeCost) -> Window | None:
        ended = self.take.end is not None  # asked first: the count is final once this is so
        if ended and self.request.deterministic:
            # What was due before the end was known is decoded, whether or not there was time.
            due = self._windows.plan(len(self.take.tokens) // self._per_frame, False, slack_s, cost)
            if due is not None:
                return due
        return self._windows.plan(self.take.ready // self._per_frame, ended, slack_s, cost)

    def _decode_job(self, window: Window) -> DecodeJob:
        begin, stop = window.begin * self._per_frame, window.stop * self._per_frame
        held_back = 0 if window.last else self._settings.cross_fade_samples
        tokens = np.array(self.take.tokens[begin:stop], np.int64)
        resume_sample = window.end_sample - held_back
        return DecodeJob(self._stream, window, tokens, self._seams.next_sample, resume_sample)

    def start(self, window: Window) -> None:
        """`window` is being decoded."""
        self._windows.take(window)
        self._due_since_s = None
        self.in_work = True

    def join(self, result: Rendered, *, last: bool, whole: bool) -> F32:
        """The next samples, of the window that was decoded; `whole`: all of the segment with its
        last ones, and nothing before."""
        samples = self._seams.join(result.samples, result.at, last)
        if self._ceiling:
            samples = self._ceiling.limit(samples)
        if not whole:
            return samples
        self._held.append(samples)
        return np.concatenate(self._held) if last else samples[:0]


VocoderJob = tuple[StreamState, DecodeJob]
"""Whose window, and what the decoder is asked for."""


def token_audio(job: DecodeJob, result: Rendered) -> tuple[I64, F32]:
    """The tokens of the window's fresh frames, and their samples, which are taken as far before
    the frames as the codec is late."""
    window, codec = job.window, job.window.codec
    frames = np.array([window.fresh, window.end])
    first, end = (frames - window.begin) * codec.tokens_per_frame
    start, stop = frames * codec.samples_per_frame - codec.delay_samples - result.at
    silence = np.zeros(max(-start, 0), np.float32)
    return job.tokens[first:end], np.append(silence, result.samples[max(start, 0) : stop])
