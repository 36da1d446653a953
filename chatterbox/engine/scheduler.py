"""Continuous-batching scheduler: which sequences run, in which slots."""

import heapq
from collections import Counter

from chatterbox.engine.fairness import FairScheduler, PrioritySnapshot, has_buffer
from chatterbox.engine.sequence import Sequence

SLOTS_PER_RESERVED = 8
"""One slot in eight is reserved for first segments, so that later segments generated ahead cannot
occupy every slot while a listener waits for a first sound."""


class Scheduler:
    """Waiting sequences, and running ones in a fixed number of slots.

    Retries are admitted first, then first segments (some slots are reserved for them), then later
    segments; among equals those of the tenant with the fewest running, then in order of arrival. No
    sequence starves, since a request keeps its admission until its last segment is done.
    """

    def __init__(self, slots: int, fairness: FairScheduler) -> None:
        self.waiting: list[Sequence] = []  # for a slot, in order of arrival
        self.running: dict[int, Sequence] = {}  # by slot, in order of admission
        self._fairness = fairness
        self._last_choice: tuple[PrioritySnapshot, list[Sequence]] | None = None
        self._reserved = slots // SLOTS_PER_RESERVED
        self._free = list(range(slots))  # a heap: low slots first keeps running ones together

    def admit(self, prefill_s: float, now_s: float) -> Sequence | None:
        """Give the next waiting sequence a slot. Returns None if no sequence may start now.
        `prefill_s`: expected duration of its prefill."""
        ready = self._admissible()
        if ready and self._fairness.contended:
            snapshot = self._fairness.snapshot([*self.runnable(), *ready], now_s)
            ready = [one for one in ready if not snapshot.may_not_begin(one, prefill_s)]
        if not ready:
            return None
        running = Counter(one.tenant for one in self.running.values())
        sequence = min(ready, key=lambda one: (not one.retries, one.index > 0, running[one.tenant]))
        self.waiting.remove(sequence)
        sequence.slot = heapq.heappop(self._free)
        self.running[sequence.slot] = sequence
        return sequence

    def next_batch(self, now_s: float) -> list[Sequence]:
        """The running sequences that take a step now: all that need not wait for others."""
        runnable = self.runnable()
        self._last_choice = None
        if not runnable or not self._fairness.contended:
            return runnable
        admissible = self._admissible()
        snapshot = self._fairness.snapshot([*runnable, *admissible], now_s)
        self._last_choice = snapshot, runnable
        ready = [one for one in runnable if not snapshot.too_early(one, 0.0)]
        urgent = [one for one in ready if not snapshot.must_wait(one)]
        if not urgent and (admissible or self._fairness.newcomers()):
            return []  # a sequence that they wait for is prefilled next
        return urgent or ready

    def stepped(self, batch: list[Sequence], took_s: float) -> None:
        """Record the duration of a step of `batch`, the last one chosen."""
        self._fairness.learn_step(batch, took_s)
        if self._last_choice is None:
            return
        snapshot, runnable = self._last_choice
        left_out = any(one not in batch and snapshot.may_step(one) for one in runnable)
        self._fairness.charge_step(snapshot, batch, took_s, buffered_left_out=left_out)

    def runnable(self) -> list[Sequence]:
        """Running sequences whose reader keeps up."""
        return [one for one in self.running.values() if not one.outbox.full]

    def is_hurried(self, now_s: float) -> bool:
        """Whether the listener of a running sequence would notice a short delay."""
        return not all(has_buffer(one, now_s) for one in self.running.values())

    def drop_cancelled(self) -> list[Sequence]:
        """Drop waiting sequences whose reader has left. Returns the running ones, which the caller
        must release, and waiting retries."""
        cancelled = [one for one in self.running.values() if one.outbox.closed]
        if self.waiting:
            cancelled += [one for one in self.waiting if one.outbox.closed and one.retries]
            self.waiting = [one for one in self.waiting if not one.outbox.closed]
        return cancelled

    def release(self, sequence: Sequence) -> int:
        """Take a running sequence's slot back; returns the slot."""
        slot = sequence.slot
        assert self.running.get(slot) is sequence, "a slot is released by the sequence in it"
        del self.running[slot]
        sequence.slot = -1
        heapq.heappush(self._free, slot)
        return slot

    def sequences(self) -> list[Sequence]:
        """All running and waiting sequences. Any thread may call."""
        return [*list(self.running.values()), *list(self.waiting)]

    def clear(self) -> None:
        """Drop every sequence."""
        self.running.clear()
        self.waiting.clear()

    def _admissible(self) -> list[Sequence]:
        """Waiting sequences for which there is a slot."""
        if not (self.waiting and self._free):
            return []
        any_index = len(self._free) > self._reserved
        return [
            one for one in self.waiting if (any_index or not one.index) and not one.outbox.closed
        ]
