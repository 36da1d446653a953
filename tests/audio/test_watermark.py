"""The watermark: off by default; a clear error if the package is missing."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from chatterbox.audio.shaping import load_watermark
from chatterbox.errors import ConfigError


def test_off_loads_nothing():
    assert load_watermark(False) is None


def test_a_missing_package_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "perth", None)
    with pytest.raises(ConfigError, match="pip install resemble-perth") as missing:
        load_watermark(True)
    assert "\n" not in str(missing.value)


def test_the_watermark_is_applied_at_24_khz(monkeypatch):
    calls = []

    class Marker:
        def apply_watermark(self, samples, *, sample_rate):
            calls.append(sample_rate)
            return samples.astype(np.float64) + 1

    monkeypatch.setitem(sys.modules, "perth", SimpleNamespace(PerthImplicitWatermarker=Marker))
    mark = load_watermark(True)
    assert mark is not None
    marked = mark(np.zeros(4, np.float32))
    assert calls == [24_000]
    assert marked.dtype == np.float32
    assert (marked == 1).all()
