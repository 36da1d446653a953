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
from chatterbox.engine.bell import Bell
from chatterbox.engine.decode_batch import (
    GATHER_S,
    LOOK_AGAIN_S,
    Due,
    choose,
    load,
    worth_gathering,
)
from chatterbox.engine.decode_cost import CostMeter
from chatterbox.engine.favour import Standing, hoped_for
from chatterbox.engine.outbox import SegmentEnd
from chatterbox.engine.portions import Portions
from chatterbox.engine.pulse import Pulse
from chatterbox.engine.scheduler import SegmentJob
from chatterbox.engine.sounding import Asked, Sounding, became
from chatterbox.engine.stats import Counters
from chatterbox.engine.track import Track
from chatterbox.engine.turns import Turns
from chatterbox.engine.warming import Warming
from chatterbox.engine.windows import WindowSettings
from chatterbox.errors import ChatterboxError, GenerationFailed
from chatterbox.model.contract import SAMPLE_RATE_HZ, Voice
from chatterbox.model.decoder_contract import (
    DecodeJob,
    Rendered,
    StreamingDecoder,
)
from chatterbox.model.graph_faults import ROWS_OWN, device_is_lost

T = TypeVar("T")
log = logging.getLogger(__name__)


class DecodeLoop:
    """Decodes the windows of all open tracks, several in one call where the decoder gains by it."""

    def __init__(
        self,
        decoder: StreamingDecoder,
        settings: WindowSettings,
        counters: Counters,
        watermark: Watermark | None = None,
        turns: Turns | None = None,
        loudest_rms: float | None = None,
    ) -> None:
        """`turns`: with whom the cores are shared, if with anybody. `watermark` marks segments as
        wholes, so that with one nothing leaves before a segment is complete; nor does it where
        nobody listens meanwhile, so that the guard may take any attempt back. `loudest_rms`: what
        is louder is turned down; none: nothing is."""
        self._decoder = decoder
        self._watermark = watermark
        self._turns = turns or Turns(shared=False)
        self._settings = settings
        self._loudest_rms = loudest_rms
        self._counters = counters
        self._cost = CostMeter()
        # Whatever is not the device's is the row's: a decoder sees only codes and a voice.
        self._calls: Portions[Asked, list[Rendered]] = Portions(lambda f: not device_is_lost(f))
        self.pulse = Pulse("decoder")
        self._inbox: deque[Track] = deque()
        self.warming = Warming(decoder, lambda: self._turns.favour.idle)
        self._open: list[Sounding] = []
        self._bell = Bell()
        self._end: ChatterboxError | None = None

    # --- called from other threads

    def open(self, job: SegmentJob, retries: int = 0) -> Track:
        """Where the codes of an attempt at `job` go. Its outbox gets sound and an end."""
        track = Track(job, retries)
        self._inbox.append(track)
        return track

    def warm(self, voice: Voice) -> None:
        """Have the decoder prepare for `voice` once nothing is in work."""
        self.warming.add(voice)
        self.wake()

    def wake(self) -> None:
        """Codes have come, an attempt has ended, an outbox was closed or read."""
        self._bell.ring()

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
                    self._bell.sleep(self.pulse, LOOK_AGAIN_S if looking else None)
        except BaseException as fault:  # noqa: BLE001 - `on_fault` says what it was
            on_fault(fault)
            return
        self._take_in()
        for sounding in self._open:
            sounding.track.job.outbox.end(self._end)
        self._open.clear()

    def step(self) -> bool:
        """One call of the decoder; False when there was nothing to decode."""
        self.pulse.beat()
        rows = self._decoder.max_rows
        due = self._due_now()
        chosen = choose(due, rows)
        if chosen and worth_gathering(len(chosen), len(self._open), rows):
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
        left = [one for one in due if not standing.aside(one.what[0].track.job)]
        self._turns.favour.decoder_stands(standing, aside=bool(due) and not left)
        return left

    def _let_through(self, batch: Sequence[Asked]) -> None:
        """In the middle of decoding `batch`, where cores are shared: first sounds go first; before
        other first sounds those of parties with less in work; before a crowd everything else."""
        if not self._turns.shared:
            return
        jobs = [sounding.track.job for sounding, _ in batch]
        while self._end is None:
            standing, due = self._look()
            left = [one for one in due if not standing.aside(one.what[0].track.job)]
            if not all(map(standing.gives_way, jobs)):
                silent = (standing.in_work(job) for job in jobs if hoped_for(job))
                mine = min(silent, default=math.inf)
                left = [one for one in left if one.first and one.in_work < mine]
            first = choose(left, self._decoder.max_rows)
            aside = not first and all(map(standing.aside, jobs))
            self._turns.favour.decoder_stands(standing, aside=aside)
            if not (first or aside):
                return
            with self._turns.handed_over():
                if aside:
                    self._bell.sleep(self.pulse, LOOK_AGAIN_S)
                else:
                    self._take(first)
            self.pulse.beat()

    def _warm_one(self) -> bool:
        """One voice, then windows are looked for again, and the pulse beats."""
        with self._turns.decoder():
            return self.warming.one()

    def _take_in(self) -> None:
        while self._inbox:
            track = self._inbox.popleft()
            try:
                stream = self._decoder.open(track.job.voice, track.job.seed)
            except ROWS_OWN:
                log.exception("a stream could not be opened")
                self._end_failed(track, GenerationFailed("The decoder failed on this voice."))
                continue
            self._open.append(Sounding(track, stream, self._settings, self._loudest_rms))

    def _look(self) -> tuple[Standing, list[Due[Asked]]]:
        """Who goes before whom, and every window that could be decoded now."""
        self._take_in()
        self._open = [s for s in self._open if not s.over]
        standing = self._standing()
        listeners = {s.track.job.playback for s in self._open}
        buffered_s = {one: one.buffered_s(standing.now_s) for one in listeners}
        cost = replace(self._cost.estimate(), made_s=self._turns.step_s)
        cost = cost.scaled(load(buffered_s.values(), self._decoder.max_rows))
        for sounding in self._open:
            sounding.tell_listener(cost)
        due = [
            s.offer(self._decoder, buffered_s[s.track.job.playback], cost, standing)
            for s in self._open
        ]
        return standing, [one for one in due if one is not None]

    def _standing(self) -> Standing:
        making = [s.track.job for s in self._open if not s.track.job.outbox.full]
        return self._turns.favour.standing(making, time.monotonic())

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
                except ROWS_OWN:
                    log.exception("a segment's sound could not be joined")
                    self._fail(sounding, GenerationFailed("The decoder failed on this text."))

    def _render(self, batch: Sequence[Asked]) -> list[Rendered]:
        jobs = [job for _, job in batch]
        with self._turns.decoder():
            finish, began_s = self._timed(lambda: self._decoder.start(jobs))
            self._let_through(batch)
            rendered, ended_s = self._timed(finish)
        took_s = began_s + ended_s
        for _, job in batch:
            self._cost.add(job.window.fed_codes, took_s / len(batch))
        self._turns.favour.decoded(
            self._standing(), [sounding.track.job for sounding, _ in batch], took_s
        )
        return rendered

    def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """What came of work on the decoder, and the seconds it took."""
        started = time.monotonic()
        with self._counters.timed("decode_s"):
            result = work()
        self.pulse.beat()
        return result, time.monotonic() - started

    def _deliver(self, sounding: Sounding, job: DecodeJob, result: Rendered) -> None:
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
            silence_s = track.job.playback.add(track.job.ordinal, seconds, now_s)
            self._counters.add(
                decoded_samples=len(samples), underruns=silence_s > 0, underrun_s=silence_s
            )
        if not track.job.repeatable:  # when it is heard is a matter of time
            track.heard.append(became(job, result))
        if window.last:
            self._open.remove(sounding)
            track.job.playback.complete(track.job.ordinal, time.monotonic())
            if track.claim():
                assert track.end is not None
                codes = tuple(track.codes[: track.end])
                outbox.end(SegmentEnd(codes, track.finish_reason, track.retries))

    def _fail(self, sounding: Sounding, error: ChatterboxError) -> None:
        if sounding in self._open:
            self._open.remove(sounding)
        self._end_failed(sounding.track, error)

    def _end_failed(self, track: Track, error: ChatterboxError) -> None:
        self._counters.add(failed_segments=1)
        if track.claim():
            track.job.outbox.end(error)
