"""Generation loop: receive, prefill one, step all, sample, append (continuous batching).

One thread runs the loop and owns the language model, the slots and the sampler. It shares the queue
of new sequences, the takes and the outboxes with other threads.
"""

import logging
import time
from collections.abc import Callable

import numpy as np

from chatterbox.arrays import F32
from chatterbox.engine.fairness import FairScheduler
from chatterbox.engine.model_calls import SplittingBatch, VoiceWarmup
from chatterbox.engine.runaway import RunawayDetector, Verdict
from chatterbox.engine.sampler import INVALID_ROW, Sampler
from chatterbox.engine.scheduler import Scheduler
from chatterbox.engine.sequence import FinishReason, Sequence
from chatterbox.engine.stats import Counters
from chatterbox.engine.threads import CommandQueue, CpuLock, Heartbeat, Wakeup
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.errors import ChatterboxError, EngineDead, GenerationFailed
from chatterbox.families.base import Family, LanguageModel, Prompt
from chatterbox.runtime.ort_errors import REQUEST_ERRORS, is_request_error

log = logging.getLogger(__name__)

MAX_SLEEP_S = 1.0
"""Longest sleep between two looks at the queue, in case a wake-up was lost."""
YIELD_S = 0.001
"""Sleep while every sequence that could run waits for others."""
STOPPED = "The engine has been stopped."
Outputs = list[tuple[list[Sequence], F32]]
"""For each call of the model: its sequences and their logits [B, vocab]."""


