"""Random weights of a GPT-2 as the compiler's `Transformer`, and their quantisation."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnxruntime.capi import _pybind_state as runtime

from chatterbox.compile.lm.weights import Layer, Linear, Norm, Transformer
from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense

GAIN = 1.0
"""Outputs of a linear are about as large as its inputs: attention then tells positions apart, and
a wrong mask, position or cache row shows in the logits."""


@dataclass(frozen=True, slots=True)
class Size:
    """Dimensions of a language model."""

    layers: int = 24
    heads: int = 16
    head_dim: int = 64
    inner: int = 4096
    vocab: int = 6563
    positions: int = 8196

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.heads * self.head_dim


TURBO = Size()
SMALL = Size(layers=3, heads=4, head_dim=16, inner=256, vocab=163, positions=96)


def blank_model(size: Size) -> Transformer:
    """A GPT-2 of zeros that takes no memory: for what depends on shapes alone."""

    def zeros(*shape: int) -> Array:
        return np.broadcast_to(np.float32(0), shape)

    def linear(inputs: int, outputs: int) -> Linear:
        return Linear(Dense(zeros(inputs, outputs)), zeros(outputs))

    hidden, inner = size.hidden, size.inner
    norm = Norm(zeros(hidden), zeros(hidden), 1e-5)
    layer = Layer(
        norm,
        linear(hidden, 3 * hidden),
        linear(hidden, hidden),
        norm,
        linear(hidden, inner),
        linear(inner, hidden),
    )
    return Transformer(
        positions=zeros(size.positions, hidden),
        layers=(layer,) * size.layers,
        norm=norm,
        head=linear(hidden, size.vocab),
        heads=size.heads,
        kv_heads=size.heads,
        head_dim=size.head_dim,
        activation="tanh",
    )


def random_model(
    size: Size, *, seed: int = 0, activation: Literal["tanh", "erf"] = "tanh"
) -> Transformer:
    """A GPT-2 that reads all of its cache and means nothing."""
    rng = np.random.default_rng(seed)

    def linear(inputs: int, outputs: int) -> Linear:
        values = rng.standard_normal((inputs, outputs), np.float32) * (GAIN / inputs**0.5)
        return Linear(Dense(values), rng.standard_normal(outputs, np.float32) * 0.1)

    def norm() -> Norm:
        gamma = 1 + 0.1 * rng.standard_normal(size.hidden, np.float32)
        return Norm(gamma, 0.1 * rng.standard_normal(size.hidden, np.float32), 1e-5)

    hidden, inner = size.hidden, size.inner
    layers = tuple(
        Layer(
            norm(),
            linear(hidden, 3 * hidden),
            linear(hidden, hidden),
            norm(),
            linear(hidden, inner),
            linear(inner, hidden),
        )
        for _ in range(size.layers)
    )
    return Transformer(
        positions=0.3 * rng.standard_normal((size.positions, hidden), np.float32),
        layers=layers,
        norm=norm(),
        head=linear(hidden, size.vocab),
        heads=size.heads,
        kv_heads=size.heads,
        head_dim=size.head_dim,
        activation=activation,
    )


OUTPUTS_AT_ONCE = 8192
"""Outputs quantised at once, which limits the memory that a large head takes."""


def quantize_weight(weight: Dense, bits: int, block: int) -> BlockQuantized:
    """Quantise a weight asymmetrically to 4 or 8 bits in blocks along its inputs. Lossy.

    Uses the functions that `onnxruntime.quantization` calls. Importing that module would need
    `onnx_ir` and would configure Python's logging.
    """
    inputs, outputs = weight.shape
    count = -(-inputs // block)
    codes = np.zeros((outputs, count, block * bits // 8), np.uint8)
    scales = np.zeros((outputs, count), np.float32)
    zeros = np.zeros((outputs, -(-count * bits // 8)), np.uint8)
    quantize = runtime.quantize_matmul_4bits if bits == 4 else runtime.quantize_matmul_8bits
    for start in range(0, outputs, OUTPUTS_AT_ONCE):
        part = slice(start, start + OUTPUTS_AT_ONCE)
        values = np.ascontiguousarray(weight.values[:, part], np.float32)
        flat = scales[part].reshape(-1), zeros[part].reshape(-1)
        quantize(codes[part], values, *flat, block, values.shape[1], inputs, False)
    return BlockQuantized(codes, scales, zeros, bits, block, inputs)
