"""The check of a device finds its way through a model, and nothing hides from it."""

import numpy as np
import pytest

from tools.check_device import Finding, findings, worst_db


@pytest.mark.slow
def test_a_cpu_computes_what_a_cpu_does():
    found = findings("mini", "cpu", "fp32", {})
    assert len(found) == 15
    assert [f.line for f in found if not f.kept] == []


@pytest.mark.parametrize("figure", [float("nan"), -1.0, float("-inf")])
def test_a_figure_that_is_none_is_not_kept(figure):
    assert not Finding("sound", figure, "dB", 0.0, more_is_better=True).kept
    assert "NOT KEPT" in Finding("sound", figure, "dB", 0.0, more_is_better=True).line


def test_equal_sounds_are_alike_and_others_are_as_unlike_as_the_worst():
    sound = np.ones(100, np.float32)
    assert worst_db([sound], [sound]) == 200
    assert worst_db([sound, sound], [sound, 0.9 * sound]) == pytest.approx(20)
    assert worst_db([sound], [np.full(100, np.nan, np.float32)]) < 0
