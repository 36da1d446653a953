"""Whether a figure grows with time: a line through means of blocks, with its 95 % confidence."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

BLOCKS = 20
"""Samples that follow each other are alike; means of blocks hardly are."""
LEAST_SAMPLES = 2 * BLOCKS
T_95 = 2.101
"""Student's t for 95 % on both sides and BLOCKS - 2 degrees of freedom."""


@dataclass(frozen=True)
class Slope:
    """Growth per hour."""

    name: str
    unit: str
    first: float  # of the first block
    last: float
    per_hour: float
    half_width: float  # of the interval around it
    hours: float
    blocks: tuple[float, ...]

    @property
    def low(self) -> float:
        return self.per_hour - self.half_width

    @property
    def high(self) -> float:
        return self.per_hour + self.half_width

    @property
    def grown(self) -> float:
        """In all, by the line."""
        return self.per_hour * self.hours

    @property
    def flat(self) -> bool:
        """Whether no growth at all is within the interval."""
        return self.low <= 0

    @property
    def row(self) -> str:
        """Of the table."""
        return (
            f"{self.name:<28}{self.first:>12.4g}{self.last:>12.4g}{self.per_hour:>14.2f}"
            f"   [{self.low:.2f}, {self.high:.2f}] {self.unit}/h"
        )

    @property
    def course(self) -> str:
        """Block by block: a step is no slope."""
        return f"{self.name}: {' '.join(f'{value:.4g}' for value in self.blocks)}"


HEADER = f"{'figure':<28}{'first':>12}{'last':>12}{'slope':>14}   95 % confidence"


def slope(
    name: str,
    unit: str,
    samples: Sequence[tuple[float, float]],
    middle: Callable[[Sequence[float]], float] = fmean,
) -> Slope:
    """Of (seconds, value) samples in order of time; `middle` of each block."""
    assert len(samples) >= LEAST_SAMPLES, f"{name}: {len(samples)} samples are too few"
    size = len(samples) // BLOCKS
    blocks = [samples[i * size : (i + 1) * size] for i in range(BLOCKS)]
    x = [sum(t for t, _ in block) / size / 3600 for block in blocks]
    y = [middle([v for _, v in block]) for block in blocks]
    mean_x, mean_y = sum(x) / BLOCKS, sum(y) / BLOCKS
    spread = sum((a - mean_x) ** 2 for a in x)
    per_hour = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    off = [b - mean_y - per_hour * (a - mean_x) for a, b in zip(x, y, strict=True)]
    error = math.sqrt(sum(o * o for o in off) / (BLOCKS - 2) / spread)
    return Slope(name, unit, y[0], y[-1], per_hour, T_95 * error, x[-1] - x[0], tuple(y))
