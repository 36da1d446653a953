"""One take on its way to sound: its next window and how urgent that is, its cross-fades.

Owned by the vocoding thread; calls no decoder.
"""

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.audio.ceiling import Ceiling
from chatterbox.engine.fairness import PrioritySnapshot, awaits_first_audio
from chatterbox.engine.sequence import Take
from chatterbox.engine.window_queue import PendingWindow
from chatterbox.engine.windows import Crossfader, DecodeCost, Windows, WindowSettings
from chatterbox.families.base import (
    DecodeJob,
    DecodeStream,
    Rendered,
    StreamingDecoder,
    Window,
)


class StreamState:
    """A take on its way to sound."""

    def __init__(
        self,
        take: Take,
        stream: DecodeStream,
        settings: WindowSettings,
        loudest_rms: float | None = None,
    ) -> None:
        self.take = take
        self._ceiling = Ceiling(loudest_rms) if loudest_rms else None
        self.in_work = False  # a window of it is being decoded, or waits within its batch
        self._seams = Crossfader(settings.cross_fade_samples)
        self._stream = stream
        self._per_frame = settings.codec.tokens_per_frame
        self._windows = Windows(
            settings, fixed_schedule=take.request.deterministic, speed=take.request.playback.speed
        )
        self._cross_fade_samples = settings.cross_fade_samples
        self._held: list[F32] = []
        self._due_since_s: float | None = None

    def join(self, result: Rendered, *, last: bool) -> F32:
        """The next samples, of the window that was decoded."""
        samples = self._seams.join(result.samples, result.at, last)
        return self._ceiling.limited(samples) if self._ceiling else samples

    @property
    def silent(self) -> bool:
        """Whether somebody waits for its first sound."""
        return awaits_first_audio(self.take.request)

    @property
    def over(self) -> bool:
        """Whether nobody wants the sound of this attempt any more."""
        outbox = self.take.request.outbox
        return self.take.discarded or outbox.closed or outbox.ended

    def next_window(
        self,
        decoder: StreamingDecoder,
        slack_s: float,
        cost: DecodeCost,
        snapshot: PrioritySnapshot,
    ) -> "PendingWindow[VocoderJob] | None":
        """The window to decode now, if any, and what its choice needs to know of it. None for a
        reader who is far behind, and none before the window in work is done: windows follow each
        other."""
        if self.in_work or self.take.request.outbox.full:
            return None
        window = self._plan(slack_s, cost)
        if window is None or snapshot.too_early(self.take.request, cost.seconds(window.fed_frames)):
            return None
        now_s, job = snapshot.now_s, self._decode_job(window)
        self._due_since_s = now_s if self._due_since_s is None else self._due_since_s
        return PendingWindow(
            what=(self, job),
            bucket=decoder.bucket(job),
            first=self.silent,
            in_work=snapshot.in_work(self.take.request),
            slack_s=slack_s,
            index=self.take.request.index,
            waited_s=now_s - self._due_since_s,
        )

    def update_listener(self, cost: DecodeCost) -> None:
        """Note how much work there is until the listener of this segment has more sound."""
        job, take = self.take.request, self.take
        if job.index == job.playback.segment:
            ended = take.end is not None
            job.playback.next_window_s = self._windows.next_window_s(
                take.ready // self._per_frame, ended, cost
            )

    def _plan(self, slack_s: float, cost: DecodeCost) -> Window | None:
        ended = self.take.end is not None  # asked first: the count is final once this is so
        if ended and self.take.request.deterministic:
            # What was due before the end was known is decoded, whether or not there was time.
            due = self._windows.plan(len(self.take.tokens) // self._per_frame, False, slack_s, cost)
            if due is not None:
                return due
        return self._windows.plan(self.take.ready // self._per_frame, ended, slack_s, cost)

    def _decode_job(self, window: Window) -> DecodeJob:
        per_frame = self._per_frame
        return DecodeJob(
            stream=self._stream,
            window=window,
            tokens=np.array(
                self.take.tokens[window.begin * per_frame : window.stop * per_frame], np.int64
            ),
            next_sample=self._seams.next_sample,
            next_from=window.end_sample - (0 if window.last else self._cross_fade_samples),
        )

    def start(self, window: Window) -> None:
        """`window` is being decoded."""
        self._windows.take(window)
        self._due_since_s = None
        self.in_work = True

    def buffer_whole(self, samples: F32, last: bool) -> F32:
        """The whole segment with its last samples; nothing before."""
        self._held.append(samples)
        return np.concatenate(self._held) if last else samples[:0]


VocoderJob = tuple[StreamState, DecodeJob]
"""Whose window, and what the decoder is asked for."""


def token_audio(job: DecodeJob, result: Rendered) -> tuple[I64, F32]:
    """The tokens of the window's fresh frames, and their samples."""
    window, codec = job.window, job.window.codec
    first, end = (
        (frame - window.begin) * codec.tokens_per_frame for frame in (window.fresh, window.end)
    )
    start = max(window.fresh * codec.samples_per_frame - result.at, 0)
    samples = result.samples[start : window.end * codec.samples_per_frame - result.at]
    return job.tokens[first:end], samples
