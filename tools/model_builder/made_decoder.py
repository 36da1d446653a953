"""Decoder of the hand-made model: a buzz and a hiss through three moving resonances.

Codes determine only the sound. Pitch and timbre come from the speaker vector and the prompt's
spectrum. Arithmetic is float32 in every precision; only stored weights are smaller.
"""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.hub.files import Precision
from chatterbox.runtime.decoder.s3gen import (
    CODE_COUNT,
    MEL_BANDS,
    SAMPLES_PER_CODE,
    SILENCE_CODE,
    SPEAKER_DIM,
)
from tools.model_builder.graph import Graph, ints, real
from tools.model_builder.made_design import CODES_PER_PLACE
from tools.model_builder.made_speech_encoder import (
    HIGHEST_F0_HZ,
    LOWEST_F0_HZ,
    MEL_CENTRE,
    MIDDLE_F0_HZ,
    SPEAKER_BRIGHTNESS,
    SPEAKER_F0,
)
from tools.model_builder.quantise import BLOCK
from tools.model_builder.waveform import after, faded_in, prompt_codes

Array = NDArray[Any]

FRAMES_PER_CODE = 4  # of 10 ms: pitch and resonances move linearly between codes
FRAME = SAMPLES_PER_CODE // FRAMES_PER_CODE
HARMONICS = 32
TOP_HZ = 9000.0
"""Harmonics fade out towards here, well under half the sampling rate."""
CEILING = 0.95
LEVEL = 0.12
"""Brings speech to about −22 LUFS."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound. Levels 0 … 1; resonances in units of their RANGE."""

    buzz: float
    hiss: float
    pitch: float  # octaves over the speaker's own
    first: float
    second: float
    third: float


# (lowest, highest) of the three resonances in hertz, and their bandwidths.
RANGES = ((250.0, 850.0), (800.0, 2400.0), (2200.0, 3400.0))
BANDWIDTHS_HZ = (110.0, 160.0, 260.0)
STRENGTHS = (1.0, 0.6, 0.3)

QUIET = Sound(0, 0, 0, 0.5, 0.5, 0.5)
SOUNDS_BY_CODE = (
    # first half of a character
    Sound(0.0, 0.05, 0.00, 0.5, 0.5, 0.5),
    Sound(0.9, 0.0, 0.06, 1.0, 0.3, 0.4),  # open vowel
    Sound(0.9, 0.0, 0.10, 0.1, 1.0, 0.8),  # front vowel
    Sound(0.8, 0.0, -0.06, 0.2, 0.0, 0.3),  # back vowel
    Sound(0.1, 0.7, 0.00, 0.2, 0.8, 1.0),  # fricative
    Sound(0.6, 0.2, -0.10, 0.0, 0.5, 0.3),  # voiced consonant
    # second half
    Sound(0.0, 0.02, -0.04, 0.5, 0.5, 0.5),
    Sound(1.0, 0.0, 0.00, 0.8, 0.5, 0.5),
    Sound(1.0, 0.0, 0.03, 0.4, 0.9, 0.7),
    Sound(0.9, 0.0, -0.03, 0.5, 0.2, 0.1),
    Sound(0.0, 0.4, 0.00, 0.3, 0.6, 0.9),
    Sound(0.7, 0.1, -0.06, 0.1, 0.6, 0.5),
)
QUIET_ROW = CODES_PER_PLACE


def write_conditional_decoder(folder: Path, precision: Precision) -> None:
    """Write `conditional_decoder<suffix>.onnx` and its sidecar."""
    with Graph(folder, "conditional_decoder", precision) as graph:
        _Decoder(graph).build()


