"""A GPT-2 language model's weights as values, however a file writes them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from chatterbox.runtime.quantized_weights import (
    Array as Array,
)
from chatterbox.runtime.quantized_weights import (
    BlockQuantized as BlockQuantized,
)
from chatterbox.runtime.quantized_weights import (
    Dense as Dense,
)
from chatterbox.runtime.quantized_weights import (
    Weight as Weight,
)
from chatterbox.runtime.quantized_weights import (
    dense as dense,
)
from chatterbox.runtime.quantized_weights import (
    unpack as unpack,
)

Activation = Literal["tanh", "erf"]


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
    blocks = [w for w in weights if isinstance(w, BlockQuantized)]
    first = blocks[0]
    same = {(w.bits, w.block, w.inputs, w.zero_points is None) for w in blocks}
    if len(blocks) != len(weights) or len(same) != 1:
        raise ValueError("query, key and value are quantised differently")
    zeros = [w.zero_points for w in blocks if w.zero_points is not None]
    packed = BlockQuantized(
        codes=np.concatenate([w.codes for w in blocks]),
        scales=np.concatenate([w.scales for w in blocks]),
        zero_points=np.concatenate(zeros) if zeros else None,
        bits=first.bits,
        block=first.block,
        inputs=first.inputs,
    )
    return Linear(packed, bias)


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
