"""Changes of tempo and loudness do not depend on the pieces fed."""

import numpy as np
import pyloudnorm
import pytest

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.audio.shaping import Loudness, Pace

TIME_S = np.arange(3 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
TONE = (0.2 * np.sin(2 * np.pi * 220 * TIME_S)).astype(np.float32)


def paced(speed: float, samples=TONE, step: int = 4000):
    pace = Pace(speed)
    pieces = [pace.feed(samples[i : i + step]) for i in range(0, len(samples), step)]
    return np.concatenate([*pieces, pace.finish()])


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.3, 2.0, 4.0])
def test_the_tempo_changes_and_the_pitch_does_not(speed):
    out = paced(speed)
    assert len(out) == pytest.approx(len(TONE) / speed, rel=0.03)
    middle = out[len(out) // 4 : 3 * len(out) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * SAMPLE_RATE_HZ / len(middle) == pytest.approx(220, abs=4)


def test_speed_one_touches_nothing():
    assert np.array_equal(paced(1.0), TONE)


@pytest.mark.parametrize("step", [1, 777, 72_000])
def test_how_the_stream_was_cut_changes_nothing(step):
    short = TONE[:24_000]
    assert np.allclose(paced(1.5, short, step), paced(1.5, short), atol=1e-6)


def test_sound_leaves_while_more_comes():
    pace = Pace(0.8)
    assert sum(len(pace.feed(TONE[i : i + 4800])) for i in range(0, 48_000, 4800)) > 24_000


def test_an_empty_stream_stays_empty():
    assert len(Pace(2.0).finish()) == 0


@pytest.mark.parametrize("target", [-16.0, -23.0, -30.0])
@pytest.mark.parametrize("step", [960, 9600])
def test_speech_is_brought_to_its_loudness(target, step):
    rng = np.random.default_rng(0)
    speech = rng.standard_normal(6 * SAMPLE_RATE_HZ) * (1 + np.sin(np.arange(144_000) / 3000))
    speech = (0.03 * speech).astype(np.float32)
    loudness = Loudness(target)
    out = np.concatenate([loudness.feed(speech[i : i + step]) for i in range(0, len(speech), step)])
    assert len(out) == len(speech)
    assert np.abs(out).max() <= 1.0
    later = out[SAMPLE_RATE_HZ:]
    assert pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(later) == pytest.approx(
        target, abs=1.5
    )


def test_silence_stays_silent_and_peaks_stay_inside():
    loudness = Loudness(-10.0)
    assert not loudness.feed(np.zeros(4800, np.float32)).any()
    spike = np.zeros(4800, np.float32)
    spike[100] = 0.9
    assert np.abs(loudness.feed(spike)).max() <= 0.99
