"""Continuous-batching scheduler: which sequences run, in which slots."""

import heapq
from collections import Counter

from chatterbox.engine.fairness import FairScheduler, PrioritySnapshot, has_buffer
from chatterbox.engine.sequence import SegmentRequest, Sequence

RESERVED_SHARE = 8
"""One slot in so many is reserved for first segments: what others generate ahead may not keep a
listener, who has heard nothing yet, waiting for one of their segments to end."""


class Scheduler:
    """Waiting sequences, and running ones in a fixed number of slots.

    Retries are admitted first, then first segments (some slots are reserved for them), then later
    ones; among equals those of the tenant with the fewest running, then in order of arrival. Nobody
    starves, since a request holds its place, and so keeps newcomers out, until its last segment is
    done.
    """

    def __init__(self, slots: int, fairness: FairScheduler) -> None:
        self.waiting: list[Sequence] = []  # for a slot, in order of arrival
        self.running: dict[int, Sequence] = {}  # slot → sequence, in order of admission
        self._fairness = fairness
        self._chosen: tuple[PrioritySnapshot, list[Sequence]] | None = None
        self._reserved = slots // RESERVED_SHARE
        self._free = list(range(slots))  # a heap: low slots first keeps the running ones together

    def admit(self, prefill_s: float, now_s: float) -> Sequence | None:
        """Give the next waiting sequence a slot; None when there is no sequence, no slot for it, or
        others go first. `prefill_s`: what its prefill will take."""
        ready = self._admissible()
        if ready and self._fairness.contended:
            snapshot = self._snapshot([*self.runnable(), *ready], now_s)
            ready = [one for one in ready if not snapshot.may_not_begin(one.request, prefill_s)]
        if not ready:
            return None
        running = Counter(one.request.tenant for one in self.running.values())
        sequence = min(
            ready,
            key=lambda one: (not one.retries, one.request.index > 0, running[one.request.tenant]),
        )
        self.waiting.remove(sequence)
        sequence.slot = heapq.heappop(self._free)
        self.running[sequence.slot] = sequence
        return sequence

    def next_batch(self, now_s: float) -> list[Sequence]:
        """The running sequences that step now: all that need not wait for others."""
        runnable = self.runnable()
        self._chosen = None
        if not runnable or not self._fairness.contended:
            return runnable
        admissible = self._admissible()
        snapshot = self._snapshot([*runnable, *admissible], now_s)
        self._chosen = snapshot, runnable
        ready = [one for one in runnable if not snapshot.too_early(one.request, 0.0)]
        urgent = [one for one in ready if not snapshot.must_wait(one.request)]
        if not urgent and (admissible or self._fairness.newcomers()):
            return []  # they wait for who is prefilled next
        return urgent or ready

    def stepped(self, batch: list[Sequence], took_s: float) -> None:
        """The step of `batch`, the last one chosen, took so long."""
        requests = [one.request for one in batch]
        self._fairness.learn_step(requests, took_s)
        if self._chosen is None:
            return
        snapshot, runnable = self._chosen
        left_out = any(one not in batch and snapshot.may_step(one.request) for one in runnable)
        self._fairness.charge_step(snapshot, requests, took_s, buffered_left_out=left_out)

    def runnable(self) -> list[Sequence]:
        """Running sequences whose reader keeps up."""
        return [one for one in self.running.values() if not one.request.outbox.full]

    def hurried(self, now_s: float) -> bool:
        """Whether a running sequence would be missed if it waited for a moment."""
        return not all(has_buffer(one.request, now_s) for one in self.running.values())

    def _admissible(self) -> list[Sequence]:
        """Waiting sequences for which there is a slot."""
        if not (self.waiting and self._free):
            return []
        later_too = len(self._free) > self._reserved
        return [
            one
            for one in self.waiting
            if (later_too or not one.request.index) and not one.request.outbox.closed
        ]

    def drop_cancelled(self) -> list[Sequence]:
        """Forget waiting sequences whose reader has left; returns those that had been begun: the
        running ones, which are still to be released, and the waiting retries."""
        left = [one for one in self.running.values() if one.request.outbox.closed]
        if self.waiting:
            left += [one for one in self.waiting if one.request.outbox.closed and one.retries]
            self.waiting = [one for one in self.waiting if not one.request.outbox.closed]
        return left

    def release(self, sequence: Sequence) -> int:
        """Take a running sequence's slot back; returns the slot."""
        slot = sequence.slot
        assert self.running.get(slot) is sequence, "a slot is released by the sequence in it"
        del self.running[slot]
        sequence.slot = -1
        heapq.heappush(self._free, slot)
        return slot

    def requests(self) -> list[SegmentRequest]:
        """Of every sequence, running and waiting. Another thread may ask."""
        return [one.request for one in (*list(self.running.values()), *list(self.waiting))]

    def _snapshot(self, sequences: list[Sequence], now_s: float) -> PrioritySnapshot:
        return self._fairness.snapshot([one.request for one in sequences], now_s)

    def clear(self) -> None:
        """Forget every sequence."""
        self.running.clear()
        self.waiting.clear()
