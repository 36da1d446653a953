"""Segments are faded at both edges, to the sample, for any pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.audio.shaping import Joiner

FADE_MS = 1.0
FADE_SAMPLES = 24


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)


def joined(joiner: Joiner, samples: np.ndarray, cuts: list[int]) -> np.ndarray:
    pieces = np.split(samples, sorted(min(cut, len(samples)) for cut in cuts))
    last = len(pieces) - 1
    parts = [
        joiner.piece(piece, first_of_segment=i == 0, last_of_segment=i == last)
        for i, piece in enumerate(pieces)
    ]
    return np.concatenate(parts)


def reference(samples: np.ndarray, fade_samples: int) -> np.ndarray:
    """The expected result, computed at once in float64."""
    result = samples.astype(np.float64)
    for i in range(min(fade_samples, len(samples))):
        gain = 0.5 - 0.5 * np.cos(np.pi * (i + 0.5) / fade_samples)
        result[i] *= gain
        result[-1 - i] *= gain
    return result


@given(
    lengths=st.lists(st.integers(0, 120), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 120), max_size=6),
)
def test_cuts_do_not_matter(lengths: list[int], cuts: list[int]) -> None:
    cut, uncut = Joiner(fade_ms=FADE_MS), Joiner(fade_ms=FADE_MS)
    for length in lengths:
        samples = noise(length)
        result = joined(cut, samples, cuts)
        assert len(result) == length
        assert result.dtype == np.float32
        assert np.array_equal(result, joined(uncut, samples, []))
        np.testing.assert_allclose(result, reference(samples, FADE_SAMPLES), atol=1e-6)


def test_edges_are_quiet_and_the_middle_is_untouched() -> None:
    samples = np.ones(2400, np.float32)
    result = joined(Joiner(), samples, [])
    assert abs(result[0]) < 1e-4
    assert abs(result[-1]) < 1e-4
    assert (result[240:-240] == 1).all()
    assert np.abs(np.diff(result)).max() < 0.01


def test_no_more_than_the_fade_is_held_back() -> None:
    joiner = Joiner(fade_ms=FADE_MS)
    first = joiner.piece(noise(100), first_of_segment=True, last_of_segment=False)
    assert len(first) == 100 - FADE_SAMPLES
    second = joiner.piece(noise(100), first_of_segment=False, last_of_segment=False)
    assert len(second) == 100
    last = joiner.piece(noise(0), first_of_segment=False, last_of_segment=True)
    assert len(last) == FADE_SAMPLES


def test_pauses_are_zeros_to_the_sample() -> None:
    silence = Joiner().silence(0.12)
    assert len(silence) == 2880
    assert not silence.any()
    assert len(Joiner().silence(0)) == 0


def test_a_fade_of_zero_length_changes_nothing() -> None:
    samples = noise(50)
    assert np.array_equal(joined(Joiner(fade_ms=0), samples, [7]), samples)


def test_the_input_is_left_alone_and_not_shared() -> None:
    samples = np.ones(100, np.float32)
    result = joined(Joiner(fade_ms=FADE_MS), samples, [])
    assert (samples == 1).all()
    assert not np.shares_memory(result, samples)


def test_wrong_order_is_a_bug() -> None:
    joiner = Joiner()
    with pytest.raises(AssertionError):
        joiner.piece(noise(5), first_of_segment=False, last_of_segment=False)
    joiner = Joiner()
    joiner.piece(noise(5), first_of_segment=True, last_of_segment=False)
    with pytest.raises(AssertionError):
        joiner.silence(0.1)
    with pytest.raises(AssertionError):
        joiner.piece(noise(5), first_of_segment=True, last_of_segment=False)
