"""Priorities where language model and decoder share a CPU: which sequences run and which wait.

On a CPU a step takes longer the more sequences it has, and windows are decoded one after another,
so every sequence delays the others. Three rules decide who goes first. Two of them keep an account
of the time they take from others, so that nobody starves:

* While a listener waits for a first sound, sequences whose listener has sound in hand, and those
  without a listener, wait.
* A later segment of a request waits while its work would leave a listener short of sound.
* A tenant with more than twice as much in work as another waits for that one.

Both loops ask a `PrioritySnapshot`, which computes only what is asked.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from chatterbox.engine.sequence import LOW_BUFFER_S, PlaybackClock, Sequence
from chatterbox.engine.windows import LatencyModel

MAX_DEFICIT_S = 1.0
"""Longest time that others may be kept waiting at once: three times what the steps before a first
sound take with the full-size model on two cores."""
FIRST_AUDIO_SHARE = 1 / 4
"""Share of the cores' time that first sounds may take from others in the long run."""
TENANT_SHARE = 1 / 2
"""Share of the cores' time that tenants within their quota may take from those over it."""
QUOTA_RATIO = 2
"""A tenant is over its quota with more than this many times the work of the least busy tenant that
needs something now."""
SPARE_S = 0.3
"""Sound that every listener must have beyond the duration of the next window before later segments
are worked on: enough for a few steps, and for a window that takes longer than expected."""


def awaits_first_audio(sequence: Sequence) -> bool:
    """Whether a listener is waiting for this segment as the first sound."""
    return sequence.index == 0 and sequence.playback.awaits_first


def has_buffer(sequence: Sequence, now_s: float) -> bool:
    """Whether a short delay of this segment would go unnoticed."""
    if sequence.playback.awaits_first:
        return sequence.index > 0  # it plays after the first sound
    return sequence.playback.buffered_s(now_s) > LOW_BUFFER_S


@dataclass(eq=False)
class PrioritySnapshot:
    """Priorities at one moment."""

    all: list[Sequence]  # segments in work
    runnable: list[Sequence]  # those that can go on now
    now_s: float
    may_delay_buffered: bool  # whether the account of first sounds allows it
    may_delay_quota: bool  # whether the account of tenants allows it

    @property
    def crowded(self) -> bool:
        """Whether any tenant is over its quota."""
        return len(self.all) > 1 and max(self._in_work.values()) > self._quota

    def in_work(self, sequence: Sequence) -> int:
        """Number of segments in work of the segment's tenant."""
        return self._in_work[sequence.tenant]

    def over_quota(self, sequence: Sequence) -> bool:
        """Whether the segment's tenant is over its quota."""
        return len(self.all) > 1 and self.in_work(sequence) > self._quota

    def must_yield(self, sequence: Sequence) -> bool:
        """Whether the segment waits because its tenant is over the quota."""
        return self.may_delay_quota and self.over_quota(sequence)

    def must_wait(self, sequence: Sequence) -> bool:
        """Whether other segments go first, if they can go on now."""
        return self.must_yield(sequence) or (self.awaits_first and has_buffer(sequence, self.now_s))

    def may_not_begin(self, sequence: Sequence, work_s: float) -> bool:
        """Whether the segment should not be prefilled yet, which takes `work_s`."""
        return (
            (self.awaits_first and sequence.index > 0)
            or self.must_wait(sequence)
            or self.too_early(sequence, work_s)
        )

    def may_step(self, sequence: Sequence) -> bool:
        """Whether nothing but a first sound would make the segment wait."""
        return not (self.too_early(sequence, 0.0) or self.must_yield(sequence))

    def too_early(self, sequence: Sequence, work_s: float) -> bool:
        """Whether this is a later segment of its request, and `work_s` seconds of work on it would
        leave a listener short of sound."""
        if not sequence.index or not sequence.playback.live:
            return False
        if sequence.index <= self._earliest.get(sequence.playback, sequence.index):
            return False
        return self._least_spare_s < work_s + SPARE_S

    @cached_property
    def awaits_first(self) -> bool:
        """Whether a first sound goes before segments with sound in hand."""
        return self.may_delay_buffered and any(
            awaits_first_audio(sequence) and not self.must_yield(sequence)
            for sequence in self.runnable
        )

    @cached_property
    def _in_work(self) -> Counter[object]:
        return Counter(sequence.tenant for sequence in self.all)

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
        """Index of the earliest segment of each sequence."""
        latest_first = sorted(self.runnable, key=lambda one: -one.index)
        return {one.playback: one.index for one in latest_first}

    @cached_property
    def _least_spare_s(self) -> float:
        playing = (one for one in self._earliest if not one.awaits_first)
        return min((one.spare_s(self.now_s) for one in playing), default=math.inf)


