"""Distances between what two graphs make, and between rows together and rows alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.runtime.decoder.graph_io import EQUAL_DB, Array, snr_db

NEPER_DB = 8.686
"""A log-mel is in nepers; so many decibels are one."""
MEL_LIMIT_DB = 1.0
"""A flow in 8 bits is used when its mel is on average no further from the exact one: less than a
just noticeable difference in a band's loudness."""
GPU_MEL_DB = 25.0
"""On a GPU other shapes take other kernels, whose rounding becomes another phase. A row that got
another row's numbers is no more than some decibels alike."""
BANDS = 40
FFT_SAMPLES, HOP_SAMPLES = 1024, 480
LOWEST_HZ = 80.0
FLOOR = 1e-6  # of the loudest: below it is no sound
WAVE_LIMIT_DB = 25.0
"""A vocoder in 8 bits is used when its error is this far below the sound, which it follows in
level and band."""


def mel_distance_db(reference: Array, other: Array) -> float:
    """Mean absolute difference of two log-mels; infinite when one is no mel."""
    if reference.shape != other.shape or not np.all(np.isfinite(other)):
        return np.inf
    return float(NEPER_DB * np.abs(np.asarray(reference, np.float64) - other).mean())


def sound_distance_db(reference: Array, other: Array) -> float:
    """Mean difference of two sounds [rows, samples] in the loudness of their bands, whatever their
    phase; infinite when one is no sound."""
    if reference.shape != other.shape or not np.all(np.isfinite(other)):
        return np.inf
    loud = [_band_energy(np.asarray(wave, np.float64)) for wave in (reference, other)]
    floor = FLOOR * max(float(loud[0].max()), 1e-12)
    return float(10 * np.abs(np.log10(loud[0] + floor) - np.log10(loud[1] + floor)).mean())


def _band_energy(waves: NDArray[np.float64]) -> NDArray[np.float64]:
    """[rows, frames, bands], bands as wide as they are high."""
    padded = np.pad(waves, [(0, 0), (0, max(0, FFT_SAMPLES - waves.shape[1]))])
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES, axis=1)[:, ::HOP_SAMPLES]
    power = np.abs(np.fft.rfft(frames * np.hanning(FFT_SAMPLES), axis=2)) ** 2
    edges = np.geomspace(LOWEST_HZ, SAMPLE_RATE_HZ / 2, BANDS) * FFT_SAMPLES / SAMPLE_RATE_HZ
    return np.add.reduceat(power, np.unique(edges.astype(int)), axis=2)


class Likeness(NamedTuple):
    """How alike two results are."""

    same: bool  # the same computation, but for rounding
    off: float  # larger is worse
    text: str


def alike(reference: Array, other: Array, *, on_gpu: bool, sound: bool) -> Likeness:
    """Of mels, or of waveforms. On a CPU nothing but rounding may differ; on a GPU what tells a
    wrong result from rounding decides."""
    if on_gpu and sound:
        off_db = sound_distance_db(reference, other)
        return Likeness(off_db <= MEL_LIMIT_DB, off_db, f"{off_db:.2f} dB apart in sound")
    figure = snr_db(reference, other)
    text = "equal" if figure == np.inf else f"{figure:.0f} dB alike"
    return Likeness(figure >= (GPU_MEL_DB if on_gpu else EQUAL_DB), -figure, text)
