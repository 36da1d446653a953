"""Random-weight speech encoder for benchmarks: a transformer of the published size.

About 260 M parameters at full size, as the published file has; what it computes is another thing:
log-mel → 25 Hz → transformer → four outputs of the right shapes. Weights are random.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from chatterbox.families.turbo.spec import DECODER_PROMPT_S
from chatterbox.hub.files import Precision
from chatterbox.runtime.decoder.s3gen import (
    CODE_COUNT,
    CODE_RATE_HZ,
    MEL_BANDS,
    MEL_FRAMES_PER_CODE,
    SPEAKER_DIM,
)
from tools.model_builder.blocks import HEAD_DIM, Blocks, scaled_width
from tools.model_builder.graph import Graph, ints
from tools.model_builder.spectrum import LM_PROMPT_CODES, code_count, log_mel, power_spectrum

SEED = 11
FEATURE_GAIN = 0.02  # the scale of the language model's other rows


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """Dimensions; the defaults have the published file's 261 M parameters, less 1 %."""

    width: int = 1280
    blocks: int = 13

    def scaled(self, factor: float) -> Self:
        """Narrower, and shallower with it."""
        return replace(
            self,
            width=scaled_width(self.width, factor),
            blocks=max(1, round(self.blocks * factor)),
        )


def write_speech_encoder(
    folder: Path, precision: Precision, size: EncoderSize, hidden: int
) -> None:
    """Write `speech_encoder<suffix>.onnx` and its sidecar."""
    with Graph(folder, "speech_encoder", precision) as g:
        blocks = Blocks(g, SEED)
        audio = g.input("audio_values", np.float32, ["batch", "samples"])
        codes = code_count(g, audio, LM_PROMPT_CODES)
        mel = log_mel(g, power_spectrum(g, audio, codes))
        pairs = g.op("Reshape", mel, ints(0, -1, MEL_FRAMES_PER_CODE * MEL_BANDS))
        x = blocks.linear(g.to_act(pairs), MEL_FRAMES_PER_CODE * MEL_BANDS, size.width)
        for _ in range(size.blocks):
            x = blocks.transformer(x, size.width, size.width // HEAD_DIM, 4 * size.width)
        x = blocks.norm(x, size.width)
        mean = g.op("ReduceMean", x, ints(1), keepdims=1)
        rows = g.op("Concat", mean, x, axis=1)
        features = blocks.linear(rows, size.width, hidden, gain=FEATURE_GAIN)
        prompt = g.op("Min", codes, ints(int(DECODER_PROMPT_S * CODE_RATE_HZ)))
        first = g.op("Slice", x, ints(0), prompt, ints(1))
        tokens = g.op("ArgMax", blocks.linear(first, size.width, CODE_COUNT), axis=2, keepdims=0)
        speaker = blocks.linear(g.op("Squeeze", mean, ints(1)), size.width, SPEAKER_DIM)
        frames = g.op("Mul", prompt, ints(MEL_FRAMES_PER_CODE))
        prompt_mel = g.op("Slice", mel, ints(0), frames, ints(1))
        g.output("audio_features", g.f32(features), np.float32, ["batch", "rows", hidden])
        g.output("audio_tokens", tokens, np.int64, ["batch", "prompt"])
        g.output("speaker_embeddings", g.f32(speaker), np.float32, ["batch", SPEAKER_DIM])
        g.output("speaker_features", prompt_mel, np.float32, ["batch", "frames", MEL_BANDS])
