"""One segment's life: its request, the mailbox of its sound, its listener's clock, the sequence and
its takes."""

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from chatterbox.arrays import F32, I64, SAMPLE_RATE_HZ
from chatterbox.engine.runaway import RunawayDetector, Verdict, best_take, remedy
from chatterbox.engine.sampler import Sampling, uniforms
from chatterbox.errors import ChatterboxError
from chatterbox.families.base import CodecSpec, Prompt, Voice

FinishReason = Literal["stop", "length", "guard"]
"""The model ended it; its cap did; the guard did, since it was no speech of its text any more."""

LOW_BUFFER_S = 2.0
"""A listener with less sound than this has no time to give to others."""
CAPACITY_SAMPLES = 20 * SAMPLE_RATE_HZ
"""A reader this far behind is slow: its row is not scheduled until it has caught up. One piece
may overshoot it, so a mailbox holds at most this plus one segment (a segment is ≤ 41 s)."""


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """The segment is whole."""

    codes: tuple[int, ...]
    finish_reason: FinishReason
    retries: int = 0  # attempts that the guard threw away
    at_s: float = field(default_factory=time.monotonic, compare=False)  # when it was made


Terminal = SegmentEnd | ChatterboxError


class Outbox:
    """Pieces of one segment in order, then exactly one terminal, which is never lost.

    The producer puts, then finishes or fails. The consumer takes, and closes when it leaves:
    `closed` and `full` are all the producer ever learns of it. `closed`, `ended` and `full` are
    written here only; they are plain attributes since both loops read them at every step.
    """

    def __init__(self, listener: Callable[[], None] | None = None) -> None:
        """`listener` is called, from the producer's thread, whenever there is something new."""
        self._lock = threading.Lock()
        self._pieces: deque[F32] = deque()
        self._samples = 0
        self._terminal: Terminal | None = None
        self.closed = False  # the reader has left
        self.ended = False  # the terminal is in
        self.full = False  # the reader is so far behind that its sequence should wait
        self.codes: tuple[int, ...] = ()  # of the pieces put so far; written before each
        self._listener = listener

    # --- producer

    def put(self, samples: F32) -> None:
        """Add a piece [samples]; dropped when the consumer has left or an error has ended it."""
        with self._lock:
            if self.closed or self._terminal is not None:
                return
            self._pieces.append(samples)
            self._count(len(samples))
        self._notify()

    def end(self, terminal: Terminal) -> None:
        """The segment is whole, or it failed. The first terminal stands."""
        with self._lock:
            if self._terminal is None:
                self._terminal = terminal
                self.ended = True
        self._notify()

    # --- consumer

    def take(self) -> F32 | Terminal | None:
        """The next piece; after the last one the terminal; None when there is nothing yet."""
        with self._lock:
            if self._pieces:
                piece = self._pieces.popleft()
                self._count(-len(piece))
                return piece
            return self._terminal

    def close(self) -> None:
        """The reader leaves; what was not read is dropped."""
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
    """How much sound the listener of one request still has to play; shared by its segments and by
    the threads that work on them. Times are the caller's, in seconds.

    Counts what can be played without a break from where the listener is: a later segment's sound is
    kept apart until every segment before it is complete. The listener plays from the first sound
    on, and stops where there is none: after a silence the rest is played that much later.
    """

    def __init__(self, *, live: bool = True, speed: float = 1.0) -> None:
        """`live`: somebody hears the sound while it is made. `speed`: how fast they play it."""
        self.live = live
        self.speed = speed
        self._lock = threading.Lock()
        self.segment = 0  # the first that is not complete: played, or waited for
        self._complete: set[int] = set()
        self._ahead_s: defaultdict[int, float] = defaultdict(float)  # of segments after that one
        self._plays_until_s: float | None = None
        self.next_window_s = 0.0
        """Seconds of work until more sound is there, as the vocoding loop expects."""

    @property
    def awaits_first(self) -> bool:
        """Whether somebody listens and has heard nothing yet."""
        return self.live and self._plays_until_s is None

    def add(self, index: int, seconds: float, now_s: float) -> float:
        """So much more of segment `index` is there, sound or the silence before it. Returns for how
        many seconds the listener had had nothing to play."""
        seconds /= self.speed
        with self._lock:
            if index == self.segment:
                return self._play(seconds, now_s)
            self._ahead_s[index] += seconds
            return 0.0

    def complete(self, index: int, now_s: float) -> None:
        """No more of segment `index` will come."""
        with self._lock:
            self._complete.add(index)
            while self.segment in self._complete:
                self._complete.remove(self.segment)
                self.segment += 1
                self._play(self._ahead_s.pop(self.segment, 0.0), now_s)

    def buffered_s(self, now_s: float) -> float:
        """Seconds until the listener has nothing to play: 0 before the first sound, below 0 since
        it ran out, infinite when nobody listens."""
        if not self.live:
            return math.inf
        return 0.0 if self._plays_until_s is None else self._plays_until_s - now_s

    def spare_s(self, now_s: float) -> float:
        """Seconds that may go to anything else before the listener has nothing to play."""
        return self.buffered_s(now_s) - self.next_window_s

    def _play(self, seconds: float, now_s: float) -> float:
        if not seconds:
            return 0.0
        until_s = now_s if self._plays_until_s is None else self._plays_until_s
        self._plays_until_s = max(until_s, now_s) + seconds
        return max(now_s - until_s, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRequest:
    """One segment to be spoken."""

    voice: Voice
    prompt: Prompt
    text_chars: int
    sampling: Sampling
    max_tokens: int
    seed: int
    index: int  # place within its request: first segments go first
    outbox: Outbox
    playback: PlaybackClock  # of its request
    tenant: Hashable = None  # who asks, where clients are told apart
    deterministic: bool = False  # nothing about its sound depends on time


class Take:
    """One try at a segment: the generation thread adds tokens, the vocoding thread makes sound.

    The first of `commit` and `discard` wins: a take is thrown away only while nobody has heard it.
    """

    def __init__(self, request: SegmentRequest, retries: int = 0) -> None:
        self.request = request
        self.retries = retries  # takes thrown away before this one
        self.tokens: list[int] = []
        self.wanted_tokens = 0  # before there are so many, nothing can be vocoded
        self.end: int | None = None  # how many tokens count, once no more will come
        self.finish_reason: FinishReason = "stop"
        self.decoded: deque[tuple[I64, F32]] = deque()  # tokens [n] and their sound, to be checked
        self.discarded = False  # it was thrown away
        self._committed = False
        self._lock = threading.Lock()

    @property
    def ready(self) -> int:
        """Tokens that may be vocoded."""
        return len(self.tokens) if self.end is None else self.end

    @property
    def wanted(self) -> bool:
        """Whether the vocoder should look at it."""
        return len(self.tokens) >= self.wanted_tokens or self.end is not None

    def finish(self, end: int, reason: FinishReason) -> None:
        """No more tokens; those from `end` on do not count."""
        self.finish_reason = reason
        self.end = end

    def discard(self) -> bool:
        """Throw the take away unless some of its sound has left; returns whether that was done."""
        with self._lock:
            self.discarded = not self._committed
            return self.discarded

    def commit(self) -> bool:
        """Called before sound leaves: from now on the take stands. False when it was discarded."""
        with self._lock:
            self._committed = not self.discarded
            return self._committed


OpenTake = Callable[[SegmentRequest, int], Take]
"""Opens a take, with so many retries before it, for the vocoder."""


class Sequence:
    """A segment that waits for a slot or is generated in one; owned by the generation thread.

    A take that the runaway detector stops may be followed by another: the sequence gives up its
    slot, and waits for a prefill like a new one.
    """

    take: Take  # the current one, from the first `start_take` on

    def __init__(
        self, request: SegmentRequest, open_take: OpenTake, codec: CodecSpec, *, guarded: bool
    ) -> None:
        """`guarded`: whether tokens that are no speech of the text any more are noticed."""
        self.request = request
        self.slot = -1
        self.prefilled = False  # whether the model holds something of it
        self.sampling = request.sampling  # of the current take
        self.draws = np.zeros(0)  # its random numbers, one for each token that it may have
        self.retries = 0  # takes thrown away so far
        self._open_take, self._codec, self._guarded = open_take, codec, guarded
        self._detector: RunawayDetector | None = None
        self._failed_takes: list[list[int]] = []  # good tokens of those thrown away

    def start_take(self) -> None:
        """Open the first take, or the next after one that was thrown away."""
        request, max_tokens = self.request, self.request.max_tokens
        self.take = self._open_take(request, self.retries)
        if self._guarded:
            self._detector = RunawayDetector(request.text_chars, self._codec)
            max_tokens = min(max_tokens, self._detector.budget_tokens)
        self.draws = uniforms(request.seed, request.index, self.retries, max_tokens)

    def append(self, token: int) -> Verdict | None:
        """Add a token; a verdict where the take should not go on."""
        take, detector = self.take, self._detector
        take.tokens.append(token)
        while take.decoded:  # emptied without a detector too: nobody else does
            tokens, sound = take.decoded.popleft()
            if detector is not None:
                detector.hear(tokens, sound)
        return None if detector is None else detector.push(token)

    def retry(self, verdict: Verdict) -> bool:
        """Throw the take away, so that another is generated, if that is still possible and useful.
        Otherwise end the segment with the best that there is, and return False."""
        take, request = self.take, self.request
        # Whether sound has left is a matter of time, on which nothing deterministic may depend.
        heard_at_once = request.deterministic and request.playback.live
        sent = heard_at_once or not take.discard()
        if sent:
            take.finish(verdict.end, "guard")
            return False
        self._failed_takes.append(take.tokens[: verdict.end])
        changed = remedy(verdict.fault, self.retries, request.sampling)
        if changed is None:
            self._speak_best()
            return False
        self.sampling, self.retries = changed, self.retries + 1
        return True

    def _speak_best(self) -> None:
        """Nothing has been heard yet: of all takes, speak the one most like speech."""
        lengths = [len(tokens) for tokens in self._failed_takes]
        best = self._failed_takes[best_take(lengths, self.request.text_chars, self._codec)]
        self.take = self._open_take(self.request, self.retries)
        self.take.tokens.extend(best)
        self.take.finish(len(best), "guard")
