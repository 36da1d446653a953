"""What does the engine do, step by step? The heart: take in → reap → admit → step → deliver.

One thread runs it and owns the language model, the slots and the sampler. Knows no text, no event
loop and no socket; it meets the others at the inbox, the tracks and the outboxes.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from chatterbox.engine.batch_retry import SplittingBatch
from chatterbox.engine.cpu_lock import CpuLock
from chatterbox.engine.fairness import PrioritySnapshot
from chatterbox.engine.latency import LatencyModel
from chatterbox.engine.outbox import FinishReason
from chatterbox.engine.retries import Attempt, after, first_take, judge
from chatterbox.engine.runaway import Verdict
from chatterbox.engine.sampler import INVALID_ROW, Sampler
from chatterbox.engine.scheduler import Row, Scheduler, SegmentRequest
from chatterbox.engine.stats import Counters
from chatterbox.engine.take import Take
from chatterbox.engine.threads import CommandQueue, Heartbeat, Wakeup
from chatterbox.engine.warmup import VoiceWarmup
from chatterbox.errors import ChatterboxError, EngineDead, GenerationFailed
from chatterbox.families.base import Family, LanguageModel, Prompt
from chatterbox.runtime.contract import F32
from chatterbox.runtime.ort_errors import REQUEST_ERRORS, is_request_error

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
"""Without news, should some have been missed."""


class Sound(Protocol):
    """Who cpu codes into sound: `VocodingLoop`, or a fake."""

    def open(self, job: SegmentRequest, retries: int = 0) -> Take:
        """Where the codes of an attempt at `job` go."""
        ...

    def wake(self) -> None:
        """Codes have come, or an attempt has ended."""
        ...


class GenerationLoop:
    """Continuous batching over one language model."""

    def __init__(
        self,
        model: LanguageModel,
        sound: Sound,
        counters: Counters,
        family: Family,
        *,
        cpu: CpuLock | None = None,
        guarded: bool = True,
    ) -> None:
        """`cpu`: with whom the cores are shared, if with anybody. `guarded`: whether codes that
        are no speech of their text any more are noticed."""
        self._model = model
        self._family = family
        self._cpu = cpu or CpuLock(shared=False)
        self._sound = sound
        self._counters = counters
        self._favour = self._cpu.favour
        self._inbox: CommandQueue[SegmentRequest] = CommandQueue()
        self._favour.watch_arrivals(self._inbox.items)
        self.warming = VoiceWarmup(model.cache_prefix, lambda: self.idle)
        self._guarded = guarded
        self._scheduler = Scheduler(model.slots)
        self._attempts: dict[int, Attempt] = {}  # slot → what its row is doing
        self._sampler = Sampler(model.slots, family.tokens)
        self._prefills: SplittingBatch[Row, F32] = SplittingBatch(is_request_error)
        self._steps: SplittingBatch[Row, F32] = SplittingBatch(is_request_error)
        self.heartbeat = Heartbeat("engine")
        self._prefill_s = 0.0  # what the last one took
        self._step_cost = LatencyModel()  # by rows
        self._wakeup = Wakeup()
        self._closing = False

    # --- called from other threads

    def submit(self, job: SegmentRequest) -> None:
        """Queue a segment; its outbox gets everything that follows. Raises EngineDead."""
        self._favour.enter(job)
        self._inbox.put(job)
        self._wakeup.notify()

    def warm(self, prefix: Prompt) -> None:
        """Have the language model prepare for prompts with this prefix once nothing is in work."""
        self.warming.add(prefix)
        self._wakeup.notify()

    def wake(self) -> None:
        """An outbox was closed or read: look again."""
        self._wakeup.notify()

    @property
    def idle(self) -> bool:
        """Whether no segment is in work."""
        return self._favour.idle

    def close(self) -> None:
        """Stop after the current step; every open outbox gets an error."""
        self._inbox.shut(_stopped())
        self._closing = True
        self._wakeup.notify()

    def give_up(self, error: ChatterboxError) -> None:
        """As `close`, for when this thread may hang in a step: it is not waited for."""
        self._inbox.shut(error)
        self.close()
        for job in [*self._inbox.items(), *self._scheduler.jobs()]:
            job.outbox.end(error)

    # --- the engine thread

    def run(self, on_fault: Callable[[BaseException], None]) -> None:
        """Until closed. A fault of the model ends the loop: `on_fault` is called with it, and only
        then is told whatever was in work, so that nobody who knows finds the engine alive."""
        try:
            while not self._closing:
                if not self.step():
                    self._wakeup.wait(self.heartbeat, LOOK_AGAIN_S)
            self._end_all(_stopped())
        except BaseException as fault:  # noqa: BLE001 - `on_fault` says what it was
            on_fault(fault)
            self._end_all(EngineDead("The engine stopped on a fault and is restarting."))

    def step(self) -> bool:
        """One turn; False when there was nothing to do."""
        self.heartbeat.beat()
        # Who goes is decided once the cores are free: whoever came until then is thought of.
        with self._cpu.for_model():
            self._take_in()
            self._reap()
            begun = self._admit()
        if begun is not None:
            self._sample_first(*begun)
        with self._cpu.for_model():
            stepped = self._advance()
        for rows, logits in stepped:
            if isinstance(logits, ChatterboxError):
                for row in rows:
                    self._fail(row, logits)
            else:
                self._sample(rows, logits)
        self._counters.gauge(
            running_rows=len(self._scheduler.running), waiting_rows=self._scheduler.waiting
        )
        if begun is not None or stepped or self._scheduler.runnable():
            return True
        return bool(self.warming) and self._warm_one()

    def _warm_one(self) -> bool:
        """One voice, then requests are looked for again, and the heartbeat beats."""
        with self._cpu.for_model():
            return self.warming.run_one()

    def _take_in(self) -> None:
        while (job := self._inbox.take()) is not None:
            self._scheduler.submit(job)

    def _reap(self) -> None:
        self._scheduler.drop_waiting()
        for row in self._scheduler.left():
            self._counters.add(cancelled_segments=1)
            self._release(row)

    def _standing(self) -> PrioritySnapshot:
        rows = [*self._scheduler.runnable(), *self._scheduler.admissible()]
        return self._favour.standing([row.job for row in rows], time.monotonic())

    def _admit(self) -> tuple[Row, F32 | ChatterboxError] | None:
        """At most one prefill a step, so that running rows do not wait for several."""
        if not self._scheduler.admissible():
            return None
        standing = self._standing()

        def must_wait(job: SegmentRequest) -> bool:
            return (
                (standing.someone_awaits_first and job.index > 0)
                or standing.must_wait(job)
                or (self._cpu.shared and standing.too_early(job, self._prefill_s))
            )

        row = self._scheduler.admit(must_wait)
        if row is None:
            return None
        attempt = first_take(row.job, self._sound.open, guarded=self._guarded)
        return row, self._begin(row, attempt)

    def _begin(self, row: Row, attempt: Attempt) -> F32 | ChatterboxError:
        self._attempts[row.slot] = attempt
        self._sampler.begin(row.slot, attempt.sampling)
        began_s = time.monotonic()
        ((_, logits),) = self._prefills.run([row], self._prefill)
        self._prefill_s = time.monotonic() - began_s
        self.heartbeat.beat()
        return logits

    def _sample_first(self, row: Row, logits: F32 | ChatterboxError) -> None:
        if isinstance(logits, ChatterboxError):
            self._fail(row, logits, begun=False)
        else:
            self._sample([row], logits)

    def _prefill(self, rows: Sequence[Row]) -> F32:
        """Logits [1, vocab] for the first code of one row."""
        (row,) = rows
        with self._counters.timed("prefill_s"):
            return self._model.prefill(row.slot, row.job.prompt)[None]

    def _advance(self) -> list[tuple[Sequence[Row], F32 | ChatterboxError]]:
        """One step of all that do not stand aside."""
        rows, standing = self._scheduler.runnable(), self._standing()
        if self._cpu.shared:
            rows = [row for row in rows if not standing.too_early(row.job, 0.0)]
        pressing = [row for row in rows if not standing.must_wait(row.job)]
        if not pressing and (self._inbox or self._scheduler.admissible()):
            return []  # they stand aside for who is begun next
        pressing = pressing or rows
        if not pressing:
            return []
        began_s = time.monotonic()
        stepped = self._steps.run(pressing, self._step)
        took_s = time.monotonic() - began_s
        self._step_cost.add(len(pressing), took_s)
        first = sum(row.job.index <= row.job.playback.segment for row in pressing)
        self._cpu.stepped(self._step_cost.estimate().seconds(max(first, 1)))
        left_out = [row for row in rows if not (row in pressing or standing.must_yield(row.job))]
        self._favour.stepped(
            standing, [row.job for row in pressing], took_s, calm_left_out=bool(left_out)
        )
        return stepped

    def _step(self, rows: Sequence[Row]) -> F32:
        """Logits [B, vocab] for the next code of each."""
        codes = np.array([self._attempts[row.slot].codes[-1] for row in rows], dtype=np.int64)
        with self._counters.timed("step_s"):
            logits = self._model.decode([row.slot for row in rows], codes)
        self._counters.add(steps=1, stepped_rows=len(rows))
        return logits

    def _sample(self, rows: Sequence[Row], logits: F32) -> None:
        try:
            codes = self._draw(rows, logits)
        except REQUEST_ERRORS:
            if len(rows) == 1:
                self._fail_unexpectedly(rows[0])
            else:
                for i, row in enumerate(rows):
                    self._sample([row], logits[i : i + 1])
            return
        for row, code in zip(rows, codes, strict=True):
            try:
                self._deliver(row, self._attempts[row.slot], code)
            except REQUEST_ERRORS:  # only what came of this row's text is looked at there
                self._fail_unexpectedly(row)
        self._sound.wake()

    def _draw(self, rows: Sequence[Row], logits: F32) -> list[int]:
        attempts = [self._attempts[row.slot] for row in rows]
        slots = np.array([row.slot for row in rows])
        draws = np.array([attempt.next_draw for attempt in attempts])
        positions = [len(attempt.codes) for attempt in attempts]
        with self._counters.timed("sample_s"):
            codes: list[int] = self._sampler.sample(logits, slots, draws, positions).tolist()
        return codes

    def _deliver(self, row: Row, attempt: Attempt, code: int) -> None:
        if code == INVALID_ROW:
            error = GenerationFailed("The model gave no usable numbers for this text.")
            self._fail(row, error)
            return
        if code in self._family.tokens.stop:
            self._complete(row, attempt, "stop")
            return
        attempt.codes.append(code)
        self._counters.add(codes=1)
        verdict = judge(attempt, code)
        if verdict is not None:
            self._cure(row, attempt, verdict)
        elif attempt.full:
            self._counters.add(capped_segments=1)
            self._complete(row, attempt, "length")

    def _fail(self, row: Row, error: ChatterboxError, *, begun: bool = True) -> None:
        """This row alone; `begun`: whether the model holds something of it."""
        row.job.outbox.end(error)
        self._counters.add(failed_segments=1)
        self._release(row, begun=begun)

    def _cure(self, row: Row, attempt: Attempt, verdict: Verdict) -> None:
        another = after(attempt, verdict, self._sound.open)
        if another is None:
            self._counters.add(segments=1, guarded_segments=1)
            self._release(row)
            return
        self._counters.add(retried_segments=1)
        self._model.free(row.slot)
        with self._cpu.for_model():
            logits = self._begin(row, another)
        self._sample_first(row, logits)

    def _complete(self, row: Row, attempt: Attempt, reason: FinishReason) -> None:
        self._counters.add(segments=1)
        attempt.track.finish(len(attempt.codes), reason)
        self._release(row)

    def _fail_unexpectedly(self, row: Row) -> None:
        log.exception("a row failed")
        self._fail(row, GenerationFailed("The model failed on this text."))

    def _release(self, row: Row, *, begun: bool = True) -> None:
        slot = self._scheduler.release(row)
        del self._attempts[slot]
        if begun:
            try:
                self._model.free(slot)
            except REQUEST_ERRORS:  # the next row in the slot begins anew anyway
                log.exception("slot %d was not released as it should", slot)

    def _end_all(self, error: ChatterboxError) -> None:
        self._inbox.shut(error)
        self._attempts.clear()
        for row in self._scheduler.clear():
            row.job.outbox.end(error)
        while (job := self._inbox.take()) is not None:
            job.outbox.end(error)


def _stopped() -> EngineDead:
    return EngineDead("The engine has been stopped.")
