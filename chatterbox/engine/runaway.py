"""Is this stream of codes still speech of its text, and if not, where did it stop being that?

Knows no model, no sampler and no request: codes and the length of the text in, verdicts out.

Three things go wrong with such models: they loop, they never stop, and they go silent after the
text is over. Known harm on the other side: good speech has equal neighbouring codes, and long
pauses inside a text; neither is ever a verdict.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from chatterbox.runtime.contract import CODE_RATE_HZ, F32, I64, SAMPLES_PER_CODE, SILENCE_CODE

Fault = Literal["loop", "budget", "dead_air"]

LOOP_PERIODS = 64
"""Longest loop looked for, in codes: 2.6 s, a short phrase."""
LOOP_CODES = 32
"""So many codes in a row must repeat (1.3 s); real speech repeats no such stretch code by code."""
CHARS_PER_S = 15.0
EXPECTED_EXTRA_CODES = 10
BUDGET_FACTOR = 4.0
BUDGET_EXTRA_CODES = 64
"""Speech is expected to take chars / 15 seconds and ten codes, and cut off at four times that and
64 codes: the guard other programs for this model use."""
TEXT_OVER_FACTOR = 1.25
"""The text counts as over at this multiple of its expected length: a slow speaker's pace."""
DEAD_AIR_CODES = 50
"""So much silence after the text is over ends it: 2 s."""
PAUSE_CODES = 200
"""So much silence inside a text is no pause any more: 8 s. Takes cut at 1 s were mostly good."""
TAIL_CODES = 5
"""Silence left after the last sound when dead air is cut off: 0.2 s."""
QUIET_BELOW_PEAK_DB = 45.0
"""A code is heard as silent when its sound is this far below the loudest one."""
RETRIES = 3


def expected_codes(text_chars: int) -> int:
    """How many codes a text of this length usually takes."""
    return round(text_chars / CHARS_PER_S * CODE_RATE_HZ) + EXPECTED_EXTRA_CODES


@dataclass(frozen=True, slots=True)
class Verdict:
    """Something is wrong; codes before `end` are good."""

    fault: Fault
    end: int


class RunawayDetector:
    """Follows one attempt at one segment."""

    def __init__(self, text_chars: int, quiet: Iterable[int] = (SILENCE_CODE,)) -> None:
        self._expected = expected_codes(text_chars)
        self._budget = round(self._expected * BUDGET_FACTOR) + BUDGET_EXTRA_CODES
        self._quiet = set(quiet)
        self._recent = np.full(LOOP_PERIODS, -1, np.int64)  # [period]: newest first
        self._matched = np.zeros(LOOP_PERIODS, np.int64)  # [period]: codes in a row equal to
        # the one a period before
        self._count = 0
        self._silence = 0  # silent codes at the end
        self._pause_end = 0  # where the last pause began that could be an end of the text
        self._loudest = 0.0

    @property
    def budget_codes(self) -> int:
        """No attempt gets more codes than this."""
        return self._budget

    def push(self, code: int) -> Verdict | None:
        """Take the next code; a verdict if the attempt should not go on."""
        quiet = code in self._quiet
        self._count += 1
        self._silence = self._silence + 1 if quiet else 0
        if self._silence == TAIL_CODES and self._text_over(self._count):
            self._pause_end = self._pause_end or self._count
        self._matched = np.where(self._recent == code, self._matched + 1, 0)
        self._recent = np.concatenate(([code], self._recent[:-1]))
        return self._dead_air() or self._loop() or self._over_budget()

    def hear(self, codes: I64, samples: F32) -> None:
        """`samples` is what `codes` [n] became: codes that sound silent count as silence from now
        on, whatever their number."""
        power = np.square(samples[: len(codes) * SAMPLES_PER_CODE], dtype=np.float64)
        heard = len(power) // SAMPLES_PER_CODE
        if not heard:
            return
        levels = power[: heard * SAMPLES_PER_CODE].reshape(heard, SAMPLES_PER_CODE).mean(axis=1)
        self._loudest = max(self._loudest, float(levels.max()))
        floor = self._loudest * 10 ** (-QUIET_BELOW_PEAK_DB / 10)
        silent = {int(c) for c in codes[:heard][levels < floor]}
        self._quiet |= silent - {int(c) for c in codes[:heard][levels >= floor]}

    def _text_over(self, position: int) -> bool:
        return position >= self._expected * TEXT_OVER_FACTOR

    def _dead_air(self) -> Verdict | None:
        began = self._count - self._silence
        limit = DEAD_AIR_CODES if self._text_over(began) else PAUSE_CODES
        if self._silence < limit:
            return None
        return Verdict("dead_air", began + TAIL_CODES)

    def _loop(self) -> Verdict | None:
        periods = np.arange(1, LOOP_PERIODS + 1)
        looping = np.flatnonzero(self._matched >= np.maximum(periods, LOOP_CODES))
        if not looping.size:
            return None
        period = int(looping[0]) + 1
        if all(int(code) in self._quiet for code in self._recent[:period]):
            return None  # a pause
        return Verdict("loop", self._count - int(self._matched[period - 1]))

    def _over_budget(self) -> Verdict | None:
        if self._count < self._budget:
            return None
        return Verdict("budget", self._pause_end or self._count)


@dataclass(frozen=True, slots=True)
class Retry:
    """Throw the attempt away and try again with other sampling."""

    temperature: float
    repetition_penalty: float


@dataclass(frozen=True, slots=True)
class EndAt:
    """Take no more codes, and end the segment before this one."""

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


def best_take(good_codes: Sequence[int], text_chars: int) -> int:
    """Which of several failed attempts to keep, given the good codes of each: the one whose
    length is most like speech of this text, the earlier one of equals."""
    expected = expected_codes(text_chars)
    distances = [abs(np.log((good + 1) / (expected + 1))) for good in good_codes]
    return int(np.argmin(distances))
