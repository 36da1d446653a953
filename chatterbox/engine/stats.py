"""Counters of the engine's work."""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(slots=True)
class EngineStats:
    """Totals since the start, and two gauges (`*_rows`). Seconds are wall time spent in a stage."""

    steps: int = 0
    stepped_rows: int = 0  # rows summed over steps: stepped_rows / steps is the mean batch size
    codes: int = 0
    segments: int = 0
    failed_segments: int = 0
    cancelled_segments: int = 0
    capped_segments: int = 0
    guarded_segments: int = 0  # ended by the runaway detector
    retried_segments: int = 0  # takes that were thrown away
    prefill_s: float = 0.0
    step_s: float = 0.0
    sample_s: float = 0.0
    decode_s: float = 0.0
    decoded_samples: int = 0
    underruns: int = 0  # times that a live listener had nothing to play
    underrun_s: float = 0.0
    running_rows: int = 0
    waiting_rows: int = 0


class Counters:
    """Holds one `EngineStats` for each thread, which that thread updates without a lock."""

    def __init__(self, since: EngineStats | None = None) -> None:
        """`since`: earlier counts to add."""
        self._parts = [since] if since else []

    def part(self) -> EngineStats:
        """Create the counters of one thread."""
        part = EngineStats()
        self._parts.append(part)
        return part

    def snapshot(self) -> EngineStats:
        """Return the sums over all threads."""
        return total(self._parts)


def total(parts: Iterable[EngineStats]) -> EngineStats:
    """Add up counters, field by field."""
    columns = zip(*map(dataclasses.astuple, (EngineStats(), *parts)), strict=True)
    return EngineStats(*map(sum, columns))
