"""What has the engine done so far? Plain counters, written by the engine, read by anyone.

Knows no metric format.
"""

import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@dataclasses.dataclass(slots=True)
class EngineStats:
    """Totals since the start, and two gauges. Seconds are wall time spent in a stage."""

    steps: int = 0
    stepped_rows: int = 0  # rows summed over steps: stepped_rows / steps is the mean batch size
    codes: int = 0
    segments: int = 0
    failed_segments: int = 0
    cancelled_segments: int = 0
    capped_segments: int = 0
    guarded_segments: int = 0  # ended by the guard
    retried_segments: int = 0  # attempts that the guard threw away
    prefill_s: float = 0.0
    step_s: float = 0.0
    sample_s: float = 0.0
    decode_s: float = 0.0
    decoded_samples: int = 0
    underruns: int = 0  # times that a listener in real time had nothing to play
    underrun_s: float = 0.0
    running_rows: int = 0
    waiting_rows: int = 0


class Counters:
    """The live counters, safe to add to from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = EngineStats()

    def add(self, **amounts: float) -> None:
        """Add to the totals named."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self._stats, name, getattr(self._stats, name) + amount)

    def gauge(self, *, running_rows: int, waiting_rows: int) -> None:
        """Set the gauges."""
        with self._lock:
            self._stats.running_rows = running_rows
            self._stats.waiting_rows = waiting_rows

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the `with` to the total `stage`, also when it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(**{stage: time.perf_counter() - started})

    def snapshot(self) -> EngineStats:
        """A copy of all of them."""
        with self._lock:
            return dataclasses.replace(self._stats)
