"""How do codes become sound while more codes come? Windows of all segments, the most urgent first.

One thread runs it and owns the decoder. Knows no language model and no event loop; it meets the
engine thread at the tracks and the listeners at the outboxes.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from chatterbox.audio.watermark import Watermark
from chatterbox.engine.batch_retry import SplittingBatch
from chatterbox.engine.cpu_lock import CpuLock
from chatterbox.engine.fairness import PrioritySnapshot, awaits_first_audio
from chatterbox.engine.latency import LatencyModel
from chatterbox.engine.outbox import SegmentEnd
from chatterbox.engine.scheduler import SegmentRequest
from chatterbox.engine.stats import Counters
from chatterbox.engine.take import Take
from chatterbox.engine.threads import Heartbeat, Wakeup
from chatterbox.engine.vocoder_stream import Asked, StreamState, became
from chatterbox.engine.warmup import VoiceWarmup
from chatterbox.engine.window_queue import (
    GATHER_S,
    LOOK_AGAIN_S,
    Due,
    choose,
    load,
    should_wait_for_more,
)
from chatterbox.engine.windows import WindowSettings
from chatterbox.errors import ChatterboxError, GenerationFailed
from chatterbox.runtime.contract import SAMPLE_RATE_HZ, Voice
from chatterbox.runtime.ort_errors import REQUEST_ERRORS, device_is_lost
from chatterbox.runtime.streaming_decoder import (
    DecodeJob,
    Rendered,
    StreamingDecoder,
)

T = TypeVar("T")
log = logging.getLogger(__name__)


class VocodingLoop:
    """Decodes the windows of all open tracks, several in one call where the decoder gains by it."""

    def __init__(
        self,
        decoder: StreamingDecoder,
        settings: WindowSettings,
        counters: Counters,
        watermark: Watermark | None = None,
        cpu: CpuLock | None = None,
        loudest_rms: float | None = None,
    ) -> None:
        """`cpu`: with whom the cores are shared, if with anybody. `watermark` marks segments as
        wholes, so that with one nothing leaves before a segment is complete; nor does it where
        nobody listens meanwhile, so that the guard may take any attempt back. `loudest_rms`: what
        is louder is turned down; none: nothing is."""
        self._decoder = decoder
        self._watermark = watermark
        self._cpu = cpu or CpuLock(shared=False)
        self._settings = settings
        self._loudest_rms = loudest_rms
        self._counters = counters
        self._cost = LatencyModel()
        # Whatever is not the device's is the row's: a decoder sees only codes and a voice.
        self._calls: SplittingBatch[Asked, list[Rendered]] = SplittingBatch(
            lambda f: not device_is_lost(f)
        )
        self.heartbeat = Heartbeat("decoder")
        self._inbox: deque[Take] = deque()
        self.warming = VoiceWarmup(decoder.warm, lambda: self._cpu.favour.idle)
        self._open: list[StreamState] = []
        self._wakeup = Wakeup()
        self._end: ChatterboxError | None = None

    # --- called from other threads

    def open(self, job: SegmentRequest, retries: int = 0) -> Take:
        """Where the codes of an attempt at `job` go. Its outbox gets sound and an end."""
        track = Take(job, retries)
        self._inbox.append(track)
        return track

    def warm(self, voice: Voice) -> None:
        """Have the decoder prepare for `voice` once nothing is in work."""
        self.warming.add(voice)
        self.wake()

    def wake(self) -> None:
        """Codes have come, an attempt has ended, an outbox was closed or read."""
        self._wakeup.notify()

    def close(self, error: ChatterboxError) -> None:
        """Stop after the current call; every open outbox gets `error`."""
        self._end = error
        self.wake()

    def give_up(self, error: ChatterboxError) -> None:
        """As `close`, for when this thread may hang in a call or is no more."""
        self.close(error)
        for track in [*(sounding.track for sounding in list(self._open)), *list(self._inbox)]:
            track.job.outbox.end(error)

    # --- the decode thread

    def run(self, on_fault: Callable[[BaseException], None]) -> None:
        """Until closed. A fault that is nobody's own ends the loop and is given to `on_fault`,
        which gives it up."""
        try:
            while self._end is None:
                if not self.step():
                    # Nobody says when a listener's sound has become short.
                    looking = self._open or self.warming  # nor when nothing is in work any more
                    self._wakeup.wait(self.heartbeat, LOOK_AGAIN_S if looking else None)
        except BaseException as fault:  # noqa: BLE001 - `on_fault` says what it was
            on_fault(fault)
            return
        self._take_in()
        for sounding in self._open:
            sounding.track.job.outbox.end(self._end)
        self._open.clear()

    def step(self) -> bool:
        """One call of the decoder; False when there was nothing to decode."""
        self.heartbeat.beat()
        rows = self._decoder.max_rows
        due = self._due_now()
        chosen = choose(due, rows)
        if chosen and should_wait_for_more(len(chosen), len(self._open), rows):
            time.sleep(GATHER_S)
            due = self._due_now()
            chosen = choose(due, rows)
        if chosen:
            self._take(chosen)
            return True
        return bool(self.warming) and self._warm_one()

    def _take(self, chosen: list[Due[Asked]]) -> None:
        for due in chosen:
            sounding, job = due.what
            sounding.taken(job.window)
        self._decode([due.what for due in chosen])

    def _due_now(self) -> list[Due[Asked]]:
        """What could be decoded and does not stand aside; where nothing is left of it, the language
        model has the cores for a first sound's codes."""
        standing, due = self._look()
        left = [one for one in due if not standing.must_wait(one.what[0].track.job)]
        self._cpu.favour.decoder_idle(standing, must_wait=bool(due) and not left)
        return left

    def _let_through(self, batch: Sequence[Asked]) -> None:
        """In the middle of decoding `batch`, where cores are shared: first sounds go first; before
        other first sounds those of parties with less in work; before a crowd everything else."""
        if not self._cpu.shared:
            return
        jobs = [sounding.track.job for sounding, _ in batch]
        while self._end is None:
            standing, due = self._look()
            left = [one for one in due if not standing.must_wait(one.what[0].track.job)]
            if not all(map(standing.must_yield, jobs)):
                silent = (standing.in_work(job) for job in jobs if awaits_first_audio(job))
                mine = min(silent, default=math.inf)
                left = [one for one in left if one.first and one.in_work < mine]
            first = choose(left, self._decoder.max_rows)
            must_wait = not first and all(map(standing.must_wait, jobs))
            self._cpu.favour.decoder_idle(standing, must_wait=must_wait)
            if not (first or must_wait):
                return
            with self._cpu.released():
                if must_wait:
                    self._wakeup.wait(self.heartbeat, LOOK_AGAIN_S)
                else:
                    self._take(first)
            self.heartbeat.beat()

    def _warm_one(self) -> bool:
        """One voice, then windows are looked for again, and the heartbeat beats."""
        with self._cpu.for_decoder():
            return self.warming.run_one()

    def _take_in(self) -> None:
        while self._inbox:
            track = self._inbox.popleft()
            try:
                stream = self._decoder.open(track.job.voice, track.job.seed)
            except REQUEST_ERRORS:
                log.exception("a stream could not be opened")
                self._end_failed(track, GenerationFailed("The decoder failed on this voice."))
                continue
            self._open.append(StreamState(track, stream, self._settings, self._loudest_rms))

    def _look(self) -> tuple[PrioritySnapshot, list[Due[Asked]]]:
        """Who goes before whom, and every window that could be decoded now."""
        self._take_in()
        self._open = [s for s in self._open if not s.over]
        standing = self._standing()
        listeners = {s.track.job.playback for s in self._open}
        buffered_s = {one: one.buffered_s(standing.now_s) for one in listeners}
        cost = replace(self._cost.estimate(), token_s=self._cpu.step_s)
        cost = cost.scaled(load(buffered_s.values(), self._decoder.max_rows))
        for sounding in self._open:
            sounding.tell_listener(cost)
        due = [
            s.offer(self._decoder, buffered_s[s.track.job.playback], cost, standing)
            for s in self._open
        ]
        return standing, [one for one in due if one is not None]

    def _standing(self) -> PrioritySnapshot:
        runnable = [s.track.job for s in self._open if not s.track.job.outbox.full]
        return self._cpu.favour.standing(runnable, time.monotonic())

    def _decode(self, batch: list[Asked]) -> None:
        for part, rendered in self._calls.run(batch, self._render):
            for sounding, _ in part:
                sounding.in_work = False
            if isinstance(rendered, ChatterboxError):
                for sounding, _ in part:
                    self._fail(sounding, rendered)
                continue
            for (sounding, job), result in zip(part, rendered, strict=True):
                try:
                    self._deliver(sounding, job, result)
                except REQUEST_ERRORS:
                    log.exception("a segment's sound could not be joined")
                    self._fail(sounding, GenerationFailed("The decoder failed on this text."))

    def _render(self, batch: Sequence[Asked]) -> list[Rendered]:
        jobs = [job for _, job in batch]
        with self._cpu.for_decoder():
            finish, began_s = self._timed(lambda: self._decoder.start(jobs))
            self._let_through(batch)
            rendered, ended_s = self._timed(finish)
        took_s = began_s + ended_s
        for _, job in batch:
            self._cost.add(job.window.fed_codes, took_s / len(batch))
        self._cpu.favour.decoded(
            self._standing(), [sounding.track.job for sounding, _ in batch], took_s
        )
        return rendered

    def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """What came of work on the decoder, and the seconds it took."""
        started = time.monotonic()
        with self._counters.timed("decode_s"):
            result = work()
        self.heartbeat.beat()
        return result, time.monotonic() - started

    def _deliver(self, sounding: StreamState, job: DecodeJob, result: Rendered) -> None:
        track, window, outbox = sounding.track, job.window, sounding.track.job.outbox
        if sounding not in self._open:
            return  # its listener left meanwhile
        complete = result.at + len(result.samples) >= window.end_sample
        if not (complete and np.isfinite(result.samples).all()):
            error = GenerationFailed("The decoder gave no usable sound for this text.")
            self._fail(sounding, error)
            return
        samples = sounding.join(result, last=window.last)
        if self._watermark is not None or not track.job.playback.live:
            samples = sounding.held_back(samples, window.last)
        if len(samples):
            if self._watermark is not None:
                samples = self._watermark(samples)
            if not track.claim():
                return
            outbox.put(samples)
            now_s = time.monotonic()
            seconds = len(samples) / SAMPLE_RATE_HZ
            silence_s = track.job.playback.add(track.job.index, seconds, now_s)
            self._counters.add(
                decoded_samples=len(samples), underruns=silence_s > 0, underrun_s=silence_s
            )
        if not track.job.deterministic:  # when it is heard is a matter of time
            track.heard.append(became(job, result))
        if window.last:
            self._open.remove(sounding)
            track.job.playback.complete(track.job.index, time.monotonic())
            if track.claim():
                assert track.end is not None
                codes = tuple(track.codes[: track.end])
                outbox.end(SegmentEnd(codes, track.finish_reason, track.retries))

    def _fail(self, sounding: StreamState, error: ChatterboxError) -> None:
        if sounding in self._open:
            self._open.remove(sounding)
        self._end_failed(sounding.track, error)

    def _end_failed(self, track: Take, error: ChatterboxError) -> None:
        self._counters.add(failed_segments=1)
        if track.claim():
            track.job.outbox.end(error)