class _Decoder:
    def __init__(self, graph: Graph) -> None:
        self._g = graph

    def build(self) -> None:
        g = self._g
        tokens = g.input("speech_tokens", np.int64, ["batch", "tokens"])
        speaker = g.input("speaker_embeddings", np.float32, ["batch", SPEAKER_DIM])
        prompt = g.input("speaker_features", np.float32, ["batch", "frames", MEL_BANDS])
        new = after(g, tokens, prompt_codes(g, prompt), 1)
        track = self._track(new)  # [B, frames, 6]
        buzz, hiss, pitch = (self._column(track, i) for i in range(3))
        f0 = self._f0(speaker, pitch)  # [B, frames, 1] Hz
        levels = self._harmonics(track, f0, speaker, prompt)  # [B, frames, HARMONICS]
        levels = g.op("Mul", levels, buzz)
        sound = g.op("Add", self._voice(f0, levels), self._noise(hiss))
        loud = g.op("Mul", g.op("Tanh", g.op("Mul", sound, real(LEVEL / CEILING))), real(CEILING))
        flat = g.op("Reshape", loud, ints(0, -1))
        g.output("waveform", faded_in(g, flat), np.float32, ["batch", "samples"])

    def _track(self, codes: str) -> str:
        """Codes [B, T] → their sounds' six numbers at every 10 ms [B, 4T, 6]."""
        g = self._g
        quiet = g.op("Or", g.op("Equal", codes, ints(SILENCE_CODE)), self._no_speech(codes))
        row = g.op("Where", quiet, ints(QUIET_ROW), g.op("Mod", codes, ints(CODES_PER_PLACE)))
        sounds = g.f32(g.lookup(_sound_table(), row))
        sounds = g.op("Slice", sounds, ints(0), ints(len(astuple(QUIET))), ints(2))
        before = g.op("Slice", sounds, ints(0), ints(1), ints(1))
        earlier = g.op("Slice", sounds, ints(0), ints(-1), ints(1))
        start = g.op("Concat", before, earlier, axis=1)
        steps = (np.arange(FRAMES_PER_CODE) + 1) / FRAMES_PER_CODE
        change = g.op("Unsqueeze", g.op("Sub", sounds, start), ints(2))
        moving = g.op("Mul", change, real(steps[:, None]))
        every = g.op("Add", g.op("Unsqueeze", start, ints(2)), moving)
        return g.op("Reshape", every, ints(0, -1, len(astuple(QUIET))))

    def _no_speech(self, codes: str) -> str:
        return self._g.op("GreaterOrEqual", codes, ints(CODE_COUNT))

    def _column(self, track: str, index: int) -> str:
        return self._g.op("Slice", track, ints(index), ints(index + 1), ints(2))

    def _of_speaker(self, speaker: str, index: int) -> str:
        """One number of the speaker vector: [B, 1, 1]."""
        g = self._g
        return g.op(
            "Unsqueeze", g.op("Slice", speaker, ints(index), ints(index + 1), ints(1)), ints(1)
        )

    def _f0(self, speaker: str, pitch: str) -> str:
        g = self._g
        octaves = g.op("Add", self._of_speaker(speaker, SPEAKER_F0), pitch)
        hertz = g.op("Mul", g.op("Pow", real(2), octaves), real(MIDDLE_F0_HZ))
        return g.op("Clip", hertz, real(LOWEST_F0_HZ), real(HIGHEST_F0_HZ))

    def _harmonics(self, track: str, f0: str, speaker: str, prompt: str) -> str:
        """Level of every harmonic of f0: resonances, times the speaker's balance."""
        g = self._g
        hertz = g.op("Mul", f0, real(np.arange(1, HARMONICS + 1)))
        bright = g.op("Tanh", self._of_speaker(speaker, SPEAKER_BRIGHTNESS))
        # A brighter voice has a shorter vocal tract: all resonances move up together.
        length = g.op("Exp", g.op("Mul", bright, real(0.15)))
        levels = None
        shapes = zip(RANGES, BANDWIDTHS_HZ, STRENGTHS, strict=True)
        for index, ((low, high), width, strength) in enumerate(shapes):
            place = g.op("Mul", self._column(track, 3 + index), real(high - low))
            centre = g.op("Mul", g.op("Add", place, real(low)), length)
            off = g.op("Mul", g.op("Sub", hertz, centre), real(1 / width))
            peak = g.op("Div", real(strength), g.op("Add", g.op("Mul", off, off), real(1)))
            levels = peak if levels is None else g.op("Add", levels, peak)
        assert levels is not None
        slope = g.op("Mul", self._balance(prompt), real(0.8))
        tilt = g.op("Exp", g.op("Mul", slope, g.op("Mul", hertz, real(1 / 4000))))
        room = g.op(
            "Clip", g.op("Sub", real(1), g.op("Mul", hertz, real(1 / TOP_HZ))), real(0), real(1)
        )
        return g.op("Mul", g.op("Mul", levels, tilt), room)

    def _balance(self, prompt: str) -> str:
        """How much more the prompt has of its upper bands than of its lower: [B, 1, 1], −1 … 1."""
        g = self._g
        mean = g.op("ReduceMean", prompt, ints(1), keepdims=1)
        halves = np.repeat([-1.0, 1.0], MEL_BANDS // 2) / (MEL_BANDS // 2)
        centred = g.op("Sub", mean, real(MEL_CENTRE))
        difference = g.op("ReduceSum", g.op("Mul", centred, real(halves)), ints(2), keepdims=1)
        return g.op("Tanh", g.op("Mul", g.op("Add", difference, real(2)), real(0.5)))

    def _voice(self, f0: str, levels: str) -> str:
        """Sum of harmonics [B, frames, FRAME]; phase runs on from frame to frame."""
        g = self._g
        per_sample = g.op("Mul", f0, real(1 / SAMPLE_RATE_HZ))
        turns = g.op(
            "CumSum", g.op("Mul", per_sample, real(FRAME)), np.array(1, np.int64), exclusive=1
        )
        turns = g.op("Sub", turns, g.op("Floor", turns))
        inside = g.op("Mul", per_sample, real(np.arange(FRAME)))
        phase = g.op("Mul", g.op("Add", turns, inside), real(2 * np.pi))  # [B, frames, FRAME]
        multiples = g.op(
            "Mul", g.op("Unsqueeze", phase, ints(3)), real(np.arange(1, HARMONICS + 1))
        )
        before = g.op(
            "Concat",
            g.op("Slice", levels, ints(0), ints(1), ints(1)),
            g.op("Slice", levels, ints(0), ints(-1), ints(1)),
            axis=1,
        )
        ramp = real(np.arange(FRAME)[:, None] / FRAME)  # [FRAME, 1]
        change = g.op("Mul", g.op("Unsqueeze", g.op("Sub", levels, before), ints(2)), ramp)
        moving = g.op("Add", g.op("Unsqueeze", before, ints(2)), change)
        return g.op("ReduceSum", g.op("Mul", g.op("Sin", multiples), moving), ints(3), keepdims=0)

    def _noise(self, hiss: str) -> str:
        """Hiss [B, frames, FRAME], drawn anew in every call as in the published decoder."""
        g = self._g
        like = g.op("Mul", hiss, real(np.zeros(FRAME)))
        white = g.op("RandomNormalLike", like, dtype=1)
        # Differences of neighbours: a high-pass of one step.
        shifted = g.op(
            "Concat",
            g.op("Slice", white, ints(-1), ints(2**31), ints(2)),
            g.op("Slice", white, ints(0), ints(-1), ints(2)),
            axis=2,
        )
        return g.op("Mul", g.op("Sub", white, shifted), g.op("Mul", hiss, real(0.25)))


def _sound_table() -> Array:
    """[13, 32]: the sounds' numbers, filled up to one block; the quiet one last."""
    sounds = np.array([astuple(sound) for sound in (*SOUNDS_BY_CODE, QUIET)], np.float32)
    return np.pad(sounds, ((0, 0), (0, BLOCK - sounds.shape[1])))
