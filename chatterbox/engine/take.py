"""What lies between sampler and decoder? One attempt at a segment: its codes as they come.

The engine thread adds codes, ends the attempt or takes it back; the decode thread makes it sound.
Knows no model.
"""

import threading
from collections import deque

from chatterbox.engine.outbox import FinishReason
from chatterbox.engine.scheduler import SegmentRequest
from chatterbox.runtime.contract import F32, I64


class Take:
    """The codes of one attempt."""

    __slots__ = (
        "_claimed",
        "_lock",
        "_void",
        "codes",
        "end",
        "finish_reason",
        "heard",
        "job",
        "retries",
    )

    def __init__(self, job: SegmentRequest, retries: int = 0) -> None:
        self.job = job
        self.retries = retries
        self.codes: list[int] = []
        self.end: int | None = None  # how many of them count, once no more will come
        self.finish_reason: FinishReason = "stop"
        self.heard: deque[tuple[I64, F32]] = (
            deque()
        )  # codes [n] and what they became, for the guard
        self._lock = threading.Lock()
        self._claimed = False
        self._void = False

    @property
    def ready(self) -> int:
        """Codes that may be decoded."""
        return len(self.codes) if self.end is None else self.end

    # --- engine thread

    def finish(self, end: int, reason: FinishReason) -> None:
        """No more codes; those from `end` on do not count."""
        self.finish_reason = reason
        self.end = end

    def discard(self) -> bool:
        """Make the attempt void, unless some of its sound has left; whether that was done."""
        with self._lock:
            self._void = not self._claimed
            return self._void

    # --- decode thread

    def claim(self) -> bool:
        """Before sound leaves: from now on the attempt stands. False when it is void already."""
        with self._lock:
            self._claimed = not self._void
            return self._claimed

    @property
    def void(self) -> bool:
        """Whether the attempt was taken back."""
        return self._void
