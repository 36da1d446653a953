"""What is inside a GPT-2 language model? Its weights as values, however a file writes them.

Knows no ONNX and no session.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Activation = Literal["tanh", "erf"]


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A weight as plain numbers."""

    values: Array  # [K, N] float32 or float16

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs K, outputs N."""
        inputs, outputs = self.values.shape
        return inputs, outputs


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """A weight in blocks along K that share a scale, packed as MatMulNBits reads it."""

    codes: Array  # [N, blocks, block × bits / 8] uint8
    scales: Array  # [N, blocks] float32 or float16
    zero_points: Array | None  # [N, ⌈blocks × bits / 8⌉] uint8, or float [N, blocks]; None: middle
    bits: int
    block: int
    inputs: int

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs K, outputs N."""
        return self.inputs, self.codes.shape[0]


Weight = Dense | Blocks


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """x → x · weight + bias."""

    weight: Weight
    bias: Array  # [N]


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Layer normalisation."""

    gamma: Array  # [hidden]
    beta: Array  # [hidden]
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One pre-norm transformer block; `qkv` holds query, key and value side by side."""

    norm_1: Norm
    qkv: Linear
    out: Linear
    norm_2: Norm
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True, eq=False)
class GPT2:
    """Embeddings in, logits out."""

    positions: Array  # [max positions, hidden]
    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear
    heads: int
    head_dim: int
    activation: Activation

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.heads * self.head_dim

    @property
    def vocab(self) -> int:
        """Width of the logits."""
        return self.head.weight.shape[1]


def concat(parts: list[Linear]) -> Linear:
    """Linears over the same input as one: their outputs follow each other. Exact.

    Raises ValueError when their weights are not of one kind.
    """
    bias = np.concatenate([part.bias for part in parts])
    weights = [part.weight for part in parts]
    dense = [w for w in weights if isinstance(w, Dense)]
    if len(dense) == len(weights):
        return Linear(Dense(np.concatenate([w.values for w in dense], axis=1)), bias)
    blocks = [w for w in weights if isinstance(w, Blocks)]
    first = blocks[0]
    same = {(w.bits, w.block, w.inputs, w.zero_points is None) for w in blocks}
    if len(blocks) != len(weights) or len(same) != 1:
        raise ValueError("query, key and value are quantised differently")
    zeros = [w.zero_points for w in blocks if w.zero_points is not None]
    packed = Blocks(
        codes=np.concatenate([w.codes for w in blocks]),
        scales=np.concatenate([w.scales for w in blocks]),
        zero_points=np.concatenate(zeros) if zeros else None,
        bits=first.bits,
        block=first.block,
        inputs=first.inputs,
    )
    return Linear(packed, bias)


def unpack(packed: Array, bits: int, count: int) -> Array:
    """`count` unsigned numbers of `bits` bits from the last axis, low bits first."""
    if bits == 8:
        return packed[..., :count]
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    spread = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(*packed.shape[:-1], -1)[..., :count]


def pack(numbers: Array, bits: int) -> Array:
    """The inverse of `unpack`; the last axis is filled up to whole bytes."""
    if bits == 8:
        return numbers.astype(np.uint8)
    per_byte = 8 // bits
    short = -numbers.shape[-1] % per_byte
    padded = np.pad(numbers.astype(np.uint8), [(0, 0)] * (numbers.ndim - 1) + [(0, short)])
    groups = padded.reshape(*padded.shape[:-1], -1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    packed: Array = np.bitwise_or.reduce(groups << shifts, axis=-1)
    return packed


def dense(weight: Weight) -> Array:
    """[K, N] in the type of its scales: (code − zero point) × scale."""
    if isinstance(weight, Dense):
        return weight.values
    outputs, blocks = weight.scales.shape
    codes = unpack(weight.codes, weight.bits, weight.block)  # [N, blocks, block]
    zeros = weight.zero_points
    if zeros is None:
        offset = np.full((outputs, blocks), 1 << (weight.bits - 1), weight.scales.dtype)
    elif zeros.dtype == np.uint8:
        offset = unpack(zeros, weight.bits, blocks).astype(weight.scales.dtype)
    else:
        offset = zeros
    values = (codes.astype(weight.scales.dtype) - offset[..., None]) * weight.scales[..., None]
    rows: Array = values.reshape(outputs, -1)[:, : weight.inputs]
    return rows.T
