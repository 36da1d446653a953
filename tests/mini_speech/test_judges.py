"""The judges of `tools/evaluate.py` count words, hear pitch and tell voices apart."""

import numpy as np
import pytest

from tools.train_mini.features import RATE_HZ, analyse
from tools.train_mini.judges import impression, word_errors, words
from tools.train_mini.texts import normalise, spell_number


def buzz(f0_hz: float, seconds: float, formant_hz: float = 700.0) -> np.ndarray:
    """Harmonics of f0 under one resonance, at speech level."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    total = np.zeros_like(t)
    for k in range(1, int(4000 / f0_hz)):
        level = 1 / (1 + ((k * f0_hz - formant_hz) / 300) ** 2)
        total += level * np.cos(2 * np.pi * k * f0_hz * t)
    breath = np.random.default_rng(0).standard_normal(len(t))
    return (0.1 * total / np.abs(total).max() + 0.01 * breath).astype(np.float32)


def test_word_errors_counts_each_kind_of_edit() -> None:
    wanted = words("The cat sat on the mat.")
    assert word_errors(wanted, words("the cat sat on the mat")) == 0
    assert word_errors(wanted, words("the cat on the mat")) == 1
    assert word_errors(wanted, words("the bad cat sat on a mat")) == 2
    assert word_errors(wanted, []) == 6


@pytest.mark.parametrize("f0_hz", [85.0, 120.0, 200.0, 280.0])
def test_pitch_of_a_buzz_is_found(f0_hz: float) -> None:
    assert impression(buzz(f0_hz, 0.6)).f0_hz == pytest.approx(f0_hz, rel=0.02)


def test_length_is_from_first_to_last_sound() -> None:
    quiet = np.zeros(RATE_HZ // 2, np.float32)
    found = impression(np.concatenate([quiet, buzz(120.0, 1.0), quiet]))
    assert found.speech_s == pytest.approx(1.0, abs=0.1)


def test_silence_has_no_pitch() -> None:
    assert not analyse(np.zeros(RATE_HZ // 4, np.float32))[:, 81].any()


def test_timbre_does_not_depend_on_level() -> None:
    sound = buzz(110.0, 0.5)
    other = impression(buzz(110.0, 0.5, formant_hz=1500.0)).timbre
    same = impression(sound * 0.3).timbre
    own = impression(sound).timbre
    assert np.abs(own - same).max() < 0.1 * np.abs(own - other).max()


def test_numbers_in_words() -> None:
    assert spell_number(342) == "three hundred and forty two"
    assert spell_number(20_019) == "twenty thousand nineteen"


def test_normalised_text_has_only_what_the_model_reads() -> None:
    found = normalise("\u201cWell\u201d \u2014 it\u2019s a TEST (really)!")
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz ',.?!")
    assert words(found) == ["well", "it's", "a", "test", "really"]
