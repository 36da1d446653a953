"""Who stands aside for whom, where language model and decoder share the same cores?

Knows jobs, their parties, their listeners and seconds; no model. On a CPU a step takes the longer
the more rows it has, and windows follow each other, so that everybody waits for everybody. Three
rules, two with an account of the time they lend, so that nobody starves:

* while somebody waits for a first sound, rows with sound in hand, and those that nobody listens to,
  let it go first;
* a later segment of a request waits where its work would leave a listener short of sound;
* a party that has more than twice as much in work as another lets that go first in all that it
  needs now: whoever floods is slow by itself.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from chatterbox.engine.playback import PlaybackClock
from chatterbox.engine.scheduler import SegmentRequest
from chatterbox.engine.window_queue import LOW_BUFFER_S

MAX_DEFICIT_S = 1.0
"""So long the others may be kept waiting at once: three times what a first sound's steps take at
full size on two cores."""
FIRST_AUDIO_SHARE = 1 / 4
"""Of the cores' time that may go to first sounds alone, where there is always one."""
TENANT_SHARE = 1 / 2
"""Of the cores' time that may go to parties with little in work alone, where one has much."""
QUOTA_RATIO = 2
"""Times as much in work as who has least of those that need something: more is a crowd."""


SPARE_S = 0.3
"""Sound that every listener keeps beyond what the next window takes before later segments get any
of the cores' time: enough for a few steps, and for a window that takes longer than expected."""


def awaits_first_audio(job: SegmentRequest) -> bool:
    """Whether a listener waits for its first sound."""
    return job.index == 0 and job.playback.awaits_first


def has_buffer(job: SegmentRequest, now_s: float) -> bool:
    """Whether nobody would notice if it stood aside for a moment."""
    if job.playback.awaits_first:
        return job.index > 0  # what comes after a first sound
    return job.playback.buffered_s(now_s) > LOW_BUFFER_S


class PrioritySnapshot:
    """Who goes before whom, at one moment."""

    def __init__(
        self,
        jobs: Iterable[SegmentRequest],
        runnable: Sequence[SegmentRequest],
        now_s: float,
        *,
        may_delay_buffered: bool = True,
        may_delay_quota: bool = True,
    ) -> None:
        """`jobs`: all that are in work. `runnable`: what can be gone on with, and stood aside for,
        where the calm and the crowds may be asked to."""
        self.now_s = now_s
        self._earliest: dict[PlaybackClock, int] = {}  # segment of each request
        for job in runnable:
            earliest = self._earliest.get(job.playback, job.index)
            self._earliest[job.playback] = min(earliest, job.index)
        self._in_work = Counter(job.tenant for job in jobs)
        needy = (job for job in runnable if not (job.playback.live and has_buffer(job, now_s)))
        self._bound = QUOTA_RATIO * max(min(map(self.in_work, needy), default=math.inf), 1)
        self._crowds_may = may_delay_quota
        hoped = (job for job in runnable if awaits_first_audio(job))
        self.someone_awaits_first = may_delay_buffered and any(
            not self.must_yield(job) for job in hoped
        )
        """Whether what is calm stands aside."""

    @property
    def crowded(self) -> bool:
        """Whether any party is a crowd."""
        return max(self._in_work.values(), default=0) > self._bound

    def in_work(self, job: SegmentRequest) -> int:
        """How much the job's party has."""
        return self._in_work[job.tenant]

    def over_quota(self, job: SegmentRequest) -> bool:
        """Whether the job's party is a crowd."""
        return self.in_work(job) > self._bound

    def must_yield(self, job: SegmentRequest) -> bool:
        """Whether it stands aside since its party is a crowd."""
        return self._crowds_may and self.over_quota(job)

    def too_early(self, job: SegmentRequest, takes_s: float) -> bool:
        """Whether it is a later segment of its request, and work of so many seconds for it would
        leave some listener short of sound."""
        if not job.playback.live or job.index <= self._earliest.get(job.playback, job.index):
            return False
        return self._least_spare_s < takes_s + SPARE_S

    @cached_property
    def _least_spare_s(self) -> float:
        playing = (one for one in self._earliest if not one.awaits_first)
        return min((one.spare_s(self.now_s) for one in playing), default=math.inf)

    def must_wait(self, job: SegmentRequest) -> bool:
        """Whether it stands aside."""
        return self.must_yield(job) or (self.someone_awaits_first and has_buffer(job, self.now_s))


