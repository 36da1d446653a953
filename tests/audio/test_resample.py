"""Resampling: no seams, no drift, the exact number of samples."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.audio.encoders import USUAL_RATES_HZ, Resampler, resampled_samples

OTHERS = [rate for rate in USUAL_RATES_HZ if rate != SAMPLE_RATE_HZ]


def resampled(samples: np.ndarray, rate_hz: int, cuts: list[int]) -> np.ndarray:
    resampler = Resampler(rate_hz)
    pieces = np.split(samples, sorted(min(cut, len(samples)) for cut in cuts))
    return np.concatenate([*map(resampler.feed, pieces), resampler.finish()])


def tone(count: int, rate_hz: int, hz: float = 997.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz / rate_hz * np.arange(count))).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    rate_hz=st.sampled_from(OTHERS),
    count=st.integers(0, 6000),
    cuts=st.lists(st.integers(0, 6000), max_size=8),
)
def test_cuts_change_nothing(rate_hz: int, count: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(count).normal(0, 0.2, count).astype(np.float32)
    pieced = resampled(samples, rate_hz, cuts)
    assert len(pieced) == resampled_samples(count, rate_hz)
    assert np.array_equal(pieced, resampled(samples, rate_hz, []))
    if count:
        whole = soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz, "HQ")
        assert len(pieced) <= len(whole) <= len(pieced) + 1
        assert np.array_equal(pieced, whole[: len(pieced)])


@pytest.mark.parametrize("rate_hz", [11025, 22050, 44100])
def test_half_samples_are_rounded_down(rate_hz: int) -> None:
    """soxr rounds half samples either way."""
    for count in range(40, 2000, 80):
        pieced = resampled(np.zeros(count, np.float32), rate_hz, [count // 2])
        assert len(pieced) == resampled_samples(count, rate_hz), count


@pytest.mark.parametrize("rate_hz", OTHERS)
def test_a_tone_stays_itself_in_place(rate_hz: int) -> None:
    heard = resampled(tone(SAMPLE_RATE_HZ, SAMPLE_RATE_HZ), rate_hz, [100, 9999])
    wanted = tone(rate_hz, rate_hz)
    inside = slice(rate_hz // 10, -rate_hz // 10)  # the filter rings at the signal's own edges
    assert np.abs(heard - wanted)[inside].max() < 1e-4


def test_nothing_above_half_the_rate_is_folded_back() -> None:
    heard = resampled(tone(SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, hz=6000.0), 8000, [])
    assert np.abs(heard[800:-800]).max() < 1e-4
