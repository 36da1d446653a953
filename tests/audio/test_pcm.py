"""Conversion of float samples to 16 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chatterbox.audio.encoders import to_int16


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (0.0, 0),
        (1.0, 32767),
        (-1.0, -32767),
        (2.0, 32767),  # a bare cast gives -2
        (-3e38, -32767),
        (np.nan, 0),
        (np.inf, 0),
        (-np.inf, 0),
        (0.6 / 32767, 1),
        (-0.6 / 32767, -1),
        (0.4 / 32767, 0),
    ],
)
def test_one_sample(sample: float, expected: int) -> None:
    assert to_int16(np.array([sample], np.float32)).tolist() == [expected]


@given(hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32)))
def test_negated_signal_is_the_mirror_image(samples: np.ndarray) -> None:
    assert np.array_equal(to_int16(-samples), -to_int16(samples))


def test_the_input_is_left_alone() -> None:
    samples = np.array([2.0, np.nan], np.float32)
    to_int16(samples)
    assert samples[0] == 2.0
    assert np.isnan(samples[1])
