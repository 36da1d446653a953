"""Measures how far apart the results of two graphs are."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.runtime.decoder.graph_io import EQUAL_DB, Array, snr_db

NEPER_DB = 8.686
"""Decibels per neper. Log-mels are in nepers."""
MEL_LIMIT_DB = 1.0
"""Largest mean error of an 8-bit flow's mel, and of sound on a GPU: less than a just noticeable
difference in a band's loudness."""
GPU_MEL_DB = 25.0
"""Smallest SNR at which mels count as equal on a GPU, where kernels and rounding depend on the
shape. Mels of different rows have an SNR of a few decibels."""
BANDS = 40
FFT_SAMPLES, HOP_SAMPLES = 1024, 480
LOWEST_HZ = 80.0
FLOOR = 1e-6  # share of the loudest band's energy below which a band counts as silent
WAVE_LIMIT_DB = 25.0
"""Smallest SNR of an 8-bit vocoder. The error rises and falls with the sound in each band."""


def mel_distance_db(reference: Array, other: Array) -> float:
    """Return the mean absolute difference of two log-mels; infinite if they differ in shape or
    `other` is not finite."""
    if reference.shape != other.shape or not np.all(np.isfinite(other)):
        return np.inf
    return float(NEPER_DB * np.abs(np.asarray(reference, np.float64) - other).mean())


def sound_distance_db(reference: Array, other: Array) -> float:
    """Return the mean difference of two waveforms [rows, samples] in the loudness of their bands,
    which ignores phase; infinite if they differ in shape or `other` is not finite."""
    if reference.shape != other.shape or not np.all(np.isfinite(other)):
        return np.inf
    loud = [_band_energy(np.asarray(wave, np.float64)) for wave in (reference, other)]
    floor = FLOOR * max(float(loud[0].max()), 1e-12)
    return float(10 * np.abs(np.log10(loud[0] + floor) - np.log10(loud[1] + floor)).mean())


def _band_energy(waves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return band energies [rows, frames, bands] with logarithmically spaced bands."""
    padded = np.pad(waves, [(0, 0), (0, max(0, FFT_SAMPLES - waves.shape[1]))])
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES, axis=1)[:, ::HOP_SAMPLES]
    power = np.abs(np.fft.rfft(frames * np.hanning(FFT_SAMPLES), axis=2)) ** 2
    edges = np.geomspace(LOWEST_HZ, SAMPLE_RATE_HZ / 2, BANDS) * FFT_SAMPLES / SAMPLE_RATE_HZ
    return np.add.reduceat(power, np.unique(edges.astype(int)), axis=2)


class Comparison(NamedTuple):
    is_equal: bool  # equal except for rounding
    error: float  # larger is worse
    text: str


def compare(reference: Array, other: Array, *, on_gpu: bool, sound: bool) -> Comparison:
    """Compare two mels, or two waveforms if `sound`. On a CPU only rounding may differ. On a GPU
    the limits are wider, but still detect a wrong result."""
    if on_gpu and sound:
        off_db = sound_distance_db(reference, other)
        return Comparison(off_db <= MEL_LIMIT_DB, off_db, f"{off_db:.2f} dB apart in sound")
    figure = snr_db(reference, other)
    text = "equal" if figure == np.inf else f"{figure:.0f} dB SNR"
    return Comparison(figure >= (GPU_MEL_DB if on_gpu else EQUAL_DB), -figure, text)
