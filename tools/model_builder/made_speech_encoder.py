"""Speech encoder of the hand-made model: pitch, spectrum, and their change over time.

The result depends on the reference recording alone. Arithmetic is float32 in every
precision, only weights are stored smaller.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.families.turbo.spec import DECODER_PROMPT_S
from chatterbox.hub.files import Precision
from chatterbox.runtime.decoder.s3gen import (
    CODE_RATE_HZ,
    MEL_BANDS,
    MEL_FRAMES_PER_CODE,
    SILENCE_CODE,
    SPEAKER_DIM,
)
from tools.model_builder.graph import Graph, ints, real
from tools.model_builder.made_design import (
    CODES_PER_PLACE,
    FIRST,
    FREQUENCIES,
    HIDDEN,
    LAST,
    PLACES,
    POINTER,
    PROMPT,
    SOUNDS,
    TASTE,
    balanced,
)
from tools.model_builder.spectrum import (
    BINS,
    LM_PROMPT_CODES,
    WINDOW,
    code_count,
    log_mel,
    power_spectrum,
    waves,
)
from tools.model_builder.waveform import count_up

Array = NDArray[Any]

SEED = 3
DECODER_PROMPT_CODES = int(DECODER_PROMPT_S * CODE_RATE_HZ)
LOWEST_F0_HZ, HIGHEST_F0_HZ = 80, 300
MIDDLE_F0_HZ = 150
SHORTEST_LAG = SAMPLE_RATE_HZ // HIGHEST_F0_HZ
LONGEST_LAG = SAMPLE_RATE_HZ // LOWEST_F0_HZ
VOICED = 0.45
"""Autocorrelation (1 at lag 0) from which a frame counts as voiced."""
OCTAVE_DOUBT = 0.1
"""A tone is as alike at twice its period: the shorter lag is preferred by this much."""
SILENT_LOG_MEL = -9.0
"""Mean log-mel under which 40 ms count as silence: 2.5 nepers over the floor."""
MEL_CENTRE, MEL_SCALE = -4.0, 0.25  # log-mel → about −1 … 1

# The speaker vector: [0] octaves over MIDDLE_F0_HZ, [1] brightness, [2:82] mean spectrum, the rest
# fixed projections of that spectrum.
SPEAKER_F0, SPEAKER_BRIGHTNESS = 0, 1


def write_speech_encoder(folder: Path, precision: Precision) -> None:
    """Write `speech_encoder<suffix>.onnx` and its sidecar."""
    with Graph(folder, "speech_encoder", precision) as graph:
        _Encoder(graph).build()


class _Encoder:
    def __init__(self, graph: Graph) -> None:
        self._g = graph
        self._rng = np.random.default_rng(SEED)

    def build(self) -> None:
        g = self._g
        audio = g.input("audio_values", np.float32, ["batch", "samples"])
        codes = code_count(g, audio, LM_PROMPT_CODES)
        power = power_spectrum(g, audio, codes)
        mel = log_mel(g, power)  # [B, 2 × codes, 80]
        per_code = g.op("Reshape", mel, ints(0, -1, MEL_FRAMES_PER_CODE, MEL_BANDS))
        coded = g.op("ReduceMean", per_code, ints(2), keepdims=0)  # [B, codes, 80]
        mean = self._loud_mean(coded)  # [B, 1, 80]
        speaker = self._speaker(power, mean)
        features = self._features(coded, mean, speaker, codes)
        prompt = g.op("Min", codes, ints(DECODER_PROMPT_CODES))
        tokens = g.op("Slice", self._tokens(coded, mean), ints(0), prompt, ints(1))
        frames = g.op("Mul", prompt, ints(MEL_FRAMES_PER_CODE))
        prompt_mel = g.op("Slice", mel, ints(0), frames, ints(1))
        g.output("audio_features", features, np.float32, ["batch", "rows", HIDDEN])
        g.output("audio_tokens", tokens, np.int64, ["batch", "prompt"])
        g.output("speaker_embeddings", speaker, np.float32, ["batch", SPEAKER_DIM])
        g.output("speaker_features", prompt_mel, np.float32, ["batch", "frames", MEL_BANDS])

    def _loud_mean(self, mel: str) -> str:
        """Mean spectrum [B, 1, 80] in which loud moments count."""
        g = self._g
        loudness = g.op("ReduceMean", mel, ints(2), keepdims=1)
        share = g.op("Softmax", loudness, axis=1)
        return g.op("ReduceSum", g.op("Mul", mel, share), ints(1), keepdims=1)

    def _speaker(self, power: str, mean: str) -> str:
        g = self._g
        spectrum = self._centred(g.op("Squeeze", mean, ints(1)))  # [B, 80]
        tilt = real(np.linspace(-1, 1, MEL_BANDS) / MEL_BANDS * 4)
        brightness = g.op("ReduceSum", g.op("Mul", spectrum, tilt), ints(1), keepdims=1)
        rest = SPEAKER_DIM - MEL_BANDS - 2
        projected = g.op("Tanh", self._linear(spectrum, self._noise(MEL_BANDS, rest)))
        return g.op("Concat", self._octaves(power), brightness, spectrum, projected, axis=1)

    def _octaves(self, power: str) -> str:
        """Pitch [B, 1] in octaves over MIDDLE_F0_HZ: the mean over voiced frames."""
        g = self._g
        lags = LONGEST_LAG + 1 - SHORTEST_LAG
        # Autocorrelation is the spectrum of the power; the window's own shrinks with the lag.
        both_sides = np.full(BINS, 2.0)
        both_sides[0] = 1
        energy = g.op("MatMul", power, real(both_sides[:, None]))  # [B, frames, 1]
        wave = g.op("Mul", waves(g, "Cos", BINS, SHORTEST_LAG, lags), real(both_sides[:, None]))
        ratio = g.op("Div", g.op("MatMul", power, wave), g.op("Add", energy, real(1e-6)))
        alike = g.op("Div", ratio, real(_window_autocorrelation()))
        alike = g.op("Sub", alike, real(OCTAVE_DOUBT * np.linspace(0, 1, lags)))
        best = g.cast(g.op("ArgMax", alike, axis=2, keepdims=1), np.float32)
        hertz = g.op("Div", real(SAMPLE_RATE_HZ), g.op("Add", best, real(SHORTEST_LAG)))
        octaves = g.op("Div", g.op("Log", g.op("Div", hertz, real(MIDDLE_F0_HZ))), real(np.log(2)))
        sure = g.op("Relu", g.op("Sub", g.op("ReduceMax", alike, ints(2)), real(VOICED)))
        weight = g.op("Mul", sure, g.op("Sqrt", energy))
        total = g.op("ReduceSum", g.op("Mul", octaves, weight), ints(1), keepdims=0)
        norm = g.op("ReduceSum", weight, ints(1), keepdims=0)
        return g.op("Div", total, g.op("Add", norm, real(1e-6)))

    def _features(self, mel: str, mean: str, speaker: str, codes: str) -> str:
        """Conditioning rows [B, 1 + codes, 64]: the speaker, then each 40 ms."""
        g = self._g
        change = g.op("Sub", self._centred(mel), self._centred(mean))
        moments = self._linear(change, self._noise(MEL_BANDS, CODES_PER_PLACE) * 4)
        person = self._linear(speaker, self._noise(SPEAKER_DIM, CODES_PER_PLACE) * 4)
        person = g.op("Unsqueeze", person, ints(1))
        tastes = g.op("Tanh", g.op("Concat", person, g.op("Add", moments, person), axis=1))
        flags = self._flags(codes)  # [rows, flags and pointer]
        shape = g.op("Concat", g.shape(mel, 0), g.shape(flags, 0), g.shape(flags, 1), axis=0)
        content = g.op("Concat", tastes, g.op("Expand", flags, shape), axis=2)
        return g.op("MatMul", content, g.f32(g.param(_placing())))

    def _flags(self, codes: str) -> str:
        """[rows, 3 + 14]: prompt, first, last, and on the last row the first text position."""
        g = self._g
        rows = g.op("Add", codes, ints(1))
        index = g.op("Unsqueeze", count_up(g, rows), ints(1))
        first = g.cast(g.op("Equal", index, ints(0)), np.float32)
        last = g.cast(g.op("Equal", index, codes), np.float32)
        every = g.cast(g.op("GreaterOrEqual", index, ints(0)), np.float32)
        turns = g.op("Mod", g.op("Mul", rows, ints(*FREQUENCIES.tolist())), ints(PLACES))
        angles = g.op("Mul", g.cast(turns, np.float32), real(2 * np.pi / PLACES))
        phases = g.op("Concat", g.op("Cos", angles), g.op("Sin", angles), axis=0)
        pointer = g.op("Mul", last, phases)
        return g.op("Concat", every, first, last, pointer, axis=1)

    def _tokens(self, mel: str, mean: str) -> str:
        """Codes [B, codes] of the reference: which sixth of the spectrum stands out."""
        g = self._g
        sixths = np.zeros((MEL_BANDS, SOUNDS), np.float32)
        sixths[np.arange(MEL_BANDS), np.arange(MEL_BANDS) * SOUNDS // MEL_BANDS] = 1
        standing_out = g.op("MatMul", g.op("Sub", mel, mean), real(sixths))
        sound = g.op("ArgMax", standing_out, axis=2, keepdims=0)
        index = count_up(g, g.shape(sound, 1))
        tokens = g.op("Add", g.op("Mul", index, ints(SOUNDS)), sound)
        loudness = g.op("ReduceMean", mel, ints(2), keepdims=0)
        silent = g.op("Less", loudness, real(SILENT_LOG_MEL))
        return g.op("Where", silent, ints(SILENCE_CODE), tokens)

    def _centred(self, mel: str) -> str:
        g = self._g
        return g.op("Mul", g.op("Sub", mel, real(MEL_CENTRE)), real(MEL_SCALE))

    def _noise(self, inputs: int, outputs: int) -> Array:
        matrix: Array = self._rng.standard_normal((inputs, outputs), np.float32)
        return matrix / np.float32(np.sqrt(inputs))

    def _linear(self, x: str, matrix: Array) -> str:
        """A product in the precision's weights, between float32 edges."""
        g = self._g
        return g.f32(g.linear(g.to_act(x), matrix))


def _window_autocorrelation() -> Array:
    """What a steady tone's autocorrelation falls to at each lag because the window ends."""
    window = np.hanning(WINDOW)
    spectrum = np.abs(np.fft.fft(window)) ** 2
    circular = np.fft.ifft(spectrum).real
    lags = np.arange(SHORTEST_LAG, LONGEST_LAG + 1)
    fallen: Array = np.maximum(circular[lags] / circular[0], 0.1)
    return fallen


def _placing() -> Array:
    """Where tastes, flags and pointer go in a row: [12 + 3 + 14, 64]."""
    places = [
        *range(TASTE.start, TASTE.stop),
        PROMPT,
        FIRST,
        LAST,
        *range(POINTER.start, POINTER.stop),
    ]
    matrix = np.zeros((len(places), HIDDEN), np.float32)
    matrix[np.arange(len(places)), places] = 1
    return balanced(matrix)
