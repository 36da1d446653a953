"""Vocoding loop: decodes tokens into sound while more come, the most urgent windows first.

One thread runs the loop and owns the decoder. It shares takes with the generation thread and
outboxes with the readers.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.audio.shaping import Watermark
from chatterbox.engine.fairness import FairScheduler, PrioritySnapshot, awaits_first_audio
from chatterbox.engine.model_calls import SplittingBatch, VoiceWarmup
from chatterbox.engine.sequence import SegmentEnd, Sequence, Take
from chatterbox.engine.stats import Counters
from chatterbox.engine.threads import CpuLock, Heartbeat, Wakeup
from chatterbox.engine.vocoder_stream import (
    GATHER_S,
    LOOK_AGAIN_S,
    PendingWindow,
    StreamState,
    VocoderJob,
    load,
    select_batch,
    token_audio,
)
from chatterbox.engine.windows import LatencyModel, WindowSettings
from chatterbox.errors import ChatterboxError, GenerationFailed
from chatterbox.families.base import DecodeJob, Rendered, StreamingDecoder, Voice
from chatterbox.runtime.ort_errors import REQUEST_ERRORS, device_is_lost

T = TypeVar("T")
Due = PendingWindow[VocoderJob]
log = logging.getLogger(__name__)

MIN_SLEEP_S = 0.001
"""Shortest sleep before streams are looked at again."""


class VocodingLoop:
    """Decodes the windows of all open takes, in batches where the decoder gains from them."""

    def __init__(
        self,
        decoder: StreamingDecoder,
        settings: WindowSettings,
        counters: Counters,
        watermark: Watermark | None = None,
        cpu: CpuLock | None = None,
        loudest_rms: float | None = None,
        *,
        fairness: FairScheduler | None = None,
        gather_s: float = GATHER_S,
    ) -> None:
        """`cpu`, `fairness`: shared with the generation loop. `watermark`: marks whole segments, so
        that no sound is sent before its segment is complete. `loudest_rms`: louder sound is turned
        down; None: off. `gather_s`: how long a due window may wait for others to share its
        call."""
        self._decoder, self._settings = decoder, settings
        self._watermark, self._loudest_rms, self._gather_s = watermark, loudest_rms, gather_s
        self._cpu = cpu or CpuLock(shared=False)
        self._fairness = fairness or FairScheduler(shared=self._cpu.shared)
        self._stats = counters.part()
        self._cost = LatencyModel()
        # A decoder sees only codes and a voice, so a fault is the row's unless the device is lost.
        self._calls: SplittingBatch[VocoderJob, list[Rendered]] = SplittingBatch(
            lambda f: not device_is_lost(f)
        )
        self.heartbeat = Heartbeat("decoder")
        self._inbox: deque[tuple[Sequence, Take]] = deque()
        self.warming = VoiceWarmup[Voice](
            lambda voice: decoder.warm(voice), lambda: self._fairness.idle
        )
        self._open: list[StreamState] = []
        self._wakeup = Wakeup()
        self._end: ChatterboxError | None = None

    # --- called from other threads

    def open(self, sequence: Sequence) -> Take:
        """Open a take. Its tokens are decoded as they come; sound and end go to the outbox."""
        take = Take(sequence.retries)
        self._inbox.append((sequence, take))
        return take

    @property
    def open_sequences(self) -> list[Sequence]:
        """The sequence of each take that is neither complete nor failed nor found cancelled."""
        return [
            *(stream.sequence for stream in list(self._open)),
            *(s for s, _ in list(self._inbox)),
        ]

    def warm(self, voice: Voice) -> None:
        """Prepare the decoder for `voice` when the engine is next idle."""
        self.warming.add(voice)
        self.wake()

    def wake(self) -> None:
        """Look again after new tokens, a take's end, or an outbox that was closed or read."""
        self._wakeup.notify()

    def close(self, error: ChatterboxError) -> None:
        """Stop after the current call. Every open outbox gets `error`."""
        self._end = error
        self.wake()

    def give_up(self, error: ChatterboxError) -> None:
        """Close, and end every outbox now, since the thread may hang or have ended."""
        self.close(error)
        for sequence in self.open_sequences:
            sequence.outbox.end(error)

    # --- the vocoding thread

    def run(self, on_fault: Callable[[BaseException], None]) -> None:
        """Run until closed. A fault of the decoder ends the loop; `on_fault` is called with it and
        must call `give_up`."""
        try:
            while self._end is None:
                if not self.step():
                    self._wakeup.wait(self.heartbeat, self._rest_s())
        except BaseException as fault:  # noqa: BLE001 - `on_fault` reports it
            on_fault(fault)
            return
        self._receive()
        for stream in self._open:
            stream.sequence.outbox.end(self._end)
        self._open.clear()

    def step(self) -> bool:
        """Make one call of the decoder. Returns False if there was nothing to do."""
        self.heartbeat.beat()
        chosen = self._choose()
        if chosen and len(chosen) < min(self._decoder.max_rows, len(self._open)):
            time.sleep(self._gather_s)  # other streams may fill the call
            chosen = self._choose()
        if chosen:
            self._decode(chosen)
            return True
        if not self.warming:
            return False
        with self._cpu.for_decoder:  # the next step looks for windows again
            return self.warming.run_one()

    def _rest_s(self) -> float | None:
        """Longest sleep without a wake-up: there is none when a listener's sound runs low, nor when
        the last segment ends."""
        idle = self._fairness.idle  # this call also drops ended sequences
        if self.warming or len(self._open) > 1 or (not idle and self._fairness.contended):
            return LOOK_AGAIN_S
        looks_s = [stream.look_s for stream in self._open if not stream.sequence.outbox.full]
        soonest_s = min(looks_s, default=math.inf)
        return None if soonest_s == math.inf else max(soonest_s - time.monotonic(), MIN_SLEEP_S)

    def _choose(self) -> list[VocoderJob]:
        """Choose the windows of the next call among those that need not wait for others. If all
        must wait, the language model has the cores."""
        snapshot, due = self._look()
        if snapshot is not None:
            waiting, due = bool(due), self._ready(snapshot, due)
            self._fairness.decoder_idle(snapshot, must_wait=waiting and not due)
        return self._select(due)

    def _ready(self, snapshot: PrioritySnapshot, due: list[Due]) -> list[Due]:
        return [one for one in due if not snapshot.must_wait(one.what[0].sequence)]

    def _select(self, due: list[Due]) -> list[VocoderJob]:
        return [one.what for one in select_batch(due, self._decoder.max_rows)]

    def _let_through(self, batch: list[VocoderJob]) -> None:
        """Decode more urgent windows between the two halves of decoding `batch`, where cores are
        shared. First sounds go before others, those of tenants with less in work before other first
        sounds, and everything before a tenant over its quota."""
        sequences = [stream.sequence for stream, _ in batch]
        while self._cpu.shared and self._end is None:
            snapshot, due = self._look()
            if snapshot is None:
                return
            due = self._ready(snapshot, due)
            if not all(map(snapshot.must_yield, sequences)):
                silent = (snapshot.in_work(one) for one in sequences if awaits_first_audio(one))
                mine = min(silent, default=math.inf)
                due = [one for one in due if one.first and one.in_work < mine]
            first = self._select(due)
            must_wait = not first and all(map(snapshot.must_wait, sequences))
            self._fairness.decoder_idle(snapshot, must_wait=must_wait)
            if not (first or must_wait):
                return
            with self._cpu.released:
                if first:
                    self._decode(first)
                else:
                    self._wakeup.wait(self.heartbeat, LOOK_AGAIN_S)
            self.heartbeat.beat()

    def _receive(self) -> None:
        while self._inbox:
            sequence, take = self._inbox.popleft()
            try:
                stream = self._decoder.open(sequence.voice, sequence.seed)
            except REQUEST_ERRORS:
                log.exception("a stream could not be opened")
                error = GenerationFailed("The decoder failed on this voice.")
                self._end_failed(sequence, take, error)
                continue
            state = StreamState(sequence, take, stream, self._settings, self._loudest_rms)
            self._open.append(state)

    def _look(self) -> tuple[PrioritySnapshot | None, list[Due]]:
        """Priorities, if they matter, and every window that could be decoded now."""
        self._receive()
        self._open = [stream for stream in self._open if not stream.over]
        now_s, snapshot = time.monotonic(), None
        cost = replace(self._cost.estimate(), token_s=self._fairness.token_s)
        if len(self._open) > 1 or self._fairness.contended:
            snapshot = self._snapshot(now_s)
            listeners = {stream.sequence.playback for stream in self._open}
            buffered_s = [one.buffered_s(now_s) for one in listeners]
            cost = cost.scaled(load(buffered_s, self._decoder.max_rows))
            if any(stream.sequence.index for stream in self._open) or self._fairness.contended:
                for stream in self._open:
                    stream.update_listener(cost)
        due = [one.next_window(self._decoder, now_s, cost, snapshot) for one in self._open]
        return snapshot, [one for one in due if one is not None]

    def _snapshot(self, now_s: float) -> PrioritySnapshot:
        runnable = [one.sequence for one in self._open if not one.sequence.outbox.full]
        return self._fairness.snapshot(runnable, now_s)

    def _decode(self, batch: list[VocoderJob]) -> None:
        for stream, job in batch:
            stream.start(job.window)
        done = self._calls.run(batch, self._render, lambda one, error: self._fail(one[0], error))
        for part, rendered in done:
            for (stream, job), result in zip(part, rendered, strict=True):
                stream.in_work = False
                try:
                    self._deliver(stream, job, result)
                except REQUEST_ERRORS:
                    log.exception("a segment's sound could not be joined")
                    self._fail(stream, GenerationFailed("The decoder failed on this text."))

    def _render(self, batch: list[VocoderJob]) -> list[Rendered]:
        jobs = [job for _, job in batch]
        with self._cpu.for_decoder:
            finish, began_s = self._timed(lambda: self._decoder.start(jobs))
            self._let_through(batch)
            rendered, ended_s = self._timed(finish)
        took_s = began_s + ended_s
        for _, job in batch:
            self._cost.add(job.window.fed_frames, took_s / len(batch))
        for stream in self._open:
            stream.look_s = 0.0  # the expected cost has changed
        self._stats.decode_s += took_s
        if self._fairness.contended:
            sequences = [stream.sequence for stream, _ in batch]
            snapshot = self._snapshot(time.monotonic())
            self._fairness.charge_windows(snapshot, sequences, took_s)
        return rendered

    def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """Run `work`. Returns its result and the seconds it took."""
        began_s = time.monotonic()
        result = work()
        self.heartbeat.beat()
        return result, time.monotonic() - began_s

    def _deliver(self, stream: StreamState, job: DecodeJob, result: Rendered) -> None:
        sequence, take, window = stream.sequence, stream.take, job.window
        if stream not in self._open:
            return  # cancelled meanwhile
        complete = result.at + len(result.samples) >= window.end_sample
        if not (complete and np.isfinite(result.samples).all()):
            self._fail(stream, GenerationFailed("The decoder gave no usable sound for this text."))
            return
        whole = self._watermark is not None or not sequence.playback.live
        samples = stream.join(result, last=window.last, whole=whole)
        if len(samples):
            if self._watermark is not None:
                samples = self._watermark(samples)
            if not take.commit():
                return
            sequence.outbox.codes = tuple(
                take.tokens[: window.end * job.window.codec.tokens_per_frame]
            )
            sequence.outbox.put(samples)
            now_s = time.monotonic()
            seconds = len(samples) / SAMPLE_RATE_HZ
            silence_s = sequence.playback.add(sequence.index, seconds, now_s)
            self._stats.decoded_samples += len(samples)
            self._stats.underruns += silence_s > 0
            self._stats.underrun_s += silence_s
        if not sequence.deterministic:  # when the sound is ready depends on time
            take.decoded.append(token_audio(job, result))
        if window.last:
            self._open.remove(stream)
            sequence.playback.complete(sequence.index, time.monotonic())
            if take.commit():
                assert take.end is not None
                codes = tuple(take.tokens[: take.end])
                sequence.outbox.end(SegmentEnd(codes, take.finish_reason, take.retries))

    def _fail(self, stream: StreamState, error: ChatterboxError) -> None:
        if stream in self._open:
            self._open.remove(stream)
        self._end_failed(stream.sequence, stream.take, error)

    def _end_failed(self, sequence: Sequence, take: Take, error: ChatterboxError) -> None:
        self._stats.failed_segments += 1
        if take.commit():
            sequence.outbox.end(error)
