"""Graph blocks shared by random-weight encoders and decoders: norms, attention, convolution.

Activations are [B, T, channels] in the precision's own type.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.model_builder.graph import Graph, ints

Array = NDArray[Any]
HEAD_DIM = 64


def scaled_width(width: int, factor: float) -> int:
    """A multiple of the head's width, at least one."""
    return max(1, round(width * factor / HEAD_DIM)) * HEAD_DIM


class Blocks:
    """Writes blocks with random weights into a graph; a name's sequence decides the weights."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.g = graph
        self._rng = np.random.default_rng(seed)

    def random(self, *shape: int, fan_in: int, gain: float = 1.0) -> Array:
        """Weights that keep the variance of what they multiply, times gain²."""
        values = self._rng.standard_normal(shape, np.float32)
        values *= np.float32(gain / np.sqrt(fan_in))
        return values

    def linear(self, x: str, inputs: int, outputs: int, gain: float = 1.0) -> str:
        """A product with a bias of zeros."""
        matrix = self.random(inputs, outputs, fan_in=inputs, gain=gain)
        return self.g.linear(x, matrix, np.zeros(outputs, np.float32))

    def norm(self, x: str, width: int) -> str:
        """Layer normalisation over channels."""
        gamma, beta = np.ones(width, np.float32), np.zeros(width, np.float32)
        return self.g.op("LayerNormalization", x, self.g.param(gamma), self.g.param(beta), axis=-1)

    def transformer(self, x: str, width: int, heads: int, inner: int) -> str:
        """A pre-norm block; every row reads every row."""
        g, span = self.g, heads * HEAD_DIM
        normal = self.norm(x, width)
        q, k, v = (self._heads(self.linear(normal, width, span), heads) for _ in range(3))
        keys = g.op("Transpose", k, perm=[0, 1, 3, 2])
        scores = g.op("MatMul", g.op("Mul", q, g.num(HEAD_DIM**-0.5)), keys)
        mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
        flat = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), ints(0, 0, span))
        x = g.op("Add", x, self.linear(flat, span, width, gain=0.2))
        up = self.gelu(self.linear(self.norm(x, width), width, inner))
        return g.op("Add", x, self.linear(up, inner, width, gain=0.2))

    def _heads(self, x: str, heads: int) -> str:
        split = self.g.op("Reshape", x, ints(0, 0, heads, HEAD_DIM))
        return self.g.op("Transpose", split, perm=[0, 2, 1, 3])

    def gelu(self, x: str) -> str:
        """GELU by the error function."""
        g = self.g
        inner = g.op("Erf", g.op("Mul", x, g.num(np.sqrt(0.5))))
        return g.op("Mul", g.op("Mul", x, g.num(0.5)), g.op("Add", inner, g.num(1)))

    def conv(self, x: str, inputs: int, outputs: int, width: int, **how: Any) -> str:
        """A convolution over [B, inputs, T]; T stays unless `how` (strides, dilations, pads) says
        otherwise."""
        dilation = how.get("dilations", [1])[0]
        around = (width - 1) * dilation
        attributes = {"pads": [around // 2, around - around // 2]} | how
        weight = self.random(outputs, inputs, width, fan_in=inputs * width)
        bias = np.zeros(outputs, np.float32)
        return self.g.op("Conv", x, self.g.param(weight), self.g.param(bias), **attributes)

    def up_conv(self, x: str, inputs: int, outputs: int, width: int, factor: int) -> str:
        """A transposed convolution: T → T × factor."""
        weight = self.random(inputs, outputs, width, fan_in=inputs * width // factor)
        bias = np.zeros(outputs, np.float32)
        cut = width - factor
        return self.g.op(
            "ConvTranspose",
            x,
            self.g.param(weight),
            self.g.param(bias),
            strides=[factor],
            pads=[cut // 2, cut - cut // 2],
        )

    def swap(self, x: str) -> str:
        """[B, T, channels] ↔ [B, channels, T]."""
        return self.g.op("Transpose", x, perm=[0, 2, 1])
