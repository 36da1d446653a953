"""Priorities where language model and decoder share a CPU: who runs now, and who waits for whom.

On a CPU a step takes the longer the more sequences it has, and windows follow each other, so that
everybody waits for everybody. Three rules, two with an account of the time they lend, so that
nobody starves:

* while somebody waits for a first sound, sequences with sound in hand, and those that nobody
  listens to, let it go first;
* a later segment of a request waits where its work would leave a listener short of sound;
* a tenant that has more than twice as much in work as another lets that go first in all that it
  needs now: whoever floods is slow by itself.

Both loops ask one `PrioritySnapshot`. It computes what is asked, and nothing for a lone segment.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from chatterbox.engine.sequence import LOW_BUFFER_S, PlaybackClock, SegmentRequest
from chatterbox.engine.windows import LatencyModel

MAX_DEFICIT_S = 1.0
"""So long the others may be kept waiting at once: three times what a first sound's steps take at
full size on two cores."""
FIRST_AUDIO_SHARE = 1 / 4
"""Of the cores' time that may go to first sounds alone, where there is always one."""
TENANT_SHARE = 1 / 2
"""Of the cores' time that may go to tenants with little in work alone, where one has much."""
QUOTA_RATIO = 2
"""Times as much in work as who has least of those that need something: more is over the quota."""
SPARE_S = 0.3
"""Sound that every listener keeps beyond what the next window takes before later segments get any
of the cores' time: enough for a few steps, and for a window that takes longer than expected."""


def awaits_first_audio(request: SegmentRequest) -> bool:
    """Whether a listener waits for its first sound."""
    return request.index == 0 and request.playback.awaits_first


def has_buffer(request: SegmentRequest, now_s: float) -> bool:
    """Whether nobody would notice if it waited for a moment."""
    if request.playback.awaits_first:
        return request.index > 0  # what comes after a first sound
    return request.playback.buffered_s(now_s) > LOW_BUFFER_S


@dataclass(eq=False)
class PrioritySnapshot:
    """Who goes before whom, at one moment. Nothing is computed before it is asked for."""

    all: Sequence[SegmentRequest]  # that are in work
    runnable: Sequence[SegmentRequest]  # what can be gone on with, and waited for
    now_s: float
    may_delay_buffered: bool  # whether those with a buffer may be asked to wait
    may_delay_quota: bool  # whether those over their quota may

    @property
    def crowded(self) -> bool:
        """Whether any tenant is over its quota."""
        return len(self.all) > 1 and max(self._in_work.values()) > self._quota

    def in_work(self, request: SegmentRequest) -> int:
        """How much the request's tenant has."""
        return self._in_work[request.tenant]

    def over_quota(self, request: SegmentRequest) -> bool:
        """Whether the request's tenant is over its quota."""
        return len(self.all) > 1 and self.in_work(request) > self._quota

    def must_yield(self, request: SegmentRequest) -> bool:
        """Whether it waits since its tenant is over the quota."""
        return self.may_delay_quota and self.over_quota(request)

    def must_wait(self, request: SegmentRequest) -> bool:
        """Whether others go first, if there is anything that they can do now."""
        return self.must_yield(request) or (
            self.someone_awaits_first and has_buffer(request, self.now_s)
        )

    def may_not_begin(self, request: SegmentRequest, takes_s: float) -> bool:
        """Whether it is not to be prefilled yet, which takes so long."""
        return (
            (self.someone_awaits_first and request.index > 0)
            or self.must_wait(request)
            or self.too_early(request, takes_s)
        )

    def may_step(self, request: SegmentRequest) -> bool:
        """Whether it waits for first sounds at most."""
        return not (self.too_early(request, 0.0) or self.must_yield(request))

    def too_early(self, request: SegmentRequest, takes_s: float) -> bool:
        """Whether it is a later segment of its request, and work of so many seconds for it would
        leave some listener short of sound."""
        if not request.index or not request.playback.live:
            return False
        if request.index <= self._earliest.get(request.playback, request.index):
            return False
        return self._least_spare_s < takes_s + SPARE_S

    @cached_property
    def someone_awaits_first(self) -> bool:
        """Whether those with a buffer wait."""
        return self.may_delay_buffered and any(
            awaits_first_audio(request) and not self.must_yield(request)
            for request in self.runnable
        )

    @cached_property
    def _in_work(self) -> Counter[object]:
        return Counter(request.tenant for request in self.all)

    @cached_property
    def _quota(self) -> float:
        urgent = (
            self.in_work(one)
            for one in self.runnable
            if not (one.playback.live and has_buffer(one, self.now_s))
        )
        return QUOTA_RATIO * max(min(urgent, default=math.inf), 1)

    @cached_property
    def _earliest(self) -> dict[PlaybackClock, int]:
        """Segment of each request."""
        latest_first = sorted(self.runnable, key=lambda one: -one.index)
        return {one.playback: one.index for one in latest_first}

    @cached_property
    def _least_spare_s(self) -> float:
        playing = (one for one in self._earliest if not one.awaits_first)
        return min((one.spare_s(self.now_s) for one in playing), default=math.inf)


