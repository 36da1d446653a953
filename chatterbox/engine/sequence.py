"""One segment's life in the engine: the request, the sequence that is generated, its takes."""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.engine.outbox import FinishReason, Outbox, PlaybackClock
from chatterbox.engine.runaway import RunawayDetector, Verdict, best_take, remedy
from chatterbox.engine.sampler import Sampling, uniforms
from chatterbox.families.base import CodecSpec, Prompt, Voice


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
