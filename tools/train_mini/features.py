"""Which numbers describe speech here? 80 log-mel bands, pitch and voicing at 100 frames a second.

Knows nothing of files or learning; `graphs.py` computes the same numbers in ONNX operators.
"""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

RATE_HZ = 24_000
HOP = 240
FRAMES_PER_CODE = 4
CODE_SAMPLES = HOP * FRAMES_PER_CODE
N_FFT = 1024
BINS = N_FFT // 2 + 1
BANDS = 80
TOP_HZ = 8000.0
MIN_HALF_WIDTH_HZ = 140.0
"""Narrower filters would show single harmonics of a high voice instead of its envelope."""
LOG_FLOOR = 1e-7
PITCH_BINS = 64
"""Pitch is looked for below 1500 Hz."""
MIN_LAG = 60  # samples: 400 Hz
MAX_LAG = 400  # samples: 60 Hz
OCTAVE_COST = 0.12
LAG_FLOOR = 0.35
"""Long lags are not raised beyond this: a steady tone would be heard an octave too low."""
VOICED_AT = 0.42
VOICED_ABOVE_PEAK = 7.0
"""A frame this many nats (of power) below the loudest one is never voiced."""


def band_centres_hz() -> F32:
    """Mel-spaced centres from 60 Hz to TOP_HZ."""
    mel = np.linspace(_mel(60.0), _mel(TOP_HZ - 100.0), BANDS)
    return (700.0 * (10 ** (mel / 2595.0) - 1)).astype(np.float32)


def _mel(hz: float) -> float:
    return float(2595.0 * np.log10(1 + hz / 700.0))


def filters() -> F32:
    """Triangles that sum to one: power spectrum → mean power of a band. [BINS, BANDS]"""
    centres = band_centres_hz()
    spacing = np.gradient(centres)
    half = np.maximum(spacing, MIN_HALF_WIDTH_HZ)
    hz = np.arange(BINS) * RATE_HZ / N_FFT
    weight = np.maximum(0.0, 1 - np.abs(hz[:, None] - centres[None]) / half[None])
    return (weight / weight.sum(0)).astype(np.float32)


def window() -> F32:
    """Periodic Hann, normalised to unit energy."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    return (hann / np.sqrt((hann**2).sum())).astype(np.float32)


def lag_matrix() -> F32:
    """Magnitude spectrum below 1500 Hz → autocorrelation at MIN_LAG..MAX_LAG. [PITCH_BINS, lags]"""
    bins = np.arange(PITCH_BINS)
    lags = np.arange(MIN_LAG, MAX_LAG + 1)
    matrix = np.cos(2 * np.pi * bins[:, None] * lags[None] / N_FFT)
    matrix[:2] = 0.0  # rumble
    return (matrix / lag_window()[None]).astype(np.float32)


def lag_window() -> F32:
    """What a perfect tone would show at each lag: a Hann lobe's magnitudes transform to a Hann."""
    lags = np.arange(MIN_LAG, MAX_LAG + 1)
    return np.maximum(0.5 + 0.5 * np.cos(2 * np.pi * lags / N_FFT), LAG_FLOOR).astype(np.float32)


def octave_penalty() -> F32:
    """Rises with the lag, so that a period is preferred to its double."""
    lags = np.arange(MIN_LAG, MAX_LAG + 1)
    return (OCTAVE_COST * np.log2(lags / MIN_LAG)).astype(np.float32)


_WINDOW, _FILTERS, _LAGS, _PENALTY = window(), filters(), lag_matrix(), octave_penalty()
_SMOOTH = np.array([1, 2, 3, 2, 1], np.float32) / 9


def analyse(audio: F32) -> F32:
    """Audio [samples] → features [frames, 82]: log-mel, log f0 in Hz, voicing 0 or 1."""
    frames = len(audio) // HOP
    side = (N_FFT - HOP) // 2
    padded = np.pad(audio, (side, side + N_FFT))
    view = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][:frames]
    power = np.abs(np.fft.rfft(view * _WINDOW).astype(np.complex64)) ** 2
    log_mel = np.log(power @ _FILTERS + LOG_FLOOR)
    low = np.sqrt(power[:, :PITCH_BINS])
    strength = low @ _LAGS / (low[:, 2:].sum(1, keepdims=True) + 1e-4)
    padded_strength = np.pad(strength, ((2, 2), (0, 0)), mode="edge")
    strength = sum(_SMOOTH[k] * padded_strength[k : k + frames] for k in range(5))
    best = (strength - _PENALTY).argmax(1)
    inner = np.clip(best, 1, strength.shape[1] - 2)
    rows = np.arange(frames)
    a, b, c = (strength[rows, inner + k] for k in (-1, 0, 1))
    shift = np.clip(0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-6), -0.5, 0.5)
    log_f0 = np.log(RATE_HZ / (inner + MIN_LAG + shift))
    loud = log_mel.mean(1)
    voiced = (b > VOICED_AT) & (loud > loud.max(initial=-99.0) - VOICED_ABOVE_PEAK)
    return np.concatenate([log_mel, log_f0[:, None], voiced[:, None]], axis=1, dtype=np.float32)
