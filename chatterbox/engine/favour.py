"""Who stands aside while somebody waits for a first sound?

Knows jobs, their listeners and seconds; no model. On a CPU a step takes the longer the more rows it
has, so that whoever has heard nothing would wait for everybody's codes. Rows with sound in hand,
and those that nobody listens to, let them go first, within bounds: nobody starves, and many rows at
once are cheaper than few.
"""

from collections.abc import Iterable

from chatterbox.engine.decode_batch import PRESSING_S
from chatterbox.engine.scheduler import SegmentJob

MOST_LENT_S = 0.3
"""So long the others may be kept waiting in a row: as long as a first sound's steps take at full
size on two cores, and half as much again."""
SHARE = 1 / 4
"""Of the time of steps that may go to first sounds alone, where there is always one."""


def hoped_for(job: SegmentJob) -> bool:
    """Whether a listener waits for its first sound."""
    return job.ordinal == 0 and job.playback.silent


def calm(job: SegmentJob, now_s: float) -> bool:
    """Whether nobody would notice if it stood aside for a moment."""
    if job.playback.silent:
        return job.ordinal > 0  # what comes after a first sound
    return job.playback.slack_s(now_s) > PRESSING_S


class Favour:
    """Time lent to first sounds, and paid back."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: cores are; on a GPU a step takes as long for all, and nobody stands aside."""
        self._shared = shared
        self._lent_s = 0.0

    def due(self, jobs: Iterable[SegmentJob]) -> bool:
        """Whether the calm ones of `jobs`, if any, stand aside in the next step."""
        return self._shared and self._lent_s < MOST_LENT_S and any(map(hoped_for, jobs))

    def stepped(self, took_s: float, *, without_some: bool) -> None:
        """How long a step took, and whether it left anybody out."""
        if without_some:
            self._lent_s += took_s
        else:
            self._lent_s = max(0.0, self._lent_s - took_s * SHARE / (1 - SHARE))
