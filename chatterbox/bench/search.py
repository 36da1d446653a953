"""Finds the largest concurrency that still passes: doubling, then bisection.

`measure` returns the level of a concurrency.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chatterbox.bench.summary import Level


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer, and what stands in the way of more."""

    best: int  # 0: not even one at a time
    stopped_at: int | None  # the lowest concurrency that failed; None: the limit was reached
    stopped_by: str


def verdict(level: Level) -> str | None:
    """Why a level does not pass; None where it does (p95 RTF < 1 and no errors)."""
    if level.errors:
        listed = ", ".join(f"{count} x {code}" for code, count in level.errors.items())
        return f"errors ({listed})"
    if not level.realtime_p95:
        assert level.rtf is not None, "a level without errors has successes"
        return f"RTF (p95 {level.rtf.p95:.3f})"
    return None


async def find_largest(measure: Callable[[int], Awaitable[Level]], limit: int) -> SearchResult:
    """The largest concurrency in 1..limit that passes, taking it that more load is never easier.

    Needs about 2·log2 of the answer levels, where a scan would need the answer itself.
    """
    best, failed, reason = 0, limit + 1, f"the limit of {limit}"
    candidate = 1
    while candidate > best:
        why = verdict(await measure(candidate))
        if why is None:
            best = candidate
        else:
            failed, reason = candidate, why
        doubling = failed > limit
        candidate = min(2 * best, limit) if doubling else (best + failed) // 2
    return SearchResult(best, failed if failed <= limit else None, reason)
