"""Random-weight decoder for benchmarks, with the parts and sizes of the published decoder.

Encoder (25 → 50 Hz), flow estimator run for two Euler steps, vocoder: layers, widths and rates are
the authors'; relative positions are left out (of the encoder, about a tenth). Weights are random,
so it makes noise, and its cost is the subject.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from chatterbox.hub.files import Precision
from chatterbox.runtime.decoder.s3gen import MEL_BANDS, MEL_FRAMES_PER_CODE, SPEAKER_DIM
from tools.model_builder.blocks import HEAD_DIM, Blocks, scaled_width
from tools.model_builder.graph import Graph, ints
from tools.model_builder.random_vocoder import VocoderSize, vocoder
from tools.model_builder.waveform import after, faded_in, prompt_codes

SEED = 12
CODE_ROWS = 6592
"""6561 codes and the two special ones, filled up to a multiple of 32."""
EULER_STEPS = 2
WIDTHS = ("width", "inner", "channels")
DEPTHS = ("blocks_25_hz", "blocks_50_hz", "stages", "blocks_per_stage", "heads")


@dataclass(frozen=True, slots=True)
class DecoderSize:
    """Dimensions; the defaults are the published ones."""

    width: int = 512  # encoder
    inner: int = 2048
    blocks_25_hz: int = 6
    blocks_50_hz: int = 4
    channels: int = 256  # estimator
    stages: int = 14
    blocks_per_stage: int = 4
    heads: int = 8
    vocoder: VocoderSize = field(default_factory=VocoderSize)

    def scaled(self, factor: float) -> Self:
        """Narrower, and shallower with it."""
        wide = {name: scaled_width(getattr(self, name), factor) for name in WIDTHS}
        deep = {name: max(1, round(getattr(self, name) * factor)) for name in DEPTHS}
        return replace(self, **wide, **deep, vocoder=self.vocoder.scaled(factor))


def write_conditional_decoder(folder: Path, precision: Precision, size: DecoderSize) -> None:
    """Write `conditional_decoder<suffix>.onnx` and its sidecar."""
    with Graph(folder, "conditional_decoder", precision) as graph:
        _Decoder(graph, size).build()


class _Decoder:
    def __init__(self, graph: Graph, size: DecoderSize) -> None:
        self._g = graph
        self._b = Blocks(graph, SEED)
        self._size = size

    def build(self) -> None:
        g = self._g
        tokens = g.input("speech_tokens", np.int64, ["batch", "tokens"])
        speaker = g.input("speaker_embeddings", np.float32, ["batch", SPEAKER_DIM])
        prompt = g.input("speaker_features", np.float32, ["batch", "frames", MEL_BANDS])
        mu = self._encoder(tokens)  # [B, T, 80]
        mel = self._flow(mu, g.to_act(speaker), g.to_act(prompt))
        skip = g.op("Mul", prompt_codes(g, prompt), ints(MEL_FRAMES_PER_CODE))
        waveform = vocoder(self._b, self._size.vocoder, after(g, mel, skip, 1))
        g.output("waveform", faded_in(g, waveform), np.float32, ["batch", "samples"])

    def _encoder(self, tokens: str) -> str:
        g, b, size = self._g, self._b, self._size
        heads = size.width // HEAD_DIM
        x = g.lookup(b.random(CODE_ROWS, size.width, fan_in=1), tokens)
        # Looks three codes ahead.
        ahead = b.conv(b.swap(x), size.width, size.width, 4, pads=[0, 3])
        x = g.op("Add", x, b.swap(b.conv(ahead, size.width, size.width, 3)))
        for _ in range(size.blocks_25_hz):
            x = b.transformer(x, size.width, heads, size.inner)
        twice = g.op("Concat", *[g.op("Unsqueeze", x, ints(2))] * MEL_FRAMES_PER_CODE, axis=2)
        x = g.op("Reshape", twice, ints(0, -1, size.width))
        x = b.swap(b.conv(b.swap(x), size.width, size.width, 5))
        for _ in range(size.blocks_50_hz):
            x = b.transformer(x, size.width, heads, size.inner)
        return b.linear(b.norm(x, size.width), size.width, MEL_BANDS)

    def _flow(self, mu: str, speaker: str, prompt: str) -> str:
        """Euler steps from noise to mel [B, T, 80]."""
        g, b = self._g, self._b
        person = g.op("Unsqueeze", b.linear(speaker, SPEAKER_DIM, MEL_BANDS), ints(1))
        person = g.op("Expand", person, g.op("Shape", mu))
        missing = g.op("Sub", g.shape(mu, 1), g.shape(prompt, 1))
        pads = g.op("Concat", ints(0, 0, 0, 0), missing, ints(0), axis=0)
        known = g.op("Pad", prompt, pads, g.num(0))
        x = g.to_act(g.op("RandomNormalLike", g.f32(mu)))
        for _ in range(EULER_STEPS):
            # Each step has weights of its own: the published sidecar holds them twice, too.
            given = g.op("Concat", x, mu, person, known, axis=2)
            x = g.op("Add", x, g.op("Mul", self._estimator(given), g.num(1 / EULER_STEPS)))
        return x

    def _estimator(self, x: str) -> str:
        b, size = self._b, self._size
        inputs = 4 * MEL_BANDS
        for _ in range(size.stages):
            x = self._residual(x, inputs, size.channels)
            inputs = size.channels
            for _ in range(size.blocks_per_stage):
                x = b.transformer(x, size.channels, size.heads, 4 * size.channels)
        x = self._convolved(x, size.channels, size.channels)
        return b.linear(x, size.channels, MEL_BANDS)

    def _residual(self, x: str, inputs: int, outputs: int) -> str:
        first = self._convolved(x, inputs, outputs)
        return self._g.op(
            "Add", self._b.linear(x, inputs, outputs), self._convolved(first, outputs, outputs)
        )

    def _convolved(self, x: str, inputs: int, outputs: int) -> str:
        """Causal convolution, norm, Mish."""
        g, b = self._g, self._b
        normal = b.norm(b.swap(b.conv(b.swap(x), inputs, outputs, 3, pads=[2, 0])), outputs)
        return g.op("Mul", normal, g.op("Tanh", g.op("Softplus", normal)))
