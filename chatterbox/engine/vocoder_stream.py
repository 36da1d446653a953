"""The vocoding state of one take: its next window, how urgent that is, its cross-fades.

First windows go first: those of the tenant with the least in work, then those that have waited
longest. After them comes the listener whose sound ends first. The most urgent window decides the
bucket of a call; others of that bucket join it, in the same order. Owned by the vocoding thread.
"""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.audio.shaping import Ceiling
from chatterbox.engine.fairness import PrioritySnapshot, awaits_first_audio
from chatterbox.engine.sequence import LOW_BUFFER_S, Sequence, Take
from chatterbox.engine.windows import DecodeCost, Windows, WindowSettings
from chatterbox.families.base import DecodeJob, DecodeStream, Rendered, StreamingDecoder, Window

T = TypeVar("T")

GATHER_S = 0.003
"""How long a due window waits for others to share its call. Listeners notice no delay of 2 to 5 ms.
"""
LOOK_AGAIN_S = 0.01
"""Time between two looks at the streams while listeners' sound is running out."""
PATIENCE_S = 5.0
"""After waiting this long, a window without a listener is as urgent as one that is due now."""


@dataclass(frozen=True, slots=True, eq=False)
class PendingWindow(Generic[T]):
    """A window that could be decoded now."""

    what: T  # returned to the caller
    bucket: Hashable  # windows of the same bucket can share a call
    first: bool  # its listener has heard nothing yet
    in_work: int  # segments in work of its tenant; among first windows, the least goes first
    slack_s: float  # how long the listener's sound lasts
    waited_s: float  # since the window could first have been decoded
    index: int = 0  # of the segment; lower ones go first

    @property
    def urgency(self) -> tuple[bool, int, float, int]:
        """Sort key: the smallest goes first."""
        if self.first:
            return False, self.in_work, -self.waited_s, 0
        return True, 0, min(self.slack_s, PATIENCE_S - self.waited_s), self.index


def select_batch(due: list[PendingWindow[T]], max_rows: int) -> list[PendingWindow[T]]:
    """Choose at most `max_rows` windows for the next call, most urgent first."""
    ordered = sorted(due, key=lambda d: d.urgency)  # stable: equals in order of arrival
    return [d for d in ordered if d.bucket == ordered[0].bucket][:max_rows]


def load(slacks_s: Iterable[float], max_rows: int) -> float:
    """How many calls the listeners short of sound need; scales the expected cost."""
    return max(1.0, sum(slack_s < LOW_BUFFER_S for slack_s in slacks_s) / max_rows)


class Crossfader:
    """Joins the samples of a stream's windows. The last samples of each window are held back and
    blended with the first ones of the next."""

    def __init__(self, cross_fade_samples: int) -> None:
        # Raised cosine: the two weights sum to 1, since both windows render the same sound.
        phase = (np.arange(cross_fade_samples, dtype=np.float32) + 0.5) / max(cross_fade_samples, 1)
        self._ramp: F32 = (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)
        self._held: F32 = np.zeros(0, np.float32)
        self.next_sample = 0  # samples returned so far; the next window begins there or before

    def join(self, samples: F32, at: int, last: bool) -> F32:
        """Add a window's `samples` [n], which begin at sample `at` of the segment. Returns the
        samples that are final."""
        assert at <= self.next_sample, "a window begins where the one before it ended, or earlier"
        body = samples[self.next_sample - at :].astype(np.float32)  # a copy
        held = self._held.size
        assert body.size >= held, "a window covers the samples held back"
        body[:held] = self._held + (body[:held] - self._held) * self._ramp[:held]
        keep = 0 if last else min(self._ramp.size, body.size)
        out, self._held = body[: body.size - keep], body[body.size - keep :]
        self.next_sample += out.size
        return out


