"""What does the engine do, step by step? The heart: take in → reap → admit → step → deliver.

One thread runs it and owns the language model, the slots and the sampler. Knows no text, no event
loop and no socket; it meets the others at the inbox, the tracks and the outboxes.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from chatterbox.engine.attempts import Attempt, after, first_attempt, judge
from chatterbox.engine.bell import Bell
from chatterbox.engine.decode_cost import CostMeter
from chatterbox.engine.favour import Standing
from chatterbox.engine.guard import Verdict
from chatterbox.engine.inbox import Inbox
from chatterbox.engine.outbox import FinishReason
from chatterbox.engine.portions import Portions
from chatterbox.engine.pulse import Pulse
from chatterbox.engine.sampling import INVALID_ROW, Sampler
from chatterbox.engine.scheduler import Row, Scheduler, SegmentJob
from chatterbox.engine.stats import Counters
from chatterbox.engine.track import Track
from chatterbox.engine.turns import Turns
from chatterbox.engine.warming import Warming
from chatterbox.errors import ChatterboxError, EngineDead, GenerationFailed
from chatterbox.model.contract import F32, STOP_CODE, LanguageModel, Voice
from chatterbox.model.graph_faults import ROWS_OWN, is_rows_own

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
"""Without news, should some have been missed."""


class Sound(Protocol):
    """Who turns codes into sound: `DecodeLoop`, or a fake."""

    def open(self, job: SegmentJob, retries: int = 0) -> Track:
        """Where the codes of an attempt at `job` go."""
        ...

    def wake(self) -> None:
        """Codes have come, or an attempt has ended."""
        ...


class EngineLoop:
    """Continuous batching over one language model."""

    def __init__(
        self,
        model: LanguageModel,
        sound: Sound,
        counters: Counters,
        *,
        turns: Turns | None = None,
        guarded: bool = True,
    ) -> None:
        """`turns`: with whom the cores are shared, if with anybody. `guarded`: whether codes that
        are no speech of their text any more are noticed."""
        self._model = model
        self._turns = turns or Turns(shared=False)
        self._sound = sound
        self._counters = counters
        self._favour = self._turns.favour
        self._inbox = Inbox()
        self._favour.hear_of(self._inbox.segments)
        self.warming = Warming(model, lambda: self.idle)
        self._guarded = guarded
        self._scheduler = Scheduler(model.slots)
        self._attempts: dict[int, Attempt] = {}  # slot → what its row is doing
        self._sampler = Sampler(model.slots, model.vocab)
        self._prefills: Portions[Row, F32] = Portions(is_rows_own)
        self._steps: Portions[Row, F32] = Portions(is_rows_own)
        self.pulse = Pulse("engine")
        self._prefill_s = 0.0  # what the last one took
        self._step_cost = CostMeter()  # by rows
        self._bell = Bell()
        self._closing = False

    # --- called from other threads

    def submit(self, job: SegmentJob) -> None:
        """Queue a segment; its outbox gets everything that follows. Raises EngineDead."""
        self._favour.enter(job)
        self._inbox.put(job)
        self._bell.ring()

    def warm(self, voice: Voice) -> None:
        """Have the language model prepare for `voice` once nothing is in work."""
        self.warming.add(voice)
        self._bell.ring()

    def wake(self) -> None:
        """An outbox was closed or read: look again."""
        self._bell.ring()

    @property
    def idle(self) -> bool:
        """Whether no segment is in work."""
        return self._favour.idle

    def close(self) -> None:
        """Stop after the current step; every open outbox gets an error."""
        self._inbox.shut(_stopped())
        self._closing = True
        self._bell.ring()

    def give_up(self, error: ChatterboxError) -> None:
        """As `close`, for when this thread may hang in a step: it is not waited for."""
        self._inbox.shut(error)
        self.close()
        for job in [*self._inbox.segments(), *self._scheduler.jobs()]:
            job.outbox.end(error)

    # --- the engine thread

    def run(self, on_fault: Callable[[BaseException], None]) -> None:
        """Until closed. A fault of the model ends the loop: `on_fault` is called with it, and only
        then is told whatever was in work, so that nobody who knows finds the engine alive."""
        try:
            while not self._closing:
                if not self.step():
                    self._bell.sleep(self.pulse, LOOK_AGAIN_S)
            self._end_all(_stopped())
        except BaseException as fault:  # noqa: BLE001 - `on_fault` says what it was
            on_fault(fault)
            self._end_all(EngineDead("The engine stopped on a fault and is restarting."))

    def step(self) -> bool:
        """One turn; False when there was nothing to do."""
        self.pulse.beat()
        # Who goes is decided once the cores are free: whoever came until then is thought of.
        with self._turns.model():
            self._take_in()
            self._reap()
            begun = self._admit()
        if begun is not None:
            self._sample_first(*begun)
        with self._turns.model():
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
        """One voice, then requests are looked for again, and the pulse beats."""
        with self._turns.model():
            return self.warming.one()

    def _take_in(self) -> None:
        while (job := self._inbox.take()) is not None:
            self._scheduler.submit(job)

    def _reap(self) -> None:
        self._scheduler.drop_waiting()
        for row in self._scheduler.left():
            self._counters.add(cancelled_segments=1)
            self._release(row)

    def _standing(self) -> Standing:
        rows = [*self._scheduler.runnable(), *self._scheduler.admissible()]
        return self._favour.standing([row.job for row in rows], time.monotonic())

    def _admit(self) -> tuple[Row, F32 | ChatterboxError] | None:
        """At most one prefill a step, so that running rows do not wait for several."""
        if not self._scheduler.admissible():
            return None
        standing = self._standing()

        def aside(job: SegmentJob) -> bool:
            return (
                (standing.hoping and job.ordinal > 0)
                or standing.aside(job)
                or (self._turns.shared and standing.too_early(job, self._prefill_s))
            )

        row = self._scheduler.admit(aside)
        if row is None:
            return None
        attempt = first_attempt(row.job, self._sound.open, guarded=self._guarded)
        return row, self._begin(row, attempt)

    def _begin(self, row: Row, attempt: Attempt) -> F32 | ChatterboxError:
        self._attempts[row.slot] = attempt
        self._sampler.begin(row.slot, attempt.sampling)
        began_s = time.monotonic()
        ((_, logits),) = self._prefills.run([row], self._prefill)
        self._prefill_s = time.monotonic() - began_s
        self.pulse.beat()
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
            return self._model.begin(row.slot, row.job.voice, row.job.ids)[None]

    def _advance(self) -> list[tuple[Sequence[Row], F32 | ChatterboxError]]:
        """One step of all that do not stand aside."""
        rows, standing = self._scheduler.runnable(), self._standing()
        if self._turns.shared:
            rows = [row for row in rows if not standing.too_early(row.job, 0.0)]
        pressing = [row for row in rows if not standing.aside(row.job)]
        if not pressing and (self._inbox or self._scheduler.admissible()):
            return []  # they stand aside for who is begun next
        pressing = pressing or rows
        if not pressing:
            return []
        began_s = time.monotonic()
        stepped = self._steps.run(pressing, self._step)
        took_s = time.monotonic() - began_s
        self._step_cost.add(len(pressing), took_s)
        first = sum(row.job.ordinal <= row.job.playback.segment for row in pressing)
        self._turns.stepped(self._step_cost.estimate().seconds(max(first, 1)))
        left_out = [row for row in rows if not (row in pressing or standing.gives_way(row.job))]
        self._favour.stepped(
            standing, [row.job for row in pressing], took_s, calm_left_out=bool(left_out)
        )
        return stepped

    def _step(self, rows: Sequence[Row]) -> F32:
        """Logits [B, vocab] for the next code of each."""
        codes = np.array([self._attempts[row.slot].codes[-1] for row in rows], dtype=np.int64)
        with self._counters.timed("step_s"):
            logits = self._model.step([row.slot for row in rows], codes)
        self._counters.add(steps=1, stepped_rows=len(rows))
        return logits

    def _sample(self, rows: Sequence[Row], logits: F32) -> None:
        try:
            codes = self._draw(rows, logits)
        except ROWS_OWN:
            if len(rows) == 1:
                self._fail_unexpectedly(rows[0])
            else:
                for i, row in enumerate(rows):
                    self._sample([row], logits[i : i + 1])
            return
        for row, code in zip(rows, codes, strict=True):
            try:
                self._deliver(row, self._attempts[row.slot], code)
            except ROWS_OWN:  # only what came of this row's text is looked at there
                self._fail_unexpectedly(row)
        self._sound.wake()

    def _draw(self, rows: Sequence[Row], logits: F32) -> list[int]:
        attempts = [self._attempts[row.slot] for row in rows]
        slots = np.array([row.slot for row in rows])
        draws = np.array([attempt.next_draw for attempt in attempts])
        first = not attempts[0].codes  # only `_begin` passes new rows, one at a time
        with self._counters.timed("sample_s"):
            codes: list[int] = self._sampler.sample(logits, slots, draws, first=first).tolist()
        return codes

    def _deliver(self, row: Row, attempt: Attempt, code: int) -> None:
        if code == INVALID_ROW:
            error = GenerationFailed("The model gave no usable numbers for this text.")
            self._fail(row, error)
            return
        if code == STOP_CODE:
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
        self._model.release(row.slot)
        with self._turns.model():
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
                self._model.release(slot)
            except ROWS_OWN:  # the next row in the slot begins anew anyway
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
