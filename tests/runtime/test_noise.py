"""A random number is the same from wherever it is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.runtime.decoder.snac import addressed_noise, tabled_noise
from chatterbox.runtime.decoder.stream_inputs import Noise

places = st.integers(-3000, 100_000)


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 5), places, st.integers(0, 200), st.integers(1, 90)
)
def test_any_piece_is_a_part_of_the_whole(seed, stream, start, count, width):
    noise = Noise(seed, stream)
    whole = noise.normal(start - 70, count + 140, width)
    np.testing.assert_array_equal(noise.normal(start, count, width), whole[70 : 70 + count])
    unit = noise.uniform(start - 3, count + 3, width, -1.0, 1.0)
    np.testing.assert_array_equal(noise.uniform(start, count, width, -1.0, 1.0), unit[3:])


def test_the_numbers_are_normal():
    numbers = Noise(3, 1).normal(-500, 100_000, 9)
    assert numbers.dtype == np.float32
    assert np.isfinite(numbers).all()
    assert numbers.mean() == pytest.approx(0, abs=0.01)
    assert numbers.std() == pytest.approx(1, abs=0.01)
    assert (numbers**4).mean() == pytest.approx(3, abs=0.05)
    # Neither neighbours in width nor in time know of each other.
    assert abs(np.corrcoef(numbers.T) - np.eye(9)).max() < 0.02
    assert abs((numbers[1:] * numbers[:-1]).mean()) < 0.01


def test_the_numbers_are_uniform():
    numbers = Noise(3, 1).uniform(0, 100_000, 3, -2.0, 4.0)
    assert -2 <= numbers.min() < -1.99
    assert 3.99 < numbers.max() < 4
    assert numbers.mean() == pytest.approx(1, abs=0.02)


def test_seeds_and_streams_are_apart():
    pieces = [Noise(seed, stream).normal(0, 50, 8) for seed in (1, 2) for stream in (0, 1)]
    for i, a in enumerate(pieces):
        for b in pieces[:i]:
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.2


def test_the_numbers_never_change():
    """Same seed, same samples: from one version to the next, too."""
    normal = [[0.4378336, 0.7261351, -1.6395204], [0.6860285, 0.1436639, 1.9219421]]
    np.testing.assert_allclose(Noise(42, 0).normal(0, 2, 3), normal, atol=1e-6)
    uniform = [[0.7716325, 0.9443997], [0.6980355, 0.2543674]]
    np.testing.assert_allclose(Noise(42, 0).uniform(-1, 2, 2, 0.0, 1.0), uniform, atol=1e-6)


@pytest.mark.parametrize("draw", [addressed_noise, tabled_noise])
def test_a_codecs_noise_is_normal_and_the_same_in_whatever_pieces(draw):
    whole = draw(7, 2, 0, 200_000)
    for start, count in ((0, 1), (255, 3), (1000, 513), (70_001, 4096)):
        np.testing.assert_array_equal(draw(7, 2, start, count), whole[start : start + count])
    assert whole.dtype == np.float32
    assert whole.std() == pytest.approx(1, abs=0.01)
    assert whole.mean() == pytest.approx(0, abs=0.01)
    others = draw(8, 2, 0, 5000), draw(7, 3, 0, 5000), whole[5000:10_000]
    for other in others:
        assert abs(np.corrcoef(whole[:5000], other)[0, 1]) < 0.1
