"""Runaway detector: finds where generated tokens stop being speech of their text.

Three faults are found: the model loops, it never stops, or it goes silent after the text is over.
Good speech also has equal neighbouring frames, and long pauses inside a text; these are no faults.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.engine.sampler import Sampling
from chatterbox.families.base import CodecSpec

Fault = Literal["loop", "budget", "dead_air"]

LOOP_PERIOD_S = 2.56
"""Longest period of a loop: a short phrase."""
LOOP_S = 1.28
"""Shortest repeated stretch that is a loop. Real speech repeats none frame by frame."""
CHARS_PER_S = 15.0
EXPECTED_EXTRA_S = 0.4
BUDGET_FACTOR = 4.0
BUDGET_EXTRA_S = 2.56
"""Speech is expected to take chars / 15 + 0.4 seconds, and is cut off at four times that + 2.56 s,
as other programs for this model do."""
TEXT_OVER_FACTOR = 1.25
"""The text counts as over at this multiple of its expected duration: a slow speaker's pace."""
DEAD_AIR_S = 2.0
"""Silence after the text is over that ends the take."""
PAUSE_S = 8.0
"""Silence inside a text that ends the take. Of takes cut at 1 s most were good."""
TAIL_S = 0.2
"""Silence kept after the last sound when dead air is cut off."""
QUIET_BELOW_PEAK_DB = 45.0
"""A frame is silent if its sound is this far below the take's loudest frame."""
RETRIES = 3
"""Most takes of a segment that are thrown away."""


def frames(seconds: float, codec: CodecSpec) -> int:
    """Number of frames in `seconds` of sound."""
    return round(seconds * codec.frame_rate_hz)


