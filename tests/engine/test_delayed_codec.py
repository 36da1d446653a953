"""A codec that sees ahead by no whole frames: sound leaves at sample grain, and is that of the
whole."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.engine.vocoder_stream import Crossfader
from chatterbox.engine.windows import DecodeCost, Windows, WindowSettings
from chatterbox.families.base import CodecSpec

PLACES, FRAME = 7, 2048
LEFT, RIGHT = 4757, 4757  # samples that a sample depends on
CODEC = CodecSpec(24_000, PLACES, FRAME, 2, 3, delay_samples=RIGHT - 2 * FRAME)
COST = DecodeCost(0.01, 0.001)
KERNEL = np.random.default_rng(1).standard_normal(LEFT + RIGHT + 1) / 50


def decoded(tokens: np.ndarray) -> np.ndarray:
    """Sound of [7 × frames] tokens: an impulse a frame through a filter of the codec's reach, with
    silence around what it is given."""
    frames = len(tokens) // PLACES
    if not frames:
        return np.zeros(0, np.float32)
    full = np.zeros(frames * FRAME + len(KERNEL) - 1)  # the first lie before what is fed
    heights = tokens.reshape(frames, PLACES) @ np.arange(1.0, PLACES + 1)
    for at, height in enumerate(heights):
        full[at * FRAME + FRAME // 2 :][: len(KERNEL)] += height * KERNEL
    return full[RIGHT : RIGHT + frames * FRAME].astype(np.float32)


def streamed(tokens: np.ndarray, settings: WindowSettings, slacks: list[float]) -> list[np.ndarray]:
    windows, seams, pieces = Windows(settings), Crossfader(settings.cross_fade_samples), []
    total = len(tokens) // PLACES
    for frames in range(total + 1):
        ended = frames == total
        slack_s = slacks[frames % len(slacks)]
        while (window := windows.next(frames, ended, slack_s, COST)) is not None:
            at = window.begin * FRAME
            fed = tokens[window.begin * PLACES : window.stop * PLACES]
            samples = decoded(fed)[: window.end_sample - at]
            pieces.append(seams.join(samples, at, window.last))
    return pieces


@given(
    st.integers(0, 60),
    st.lists(st.sampled_from([-1.0, 0.0, 0.3, 2.0, math.inf]), min_size=1, max_size=9),
    st.sampled_from([0, 15]),
)
def test_streamed_equals_whole_and_no_sample_is_lost(frames, slacks, fade_ms):
    tokens = np.random.default_rng(frames).integers(0, 4096, frames * PLACES).astype(float)
    settings = WindowSettings(CODEC, 1, 4, 20, cross_fade_ms=fade_ms)
    pieces = streamed(tokens, settings, slacks)
    found = np.concatenate([np.zeros(0, np.float32), *pieces])
    assert found.size == frames * FRAME
    np.testing.assert_allclose(found, decoded(tokens), rtol=1e-5, atol=1e-1)


@pytest.mark.parametrize("fade_ms", [0, 15])
def test_three_frames_give_the_first_sound(fade_ms):
    windows = Windows(WindowSettings(CODEC, 1, 4, 20, cross_fade_ms=fade_ms))
    assert windows.plan(2, False, 0.0, DecodeCost(0.0, 0.0)) is None
    window = windows.plan(3, False, 0.0, DecodeCost(0.0, 0.0))
    assert (window.begin, window.end, window.stop) == (0, 1, 3)
    assert window.end_sample == FRAME - CODEC.delay_samples == 1387


def test_context_that_does_not_reach_back_to_the_seam_is_refused():
    with pytest.raises(AssertionError):
        WindowSettings(CodecSpec(24_000, PLACES, FRAME, 2, 1, delay_samples=1800), 1, 4, 20)
