"""What does the guard's verdict mean for a segment? Try again, or end it; the best attempt kept.

Knows rows, tracks and the guard; knows no model and no slot.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chatterbox.engine.runaway import Retry, RunawayDetector, Verdict, best_take, remedy
from chatterbox.engine.sampler import Sampling, uniforms
from chatterbox.engine.scheduler import SegmentRequest
from chatterbox.engine.take import Take

OpenTake = Callable[[SegmentRequest, int], Take]


@dataclass(slots=True, eq=False)
class Attempt:
    """The attempt in work at one segment."""

    track: Take
    sampling: Sampling
    draws: NDArray[np.float64]  # [cap]: its random stream
    guard: RunawayDetector | None
    earlier: list[tuple[int, ...]] = field(default_factory=list)  # good codes of failed attempts

    @property
    def codes(self) -> list[int]:
        """So far."""
        return self.track.codes

    @property
    def next_draw(self) -> float:
        """The random number for the next code."""
        return float(self.draws[len(self.codes)])

    @property
    def full(self) -> bool:
        """Whether the cap is met."""
        return len(self.codes) >= len(self.draws)


def first_take(job: SegmentRequest, open_track: OpenTake, *, guarded: bool) -> Attempt:
    """The segment's first attempt."""
    guard = RunawayDetector(job.text_chars) if guarded else None
    cap = min(job.max_tokens, guard.budget_codes) if guard else job.max_tokens
    return Attempt(open_track(job, 0), job.sampling, uniforms(job.seed, job.index, 0, cap), guard)


def judge(attempt: Attempt, code: int) -> Verdict | None:
    """The guard's word on the code just taken, after what has been heard of earlier ones."""
    guard, heard = attempt.guard, attempt.track.heard
    while heard:  # also without a guard: nobody else takes it, and it would pile up
        codes, sound = heard.popleft()
        if guard is not None:
            guard.hear(codes, sound)
    return None if guard is None else guard.push(code)


def after(attempt: Attempt, verdict: Verdict, open_track: OpenTake) -> Attempt | None:
    """The attempt to begin instead, or None: the segment has been ended."""
    job, retries = attempt.track.job, len(attempt.earlier)
    cure = remedy(
        verdict,
        sent=_first_one_stands(job) or not attempt.track.discard(),
        attempt=retries,
        temperature=job.sampling.temperature,
        repetition_penalty=job.sampling.repetition_penalty,
    )
    if isinstance(cure, Retry):
        sampling = Sampling(
            temperature=cure.temperature,
            top_k=job.sampling.top_k,
            top_p=job.sampling.top_p,
            repetition_penalty=cure.repetition_penalty,
        )
        good = tuple(attempt.codes[: verdict.end])
        draws = uniforms(job.seed, job.index, retries + 1, len(attempt.draws))
        track = open_track(job, retries + 1)
        return Attempt(
            track, sampling, draws, RunawayDetector(job.text_chars), [*attempt.earlier, good]
        )
    if not attempt.track.void:
        attempt.track.finish(verdict.end, "guard")
        return None
    _keep_best([*attempt.earlier, tuple(attempt.codes[: cure.end])], job, open_track)
    return None


def _first_one_stands(job: SegmentRequest) -> bool:
    """Whether some of its sound has left is a matter of time: where nothing may depend on time, and
    somebody listens, it counts as left from the first."""
    return job.deterministic and job.playback.live


def _keep_best(attempts: list[tuple[int, ...]], job: SegmentRequest, open_track: OpenTake) -> None:
    """Nothing has been heard yet: of all failed attempts, the one most like speech is spoken."""
    chosen = attempts[best_take([len(codes) for codes in attempts], job.text_chars)]
    track = open_track(job, len(attempts) - 1)
    track.codes.extend(chosen)
    track.finish(len(chosen), "guard")
