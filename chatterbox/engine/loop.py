"""What does the engine do, step by step? The heart: take in → reap → admit → step → deliver.

One thread runs it and owns the language model, the slots and the sampler. Knows no text, no event
loop and no socket; it meets the others at the inbox, the outboxes and the decode pool.
"""

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from chatterbox.engine.outbox import FinishReason
from chatterbox.engine.sampling import INVALID_ROW, Sampler
from chatterbox.engine.scheduler import Row, Scheduler, SegmentJob
from chatterbox.engine.stats import Counters
from chatterbox.errors import ChatterboxError, EngineDead, GenerationFailed
from chatterbox.model.contract import F32, STOP_CODE, LanguageModel, Voice

FinishRow = Callable[[SegmentJob, tuple[int, ...], FinishReason], None]
"""Given a row's codes, sees to it that its outbox gets audio and an end."""


class EngineLoop:
    """Continuous batching over one language model."""

    def __init__(self, model: LanguageModel, finish: FinishRow, counters: Counters) -> None:
        self._model = model
        self._finish = finish
        self._counters = counters
        self._scheduler = Scheduler(model.slots)
        self._sampler = Sampler(model.slots, model.vocab)
        self._inbox: deque[SegmentJob | Voice] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._fault: ChatterboxError | None = None

    # --- called from other threads

    def submit(self, job: SegmentJob) -> None:
        """Queue a segment; its outbox gets everything that follows. Raises EngineDead."""
        self._post(job)

    def warm(self, voice: Voice) -> None:
        """Have the language model prepare for `voice` when it next has a moment."""
        self._post(voice)

    def wake(self) -> None:
        """An outbox was closed or read: look again."""
        with self._wake:
            self._wake.notify()

    def close(self) -> None:
        """Stop after the current step; every open outbox gets an error."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def _post(self, message: SegmentJob | Voice) -> None:
        with self._wake:
            if self._fault is not None or self._closing:
                raise self._fault or _stopped()
            self._inbox.append(message)
            self._wake.notify()

    # --- the engine thread

    def run(self) -> None:
        """Until closed. A fault of the model ends the loop and is raised; whatever was in work
        has been told by then."""
        try:
            while not self._closing:
                if not self.step():
                    self._sleep()
            self._end_all(_stopped())
        except BaseException:
            self._end_all(EngineDead("The engine stopped on a fault and is restarting."))
            raise

    def step(self) -> bool:
        """One turn; False when there was nothing to do."""
        self._take_in()
        self._reap()
        admitted = self._admit()
        rows = self._scheduler.runnable()
        if rows:
            self._advance(rows)
        self._counters.gauge(
            running_rows=len(self._scheduler.running), waiting_rows=self._scheduler.waiting
        )
        return bool(rows) or admitted

    def _sleep(self) -> None:
        with self._wake:
            if not self._inbox and not self._closing and not self._scheduler.left():
                self._wake.wait(timeout=1.0)

    def _take_in(self) -> None:
        while self._inbox:
            message = self._inbox.popleft()
            if isinstance(message, Voice):
                self._model.warm(message)
            else:
                self._scheduler.submit(message)

    def _reap(self) -> None:
        self._scheduler.drop_waiting()
        for row in self._scheduler.left():
            self._counters.add(cancelled_segments=1)
            self._release(row)

    def _admit(self) -> bool:
        """At most one prefill a step, so that running rows do not wait for several."""
        row = self._scheduler.admit()
        if row is None:
            return False
        self._sampler.begin(row.slot, row.job.sampling)
        with self._counters.timed("prefill_s"):
            logits = self._model.begin(row.slot, row.job.voice, row.job.ids)
        self._sample([row], logits[None])
        return True

    def _advance(self, rows: list[Row]) -> None:
        codes = np.array([row.codes[-1] for row in rows], dtype=np.int64)
        with self._counters.timed("step_s"):
            logits = self._model.step([row.slot for row in rows], codes)
        self._counters.add(steps=1, stepped_rows=len(rows))
        self._sample(rows, logits)

    def _sample(self, rows: list[Row], logits: F32) -> None:
        slots = np.array([row.slot for row in rows])
        draws = np.array([row.job.draws[len(row.codes)] for row in rows])
        first = not rows[0].codes  # only `_admit` passes new rows, one at a time
        with self._counters.timed("sample_s"):
            codes = self._sampler.sample(logits, slots, draws, first=first)
        for row, code in zip(rows, codes.tolist(), strict=True):
            self._deliver(row, code)

    def _deliver(self, row: Row, code: int) -> None:
        if code == INVALID_ROW:
            row.job.outbox.end(GenerationFailed("The model gave no usable numbers for this text."))
            self._counters.add(failed_segments=1)
            self._release(row)
            return
        if code == STOP_CODE:
            self._complete(row, "stop")
            return
        row.codes.append(code)
        self._counters.add(codes=1)
        if len(row.codes) == row.cap:
            self._counters.add(capped_segments=1)
            self._complete(row, "length")

    def _complete(self, row: Row, reason: FinishReason) -> None:
        self._counters.add(segments=1)
        self._release(row)
        self._finish(row.job, tuple(row.codes), reason)

    def _release(self, row: Row) -> None:
        self._model.release(self._scheduler.release(row))

    def _end_all(self, error: ChatterboxError) -> None:
        with self._wake:
            self._fault = error
            messages = list(self._inbox)
            self._inbox.clear()
        for row in self._scheduler.clear():
            row.job.outbox.end(error)
        for message in messages:
            if isinstance(message, SegmentJob):
                message.outbox.end(error)


def _stopped() -> EngineDead:
    return EngineDead("The engine has been stopped.")
