"""One segment from admission to its last sample: the sequence, its takes, the outbox of its sound,
and its listener's playback clock.

Facts that travel back, from the reader of the sound to the threads that make it:

* `Outbox.closed`: the reader has left; the sequence is dropped at the next step.
* `Outbox.full`: the reader is slow; the sequence is paused.
* `PlaybackClock`: seconds of sound that the listener still has; both loops order work by it.
* `Take.commit` and `Take.discard`: whether the generation thread may still throw a take away.
* `Take.decoded`: the sound of the tokens, for the runaway detector.
"""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32, I64, SAMPLE_RATE_HZ
from chatterbox.engine.runaway import RunawayDetector, Verdict, best_take, remedy
from chatterbox.engine.sampler import Sampling, uniforms
from chatterbox.errors import ChatterboxError
from chatterbox.families.base import CodecSpec, Prompt, Voice

FinishReason = Literal["stop", "length", "guard"]
"""Why a segment ended: the model's stop token, the limit of tokens, or the runaway detector."""

LOW_BUFFER_S = 2.0
"""A listener with less sound than this is never delayed in favour of others."""
CAPACITY_SAMPLES = 20 * SAMPLE_RATE_HZ
"""Samples in an outbox from which its sequence is paused until the reader catches up. One piece
may exceed the limit, so an outbox holds at most this and one segment (at most 41 s)."""


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """The last item of an outbox whose segment is complete."""

    codes: tuple[int, ...]
    finish_reason: FinishReason
    retries: int = 0  # takes that were thrown away
    at_s: float = field(default_factory=time.monotonic, compare=False)  # when it was made


Terminal = SegmentEnd | ChatterboxError


class Outbox:
    """A thread-safe queue of one segment's sound: pieces in order, then exactly one terminal.

    The producer calls `put` and `end`. The reader calls `take`, and `close` when it leaves. Both
    loops read `closed`, `ended` and `full` at every step, so these are plain attributes; only this
    class writes them.
    """

    def __init__(self, listener: Callable[[], None] | None = None) -> None:
        """`listener` is called from the producer's thread after every `put` and `end`."""
        self._lock = threading.Lock()
        self._pieces: deque[F32] = deque()
        self._samples = 0
        self._terminal: Terminal | None = None
        self.closed = False  # the reader has left
        self.ended = False  # the terminal is in
        self.full = False  # the reader is so far behind that the sequence should pause
        self.codes: tuple[int, ...] = ()  # of the pieces put so far; written before each
        self._listener = listener

    # --- producer

    def put(self, samples: F32) -> None:
        """Add a piece [samples]. It is dropped if the reader has left or a terminal is in."""
        with self._lock:
            if self.closed or self._terminal is not None:
                return
            self._pieces.append(samples)
            self._count(len(samples))
        self._notify()

    def end(self, terminal: Terminal) -> None:
        """Add the terminal. Later terminals are ignored."""
        with self._lock:
            if self._terminal is None:
                self._terminal = terminal
                self.ended = True
        self._notify()

    # --- reader

    def take(self) -> F32 | Terminal | None:
        """Return the next piece; after the last piece the terminal; None if nothing is there."""
        with self._lock:
            if self._pieces:
                piece = self._pieces.popleft()
                self._count(-len(piece))
                return piece
            return self._terminal

    def close(self) -> None:
        """Leave. Unread pieces are dropped, and the sequence ends at the next step."""
        with self._lock:
            self.closed = True
            self._pieces.clear()
            self._count(-self._samples)

    def _count(self, samples: int) -> None:
        self._samples += samples
        self.full = self._samples >= CAPACITY_SAMPLES

    def _notify(self) -> None:
        if self._listener is not None:
            self._listener()


class PlaybackClock:
    """Estimates how much sound the listener of one request still has to play. Thread-safe.

    All segments of the request share it. Only sound that can be played without a gap counts: a
    later segment's sound counts once every segment before it is complete. The listener starts with
    the first sound and stops when the sound runs out; playback then resumes that much later. Times
    are `time.monotonic()` of the caller, in seconds.
    """

    def __init__(self, *, live: bool = True, speed: float = 1.0) -> None:
        """`live`: a listener plays the sound while it is made. `speed`: playback speed."""
        self.live = live
        self.speed = speed
        self._lock = threading.Lock()
        self.segment = 0  # the first segment that is not complete
        self._complete: set[int] = set()
        self._ahead_s: defaultdict[int, float] = defaultdict(float)  # by later segment
        self._plays_until_s: float | None = None
        self.next_window_s = 0.0
        """Seconds of work until the next sound, as the vocoding loop expects."""

    @property
    def awaits_first(self) -> bool:
        """Whether a listener is waiting for the first sound."""
        return self.live and self._plays_until_s is None

    def add(self, index: int, seconds: float, now_s: float) -> float:
        """Add `seconds` of sound or silence to segment `index`. Returns for how many seconds the
        listener had nothing to play before."""
        seconds /= self.speed
        with self._lock:
            if index == self.segment:
                return self._play(seconds, now_s)
            self._ahead_s[index] += seconds
            return 0.0

    def complete(self, index: int, now_s: float) -> None:
        """Mark segment `index` as complete."""
        with self._lock:
            self._complete.add(index)
            while self.segment in self._complete:
                self._complete.remove(self.segment)
                self.segment += 1
                self._play(self._ahead_s.pop(self.segment, 0.0), now_s)

    def buffered_s(self, now_s: float) -> float:
        """Seconds until the listener has nothing to play: 0 before the first sound, negative after
        the sound ran out, infinite without a listener."""
        if not self.live:
            return math.inf
        return 0.0 if self._plays_until_s is None else self._plays_until_s - now_s

    def spare_s(self, now_s: float) -> float:
        """Seconds of other work that can be done before the listener has nothing to play."""
        return self.buffered_s(now_s) - self.next_window_s

    def _play(self, seconds: float, now_s: float) -> float:
        if not seconds:
            return 0.0
        until_s = now_s if self._plays_until_s is None else self._plays_until_s
        self._plays_until_s = max(until_s, now_s) + seconds
        return max(now_s - until_s, 0.0)


