"""Weights: dense, or quantised in blocks that share a scale."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    values: Array  # [K, N] float32 or float16

    @property
    def shape(self) -> tuple[int, int]:
        inputs, outputs = self.values.shape
        return inputs, outputs


@dataclass(frozen=True, slots=True, eq=False)
class BlockQuantized:
    """A weight in blocks along K that share a scale, packed for MatMulNBits."""

    codes: Array  # [N, blocks, block × bits / 8] uint8
    scales: Array  # [N, blocks] float32 or float16
    zero_points: Array | None  # [N, ⌈blocks × bits / 8⌉] uint8, or float [N, blocks]; None: middle
    bits: int
    block: int
    inputs: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.inputs, self.codes.shape[0]


Weight = Dense | BlockQuantized


def unpack(packed: Array, bits: int, count: int) -> Array:
    """Unpack `count` unsigned `bits`-bit numbers from the last axis, low bits first."""
    if bits == 8:
        return packed[..., :count]
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    spread = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(*packed.shape[:-1], -1)[..., :count]


def dense(weight: Weight) -> Array:
    """Return a weight as [K, N] in the type of its scales: (code − zero point) × scale."""
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