class DeficitCounter:
    """Time lent by others, and paid back by what they have."""

    def __init__(self, share: float) -> None:
        """`share`: of the time, lent in the long run."""
        self._paid_back = share / (1 - share)
        self._owed_s = 0.0

    @property
    def open(self) -> bool:
        """Whether more may be lent."""
        return self._owed_s < MAX_DEFICIT_S

    def charge(self, took_s: float) -> None:
        """The others were left out for so long."""
        self._owed_s += took_s

    def repay(self, took_s: float) -> None:
        """The others had so much."""
        self._owed_s = max(0.0, self._owed_s - took_s * self._paid_back)


class FairScheduler:
    """All that is in work, and the two accounts, for language model and decoder alike."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: cores are; on a GPU a step takes as long for all, and nobody stands aside."""
        self._shared = shared
        self._lock = threading.Lock()
        self._jobs: list[SegmentRequest] = []
        self._newcomers: Callable[[], Iterable[SegmentRequest]] = tuple
        self._first_sounds = DeficitCounter(FIRST_AUDIO_SHARE)
        self._parties = DeficitCounter(TENANT_SHARE)
        self._aside: tuple[float, DeficitCounter] | None = None  # all windows: since when, on which

    def enter(self, job: SegmentRequest) -> None:
        """It is in work until its outbox has an end or its reader leaves."""
        with self._lock:
            self._jobs.append(job)

    @property
    def idle(self) -> bool:
        """Whether nothing is in work."""
        return not self._in_work()

    def watch_arrivals(self, newcomers: Callable[[], Iterable[SegmentRequest]]) -> None:
        """`newcomers`: whoever has come and was not seen to yet. May be asked by any thread."""
        self._newcomers = newcomers

    def standing(self, runnable: Iterable[SegmentRequest], now_s: float) -> PrioritySnapshot:
        """Now. `runnable`: what can be gone on with; newcomers always can."""
        return PrioritySnapshot(
            self._in_work(),
            [*runnable, *self._newcomers()],
            now_s,
            may_delay_buffered=self._shared and self._first_sounds.open,
            may_delay_quota=self._shared and self._parties.open,
        )

    def _in_work(self) -> list[SegmentRequest]:
        with self._lock:
            self._jobs = [j for j in self._jobs if not (j.outbox.closed or j.outbox.ended)]
            return self._jobs

    def stepped(
        self,
        standing: PrioritySnapshot,
        jobs: Sequence[SegmentRequest],
        took_s: float,
        *,
        calm_left_out: bool,
    ) -> None:
        """A step of `jobs` took so long."""
        self._between_parties(standing, jobs, took_s)
        if calm_left_out:
            self._lend(self._first_sounds, took_s)
        else:
            self._first_sounds.repay(took_s)

    def decoded(
        self, standing: PrioritySnapshot, jobs: Sequence[SegmentRequest], took_s: float
    ) -> None:
        """Windows of `jobs` took so long."""
        self._between_parties(standing, jobs, took_s)
        if not any(map(awaits_first_audio, jobs)):
            self._first_sounds.repay(took_s)

    def decoder_idle(self, standing: PrioritySnapshot, *, must_wait: bool) -> None:
        """Told again and again while all windows stand aside, and when they do no more."""
        if self._aside is not None:
            since_s, account = self._aside
            account.charge(standing.now_s - since_s)
        account = self._parties if standing.crowded else self._first_sounds
        self._aside = (standing.now_s, account) if must_wait else None

    def _between_parties(
        self, standing: PrioritySnapshot, jobs: Sequence[SegmentRequest], took_s: float
    ) -> None:
        if any(map(standing.over_quota, jobs)):
            self._parties.repay(took_s)
        elif standing.crowded:
            self._lend(self._parties, took_s)

    def _lend(self, account: DeficitCounter, took_s: float) -> None:
        if self._aside is None or self._aside[1] is not account:  # else it is counted already
            account.charge(took_s)
