"""Frames, spectra and mel bands in ONNX operators, for encoders.

The graph computes its cosine matrices, so that they take no space in files.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.families.turbo.spec import LM_PROMPT_S
from chatterbox.runtime.decoder.s3gen import (
    CODE_RATE_HZ,
    MEL_BANDS,
    MEL_FRAMES_PER_CODE,
    SAMPLES_PER_CODE,
)
from tools.model_builder.graph import Graph, ints, real

Array = NDArray[Any]

HOP = SAMPLES_PER_CODE // MEL_FRAMES_PER_CODE
WINDOW = 2 * HOP
BINS = 321
"""Bins of 25 Hz up to 8 kHz, where the model's mel bands end."""
LOG_FLOOR = 1e-5
LM_PROMPT_CODES = int(LM_PROMPT_S * CODE_RATE_HZ)


def code_count(g: Graph, audio: str, most: int) -> str:
    """Whole codes that audio [B, samples] holds, between 1 and `most`: int64 [1]."""
    codes = g.op("Div", g.shape(audio, 1), ints(SAMPLES_PER_CODE))
    return g.op("Min", g.op("Max", codes, ints(1)), ints(most))


def power_spectrum(g: Graph, audio: str, codes: str) -> str:
    """Audio [B, samples] → Hann-windowed power [B, 2 × codes, BINS], float32."""
    frames = g.op("Mul", codes, ints(MEL_FRAMES_PER_CODE))
    needed = g.op("Mul", g.op("Add", frames, ints(1)), ints(HOP))
    silence = g.op("Sub", needed, g.op("Min", needed, g.shape(audio, 1)))
    pads = g.op("Concat", ints(0, 0, 0), silence, axis=0)
    padded = g.op("Pad", audio, pads, real(0))
    cut = g.op("Slice", padded, ints(0), needed, ints(1))
    hops = g.op("Reshape", cut, ints(0, -1, HOP))
    first = g.op("Slice", hops, ints(0), ints(-1), ints(1))
    second = g.op("Slice", hops, ints(1), ints(2**31), ints(1))
    windowed = g.op("Mul", g.op("Concat", first, second, axis=2), real(np.hanning(WINDOW)))
    spectra = [g.op("MatMul", windowed, waves(g, kind, WINDOW, 0, BINS)) for kind in ("Cos", "Sin")]
    return g.op("Add", *(g.op("Mul", part, part) for part in spectra))


def waves(g: Graph, kind: str, rows: int, first: int, columns: int) -> str:
    """[rows, columns] of cos or sin (2π n k / WINDOW) with k counted from `first`."""
    n = g.op("Unsqueeze", g.op("Range", *(np.array(v, np.int64) for v in (0, rows, 1))), ints(1))
    k = g.op("Range", *(np.array(v, np.int64) for v in (first, first + columns, 1)))
    turns = g.cast(g.op("Mod", g.op("Mul", n, k), ints(WINDOW)), np.float32)
    return g.op(kind, g.op("Mul", turns, real(2 * np.pi / WINDOW)))


def log_mel(g: Graph, power: str) -> str:
    """Power [..., BINS] → log-mel [..., 80], float32."""
    bank = g.f32(g.param(mel_bank()))
    return g.op("Log", g.op("Max", g.op("MatMul", power, bank), real(LOG_FLOOR)))


def mel_bank() -> Array:
    """Triangles [BINS, 80] on the mel scale from 0 to 8 kHz, each of the same area."""
    hertz = np.arange(BINS) * SAMPLE_RATE_HZ / WINDOW
    top = 1127 * np.log1p(hertz[-1] / 700)
    edges = 700 * np.expm1(np.linspace(0, top, MEL_BANDS + 2) / 1127)
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (hertz[:, None] - low) / (mid - low)
    falling = (high - hertz[:, None]) / (high - mid)
    bank = np.maximum(0, np.minimum(rising, falling))
    # The lowest triangles lie between two bins: the nearest bin stands for them.
    empty = bank.sum(0) < 0.5
    nearest = np.abs(hertz[:, None] - mid).argmin(0)
    bank[nearest[empty], np.flatnonzero(empty)] = 1
    weights: Array = (bank / bank.sum(0)).astype(np.float32)
    return weights
