"""How do codes become sound while more codes come? Windows of all segments, the most urgent first.

One thread runs it and owns the decoder. Knows no language model and no event loop; it meets the
engine thread at the tracks and the listeners at the outboxes.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from chatterbox.audio.watermark import Watermark
from chatterbox.engine.decode_batch import (
    GATHER_S,
    LOOK_AGAIN_S,
    Due,
    choose,
    load,
    worth_gathering,
)
from chatterbox.engine.decode_cost import CostMeter
from chatterbox.engine.outbox import SegmentEnd
from chatterbox.engine.portions import Portions
from chatterbox.engine.pulse import Pulse
from chatterbox.engine.scheduler import SegmentJob
from chatterbox.engine.stats import Counters
from chatterbox.engine.track import Track
from chatterbox.engine.turns import Turns
from chatterbox.engine.warming import warmed
from chatterbox.engine.windows import DecodeCost, Seams, Windows, WindowSettings
from chatterbox.errors import ChatterboxError, GenerationFailed
from chatterbox.model.contract import F32, SAMPLES_PER_CODE, Voice
from chatterbox.model.decoder_contract import (
    DecodeJob,
    DecodeStream,
    Rendered,
    StreamingDecoder,
    Window,
)
from chatterbox.model.graph_faults import ROWS_OWN, device_is_lost

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Voicing:
    """A track on its way to sound."""

    track: Track
    windows: Windows
    seams: Seams
    stream: DecodeStream
    held: list[F32] = field(default_factory=list)
    due_since_s: float | None = None

    @property
    def silent(self) -> bool:
        """Whether somebody listens and has heard nothing yet."""
        job = self.track.job
        return job.ordinal == 0 and job.playback.listening and not self.seams.sent_samples

    def held_back(self, samples: F32, last: bool) -> F32:
        """The whole segment with its last samples; nothing before."""
        self.held.append(samples)
        return np.concatenate(self.held) if last else samples[:0]

    def plan(self, slack_s: float, cost: DecodeCost) -> Window | None:
        """The window to decode now, if any; none for a reader who is far behind."""
        if self.track.job.outbox.full:
            return None
        ended = self.track.end is not None  # asked first: the count is final once this is so
        if ended and self.track.job.repeatable:
            # What was due before the end was known is decoded, whether or not there was time.
            due = self.windows.plan(len(self.track.codes), False, slack_s, cost)
            if due is not None:
                return due
        return self.windows.plan(self.track.ready, ended, slack_s, cost)

    def due(self, what: T, bucket: Hashable, slack_s: float, now_s: float) -> Due[T]:
        """What the choice of the next call needs to know of a planned window."""
        self.due_since_s = now_s if self.due_since_s is None else self.due_since_s
        return Due(
            what=what,
            bucket=bucket,
            first=self.silent,
            slack_s=slack_s,
            waited_s=now_s - self.due_since_s,
        )


_Asked = tuple[_Voicing, DecodeJob]


class DecodeLoop:
    """Decodes the windows of all open tracks, several in one call where the decoder gains by it."""

    def __init__(
        self,
        decoder: StreamingDecoder,
        settings: WindowSettings,
        counters: Counters,
        watermark: Watermark | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`turns`: with whom the cores are shared, if with anybody. `watermark` marks segments as
        wholes, so that with one nothing leaves before a segment is complete; nor does it where
        nobody listens meanwhile, so that the guard may take any attempt back."""
        self._decoder = decoder
        self._watermark = watermark
        self._turns = turns or Turns(shared=False)
        self._settings = settings
        self._counters = counters
        self._cost = CostMeter()
        # Whatever is not the device's is the row's: a decoder sees only codes and a voice.
        self._calls: Portions[_Asked, list[Rendered]] = Portions(lambda f: not device_is_lost(f))
        self.pulse = Pulse("decoder")
        self._inbox: deque[Track] = deque()
        self._to_warm: deque[Voice] = deque()
        self._open: list[_Voicing] = []
        self._wake = threading.Condition()
        self._news = False
        self._end: ChatterboxError | None = None

    # --- called from other threads

    def open(self, job: SegmentJob, retries: int = 0) -> Track:
        """Where the codes of an attempt at `job` go. Its outbox gets sound and an end."""
        track = Track(job, retries)
        self._inbox.append(track)
        return track

    def warm(self, voice: Voice) -> None:
        """Have the decoder prepare for `voice` when it next has a moment."""
        self._to_warm.append(voice)
        self.wake()

    def wake(self) -> None:
        """Codes have come, an attempt has ended, an outbox was closed or read."""
        with self._wake:
            self._news = True
            self._wake.notify()

    def close(self, error: ChatterboxError) -> None:
        """Stop after the current call; every open outbox gets `error`."""
        self._end = error
        self.wake()

    def give_up(self, error: ChatterboxError) -> None:
        """As `close`, for when this thread may hang in a call or is no more."""
        self.close(error)
        for track in [*(voicing.track for voicing in list(self._open)), *list(self._inbox)]:
            track.job.outbox.end(error)

    # --- the decode thread

    def run(self) -> None:
        """Until closed."""
        while self._end is None:
            if not self.step():
                with self._wake:
                    if not self._news and self._end is None:
                        self.pulse.rest()
                        # Nobody says when a listener's sound has become short.
                        self._wake.wait(timeout=LOOK_AGAIN_S if self._open else None)
                    self._news = False
        self._take_in()
        for voicing in self._open:
            voicing.track.job.outbox.end(self._end)
        self._open.clear()

    def step(self) -> bool:
        """One call of the decoder; False when there was nothing to decode."""
        self.pulse.beat()
        rows = self._decoder.max_rows
        chosen = choose(self._due(), rows)
        if chosen and worth_gathering(len(chosen), len(self._open), rows):
            time.sleep(GATHER_S)
            chosen = choose(self._due(), rows)
        if not chosen:
            return self._warm_one()
        if not chosen[0].pressing and self._turns.shared and any(map(_is_hoped_for, self._open)):
            return False  # the language model has the cores meanwhile
        for due in chosen:
            voicing, job = due.what
            voicing.windows.take(job.window)
            voicing.due_since_s = None
        self._decode([due.what for due in chosen])
        return True

    def _warm_one(self) -> bool:
        """Prepare for a voice that waits for it, if any does."""
        if not self._to_warm:
            return False
        with self._turns.decoder():
            warmed(self._decoder.warm, self._to_warm.popleft())
        return True

    def _take_in(self) -> None:
        while self._inbox:
            track = self._inbox.popleft()
            try:
                stream = self._decoder.open(track.job.voice, track.job.seed)
            except ROWS_OWN:
                log.exception("a stream could not be opened")
                self._end_failed(track, GenerationFailed("The decoder failed on this voice."))
                continue
            seams = Seams(self._settings.cross_fade_samples)
            self._open.append(
                _Voicing(
                    track, Windows(self._settings, by_table=track.job.repeatable), seams, stream
                )
            )

    def _due(self) -> list[Due[tuple[_Voicing, DecodeJob]]]:
        """Every window that could be decoded now."""
        self._take_in()
        self._open = [v for v in self._open if not _over(v.track)]
        now_s = time.monotonic()
        slacks_s = [v.track.job.playback.slack_s(now_s) for v in self._open]
        cost = replace(self._cost.estimate(), made_s=self._turns.step_s)
        cost = cost.scaled(load(slacks_s, self._decoder.max_rows))
        due = []
        for voicing, slack_s in zip(self._open, slacks_s, strict=True):
            window = voicing.plan(slack_s, cost)
            if window is not None:
                job = self._job(voicing, window)
                due.append(voicing.due((voicing, job), self._decoder.bucket(job), slack_s, now_s))
        return due

    def _job(self, voicing: _Voicing, window: Window) -> DecodeJob:
        held_back = 0 if window.last else self._settings.cross_fade_samples
        return DecodeJob(
            stream=voicing.stream,
            window=window,
            codes=np.array(voicing.track.codes[window.begin : window.stop], np.int64),
            needs_from=voicing.seams.needs_from,
            next_from=window.end_sample - held_back,
        )

    def _decode(self, batch: list[_Asked]) -> None:
        for part, rendered in self._calls.run(batch, self._render):
            if isinstance(rendered, ChatterboxError):
                for voicing, _ in part:
                    self._fail(voicing, rendered)
                continue
            for (voicing, job), result in zip(part, rendered, strict=True):
                try:
                    self._deliver(voicing, job, result)
                except ROWS_OWN:
                    log.exception("a segment's sound could not be joined")
                    self._fail(voicing, GenerationFailed("The decoder failed on this text."))

    def _render(self, batch: Sequence[_Asked]) -> list[Rendered]:
        with self._turns.decoder(), self._counters.timed("decode_s"):
            started = time.monotonic()
            rendered = self._decoder.run([job for _, job in batch])
            took_s = (time.monotonic() - started) / len(batch)
        for _, job in batch:
            self._cost.add(job.window.fed_codes, took_s)
        self.pulse.beat()
        return rendered

    def _deliver(self, voicing: _Voicing, job: DecodeJob, result: Rendered) -> None:
        track, window, outbox = voicing.track, job.window, voicing.track.job.outbox
        complete = result.at + len(result.samples) >= window.end_sample
        if not (complete and np.isfinite(result.samples).all()):
            error = GenerationFailed("The decoder gave no usable sound for this text.")
            self._fail(voicing, error)
            return
        samples = voicing.seams.join(result.samples, result.at, window.last)
        if self._watermark is not None or not track.job.playback.listening:
            samples = voicing.held_back(samples, window.last)
        if len(samples):
            if self._watermark is not None:
                samples = self._watermark(samples)
            if not track.claim():
                return
            outbox.put(samples)
            track.job.playback.sent(len(samples), time.monotonic())
            self._counters.add(decoded_samples=len(samples))
        if not track.job.repeatable:  # when it is heard is a matter of time
            track.heard.append(_became(job, result))
        if window.last:
            self._open.remove(voicing)
            if track.claim():
                assert track.end is not None
                codes = tuple(track.codes[: track.end])
                outbox.end(SegmentEnd(codes, track.finish_reason, track.retries))

    def _fail(self, voicing: _Voicing, error: ChatterboxError) -> None:
        if voicing in self._open:
            self._open.remove(voicing)
        self._end_failed(voicing.track, error)

    def _end_failed(self, track: Track, error: ChatterboxError) -> None:
        self._counters.add(failed_segments=1)
        if track.claim():
            track.job.outbox.end(error)


def _is_hoped_for(voicing: _Voicing) -> bool:
    """Whether codes are being made of a first sound that somebody waits for."""
    return voicing.silent and voicing.track.end is None


def _over(track: Track) -> bool:
    """Whether nobody wants the sound of this attempt any more."""
    outbox = track.job.outbox
    return track.void or outbox.closed or outbox.ended


def _became(
    job: DecodeJob, result: Rendered
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], F32]:
    """The window's fresh codes and their samples."""
    window = job.window
    codes = job.codes[window.fresh - window.begin : window.end - window.begin]
    start = max(window.fresh * SAMPLES_PER_CODE - result.at, 0)
    return codes, result.samples[start : window.end * SAMPLES_PER_CODE - result.at]