def expected_frames(text_chars: int, codec: CodecSpec) -> int:
    """Number of frames that a text of this length usually takes."""
    return frames(text_chars / CHARS_PER_S, codec) + frames(EXPECTED_EXTRA_S, codec)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A fault; tokens before `end` are good."""

    fault: Fault
    end: int


class RunawayDetector:
    """Checks one take, frame by frame."""

    def __init__(self, text_chars: int, codec: CodecSpec) -> None:
        expected = expected_frames(text_chars, codec)
        self._codec = codec
        self._budget = round(expected * BUDGET_FACTOR) + frames(BUDGET_EXTRA_S, codec)
        self._text_over = expected * TEXT_OVER_FACTOR  # frames, as the next five
        self._tail, self._pause, self._dead_air, self._loop, self._longest_period = (
            frames(seconds, codec)
            for seconds in (TAIL_S, PAUSE_S, DEAD_AIR_S, LOOP_S, LOOP_PERIOD_S)
        )
        self._pending: list[int] = []  # tokens of the incomplete frame
        self._frames: list[Hashable] = []  # all so far
        self._last: dict[Hashable, int] = {}  # where each frame was last
        self._familiar = 0  # last frames that each occurred before within the longest period
        self._quiet: set[Hashable] = set(codec.silence_tokens)  # frames known to sound silent
        self._silent: list[bool] = []  # for each frame so far
        self._silence = 0  # silent frames at the end
        self._pause_end = 0  # where the first pause ends that could be the end of the text
        self._loudest = 0.0
        self._decoded = 0  # frames whose sound is known
        self._sound_verdict: Verdict | None = None

    @property
    def budget_tokens(self) -> int:
        """Most tokens of a take."""
        return self._budget * self._codec.tokens_per_frame

    def push(self, token: int) -> Verdict | None:
        """Add the next token. Returns a verdict if the take should not go on."""
        frame: Hashable = token
        if (per_frame := self._codec.tokens_per_frame) > 1:
            self._pending.append(token)
            if len(self._pending) < per_frame:
                return None
            frame, self._pending = tuple(self._pending), []
        count, period, silent = len(self._frames) + 1, self._longest_period, frame in self._quiet
        familiar = count - self._last.get(frame, -period) <= period
        self._familiar = self._familiar + 1 if familiar else 0
        self._last[frame] = count
        self._frames.append(frame)
        self._silent.append(silent)
        self._silence = self._silence + 1 if silent else 0
        if self._sound_verdict is not None:
            return self._sound_verdict
        if self._silence and (verdict := self._too_quiet(count, self._silence)) is not None:
            return verdict
        if self._familiar >= self._loop and (verdict := self._repeats()) is not None:
            return verdict
        return None if count < self._budget else self._verdict("budget", self._pause_end or count)

    def hear(self, tokens: I64, samples: F32) -> None:
        """Add the sound of the next `tokens`, which are whole frames. Frames that sound silent, and
        later frames equal to them, count as silence."""
        size, per_frame = self._codec.samples_per_frame, self._codec.tokens_per_frame
        rows = tokens.reshape(-1, per_frame)  # [frames, tokens of one]
        first, count = self._decoded, min(len(rows), len(samples) // size)
        self._decoded += len(rows)
        if not count:
            return
        power = np.square(samples[: count * size], dtype=np.float64)
        levels = power.reshape(count, size).mean(axis=1)
        self._loudest = max(self._loudest, float(levels.max()))
        quiet = (levels < self._loudest * 10 ** (-QUIET_BELOW_PEAK_DB / 10)).tolist()
        played: list[Hashable] = [*map(tuple, rows.tolist())] if per_frame > 1 else tokens.tolist()
        loud = {frame for frame, silent in zip(played, quiet, strict=False) if not silent}
        self._quiet |= {*played[:count]} - loud
        for at, silent in enumerate(quiet, first):
            if silent and at < len(self._silent):
                self._silent[at] = True
        self._silence = _run(self._silent)
        # The sound of later frames is not known yet.
        decoded = self._silent[: self._decoded]
        self._sound_verdict = self._too_quiet(len(decoded), _run(decoded))

    def _verdict(self, fault: Fault, end_frame: int) -> Verdict:
        return Verdict(fault, end_frame * self._codec.tokens_per_frame)

    def _too_quiet(self, count: int, silence: int) -> Verdict | None:
        """Check the first `count` frames, of which the last `silence` are silent."""
        began = count - silence
        end = began + self._tail
        if silence >= self._tail and end >= self._text_over:
            self._pause_end = self._pause_end or end
        limit = self._dead_air if began >= self._text_over else self._pause
        return self._verdict("dead_air", end) if silence >= limit else None

    def _repeats(self) -> Verdict | None:
        """Look for a loop at the end of the frames."""
        frames = self._frames

        def repeats(period: int) -> bool:
            begin = len(frames) - max(period, self._loop)
            return (
                begin >= period
                and frames[-1] == frames[-1 - period]
                and frames[begin:] == frames[begin - period : -period]
            )

        period = next(filter(repeats, range(1, self._longest_period + 1)), None)
        if period is None or self._silence >= period:  # no loop, or a pause
            return None
        begin = len(frames) - max(period, self._loop)
        while begin > period and frames[begin - 1] == frames[begin - 1 - period]:
            begin -= 1
        return self._verdict("loop", begin)


def _run(silent: list[bool]) -> int:
    """Number of silent frames at the end."""
    return next((n for n, one in enumerate(reversed(silent)) if not one), len(silent))


def remedy(fault: Fault, attempt: int, sampling: Sampling) -> Sampling | None:
    """Return the sampling of the next take after number `attempt` (from 0) had this fault, or None
    after the last. `sampling`: of the first take.

    A looping model is too certain, so the temperature rises with each take, to at least 0.6.
    Other faults are bad luck, which new random numbers change."""
    if attempt >= RETRIES:
        return None
    if fault != "loop":
        return sampling
    more, usual = attempt + 1, sampling.temperature
    return replace(
        sampling,
        temperature=min(max(usual, 0.6) + 0.1 * more, max(usual, 1.0)),
        repetition_penalty=sampling.repetition_penalty + 0.05 * more,
    )


def best_take(good_tokens: Sequence[int], text_chars: int, codec: CodecSpec) -> int:
    """Index of the failed take to keep: the one whose number of good tokens is nearest to that of
    speech of this text; the first of equals."""
    expected = expected_frames(text_chars, codec) * codec.tokens_per_frame
    distances = [abs(np.log((good + 1) / (expected + 1))) for good in good_tokens]
    return int(np.argmin(distances))
