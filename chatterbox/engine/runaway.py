"""Tells when a stream of tokens is no speech of its text any more, and where it stopped being that.

Three things go wrong with such models: they loop, they never stop, and they go silent after the
text is over. Known harm on the other side: good speech has equal neighbouring frames, and long
pauses inside a text; neither is ever a verdict.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.base import CodecSpec

Fault = Literal["loop", "budget", "dead_air"]

LOOP_PERIOD_S = 2.56
"""Longest loop looked for: a short phrase."""
LOOP_S = 1.28
"""So much must repeat; real speech repeats no such stretch frame by frame."""
CHARS_PER_S = 15.0
EXPECTED_EXTRA_S = 0.4
BUDGET_FACTOR = 4.0
BUDGET_EXTRA_S = 2.56
"""Speech is expected to take chars / 15 seconds and 0.4 s, and cut off at four times that and
2.56 s: the guard other programs for this model use."""
TEXT_OVER_FACTOR = 1.25
"""The text counts as over at this multiple of its expected length: a slow speaker's pace."""
DEAD_AIR_S = 2.0
"""So much silence after the text is over ends it."""
PAUSE_S = 8.0
"""So much silence inside a text is no pause any more. Takes cut at 1 s were mostly good."""
TAIL_S = 0.2
"""Silence left after the last sound when dead air is cut off."""
QUIET_BELOW_PEAK_DB = 45.0
"""A frame is heard as silent when its sound is this far below the loudest one."""
RETRIES = 3


def frames(seconds: float, codec: CodecSpec) -> int:
    """How many frames so much sound has."""
    return round(seconds * codec.frame_rate_hz)


def expected_frames(text_chars: int, codec: CodecSpec) -> int:
    """How many frames a text of this length usually takes."""
    return frames(text_chars / CHARS_PER_S, codec) + frames(EXPECTED_EXTRA_S, codec)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Something is wrong; tokens before `end` are good."""

    fault: Fault
    end: int


class RunawayDetector:
    """Follows one take of one segment, frame by frame."""

    def __init__(self, text_chars: int, codec: CodecSpec) -> None:
        self._per_frame = codec.tokens_per_frame
        self._samples_per_frame = codec.samples_per_frame
        self._expected = expected_frames(text_chars, codec)
        self._budget = round(self._expected * BUDGET_FACTOR) + frames(BUDGET_EXTRA_S, codec)
        self._tail, self._pause = frames(TAIL_S, codec), frames(PAUSE_S, codec)
        self._dead_air_frames = frames(DEAD_AIR_S, codec)
        periods = frames(LOOP_PERIOD_S, codec)
        self._loop_frames = np.maximum(np.arange(1, periods + 1), frames(LOOP_S, codec))
        self._numbers: dict[Hashable, int] = {}  # a number for every frame met
        self._quiet = {self._number([token]) for token in codec.silence_tokens}
        self._pending: list[int] = []  # tokens of the frame that is not complete
        self._recent = np.full(periods, -1, np.int64)  # [period]: newest first
        self._matched = np.zeros(periods, np.int64)  # [period]: frames in a row equal to
        # the one a period before
        self._count = 0
        self._silence = 0  # silent frames at the end
        self._pause_end = 0  # where the last pause began that could be an end of the text
        self._loudest = 0.0

    @property
    def budget_tokens(self) -> int:
        """No take gets more tokens than this."""
        return self._budget * self._per_frame

    def push(self, token: int) -> Verdict | None:
        """Take the next token; a verdict if the take should not go on."""
        self._pending.append(token)
        if len(self._pending) < self._per_frame:
            return None
        frame = self._number(self._pending)
        self._pending = []
        self._count += 1
        self._silence = self._silence + 1 if frame in self._quiet else 0
        if self._silence == self._tail and self._text_over(self._count):
            self._pause_end = self._pause_end or self._count
        self._matched = np.where(self._recent == frame, self._matched + 1, 0)
        self._recent = np.concatenate(([frame], self._recent[:-1]))
        return self._dead_air() or self._loop() or self._over_budget()

    def hear(self, tokens: I64, samples: F32) -> None:
        """`samples` is what `tokens` of whole frames became: frames that sound silent count as
        silence from now on, whatever their tokens."""
        size = self._samples_per_frame
        rows = tokens.reshape(-1, self._per_frame)  # [frames, tokens of one]
        power = np.square(samples[: len(rows) * size], dtype=np.float64)
        heard = len(power) // size
        if not heard:
            return
        levels = power[: heard * size].reshape(heard, size).mean(axis=1)
        self._loudest = max(self._loudest, float(levels.max()))
        floor = self._loudest * 10 ** (-QUIET_BELOW_PEAK_DB / 10)
        numbers = np.array([self._number(row) for row in rows[:heard].tolist()])
        silent = set(numbers[levels < floor].tolist())
        self._quiet |= silent - set(numbers[levels >= floor].tolist())

    def _number(self, frame: Sequence[int]) -> int:
        return self._numbers.setdefault(tuple(frame), len(self._numbers))

    def _verdict(self, fault: Fault, end_frame: int) -> Verdict:
        return Verdict(fault, end_frame * self._per_frame)

    def _text_over(self, position: int) -> bool:
        return position >= self._expected * TEXT_OVER_FACTOR

    def _dead_air(self) -> Verdict | None:
        began = self._count - self._silence
        limit = self._dead_air_frames if self._text_over(began) else self._pause
        if self._silence < limit:
            return None
        return self._verdict("dead_air", began + self._tail)

    def _loop(self) -> Verdict | None:
        looping = np.flatnonzero(self._matched >= self._loop_frames)
        if not looping.size:
            return None
        period = int(looping[0]) + 1
        if all(int(frame) in self._quiet for frame in self._recent[:period]):
            return None  # a pause
        return self._verdict("loop", self._count - int(self._matched[period - 1]))

    def _over_budget(self) -> Verdict | None:
        if self._count < self._budget:
            return None
        return self._verdict("budget", self._pause_end or self._count)


@dataclass(frozen=True, slots=True)
class Retry:
    """Throw the attempt away and try again with other sampling."""

    temperature: float
    repetition_penalty: float


@dataclass(frozen=True, slots=True)
class EndAt:
    """Take no more tokens, and end the segment before this one."""

    end: int


def remedy(
    verdict: Verdict, *, sent: bool, attempt: int, temperature: float, repetition_penalty: float
) -> Retry | EndAt:
    """What to do about a verdict on attempt number `attempt` (0 is the first). `sent`: some of its
    sound has left already. The two settings are those of attempt 0."""
    if sent or attempt >= RETRIES:
        return EndAt(verdict.end)
    # A loop is a model too sure of itself: warmer each time, never below 0.6 (greedy loops by
    # nature); other faults are bad luck in the draws, which a new seed alone changes.
    if verdict.fault != "loop":
        return Retry(temperature, repetition_penalty)
    warmer = min(max(temperature, 0.6) + 0.1 * (attempt + 1), max(temperature, 1.0))
    return Retry(warmer, repetition_penalty + 0.05 * (attempt + 1))


def best_take(good_tokens: Sequence[int], text_chars: int, codec: CodecSpec) -> int:
    """Which of several failed takes to keep, given the good tokens of each: the one whose length
    is most like speech of this text, the earlier one of equals."""
    expected = expected_frames(text_chars, codec) * codec.tokens_per_frame
    distances = [abs(np.log((good + 1) / (expected + 1))) for good in good_tokens]
    return int(np.argmin(distances))
