"""Random-weight vocoder for benchmarks: HiFT's layers from mel to samples.

Pitch, phase and the inverse transform are float32 in every precision.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.runtime.decoder.s3gen import MEL_BANDS
from tools.model_builder.blocks import Array, Blocks, scaled_width
from tools.model_builder.graph import ints, real

UPSAMPLING = (8, 5, 3)
UP_WIDTHS = (16, 11, 7)
KERNELS = (3, 7, 11)
SOURCE_KERNELS = (7, 7, 11)
DILATIONS = (1, 3, 5)
WINDOW, HOP = 16, 4
BINS = WINDOW // 2 + 1
HARMONICS = 9
FRAME = int(np.prod(UPSAMPLING)) * HOP  # samples of one mel frame
LOUDEST_LOG = 1.0  # keeps random magnitudes within e
CEILING = 0.99


@dataclass(frozen=True, slots=True)
class VocoderSize:
    """Channels before the first upsampling (halved by each) and of the pitch predictor."""

    channels: int = 512
    pitch_channels: int = 512

    def scaled(self, factor: float) -> Self:
        """Narrower."""
        channels = scaled_width(self.channels, factor)
        return replace(self, channels=channels, pitch_channels=channels)


def vocoder(b: Blocks, size: VocoderSize, mel: str) -> str:
    """Mel [B, T, 80] → samples [B, T × 480], float32."""
    return _Vocoder(b, size).samples(mel)


class _Vocoder:
    def __init__(self, blocks: Blocks, size: VocoderSize) -> None:
        self._b = blocks
        self._g = blocks.g
        self._size = size

    def samples(self, mel: str) -> str:
        g, b = self._g, self._b
        bands = b.swap(mel)
        source = g.to_act(self._spectrum(self._source(self._pitch(bands))))
        x = b.conv(bands, MEL_BANDS, self._size.channels, 7)
        for level, (factor, width) in enumerate(zip(UPSAMPLING, UP_WIDTHS, strict=True)):
            channels = self._size.channels >> (level + 1)
            x = b.up_conv(self._leaky(x), 2 * channels, channels, width, factor)
            x = g.op("Add", x, self._of_source(source, level, channels))
            parts = [self._residual(x, channels, kernel) for kernel in KERNELS]
            x = g.op("Mul", g.op("Sum", *parts), g.num(1 / len(parts)))
        x = g.f32(b.conv(self._leaky(x), channels, 2 * BINS, 7))
        return self._inverse(x)

    def _leaky(self, x: str) -> str:
        return self._g.op("LeakyRelu", x, alpha=0.1)

    def _pitch(self, bands: str) -> str:
        """[B, T, 1] Hz, float32."""
        g, b, channels = self._g, self._b, self._size.pitch_channels
        x, inputs = bands, MEL_BANDS
        for _ in range(5):
            x, inputs = g.op("Elu", b.conv(x, inputs, channels, 3)), channels
        raw = g.f32(b.linear(b.swap(x), channels, 1))
        return g.op("Add", g.op("Mul", g.op("Abs", raw), real(30)), real(100))

    def _source(self, pitch: str) -> str:
        """Harmonics of the pitch plus noise: [B, 1, samples]."""
        g, b = self._g, self._b
        turns = g.op("Mul", pitch, real(np.full(FRAME, 1 / SAMPLE_RATE_HZ)))
        turns = g.op("CumSum", g.op("Reshape", turns, ints(0, -1, 1)), np.array(1, np.int64))
        turns = g.op("Sub", turns, g.op("Floor", turns))
        angles = g.op("Mul", turns, real(2 * np.pi * np.arange(1, HARMONICS + 1)))
        noise = g.op("Mul", g.op("RandomNormalLike", angles), real(0.003))
        waves = g.op("Add", g.op("Mul", g.op("Sin", angles), real(0.1)), noise)
        mixed = g.op("MatMul", waves, real(b.random(HARMONICS, 1, fan_in=HARMONICS)))
        return b.swap(g.op("Tanh", mixed))

    def _spectrum(self, source: str) -> str:
        """Short-time spectrum [B, 18, samples / 4]: real parts, then imaginary ones."""
        kernel = _fourier()[:, None, :].astype(np.float32)  # [18, 1, 16]
        around = WINDOW - HOP
        return self._g.op(
            "Conv", source, real(kernel), strides=[HOP], pads=[around // 2, around // 2]
        )

    def _of_source(self, source: str, level: int, channels: int) -> str:
        step = int(np.prod(UPSAMPLING[level + 1 :]))
        width = 2 * step if step > 1 else 1
        pads = [(width - step) // 2, (width - step) - (width - step) // 2]
        down = self._b.conv(source, 2 * BINS, channels, width, strides=[step], pads=pads)
        return self._residual(down, channels, SOURCE_KERNELS[level])

    def _residual(self, x: str, channels: int, kernel: int) -> str:
        g, b = self._g, self._b
        for dilation in DILATIONS:
            inner = b.conv(self._snake(x), channels, channels, kernel, dilations=[dilation])
            inner = b.conv(self._snake(inner), channels, channels, kernel)
            x = g.op("Add", x, g.op("Mul", inner, g.num(0.2)))
        return x

    def _snake(self, x: str) -> str:
        """x + sin² x."""
        wave = self._g.op("Sin", x)
        return self._g.op("Add", x, self._g.op("Mul", wave, wave))

    def _inverse(self, x: str) -> str:
        """Log-magnitude and phase [B, 18, frames] → samples [B, 4 × frames]."""
        g = self._g
        loud = g.op(
            "Exp", g.op("Min", g.op("Slice", x, ints(0), ints(BINS), ints(1)), real(LOUDEST_LOG))
        )
        phase = g.op("Sin", g.op("Slice", x, ints(BINS), ints(2 * BINS), ints(1)))
        parts = [g.op("Mul", loud, g.op(wave, phase)) for wave in ("Cos", "Sin")]
        kernel = (_fourier()[:, None, :] / WINDOW).astype(np.float32)  # [18, 1, 16]
        cut = WINDOW - HOP
        samples = g.op(
            "ConvTranspose",
            g.op("Concat", *parts, axis=1),
            real(kernel),
            strides=[HOP],
            pads=[cut // 2, cut // 2],
        )
        clipped = g.op("Clip", samples, real(-CEILING), real(CEILING))
        return g.op("Squeeze", clipped, ints(1))


def _fourier() -> Array:
    """[18, 16]: Hann-windowed cosines, then sines."""
    angles = 2 * np.pi * np.outer(np.arange(BINS), np.arange(WINDOW)) / WINDOW
    window = np.hanning(WINDOW + 1)[:-1]
    rows: Array = np.concatenate([np.cos(angles), np.sin(angles)]) * window
    return rows
