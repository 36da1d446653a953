"""The soak's ruler: it finds growth, and does not see any in noise."""

from statistics import median

import numpy as np
import pytest
from soak.slopes import slope

HOUR = 3600.0


def samples(per_hour: float, noise: float) -> list[tuple[float, float]]:
    rng = np.random.default_rng(1)
    times = np.linspace(0, HOUR, 400)
    return [(t, 100 + per_hour * t / HOUR + noise * rng.standard_normal()) for t in times]


def test_growth_is_found():
    found = slope("RSS", "MiB", samples(30, noise=2))
    assert found.per_hour == pytest.approx(30, abs=3)
    assert found.low < 30 < found.high
    assert not found.flat
    assert "30." in found.row or "29." in found.row


def test_noise_is_no_growth():
    found = slope("RSS", "MiB", samples(0, noise=2))
    assert found.flat
    assert found.low < 0 < found.high


def test_a_few_large_values_do_not_move_a_median():
    with_tail = [(t, v if i % 20 else 10 * v) for i, (t, v) in enumerate(samples(0, noise=2))]
    assert slope("first audio", "s", with_tail, median).first == pytest.approx(100, abs=1.5)


def test_a_few_samples_are_no_measurement():
    with pytest.raises(AssertionError, match="too few"):
        slope("RSS", "MiB", [(0.0, 1.0)] * 20)
