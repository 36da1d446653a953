"""The ceiling turns down harmful sound and leaves speech unchanged."""

import numpy as np
import pytest
from voices.clips import babble

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.audio.shaping import Ceiling
from chatterbox.families.turbo.spec import LOUDEST_SPEECH_RMS

TIME_S = np.arange(3 * SAMPLE_RATE_HZ, dtype=np.float32) / SAMPLE_RATE_HZ
LOUD = {
    "square": np.sign(np.sin(2 * np.pi * 440 * TIME_S)),
    "tone": np.sin(2 * np.pi * 1000 * TIME_S),
    "noise": np.random.default_rng(0).uniform(-1, 1, len(TIME_S)),
    "constant": np.ones(len(TIME_S)),
    "late": np.where(TIME_S > 1, np.sign(np.sin(2 * np.pi * 3000 * TIME_S)), 0),
}


def rms(samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("kind", LOUD)
def test_f94_what_would_hurt_is_turned_down(kind):
    sound = LOUD[kind].astype(np.float32)
    heard = Ceiling(LOUDEST_SPEECH_RMS).limit(sound)
    steady = heard[-SAMPLE_RATE_HZ:]
    assert rms(steady) == pytest.approx(min(LOUDEST_SPEECH_RMS, rms(sound)), rel=0.05)
    loud = [
        i for i in range(0, len(heard) - 2400, 2400) if rms(heard[i : i + 2400]) > 0.5
    ]  # tenths of a second
    assert len(loud) <= 2
    assert heard.dtype == np.float32


@pytest.mark.parametrize("pieces", [1, 7, 480, 960, 5000, 100_000])
def test_f94_where_sound_is_cut_makes_no_difference(pieces):
    sound = LOUD["noise"].astype(np.float32)[: 20_000 if pieces == 1 else None]
    whole = Ceiling(LOUDEST_SPEECH_RMS).limit(sound)
    ceiling = Ceiling(LOUDEST_SPEECH_RMS)
    parts = [ceiling.limit(sound[at : at + pieces]) for at in range(0, len(sound), pieces)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(whole, sound)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_f94_speech_is_the_same_object(level):
    sound = babble(3, level=level)
    assert Ceiling(LOUDEST_SPEECH_RMS).limit(sound) is sound
    click = np.zeros(2400, np.float32)
    click[1000:1200] = 1.0
    assert Ceiling(LOUDEST_SPEECH_RMS).limit(click) is click
    nothing = np.zeros(0, np.float32)
    assert Ceiling(LOUDEST_SPEECH_RMS).limit(nothing) is nothing


def test_f94_it_recovers():
    sound = np.concatenate([LOUD["tone"][:24_000], babble(3)]).astype(np.float32)
    heard = Ceiling(LOUDEST_SPEECH_RMS).limit(sound)
    assert np.array_equal(heard[-48_000:], sound[-48_000:])
