"""Measures speech: recognised words, pitch, length, and similarity of voice.

`pocketsphinx` recognises the words; it was not trained with this model.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from .features import BANDS, F32, HOP, RATE_HZ, analyse

SILENT_BELOW_PEAK = 6.0  # nats of mean log-mel; flite's pauses lie 7 to 8 below its vowels
CEPSTRA = 20


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; hyphens part words."""
    return re.findall(r"[a-z']+", text.lower().replace("-", " "))


def word_errors(wanted: list[str], heard: list[str]) -> int:
    """Insertions, deletions and substitutions."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted):
        before, row[0] = row[:], i + 1
        for j, other in enumerate(heard):
            row[j + 1] = min(before[j] + (word != other), before[j + 1] + 1, row[j] + 1)
    return row[-1]


class Recogniser:
    """pocketsphinx with its own English model."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(loglevel="FATAL")

    def hear(self, audio: F32) -> list[str]:
        """Words in audio [samples] at 24 kHz."""
        pcm = np.clip(resample_poly(audio, 2, 3) * 32767, -32768, 32767).astype("<i2")
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return words(found.hypstr) if found else []


@dataclass(frozen=True, slots=True, eq=False)
class Impression:
    """What an utterance is like."""

    speech_s: float  # from the first to the last sound
    f0_hz: float  # median over voiced frames; 0 where there is none
    timbre: NDArray[np.float64]  # [40] means and deviations of cepstra


def impression(audio: F32) -> Impression:
    """Measure audio [samples] at 24 kHz."""
    padded = np.pad(audio, (0, max(0, 4 * HOP - len(audio)))).astype(np.float32)
    found = analyse(padded)
    loud = found[:, :BANDS].mean(1)
    heard = np.flatnonzero(loud > loud.max() - SILENT_BELOW_PEAK)
    voiced = found[:, BANDS + 1] > 0
    f0 = float(np.exp(np.median(found[voiced, BANDS]))) if voiced.any() else 0.0
    basis = np.cos(
        np.pi * np.arange(1, CEPSTRA + 1)[:, None] * (np.arange(BANDS) + 0.5)[None] / BANDS
    )
    cepstra = found[loud > loud.max() - 4.0][:, :BANDS] @ basis.T / BANDS
    timbre = np.concatenate([cepstra.mean(0), cepstra.std(0)]).astype(np.float64)
    return Impression((heard[-1] - heard[0] + 1) * HOP / RATE_HZ, f0, timbre)
