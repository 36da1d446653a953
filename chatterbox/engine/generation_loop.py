"""Generation loop: receive → prefill one → step all → sample → append (continuous batching).

One thread runs it and owns the language model, the slots and the sampler. It meets the other
threads at its queue, the takes and the outboxes.
"""

import logging
import time
from collections.abc import Callable

import numpy as np

from chatterbox.arrays import F32
from chatterbox.engine.fairness import FairScheduler
from chatterbox.engine.model_calls import SplittingBatch, VoiceWarmup
from chatterbox.engine.runaway import Verdict
from chatterbox.engine.sampler import INVALID_ROW, Sampler
from chatterbox.engine.scheduler import Scheduler
from chatterbox.engine.sequence import FinishReason, SegmentRequest, Sequence
from chatterbox.engine.stats import Counters
from chatterbox.engine.threads import CommandQueue, CpuLock, Heartbeat, Wakeup
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.errors import ChatterboxError, EngineDead, GenerationFailed
from chatterbox.families.base import Family, LanguageModel, Prompt
from chatterbox.runtime.ort_errors import REQUEST_ERRORS, is_request_error

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
"""Without news, should some have been missed."""

STAND_ASIDE_S = 0.001
"""Where all that could run waits for others."""
STOPPED = "The engine has been stopped."
Outputs = list[tuple[list[Sequence], F32]]
"""Sequences and their logits [B, vocab], by call of the model."""


