"""Tests that the search finds the same concurrency as a scan, with fewer levels."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.bench.load import find_largest, verdict
from chatterbox.bench.report import Level, Outcome


def level(rtf: float, error: str | None = None) -> Level:
    outcomes = [Outcome(0.0, rtf, audio_s=1.0)]
    if error is not None:
        outcomes += [Outcome(0.0, 0.1, error=error)] * 3
    return Level(outcomes, concurrency=1)


@given(true_best=st.integers(0, 300), limit=st.integers(1, 256))
def test_it_finds_the_edge(true_best: int, limit: int) -> None:
    measured: list[int] = []

    async def measure(concurrency: int) -> Level:
        measured.append(concurrency)
        return level(0.9 if concurrency <= true_best else 1.1)

    result = asyncio.run(find_largest(measure, limit))
    assert result.best == min(true_best, limit)
    assert len(measured) == len(set(measured))
    assert len(measured) <= 2 * math.log2(limit) + 2
    if true_best >= limit:
        assert result.stopped_at is None
        assert result.stopped_by == f"the limit of {limit}"
    else:
        assert result.stopped_at == true_best + 1
        assert result.stopped_by == "RTF (p95 1.100)"


def test_errors_stop_it_even_when_it_is_fast() -> None:
    async def measure(concurrency: int) -> Level:
        return level(0.1, "overloaded" if concurrency > 5 else None)

    result = asyncio.run(find_largest(measure, 64))
    assert (result.best, result.stopped_at) == (5, 6)
    assert result.stopped_by == "errors (3 x overloaded)"


@pytest.mark.parametrize(("rtf", "passes"), [(0.999, True), (1.0, False)])
def test_real_time_is_below_one(rtf: float, passes: bool) -> None:
    assert (verdict(level(rtf)) is None) == passes
