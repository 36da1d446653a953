"""What has the engine done so far? Plain counters, written by the engine, read by anyone.

Knows no metric format.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields


@dataclass(slots=True)
class EngineStats:
    """Totals since the start, and two gauges. Seconds are wall time spent in a stage."""

    steps: int = 0
    stepped_rows: int = 0  # rows summed over steps: stepped_rows / steps is the mean batch size
    codes: int = 0
    segments: int = 0
    failed_segments: int = 0
    cancelled_segments: int = 0
    capped_segments: int = 0
    prefill_s: float = 0.0
    step_s: float = 0.0
    sample_s: float = 0.0
    decode_s: float = 0.0
    decoded_samples: int = 0
    running_rows: int = 0
    waiting_rows: int = 0

    def copy(self) -> "EngineStats":
        """A snapshot."""
        return EngineStats(**{f.name: getattr(self, f.name) for f in fields(self)})


@contextmanager
def timed(stats: EngineStats, stage: str) -> Iterator[None]:
    """Add the time of the `with` to the counter `stage`, also when it fails."""
    started = time.perf_counter()
    try:
        yield
    finally:
        setattr(stats, stage, getattr(stats, stage) + time.perf_counter() - started)