class GenerationLoop:
    """Continuous batching over one language model."""

    def __init__(
        self,
        model: LanguageModel,
        vocoder: VocodingLoop,
        counters: Counters,
        family: Family,
        *,
        cpu: CpuLock | None = None,
        fairness: FairScheduler | None = None,
        guarded: bool = True,
    ) -> None:
        """`cpu`, `fairness`: shared with the vocoding loop. `guarded`: whether tokens that are no
        speech of their text any more are noticed."""
        self._model, self._family = model, family
        self._cpu = cpu or CpuLock(shared=False)
        self._fairness = fairness or FairScheduler(shared=self._cpu.shared)
        self._vocoder, self._stats = vocoder, counters.part()
        self._inbox: CommandQueue[SegmentRequest] = CommandQueue()
        self._fairness.newcomers = self._inbox.items
        self.warming = VoiceWarmup[Prompt](
            lambda prefix: model.cache_prefix(prefix), lambda: self.idle
        )
        self._guarded = guarded
        self._scheduler = Scheduler(model.slots, self._fairness)
        self._sampler = Sampler(model.slots, family.tokens)
        self._prefills: SplittingBatch[Sequence, F32] = SplittingBatch(is_request_error)
        self._steps: SplittingBatch[Sequence, F32] = SplittingBatch(is_request_error)
        self.heartbeat = Heartbeat("engine")
        self._prefill_s = 0.0  # what the last one took
        self._wakeup, self._closing = Wakeup(), False

    # --- called from other threads

    def submit(self, request: SegmentRequest) -> None:
        """Queue a segment; its outbox gets everything that follows. Raises EngineDead."""
        self._fairness.enter(request)
        self._inbox.put(request)
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
        return self._fairness.idle

    @property
    def waiting(self) -> int:
        """Segments without a slot."""
        return len(self._inbox.items()) + len(self._scheduler.waiting)

    @property
    def used_slots(self) -> set[int]:
        """Slots that hold a sequence."""
        return set(self._scheduler.running)

    def requests(self) -> list[SegmentRequest]:
        """All that are in this loop's hands."""
        return [*self._inbox.items(), *self._scheduler.requests()]

    def close(self) -> None:
        """Stop after the current step; every open outbox gets an error."""
        self._inbox.shut(EngineDead(STOPPED))
        self._closing = True
        self._wakeup.notify()

    def give_up(self, error: ChatterboxError) -> None:
        """As `close`, for when this thread may hang in a step: it is not waited for."""
        self._inbox.shut(error)
        self.close()
        for request in self.requests():
            request.outbox.end(error)

    # --- the generation thread

    def run(self, on_fault: Callable[[BaseException], None]) -> None:
        """Until closed. A fault of the model ends the loop: `on_fault` is called with it, and only
        then is told whatever was in work, so that nobody who knows finds the engine alive."""
        try:
            while not self._closing:
                if not self.step():
                    self._wakeup.wait(self.heartbeat, LOOK_AGAIN_S)
            self._end_all(EngineDead(STOPPED))
        except BaseException as fault:  # noqa: BLE001 - `on_fault` says what it was
            on_fault(fault)
            self._end_all(EngineDead("The engine stopped on a fault and is restarting."))

    def step(self) -> bool:
        """A prefill, then a token for all that may run; False when there was nothing to do."""
        self.heartbeat.beat()
        with self._cpu.for_model:  # choose once the cores are free: late arrivals count
            self._receive()
            prefilled = self._prefill_some()
            outputs = prefilled or self._step_running()
        self._append_tokens(outputs)
        if prefilled:
            with self._cpu.for_model:
                outputs = self._step_running()
            self._append_tokens(outputs)
        self._stats.running_rows = len(self._scheduler.running)
        self._stats.waiting_rows = len(self._scheduler.waiting)
        return bool(prefilled or outputs) or self._wait_for_others() or self._warm_one()

    def _receive(self) -> None:
        """New segments, and those whose reader has left."""
        while (request := self._inbox.take()) is not None:
            codec, open_take = self._family.codec, self._vocoder.open
            self._scheduler.waiting.append(
                Sequence(request, open_take, codec, guarded=self._guarded)
            )
        for sequence in self._scheduler.drop_cancelled():
            self._stats.cancelled_segments += 1
            self._release(sequence)

    def _prefill_some(self) -> Outputs:
        """One, so that running sequences do not wait for several; on a GPU, where a step takes as
        long for one row as for many, further ones as long as nobody would notice."""
        outputs: Outputs = []
        while self._scheduler.waiting and (more := self._prefill_next()):
            outputs += more
            if self._cpu.shared or self._inbox or self._scheduler.hurried(time.monotonic()):
                break
        return outputs

    def _prefill_next(self) -> Outputs:
        began_s = time.monotonic()
        sequence = self._scheduler.admit(self._prefill_s, began_s)
        if sequence is None:
            return []
        sequence.start_take()
        self._sampler.begin(sequence.slot, sequence.sampling, sequence.draws)
        outputs = self._prefills.run([sequence], self._prefill, self._fail)
        self._prefill_s = time.monotonic() - began_s
        self._stats.prefill_s += self._prefill_s
        self.heartbeat.beat()
        return outputs

    def _step_running(self) -> Outputs:
        """One step of all that need not wait for others."""
        began_s = time.monotonic()
        batch = self._scheduler.next_batch(began_s)
        if not batch:
            return []
        outputs = self._steps.run(batch, self._step, self._fail)
        took_s = time.monotonic() - began_s
        self._stats.step_s += took_s
        self._scheduler.stepped(batch, took_s)
        return outputs

    def _prefill(self, sequences: list[Sequence]) -> F32:
        """Logits [1, vocab] for the first token of one sequence."""
        (sequence,) = sequences
        logits = self._model.prefill(sequence.slot, sequence.request.prompt)[None]
        sequence.prefilled = True
        return logits

    def _step(self, sequences: list[Sequence]) -> F32:
        """Logits [B, vocab] for the next token of each."""
        tokens = np.array([one.take.tokens[-1] for one in sequences], dtype=np.int64)
        logits = self._model.decode([one.slot for one in sequences], tokens)
        self._stats.steps += 1
        self._stats.stepped_rows += len(sequences)
        whole = len(sequences) == len(self._scheduler.running)
        return logits if whole else logits.copy()  # of a split batch, the next part overwrites them

    def _append_tokens(self, outputs: Outputs) -> None:
        """Sample a token for each sequence, and append it."""
        news = False
        for sequences, logits in outputs:
            for sequence, token in zip(sequences, self._sample(sequences, logits), strict=True):
                try:
                    self._append(sequence, token)
                except REQUEST_ERRORS:  # only what came of its own text is looked at there
                    log.exception("a sequence failed")
                    self._fail(sequence, GenerationFailed("The model failed on this text."))
                news = news or sequence.slot < 0 or sequence.take.wanted
        if news:
            self._vocoder.wake()

    def _sample(self, sequences: list[Sequence], logits: F32) -> list[int]:
        """A token for each; `INVALID_ROW` for one alone whose sampling fails."""
        began_s, slots = time.monotonic(), [one.slot for one in sequences]
        try:
            tokens = self._sampler.sample(logits, slots)
        except REQUEST_ERRORS:
            log.exception("a call with %d rows failed", len(slots))
            tokens = [self._sample_one(logits[row : row + 1], at) for row, at in enumerate(slots)]
        self._stats.sample_s += time.monotonic() - began_s
        return tokens

    def _sample_one(self, logits: F32, slot: int) -> int:
        try:
            return self._sampler.sample(logits, [slot])[0]
        except REQUEST_ERRORS:
            log.exception("a row failed")
            return INVALID_ROW

    def _append(self, sequence: Sequence, token: int) -> None:
        if token == INVALID_ROW:
            error = GenerationFailed("The model gave no usable numbers for this text.")
            self._fail(sequence, error)
        elif token in self._family.tokens.stop:
            self._finish(sequence, "stop")
        else:
            self._stats.codes += 1
            if (verdict := sequence.append(token)) is not None:
                self._retry(sequence, verdict)
            elif len(sequence.take.tokens) >= len(sequence.draws):
                self._stats.capped_segments += 1
                self._finish(sequence, "length")

    def _retry(self, sequence: Sequence, verdict: Verdict) -> None:
        """Try it again if that can help, else it has ended."""
        again = sequence.retry(verdict)
        self._release(sequence)
        if again:
            self._stats.retried_segments += 1
            self._scheduler.waiting.insert(0, sequence)
        else:
            self._stats.segments += 1
            self._stats.guarded_segments += 1

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._stats.segments += 1
        sequence.take.finish(len(sequence.take.tokens), reason)
        self._release(sequence)

    def _fail(self, sequence: Sequence, error: ChatterboxError) -> None:
        """This sequence alone."""
        sequence.request.outbox.end(error)
        self._stats.failed_segments += 1
        self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        """Give back its slot, and what the model holds of it, if it has them."""
        if sequence.slot < 0:
            return
        slot = self._scheduler.release(sequence)
        if sequence.prefilled:
            sequence.prefilled = False
            try:
                self._model.free(slot)
            except REQUEST_ERRORS:  # the next sequence in the slot begins anew anyway
                log.exception("slot %d was not released as it should", slot)

    def _wait_for_others(self) -> bool:
        """Stand aside for a moment where all that could run waits for others."""
        if not self._scheduler.runnable():
            return False
        time.sleep(STAND_ASIDE_S)
        return True

    def _warm_one(self) -> bool:
        """One voice, then requests are looked for again, and the heartbeat beats."""
        if not self.warming:
            return False
        with self._cpu.for_model:
            return self.warming.run_one()

    def _end_all(self, error: ChatterboxError) -> None:
        self._inbox.shut(error)
        for request in self.requests():
            request.outbox.end(error)
        self._inbox.clear()
        self._scheduler.clear()
