"""Vocoding loop: tokens become sound while more come; the most urgent windows first.

One thread runs it and owns the decoder. It meets the generation thread at the takes and the
listeners at the outboxes.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.audio.shaping import Watermark
from chatterbox.engine.fairness import FairScheduler, PrioritySnapshot, awaits_first_audio
from chatterbox.engine.model_calls import SplittingBatch, VoiceWarmup
from chatterbox.engine.sequence import SegmentEnd, SegmentRequest, Take
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

SHORTEST_S = 0.001
"""Of a rest before streams are looked at again."""


class VocodingLoop:
    """Decodes the windows of all open takes, several in one call where the decoder gains by it."""

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
        """`cpu`, `fairness`: shared with the generation loop. `watermark` marks whole segments, so
        that with one nothing leaves before a segment is complete; nor does it where nobody listens
        meanwhile, so that any take may be discarded. `loudest_rms`: what is louder is turned down;
        None: nothing is. `gather_s`: how long a due window may wait for others to share its
        call."""
        self._decoder, self._settings = decoder, settings
        self._watermark, self._loudest_rms, self._gather_s = watermark, loudest_rms, gather_s
        self._cpu = cpu or CpuLock(shared=False)
        self._fairness = fairness or FairScheduler(shared=self._cpu.shared)
        self._stats = counters.part()
        self._cost = LatencyModel()
        # Whatever is not the device's is the row's: a decoder sees only codes and a voice.
        self._calls: SplittingBatch[VocoderJob, list[Rendered]] = SplittingBatch(
            lambda f: not device_is_lost(f)
        )
        self.heartbeat = Heartbeat("decoder")
        self._inbox: deque[Take] = deque()
        self.warming = VoiceWarmup[Voice](
            lambda voice: decoder.warm(voice), lambda: self._fairness.idle
        )
        self._open: list[StreamState] = []
        self._wakeup = Wakeup()
        self._end: ChatterboxError | None = None

    # --- called from other threads

    def open(self, request: SegmentRequest, retries: int = 0) -> Take:
        """A take of `request`, whose tokens become sound; the outbox gets that and an end."""
        take = Take(request, retries)
        self._inbox.append(take)
        return take

    @property
    def open_takes(self) -> list[Take]:
        """Takes in this loop's hands: neither complete nor failed nor found to be abandoned."""
        return [*(stream.take for stream in list(self._open)), *list(self._inbox)]

    def warm(self, voice: Voice) -> None:
        """Have the decoder prepare for `voice` once nothing is in work."""
        self.warming.add(voice)
        self.wake()

    def wake(self) -> None:
        """Tokens have come, a take has ended, an outbox was closed or read."""
        self._wakeup.notify()

    def close(self, error: ChatterboxError) -> None:
        """Stop after the current call; every open outbox gets `error`."""
        self._end = error
        self.wake()

    def give_up(self, error: ChatterboxError) -> None:
        """As `close`, for when this thread may hang in a call or is no more."""
        self.close(error)
        for take in self.open_takes:
            take.request.outbox.end(error)

    # --- the vocoding thread

    def run(self, on_fault: Callable[[BaseException], None]) -> None:
        """Until closed. A fault that is nobody's own ends the loop and is given to `on_fault`,
        which gives it up."""
        try:
            while self._end is None:
                if not self.step():
                    self._wakeup.wait(self.heartbeat, self._rest_s())
        except BaseException as fault:  # noqa: BLE001 - `on_fault` says what it was
            on_fault(fault)
            return
        self._receive()
        for stream in self._open:
            stream.take.request.outbox.end(self._end)
        self._open.clear()

    def step(self) -> bool:
        """One call of the decoder; False when there was nothing to decode."""
        self.heartbeat.beat()
        chosen = self._chosen()
        if chosen and len(chosen) < min(self._decoder.max_rows, len(self._open)):
            time.sleep(self._gather_s)  # there is room, and somebody who may fill it
            chosen = self._chosen()
        if chosen:
            self._decode(chosen)
            return True
        if not self.warming:
            return False
        with self._cpu.for_decoder:  # one voice, then windows are looked for again
            return self.warming.run_one()

    def _rest_s(self) -> float | None:
        """How long to wait for news; nobody says when a listener's sound has become short, nor when
        nothing is in work any more."""
        idle = self._fairness.idle  # asked also so that what has ended is not held on to
        if self.warming or len(self._open) > 1 or (not idle and self._fairness.contended):
            return LOOK_AGAIN_S
        looks_s = [stream.look_s for stream in self._open if not stream.request.outbox.full]
        soonest_s = min(looks_s, default=math.inf)
        return None if soonest_s == math.inf else max(soonest_s - time.monotonic(), SHORTEST_S)

    def _chosen(self) -> list[VocoderJob]:
        """The windows of the next call: of those that need not wait for others. Where all have to,
        the language model has the cores for a first sound's tokens."""
        snapshot, due = self._look()
        if snapshot is not None:
            waiting, due = bool(due), self._ready(snapshot, due)
            self._fairness.decoder_idle(snapshot, must_wait=waiting and not due)
        return self._select(due)

    def _ready(self, snapshot: PrioritySnapshot, due: list[Due]) -> list[Due]:
        return [one for one in due if not snapshot.must_wait(one.what[0].request)]

    def _select(self, due: list[Due]) -> list[VocoderJob]:
        return [one.what for one in select_batch(due, self._decoder.max_rows)]

    def _let_through(self, batch: Sequence[VocoderJob]) -> None:
        """In the middle of decoding `batch`, where cores are shared: first sounds go first; before
        other first sounds those of tenants with less in work; everything else before what is over
        its quota."""
        requests = [stream.request for stream, _ in batch]
        while self._cpu.shared and self._end is None:
            snapshot, due = self._look()
            if snapshot is None:
                return
            due = self._ready(snapshot, due)
            if not all(map(snapshot.must_yield, requests)):
                silent = (snapshot.in_work(one) for one in requests if awaits_first_audio(one))
                mine = min(silent, default=math.inf)
                due = [one for one in due if one.first and one.in_work < mine]
            first = self._select(due)
            must_wait = not first and all(map(snapshot.must_wait, requests))
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
            take = self._inbox.popleft()
            try:
                stream = self._decoder.open(take.request.voice, take.request.seed)
            except REQUEST_ERRORS:
                log.exception("a stream could not be opened")
                self._end_failed(take, GenerationFailed("The decoder failed on this voice."))
                continue
            self._open.append(StreamState(take, stream, self._settings, self._loudest_rms))

    def _look(self) -> tuple[PrioritySnapshot | None, list[Due]]:
        """Who goes before whom, if there are several, and every window that could be decoded."""
        self._receive()
        self._open = [stream for stream in self._open if not stream.over]
        now_s, snapshot = time.monotonic(), None
        cost = replace(self._cost.estimate(), token_s=self._fairness.token_s)
        if len(self._open) > 1 or self._fairness.contended:
            snapshot = self._snapshot(now_s)
            listeners = {stream.request.playback for stream in self._open}
            buffered_s = [one.buffered_s(now_s) for one in listeners]
            cost = cost.scaled(load(buffered_s, self._decoder.max_rows))
            if any(stream.request.index for stream in self._open) or self._fairness.contended:
                for stream in self._open:
                    stream.update_listener(cost)
        due = [one.next_window(self._decoder, now_s, cost, snapshot) for one in self._open]
        return snapshot, [one for one in due if one is not None]

    def _snapshot(self, now_s: float) -> PrioritySnapshot:
        runnable = [one.request for one in self._open if not one.request.outbox.full]
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
            stream.look_s = 0.0  # since the cost is another
        self._stats.decode_s += took_s
        if self._fairness.contended:
            requests = [stream.request for stream, _ in batch]
            snapshot = self._snapshot(time.monotonic())
            self._fairness.charge_windows(snapshot, requests, took_s)
        return rendered

    def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """What came of work on the decoder, and the seconds it took."""
        began_s = time.monotonic()
        result = work()
        self.heartbeat.beat()
        return result, time.monotonic() - began_s

    def _deliver(self, stream: StreamState, job: DecodeJob, result: Rendered) -> None:
        take, window, outbox = stream.take, job.window, stream.take.request.outbox
        if stream not in self._open:
            return  # its listener left meanwhile
        complete = result.at + len(result.samples) >= window.end_sample
        if not (complete and np.isfinite(result.samples).all()):
            self._fail(stream, GenerationFailed("The decoder gave no usable sound for this text."))
            return
        whole = self._watermark is not None or not take.request.playback.live
        samples = stream.join(result, last=window.last, whole=whole)
        if len(samples):
            if self._watermark is not None:
                samples = self._watermark(samples)
            if not take.commit():
                return
            outbox.codes = tuple(take.tokens[: window.end * job.window.codec.tokens_per_frame])
            outbox.put(samples)
            now_s = time.monotonic()
            seconds = len(samples) / SAMPLE_RATE_HZ
            silence_s = take.request.playback.add(take.request.index, seconds, now_s)
            self._stats.decoded_samples += len(samples)
            self._stats.underruns += silence_s > 0
            self._stats.underrun_s += silence_s
        if not take.request.deterministic:  # when it is heard is a matter of time
            take.decoded.append(token_audio(job, result))
        if window.last:
            self._open.remove(stream)
            take.request.playback.complete(take.request.index, time.monotonic())
            if take.commit():
                assert take.end is not None
                codes = tuple(take.tokens[: take.end])
                outbox.end(SegmentEnd(codes, take.finish_reason, take.retries))

    def _fail(self, stream: StreamState, error: ChatterboxError) -> None:
        if stream in self._open:
            self._open.remove(stream)
        self._end_failed(stream.take, error)

    def _end_failed(self, take: Take, error: ChatterboxError) -> None:
        self._stats.failed_segments += 1
        if take.commit():
            take.request.outbox.end(error)
