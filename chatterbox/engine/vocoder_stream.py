"""What becomes of one attempt's codes on their way to sound: which window next, for whom, how soon?

Knows one track, its windows and its seams; calls no decoder.
"""

import numpy as np

from chatterbox.audio.ceiling import Ceiling
from chatterbox.engine.fairness import PrioritySnapshot, awaits_first_audio
from chatterbox.engine.take import Take
from chatterbox.engine.window_queue import Due
from chatterbox.engine.windows import Crossfader, DecodeCost, Windows, WindowSettings
from chatterbox.runtime.contract import F32, I64, SAMPLES_PER_CODE
from chatterbox.runtime.streaming_decoder import (
    DecodeJob,
    DecodeStream,
    Rendered,
    StreamingDecoder,
    Window,
)


class StreamState:
    """A track on its way to sound."""

    def __init__(
        self,
        track: Take,
        stream: DecodeStream,
        settings: WindowSettings,
        loudest_rms: float | None = None,
    ) -> None:
        self.track = track
        self._ceiling = Ceiling(loudest_rms) if loudest_rms else None
        self.in_work = False  # a window of it is being decoded, or waits within its batch
        self._seams = Crossfader(settings.cross_fade_samples)
        self._stream = stream
        self._windows = Windows(
            settings, fixed_schedule=track.job.deterministic, speed=track.job.playback.speed
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
        return awaits_first_audio(self.track.job)

    @property
    def over(self) -> bool:
        """Whether nobody wants the sound of this attempt any more."""
        outbox = self.track.job.outbox
        return self.track.void or outbox.closed or outbox.ended

    def offer(
        self,
        decoder: StreamingDecoder,
        slack_s: float,
        cost: DecodeCost,
        standing: PrioritySnapshot,
    ) -> "Due[Asked] | None":
        """The window to decode now, if any, and what its choice needs to know of it. None for a
        reader who is far behind, and none before the window in work is done: windows follow each
        other."""
        if self.in_work or self.track.job.outbox.full:
            return None
        window = self._plan(slack_s, cost)
        if window is None or standing.too_early(self.track.job, cost.seconds(window.fed_codes)):
            return None
        now_s, job = standing.now_s, self._asked(window)
        self._due_since_s = now_s if self._due_since_s is None else self._due_since_s
        return Due(
            what=(self, job),
            bucket=decoder.bucket(job),
            first=self.silent,
            in_work=standing.in_work(self.track.job),
            slack_s=slack_s,
            index=self.track.job.index,
            waited_s=now_s - self._due_since_s,
        )

    def tell_listener(self, cost: DecodeCost) -> None:
        """Note how much work there is until the listener of this segment has more sound."""
        job, track = self.track.job, self.track
        if job.index == job.playback.segment:
            ended = track.end is not None
            job.playback.next_window_s = self._windows.next_window_s(track.ready, ended, cost)

    def _plan(self, slack_s: float, cost: DecodeCost) -> Window | None:
        ended = self.track.end is not None  # asked first: the count is final once this is so
        if ended and self.track.job.deterministic:
            # What was due before the end was known is decoded, whether or not there was time.
            due = self._windows.plan(len(self.track.codes), False, slack_s, cost)
            if due is not None:
                return due
        return self._windows.plan(self.track.ready, ended, slack_s, cost)

    def _asked(self, window: Window) -> DecodeJob:
        return DecodeJob(
            stream=self._stream,
            window=window,
            codes=np.array(self.track.codes[window.begin : window.stop], np.int64),
            next_sample=self._seams.next_sample,
            next_from=window.end_sample - (0 if window.last else self._cross_fade_samples),
        )

    def taken(self, window: Window) -> None:
        """`window` is being decoded."""
        self._windows.take(window)
        self._due_since_s = None
        self.in_work = True

    def held_back(self, samples: F32, last: bool) -> F32:
        """The whole segment with its last samples; nothing before."""
        self._held.append(samples)
        return np.concatenate(self._held) if last else samples[:0]


Asked = tuple[StreamState, DecodeJob]
"""Whose window, and what the decoder is asked for."""


def became(job: DecodeJob, result: Rendered) -> tuple[I64, F32]:
    """The window's fresh codes and their samples."""
    window = job.window
    codes = job.codes[window.fresh - window.begin : window.end - window.begin]
    start = max(window.fresh * SAMPLES_PER_CODE - result.at, 0)
    return codes, result.samples[start : window.end * SAMPLES_PER_CODE - result.at]