class StreamState:
    """A take that is being decoded."""

    def __init__(
        self,
        sequence: Sequence,
        take: Take,
        stream: DecodeStream,
        settings: WindowSettings,
        loudest_rms: float | None = None,
    ) -> None:
        self.sequence, self.take = sequence, take
        self.in_work = False  # a window is being decoded, or waits in its batch
        self.look_s = math.inf
        """When a window may be due without further tokens, by the last plan."""
        self._ceiling = Ceiling(loudest_rms) if loudest_rms else None
        self._seams = Crossfader(settings.cross_fade_samples)
        self._stream = stream
        self._settings = settings
        self._per_frame = settings.codec.tokens_per_frame
        speed, fixed = sequence.playback.speed, sequence.deterministic
        self._windows = Windows(settings, fixed_schedule=fixed, speed=speed)
        self._held: list[F32] = []
        self._due_since_s: float | None = None

    @property
    def over(self) -> bool:
        """Whether the take was discarded, or its segment ended or cancelled."""
        outbox = self.sequence.outbox
        return self.take.discarded or outbox.closed or outbox.ended

    def next_window(
        self,
        decoder: StreamingDecoder,
        now_s: float,
        cost: DecodeCost,
        snapshot: PrioritySnapshot | None,
    ) -> "PendingWindow[VocoderJob] | None":
        """Plan the window to decode now. Returns None if no window is due, if the reader is slow,
        or while the window before is being decoded. `snapshot`: priorities, if they matter."""
        sequence = self.sequence
        if self.in_work or sequence.outbox.full:
            return None
        if not self.take.wanted and now_s < self.look_s:
            return None
        slack_s = sequence.playback.buffered_s(now_s)
        window = self._plan(slack_s, cost)
        if window is None:
            frames, until_s = self._windows.wait_for
            self.take.wanted_tokens = frames * self._per_frame
            self.look_s = now_s + slack_s - until_s
            return None
        self.look_s = now_s
        if snapshot is not None and snapshot.too_early(sequence, cost.seconds(window.fed_frames)):
            return None
        job = self._decode_job(window)
        self._due_since_s = now_s if self._due_since_s is None else self._due_since_s
        return PendingWindow(
            what=(self, job),
            bucket=decoder.bucket(job),
            first=awaits_first_audio(sequence),
            in_work=0 if snapshot is None else snapshot.in_work(sequence),
            slack_s=slack_s,
            index=sequence.index,
            waited_s=now_s - self._due_since_s,
        )

    def update_listener(self, cost: DecodeCost) -> None:
        """Update the playback clock's `next_window_s` if this segment is being played."""
        playback, take = self.sequence.playback, self.take
        if self.sequence.index == playback.segment:
            frames = take.ready // self._per_frame
            next_window_s = self._windows.next_window_s(frames, take.end is not None, cost)
            playback.next_window_s = next_window_s

    def _plan(self, slack_s: float, cost: DecodeCost) -> Window | None:
        ended = self.take.end is not None  # read before the count, which is final once this is true
        if ended and self.sequence.deterministic:
            # Decode what was due before the end was known, whether or not there was time.
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
        """Mark `window` as being decoded."""
        self._windows.take(window)
        self._due_since_s = None
        self.in_work = True

    def join(self, result: Rendered, *, last: bool, whole: bool) -> F32:
        """Add a decoded window. Returns the samples to send. `whole`: return none before the last
        window, then all."""
        samples = self._seams.join(result.samples, result.at, last)
        if self._ceiling:
            samples = self._ceiling.limit(samples)
        if not whole:
            return samples
        self._held.append(samples)
        return np.concatenate(self._held) if last else samples[:0]


VocoderJob = tuple[StreamState, DecodeJob]
"""A stream and its window for the decoder."""


def token_audio(job: DecodeJob, result: Rendered) -> tuple[I64, F32]:
    """The tokens of the window's fresh frames and their samples, shifted by the codec's delay."""
    window, codec = job.window, job.window.codec
    frames = np.array([window.fresh, window.end])
    first, end = (frames - window.begin) * codec.tokens_per_frame
    start, stop = frames * codec.samples_per_frame - codec.delay_samples - result.at
    silence = np.zeros(max(-start, 0), np.float32)
    return job.tokens[first:end], np.append(silence, result.samples[max(start, 0) : stop])
