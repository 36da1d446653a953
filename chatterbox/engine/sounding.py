"""What becomes of one attempt's codes on their way to sound: which window next, for whom, how soon?

Knows one track, its windows and its seams; calls no decoder.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from chatterbox.engine.decode_batch import Due
from chatterbox.engine.favour import hoped_for
from chatterbox.engine.track import Track
from chatterbox.engine.windows import DecodeCost, Seams, Windows
from chatterbox.model.contract import F32, I64, SAMPLES_PER_CODE
from chatterbox.model.decoder_contract import DecodeJob, DecodeStream, Rendered, Window

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Sounding:
    """A track on its way to sound."""

    track: Track
    windows: Windows
    seams: Seams
    stream: DecodeStream
    held: list[F32] = field(default_factory=list)
    due_since_s: float | None = None
    in_work: bool = False  # a window of it is being decoded, or waits within its batch

    @property
    def silent(self) -> bool:
        """Whether somebody waits for its first sound."""
        return hoped_for(self.track.job)

    @property
    def over(self) -> bool:
        """Whether nobody wants the sound of this attempt any more."""
        outbox = self.track.job.outbox
        return self.track.void or outbox.closed or outbox.ended

    def plan(self, slack_s: float, cost: DecodeCost) -> Window | None:
        """The window to decode now, if any; none for a reader who is far behind, and none before
        the window in work is done: windows follow each other."""
        if self.in_work or self.track.job.outbox.full:
            return None
        ended = self.track.end is not None  # asked first: the count is final once this is so
        if ended and self.track.job.repeatable:
            # What was due before the end was known is decoded, whether or not there was time.
            due = self.windows.plan(len(self.track.codes), False, slack_s, cost)
            if due is not None:
                return due
        return self.windows.plan(self.track.ready, ended, slack_s, cost)

    def job(self, window: Window, cross_fade_samples: int) -> DecodeJob:
        """What the decoder is asked for."""
        return DecodeJob(
            stream=self.stream,
            window=window,
            codes=np.array(self.track.codes[window.begin : window.stop], np.int64),
            needs_from=self.seams.needs_from,
            next_from=window.end_sample - (0 if window.last else cross_fade_samples),
        )

    def due(
        self, what: T, bucket: Hashable, *, in_work: int, slack_s: float, now_s: float
    ) -> Due[T]:
        """What the choice of the next call needs to know of a planned window."""
        self.due_since_s = now_s if self.due_since_s is None else self.due_since_s
        return Due(
            what=what,
            bucket=bucket,
            first=self.silent,
            in_work=in_work,
            slack_s=slack_s,
            waited_s=now_s - self.due_since_s,
        )

    def taken(self, window: Window) -> None:
        """`window` is being decoded."""
        self.windows.take(window)
        self.due_since_s = None
        self.in_work = True

    def held_back(self, samples: F32, last: bool) -> F32:
        """The whole segment with its last samples; nothing before."""
        self.held.append(samples)
        return np.concatenate(self.held) if last else samples[:0]


def became(job: DecodeJob, result: Rendered) -> tuple[I64, F32]:
    """The window's fresh codes and their samples."""
    window = job.window
    codes = job.codes[window.fresh - window.begin : window.end - window.begin]
    start = max(window.fresh * SAMPLES_PER_CODE - result.at, 0)
    return codes, result.samples[start : window.end * SAMPLES_PER_CODE - result.at]
