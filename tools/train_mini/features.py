"""Computes speech features: 80 log-mel bands, pitch and voicing at 100 frames per second.

`graphs.py` computes the same features in ONNX operators.
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
VOICED_AT = 0.30
"""Higher values leave the edges of a high voice's vowels without pitch, hoarse when said again."""
VOICED_ABOVE_PEAK = 7.0
"""A frame this many nats (of power) below the loudest one is never voiced."""


def band_centres_hz() -> F32:
    """Mel-spaced centres from 60 Hz to TOP_HZ."""
    mel = np.linspace(_mel(60.0), _mel(TOP_HZ - 100.0), BANDS)
    return (700.0 * (10 ** (mel / 2595.0) - 1)).astype(np.float32)


def _mel(hz: float) -> float:
    return float(2595.0 * np.log10(1 + hz / 700.0))


def filters(least_half_width_hz: float = MIN_HALF_WIDTH_HZ) -> F32:
    """Triangles that sum to one: power spectrum → mean power of a band. [BINS, BANDS]"""
    centres = band_centres_hz()
    spacing = np.gradient(centres)
    half = np.maximum(spacing, least_half_width_hz)
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
SMOOTH_TAPS = np.array([1, 2, 3, 2, 1], np.float32) / 9
"""Over frames, for how periodic each lag is."""


def _frames(audio: F32) -> F32:
    """[frames, N_FFT], HOP apart."""
    side = (N_FFT - HOP) // 2
    padded = np.pad(audio, (side, side + N_FFT))
    return np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][: len(audio) // HOP]


def analyse(audio: F32) -> F32:
    """Audio [samples] → features [frames, 82]: log-mel, log f0 in Hz, voicing 0 or 1."""
    view = _frames(audio)
    frames = len(view)
    power = np.abs(np.fft.rfft(view * _WINDOW).astype(np.complex64)) ** 2
    log_mel = np.log(power @ _FILTERS + LOG_FLOOR)
    low = np.sqrt(power[:, :PITCH_BINS])
    strength = low @ _LAGS / (low[:, 2:].sum(1, keepdims=True) + 1e-4)
    padded_strength = np.pad(strength, ((2, 2), (0, 0)), mode="edge")
    strength = sum(SMOOTH_TAPS[k] * padded_strength[k : k + frames] for k in range(5))
    best = (strength - _PENALTY).argmax(1)
    inner = np.clip(best, 1, strength.shape[1] - 2)
    rows = np.arange(frames)
    a, b, c = (strength[rows, inner + k] for k in (-1, 0, 1))
    shift = np.clip(0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-6), -0.5, 0.5)
    log_f0 = np.log(RATE_HZ / (inner + MIN_LAG + shift))
    loud = log_mel.mean(1)
    voiced = (b > VOICED_AT) & (loud > loud.max(initial=-99.0) - VOICED_ABOVE_PEAK)
    return np.concatenate([log_mel, log_f0[:, None], voiced[:, None]], axis=1, dtype=np.float32)


LOUD_BELOW_PEAK = 6.0
"""Frames this many nats below the loudest one don't count for a speaker's mean spectrum."""
F0_OUTLIER = 0.4
"""Log f0 further than this from an utterance's middle is an octave taken for another."""


def speaker_stats(features: F32) -> F32:
    """[frames, 82] → [81]: mean log-mel of louder frames, mean log f0 of voiced frames, both
    without outliers; the speech encoder's graph computes the same."""
    mel, log_f0, voiced = features[:, :BANDS], features[:, BANDS], features[:, BANDS + 1]
    loudness = mel.mean(1)
    mean_mel = mel[loudness > loudness.max() - LOUD_BELOW_PEAK].mean(0)
    first = (log_f0 * voiced).sum() / max(voiced.sum(), 1.0)
    near = voiced * (np.abs(log_f0 - first) < F0_OUTLIER)
    mean_f0 = (log_f0 * near).sum() / max(near.sum(), 1.0)
    return np.append(mean_mel, mean_f0).astype(np.float32)


PERIODS = 4
WINDOWS = (320, 400, 480, 600, 720, 840, 1024)
"""Lengths in samples; a frame takes the one nearest to PERIODS of its pitch."""
PLAIN_WINDOW = 480  # where there is no pitch
PLAIN_WIDTH_HZ = 100.0
NARROW_HALF_WIDTH_HZ = 60.0
_NARROW = filters(NARROW_HALF_WIDTH_HZ)


def analyse_to_say(audio: F32) -> F32:
    """As `analyse`, for speech that is to be said again: the spectrum's envelope without harmonics,
    as sharp in time as the pitch allows, and a pitch that goes on where nothing is voiced."""
    plain = analyse(audio)
    log_f0, voiced = plain[:, BANDS], plain[:, BANDS + 1] > 0
    sure = voiced.copy()
    if voiced.any():
        sure &= np.abs(log_f0 - np.median(log_f0[voiced])) < F0_OUTLIER
    places = np.flatnonzero(sure)
    if len(places):
        log_f0 = np.interp(np.arange(len(log_f0)), places, log_f0[places])
    f0 = np.exp(log_f0)
    view = _frames(audio)
    lengths = np.array(WINDOWS)
    nearest = np.abs(lengths[None] - PERIODS * RATE_HZ / f0[:, None]).argmin(1)
    chosen = np.where(voiced, lengths[nearest], PLAIN_WINDOW)
    power = np.empty((len(view), BINS))
    for length in WINDOWS:
        rows = chosen == length
        power[rows] = np.abs(np.fft.rfft(view[rows] * _window_of(length))) ** 2
    power = _smoothed(power, np.where(voiced, f0, PLAIN_WIDTH_HZ))
    log_mel = np.log(power @ _NARROW + LOG_FLOOR)
    return np.concatenate([log_mel, log_f0[:, None], voiced[:, None]], axis=1, dtype=np.float32)


def _window_of(length: int) -> F32:
    """Periodic Hann of unit energy in the middle of N_FFT samples."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    before = (N_FFT - length) // 2
    return np.pad(hann / np.sqrt((hann**2).sum()), (before, N_FFT - length - before))


def _smoothed(power: NDArray[np.float64], width_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over `width_hz` around each bin: one harmonic's share, wherever harmonics lie."""
    total = np.pad(power.cumsum(1), ((0, 0), (1, 0)))
    half = (width_hz * N_FFT / RATE_HZ / 2)[:, None]
    middle = np.arange(BINS)[None] + 0.5
    low, high = np.clip(middle - half, 0, BINS), np.clip(middle + half, 0, BINS)
    return (_between(total, high) - _between(total, low)) / (high - low)


def _between(total: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """`total` [rows, places] at fractional places, row by row."""
    first = np.minimum(at.astype(int), total.shape[1] - 2)
    rows = np.arange(len(total))[:, None]
    return total[rows, first] + (at - first) * (total[rows, first + 1] - total[rows, first])