class Take:
    """One attempt at a segment: the generation thread adds tokens, the vocoding thread decodes.

    A take can be thrown away only while none of its sound has been sent: the first call of `commit`
    or `discard` decides.
    """

    def __init__(self, retries: int = 0) -> None:
        """`retries`: takes of the segment thrown away before this one."""
        self.retries = retries
        self.tokens: list[int] = []
        self.wanted_tokens = 0  # with fewer tokens no window is due
        self.end: int | None = None  # how many tokens count, once no more will come
        self.finish_reason: FinishReason = "stop"
        self.decoded: deque[tuple[I64, F32]] = deque()  # tokens [n] and their sound, to be checked
        self.discarded = False  # thrown away
        self._committed = False
        self._lock = threading.Lock()

    @property
    def ready(self) -> int:
        """Number of tokens that may be decoded."""
        return len(self.tokens) if self.end is None else self.end

    @property
    def wanted(self) -> bool:
        """Whether a window may be due."""
        return len(self.tokens) >= self.wanted_tokens or self.end is not None

    def finish(self, end: int, reason: FinishReason) -> None:
        """Add no more tokens; those from `end` on do not count."""
        self.finish_reason = reason
        self.end = end

    def discard(self) -> bool:
        """Throw the take away. Returns False if some of its sound has been sent."""
        with self._lock:
            self.discarded = not self._committed
            return self.discarded

    def commit(self) -> bool:
        """Make the take final; call before its sound is sent. Returns False if it was discarded."""
        with self._lock:
            self._committed = not self.discarded
            return self._committed


@dataclass(slots=True, eq=False)
class Sequence:
    """One segment of a request, from admission to its last sample.

    A take that the runaway detector stops may be followed by another: the sequence gives up its
    slot and waits for a prefill like a new one.
    """

    # Set by the event loop, then constant; every thread reads these.
    voice: Voice
    prompt: Prompt
    text_chars: int
    sampling: Sampling
    max_tokens: int
    seed: int
    index: int  # position of the segment in its request; lower ones go first
    outbox: Outbox
    playback: PlaybackClock  # of the request
    tenant: Hashable = None  # the client, where API keys tell clients apart
    deterministic: bool = False  # no part of the sound may depend on time

    # Only the generation thread reads and writes these.
    slot: int = -1
    prefilled: bool = False  # whether the model holds the prompt in the slot
    retries: int = 0  # takes thrown away so far
    take: Take = field(init=False)  # the current one, from the first `start_take` on
    take_sampling: Sampling = field(init=False)  # of the current take
    draws: NDArray[np.float64] = field(init=False)  # random numbers, one for each possible token
    _detector: RunawayDetector | None = None
    _failed_takes: list[list[int]] = field(default_factory=list)  # good tokens of those thrown away

    def __post_init__(self) -> None:
        self.take_sampling = self.sampling

    def start_take(self, open_take: "OpenTake", detector: RunawayDetector | None) -> None:
        """Open the first take, or the next one after a retry. `detector`: a new one; None: off."""
        self.take, self._detector = open_take(self), detector
        most = min(self.max_tokens, detector.budget_tokens if detector else self.max_tokens)
        self.draws = uniforms(self.seed, self.index, self.retries, most)

    def append(self, token: int) -> Verdict | None:
        """Add a token. Returns a verdict if the take should not go on."""
        take, detector = self.take, self._detector
        take.tokens.append(token)
        while take.decoded:  # emptied without a detector too, so that it cannot grow
            tokens, sound = take.decoded.popleft()
            if detector is not None:
                detector.hear(tokens, sound)
        return None if detector is None else detector.push(token)

    def retry(self, verdict: Verdict, open_take: "OpenTake", codec: CodecSpec) -> bool:
        """Throw the take away, for another to be generated, if that is possible and likely to help.
        Otherwise end the segment with the best take, and return False."""
        # Whether sound has been sent depends on time, on which a deterministic sound must not.
        plays_at_once = self.deterministic and self.playback.live
        if plays_at_once or not self.take.discard():
            self.take.finish(verdict.end, "guard")
            return False
        self._failed_takes.append(self.take.tokens[: verdict.end])
        changed = remedy(verdict.fault, self.retries, self.sampling)
        if changed is not None:
            self.take_sampling, self.retries = changed, self.retries + 1
            return True
        lengths = [len(tokens) for tokens in self._failed_takes]
        best = self._failed_takes[best_take(lengths, self.text_chars, codec)]
        self.take = open_take(self)
        self.take.tokens.extend(best)
        self.take.finish(len(best), "guard")
        return False


OpenTake = Callable[[Sequence], Take]
"""Opens a take of a sequence for the vocoding thread."""