class GenerationLoop:
    """Generates tokens for all sequences with one language model."""

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
        """`cpu`, `fairness`: shared with the vocoding loop. `guarded`: use the runaway detector."""
        self._model, self._family = model, family
        self._cpu = cpu or CpuLock(shared=False)
        self._fairness = fairness or FairScheduler(shared=self._cpu.shared)
        self._vocoder, self._stats = vocoder, counters.part()
        self._inbox: CommandQueue[Sequence] = CommandQueue()
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
        self._prefill_s = 0.0  # duration of the last one
        self._wakeup, self._closing = Wakeup(), False

    # --- called from other threads

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence. Its sound, or an error, comes to its outbox. Raises EngineDead."""
        self._fairness.add(sequence)
        self._inbox.put(sequence)
        self._wakeup.notify()

    def warm(self, prefix: Prompt) -> None:
        """Cache a voice's prompt prefix when the engine is next idle."""
        self.warming.add(prefix)
        self._wakeup.notify()

    def wake(self) -> None:
        """Look again after an outbox was closed or read."""
        self._wakeup.notify()

    @property
    def idle(self) -> bool:
        """Whether no segment is in work."""
        return self._fairness.idle

    @property
    def waiting(self) -> int:
        """Number of sequences without a slot."""
        return len(self._inbox.items()) + len(self._scheduler.waiting)

    @property
    def used_slots(self) -> set[int]:
        """Slots that hold a sequence."""
        return set(self._scheduler.running)

    def sequences(self) -> list[Sequence]:
        """All queued, waiting and running sequences."""
        return [*self._inbox.items(), *self._scheduler.sequences()]

    def close(self) -> None:
        """Stop after the current step. Every open outbox gets an error."""
        self._inbox.shut(EngineDead(STOPPED))
        self._closing = True
        self._wakeup.notify()

    def give_up(self, error: ChatterboxError) -> None:
        """Close, and end every outbox now, since the thread may hang in a step."""
        self._inbox.shut(error)
        self.close()
        for sequence in self.sequences():
            sequence.outbox.end(error)

    # --- the generation thread

    def run(self, on_fault: Callable[[BaseException], None]) -> None:
        """Run until closed. A fault of the model ends the loop: `on_fault` is called first, and
        only then the outboxes are ended, so that no client with an error finds the engine alive."""
        try:
            while not self._closing:
                if not self.step():
                    self._wakeup.wait(self.heartbeat, MAX_SLEEP_S)
            self._end_all(EngineDead(STOPPED))
        except BaseException as fault:  # noqa: BLE001 - `on_fault` reports it
            on_fault(fault)
            self._end_all(EngineDead("The engine stopped on a fault and is restarting."))

    def step(self) -> bool:
        """Prefill a sequence, then generate a token for all that may run. Returns False if there
        was nothing to do."""
        self.heartbeat.beat()
        with self._cpu.for_model:  # choose once the cores are free: late arrivals count
            self._receive()
            prefilled = self._prefill_waiting()
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
        """Take new sequences from the queue; drop those whose reader has left."""
        while (sequence := self._inbox.take()) is not None:
            self._scheduler.waiting.append(sequence)
        for sequence in self._scheduler.drop_cancelled():
            self._stats.cancelled_segments += 1
            self._release(sequence)

    def _prefill_waiting(self) -> Outputs:
        """Prefill one sequence, so that running ones are not delayed by several. On a GPU, where a
        step takes as long for one row as for many, prefill more while no listener would notice."""
        outputs: Outputs = []
        while self._scheduler.waiting and (output := self._prefill_next()):
            outputs += output
            if self._cpu.shared or self._inbox or self._scheduler.is_hurried(time.monotonic()):
                break
        return outputs

    def _prefill_next(self) -> Outputs:
        began_s = time.monotonic()
        sequence = self._scheduler.admit(self._prefill_s, began_s)
        if sequence is None:
            return []
        codec = self._family.codec
        detector = RunawayDetector(sequence.text_chars, codec) if self._guarded else None
        sequence.start_take(self._vocoder.open, detector)
        self._sampler.begin(sequence.slot, sequence.take_sampling, sequence.draws)
        outputs = self._prefills.run([sequence], self._prefill, self._fail)
        self._prefill_s = time.monotonic() - began_s
        self._stats.prefill_s += self._prefill_s
        self.heartbeat.beat()
        return outputs

    def _step_running(self) -> Outputs:
        """Step all sequences that need not wait for others."""
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
        """Prefill one sequence. Returns logits [1, vocab] for its first token."""
        (sequence,) = sequences
        logits = self._model.prefill(sequence.slot, sequence.prompt)[None]
        sequence.prefilled = True
        return logits

    def _step(self, sequences: list[Sequence]) -> F32:
        """Append each sequence's last token. Returns logits [B, vocab] for the next ones."""
        tokens = np.array([one.take.tokens[-1] for one in sequences], dtype=np.int64)
        logits = self._model.decode([one.slot for one in sequences], tokens)
        self._stats.steps += 1
        self._stats.stepped_rows += len(sequences)
        whole = len(sequences) == len(self._scheduler.running)
        return logits if whole else logits.copy()  # else the next part overwrites them

    def _append_tokens(self, outputs: Outputs) -> None:
        """Sample a token for each sequence, append it, and wake the vocoding loop if needed."""
        has_news = False
        for sequences, logits in outputs:
            for sequence, token in zip(sequences, self._sample(sequences, logits), strict=True):
                try:
                    self._append(sequence, token)
                except REQUEST_ERRORS:  # `_append` handles this sequence alone
                    log.exception("a sequence failed")
                    self._fail(sequence, GenerationFailed("The model failed on this text."))
                has_news = has_news or sequence.slot < 0 or sequence.take.wanted
        if has_news:
            self._vocoder.wake()

    def _sample(self, sequences: list[Sequence], logits: F32) -> list[int]:
        """Sample a token for each. A sequence whose sampling fails by itself gets INVALID_ROW."""
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
        """Queue the sequence for another take, or end it with what it has."""
        is_retried = sequence.retry(verdict, self._vocoder.open, self._family.codec)
        self._release(sequence)
        if is_retried:
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
        """End this sequence with an error."""
        sequence.outbox.end(error)
        self._stats.failed_segments += 1
        self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        """Free the sequence's slot, if it has one, and the slot's keys and values."""
        if sequence.slot < 0:
            return
        slot = self._scheduler.release(sequence)
        if sequence.prefilled:
            sequence.prefilled = False
            try:
                self._model.free(slot)
            except REQUEST_ERRORS:  # the next prefill overwrites the slot anyway
                log.exception("freeing slot %d failed", slot)

    def _wait_for_others(self) -> bool:
        """Sleep briefly if every sequence that could run waits for others."""
        if not self._scheduler.runnable():
            return False
        time.sleep(YIELD_S)
        return True

    def _warm_one(self) -> bool:
        """Prepare one voice; the next step looks for requests again."""
        if not self.warming:
            return False
        with self._cpu.for_model:
            return self.warming.run_one()

    def _end_all(self, error: ChatterboxError) -> None:
        self._inbox.shut(error)
        for sequence in self.sequences():
            sequence.outbox.end(error)
        self._inbox.clear()
        self._scheduler.clear()