@dataclass
class DeficitCounter:
    """Account of the time that one kind of work has taken from others."""

    share: float  # of the time that it may take in the long run
    owed_s: float = 0.0

    @property
    def open(self) -> bool:
        """Whether more may be taken."""
        return self.owed_s < MAX_DEFICIT_S

    def charge(self, took_s: float) -> None:
        """Others waited for `took_s`."""
        self.owed_s += took_s

    def repay(self, took_s: float) -> None:
        """Others worked for `took_s`."""
        self.owed_s = max(0.0, self.owed_s - took_s * self.share / (1 - self.share))


class FairScheduler:
    """The segments in work and the two accounts, shared by both loops. Thread-safe."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: both loops use the same cores. Otherwise no sequence ever waits."""
        self.newcomers: Callable[[], list[Sequence]] = list
        """Returns segments submitted but not yet received. Any thread may call."""
        self._shared = shared
        self._lock = threading.Lock()
        self._sequences: list[Sequence] = []
        self.first_audio = DeficitCounter(FIRST_AUDIO_SHARE)
        self.tenants = DeficitCounter(TENANT_SHARE)
        self._step_cost = LatencyModel()  # by sequences
        self._current = 0  # segments of the last step that play now or next
        self._decoder_idle: tuple[float, DeficitCounter] | None = None  # since when, and which

    def add(self, sequence: Sequence) -> None:
        """Count a segment as in work until its outbox is ended or closed."""
        self._in_work()  # drops ended ones, so that the list cannot grow
        with self._lock:
            self._sequences.append(sequence)

    @property
    def contended(self) -> bool:
        """Whether priorities matter: several segments are in work, or an account is not settled."""
        return self._shared and (
            len(self._sequences) > 1
            or self._decoder_idle is not None
            or self.first_audio.owed_s > 0
            or self.tenants.owed_s > 0
        )

    @property
    def idle(self) -> bool:
        """Whether no segment is in work."""
        return not self._in_work()

    def snapshot(self, runnable: Iterable[Sequence], now_s: float) -> PrioritySnapshot:
        """Priorities now. `runnable`: segments that can go on; newcomers are added."""
        candidates, in_work = [*runnable, *self.newcomers()], self._in_work()
        others = self._shared and (len(candidates) > 1 or len(in_work) > 1)
        return PrioritySnapshot(
            in_work,
            candidates,
            now_s,
            may_delay_buffered=others and self.first_audio.open,
            may_delay_quota=others and self.tenants.open,
        )

    def _in_work(self) -> list[Sequence]:
        with self._lock:
            self._sequences = [
                one for one in self._sequences if not (one.outbox.closed or one.outbox.ended)
            ]
            return self._sequences

    @property
    def token_s(self) -> float:
        """Seconds that the next token takes from the decoder's cores; 0 if not shared."""
        return self._step_cost.estimate().seconds(self._current) if self._current else 0.0

    def learn_step(self, group: list[Sequence], took_s: float) -> None:
        """Record the duration of a step, for `token_s`."""
        if self._shared:
            self._step_cost.add(len(group), took_s)
            current = sum([one.index <= one.playback.segment for one in group])
            self._current = max(current, 1)

    def charge_step(
        self,
        snapshot: PrioritySnapshot,
        group: list[Sequence],
        took_s: float,
        *,
        buffered_left_out: bool,
    ) -> None:
        """Record who worked and who waited during a step. `buffered_left_out`: a sequence waited
        for a first sound."""
        with self._lock:
            self._charge_tenants(snapshot, group, took_s)
            if buffered_left_out:
                self._charge(self.first_audio, took_s)
            else:
                self.first_audio.repay(took_s)

    def charge_windows(
        self, snapshot: PrioritySnapshot, group: list[Sequence], took_s: float
    ) -> None:
        """Record who worked while windows were decoded."""
        with self._lock:
            self._charge_tenants(snapshot, group, took_s)
            if not any(map(awaits_first_audio, group)):
                self.first_audio.repay(took_s)

    def decoder_idle(self, snapshot: PrioritySnapshot, *, must_wait: bool) -> None:
        """Record that all windows wait for others (`must_wait`), or no longer do. The vocoding loop
        calls this repeatedly while they wait."""
        with self._lock:
            if self._decoder_idle is not None:
                since_s, account = self._decoder_idle
                account.charge(snapshot.now_s - since_s)
            self._decoder_idle = None
            if must_wait:
                account = self.tenants if snapshot.crowded else self.first_audio
                self._decoder_idle = snapshot.now_s, account

    def _charge_tenants(
        self, snapshot: PrioritySnapshot, group: list[Sequence], took_s: float
    ) -> None:
        if not snapshot.crowded:
            return
        if any(map(snapshot.over_quota, group)):
            self.tenants.repay(took_s)
        else:
            self._charge(self.tenants, took_s)

    def _charge(self, account: DeficitCounter, took_s: float) -> None:
        charged_by_idle = self._decoder_idle is not None and self._decoder_idle[1] is account
        if not charged_by_idle:
            account.charge(took_s)