@dataclass
class DeficitCounter:
    """Time lent by others, and repaid by the time they have."""

    share: float  # of the time, lent in the long run
    owed_s: float = 0.0

    @property
    def open(self) -> bool:
        """Whether more may be lent."""
        return self.owed_s < MAX_DEFICIT_S

    def charge(self, took_s: float) -> None:
        """The others were left out for so long."""
        self.owed_s += took_s

    def repay(self, took_s: float) -> None:
        """The others had so much."""
        self.owed_s = max(0.0, self.owed_s - took_s * self.share / (1 - self.share))


class FairScheduler:
    """All that is in work, and the two accounts, for language model and decoder alike."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: cores are; on a GPU a step takes as long for all, and nobody waits."""
        self.newcomers: Callable[[], list[SegmentRequest]] = list
        """Whoever has come and was not seen to yet. Any thread may ask."""
        self._shared = shared
        self._lock = threading.Lock()
        self._requests: list[SegmentRequest] = []
        self.first_audio = DeficitCounter(FIRST_AUDIO_SHARE)
        self.tenants = DeficitCounter(TENANT_SHARE)
        self._step_cost = LatencyModel()  # by sequences
        self._heard = 0  # sequences of the last step whose sound comes next
        self._decoder_idle: tuple[float, DeficitCounter] | None = None  # since when, on which

    def enter(self, request: SegmentRequest) -> None:
        """It is in work until its outbox has an end or its reader leaves."""
        self._in_work()  # so that the list does not grow where nobody asks it
        with self._lock:
            self._requests.append(request)

    @property
    def contended(self) -> bool:
        """Whether there is anybody to be fair to: several segments in work, or time that is owed.
        Otherwise a snapshot has nothing to say."""
        return self._shared and (
            len(self._requests) > 1
            or self._decoder_idle is not None
            or self.first_audio.owed_s > 0
            or self.tenants.owed_s > 0
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is in work."""
        return not self._in_work()

    def snapshot(self, runnable: Iterable[SegmentRequest], now_s: float) -> PrioritySnapshot:
        """Now. `runnable`: what can be gone on with; newcomers always can."""
        candidates, in_work = [*runnable, *self.newcomers()], self._in_work()
        others = self._shared and (len(candidates) > 1 or len(in_work) > 1)
        return PrioritySnapshot(
            in_work,
            candidates,
            now_s,
            may_delay_buffered=others and self.first_audio.open,
            may_delay_quota=others and self.tenants.open,
        )

    def _in_work(self) -> list[SegmentRequest]:
        with self._lock:
            self._requests = [
                one for one in self._requests if not (one.outbox.closed or one.outbox.ended)
            ]
            return self._requests

    @property
    def token_s(self) -> float:
        """What the next token costs the cores that the decoder needs; 0 where it has its own."""
        return self._step_cost.estimate().seconds(self._heard) if self._heard else 0.0

    def learn_step(self, requests: Sequence[SegmentRequest], took_s: float) -> None:
        """A step of `requests` took so long: what the next token costs the decoder's windows."""
        if self._shared:
            self._step_cost.add(len(requests), took_s)
            heard = sum([one.index <= one.playback.segment for one in requests])
            self._heard = max(heard, 1)

    def charge_step(
        self,
        snapshot: PrioritySnapshot,
        requests: Sequence[SegmentRequest],
        took_s: float,
        *,
        buffered_left_out: bool,
    ) -> None:
        """A step of `requests` took so long."""
        with self._lock:
            self._charge_tenants(snapshot, requests, took_s)
            if buffered_left_out:
                self._charge(self.first_audio, took_s)
            else:
                self.first_audio.repay(took_s)

    def charge_windows(
        self, snapshot: PrioritySnapshot, requests: Sequence[SegmentRequest], took_s: float
    ) -> None:
        """Windows of `requests` took so long."""
        with self._lock:
            self._charge_tenants(snapshot, requests, took_s)
            if not any(map(awaits_first_audio, requests)):
                self.first_audio.repay(took_s)

    def decoder_idle(self, snapshot: PrioritySnapshot, *, must_wait: bool) -> None:
        """Told again and again while all windows wait for others, and when they do no more."""
        with self._lock:
            if self._decoder_idle is not None:
                since_s, account = self._decoder_idle
                account.charge(snapshot.now_s - since_s)
            self._decoder_idle = None
            if must_wait:
                account = self.tenants if snapshot.crowded else self.first_audio
                self._decoder_idle = snapshot.now_s, account

    def _charge_tenants(
        self, snapshot: PrioritySnapshot, requests: Sequence[SegmentRequest], took_s: float
    ) -> None:
        if not snapshot.crowded:
            return
        if any(map(snapshot.over_quota, requests)):
            self.tenants.repay(took_s)
        else:
            self._charge(self.tenants, took_s)

    def _charge(self, account: DeficitCounter, took_s: float) -> None:
        if self._decoder_idle is None or self._decoder_idle[1] is not account:  # else it is counted
            account.charge(took_s)
