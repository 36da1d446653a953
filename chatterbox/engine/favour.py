"""Who stands aside while somebody waits for a first sound?

Knows jobs, their listeners and seconds; no model. On a CPU a step takes the longer the more rows it
has, so that whoever has heard nothing would wait for everybody's codes. Rows with sound in hand,
and those that nobody listens to, let them go first, within bounds: nobody starves, and many rows at
once are cheaper than few.
"""

from collections.abc import Callable, Iterable
from itertools import chain

from chatterbox.engine.decode_batch import PRESSING_S
from chatterbox.engine.scheduler import SegmentJob

MOST_LENT_S = 1.0
"""So long all others may be kept waiting at once: three times what a first sound's steps take at
full size on two cores."""
SHARE = 1 / 4
"""Of the cores' time that may go to first sounds alone, where there is always one."""


def hoped_for(job: SegmentJob) -> bool:
    """Whether a listener waits for its first sound."""
    return job.ordinal == 0 and job.playback.silent


def calm(job: SegmentJob, now_s: float) -> bool:
    """Whether nobody would notice if it stood aside for a moment."""
    if job.playback.silent:
        return job.ordinal > 0  # what comes after a first sound
    return job.playback.slack_s(now_s) > PRESSING_S


class Favour:
    """Time lent to first sounds, and paid back; one account for language model and decoder."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: cores are; on a GPU a step takes as long for all, and nobody stands aside."""
        self._shared = shared
        self._newcomers: Callable[[], Iterable[SegmentJob]] = tuple
        self._lent_s = 0.0
        self._aside_since_s: float | None = None  # a window, for as long as is not yet counted

    def hear_of(self, newcomers: Callable[[], Iterable[SegmentJob]]) -> None:
        """`newcomers`: whoever has come and was not seen to yet. May be asked by any thread."""
        self._newcomers = newcomers

    def due(self, jobs: Iterable[SegmentJob]) -> bool:
        """Whether what is calm stands aside for whom of `jobs`, or of the newcomers, is hoped
        for."""
        if not self._shared or self._lent_s >= MOST_LENT_S:
            return False
        return any(map(hoped_for, chain(jobs, self._newcomers())))

    def decoder_stands(self, *, aside: bool, now_s: float) -> None:
        """Told again and again while a window stands aside, and when none does any more."""
        if self._aside_since_s is not None:
            self._lent_s += now_s - self._aside_since_s
        self._aside_since_s = now_s if aside else None

    def lend(self, took_s: float) -> None:
        """A step left somebody out and took so long."""
        if self._aside_since_s is None:  # else it is counted already
            self._lent_s += took_s

    def pay_back(self, took_s: float) -> None:
        """A step of everybody, or a window that was not of a first sound, took so long."""
        self._lent_s = max(0.0, self._lent_s - took_s * SHARE / (1 - SHARE))
