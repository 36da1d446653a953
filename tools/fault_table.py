"""Formats a row of the table of `bench_faults.py`: quantiles, bound and result."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `bound`: what the largest, or where `of` says so the median, keeps."""

    row: str
    what: str
    unit: str
    values: int
    p50: float
    p95: float
    most: float
    bound: float | None = None
    of: str = "most"
    least: bool = False  # the bound is one from below

    @property
    def kept(self) -> bool | None:
        if self.bound is None:
            return None
        value: float = getattr(self, self.of)
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self) -> str:
        figures = "".join(f"{value:>10.3g}" for value in (self.p50, self.p95, self.most))
        sign = "" if self.bound is None else f"{'≥' if self.least else '≤'} {self.bound:g}"
        word = {None: "", True: "kept", False: "MISSED"}[self.kept]
        return (
            f"{self.row:<5}{self.what:<52}{self.values:>6}{figures} {self.unit:<6}{sign:>8} {word}"
        )


HEADER = f"{'row':<5}{'what':<52}{'n':>6}{'p50':>10}{'p95':>10}{'most':>10} {'unit':<6}{'bound':>8}"


def row_of(
    row: str,
    what: str,
    unit: str,
    values: Sequence[float],
    bound: float | None = None,
    **more: object,
) -> Row:
    """The quantiles of `values`."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    facts = (len(ordered), statistics.median(ordered), p95, ordered[-1])
    return Row(row, what, unit, *facts, bound, **more)  # type: ignore[arg-type]


def told_apart(what: str, one: list[float], name: str, other: list[float]) -> Row:
    """How often a time of the one kind is longer than one of the other: 50 % where they are alike,
    with what 95 % of such draws would show by chance as the bound."""
    longer = _longer(one, other)
    chance = 1.96 * ((len(one) + len(other) + 1) / (12 * len(one) * len(other))) ** 0.5
    off, bound = 100 * abs(longer - 0.5), max(100 * chance, 0.5)
    return row_of("F71", f"{what} longer than {name}: away from 50 %", "%", [off], round(bound, 2))


def _longer(one: list[float], other: list[float]) -> float:
    """Mann and Whitney's U over its largest value; ties count half."""
    ordered = np.sort(np.asarray(other))
    values = np.asarray(one)
    below = np.searchsorted(ordered, values, "left")
    upto = np.searchsorted(ordered, values, "right")
    return float((below + upto).mean() / 2 / len(ordered))
