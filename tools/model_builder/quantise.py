"""Quantises a matrix into the 4- or 8-bit blocks of `MatMulNBits` and `GatherBlockQuantized`.

Blocks of 32 along the inner axis, each with a scale and a zero point: the sizes of the published
q4, q4f16 and q8 sidecars are exactly those of this scheme.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BLOCK = 32
ROWS_AT_ONCE = 4096
"""Bounds the memory that quantising a large table takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """A quantised matrix of N rows and K columns."""

    codes: Array  # [N, blocks, BLOCK × bits / 8] uint8, low bits first
    scales: Array  # [N, blocks] float32
    zero_points: Array  # [N, ⌈blocks × bits / 8⌉] uint8, low bits first


def quantise(matrix: Array, bits: int) -> Blocks:
    """Quantise [N, K] along K."""
    parts = [
        _quantise_rows(np.asarray(matrix[start : start + ROWS_AT_ONCE], np.float32), bits)
        for start in range(0, len(matrix), ROWS_AT_ONCE)
    ]
    return Blocks(
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.zero_points for part in parts]),
    )


def _quantise_rows(rows: Array, bits: int) -> Blocks:
    count, width = rows.shape
    blocks = -(-width // BLOCK)
    padded = np.pad(rows, ((0, 0), (0, blocks * BLOCK - width)))
    values = padded.reshape(count, blocks, BLOCK)
    # Whichever of two grids fits a block better: one that spans its range, or one that is
    # symmetric around zero, which keeps −a, 0 and a exact.
    ranged, even = _ranged_grid(values, bits), _even_grid(values, bits)
    errors = [_error(values, grid, bits) for grid in (ranged, even)]
    better = errors[1] <= errors[0]
    scales = np.where(better, even[0], ranged[0]).astype(np.float32)
    zeros = np.where(better, even[1], ranged[1])
    codes = _codes(values, (scales, zeros), bits).astype(np.uint8)
    return Blocks(_pack(codes, bits), scales, _pack(zeros.astype(np.uint8), bits))


Grid = tuple[Array, Array]  # scale and zero point of each block, [N, blocks]


def _ranged_grid(values: Array, bits: int) -> Grid:
    low = np.minimum(values.min(-1), 0)
    high = np.maximum(values.max(-1), 0)
    scale = _no_zero((high - low) / (2**bits - 1))
    return scale, np.clip(np.round(-low / scale), 0, 2**bits - 1)


def _even_grid(values: Array, bits: int) -> Grid:
    middle = 2 ** (bits - 1)
    scale = _no_zero(np.abs(values).max(-1) / (middle - 1))
    return scale, np.full(scale.shape, float(middle), np.float32)


def _no_zero(scale: Array) -> Array:
    return np.where(scale == 0, np.float32(1), scale)


def _codes(values: Array, grid: Grid, bits: int) -> Array:
    scale, zero = grid
    codes: Array = np.clip(np.round(values / scale[..., None]) + zero[..., None], 0, 2**bits - 1)
    return codes


def _error(values: Array, grid: Grid, bits: int) -> Array:
    scale, zero = grid
    again = (_codes(values, grid, bits) - zero[..., None]) * scale[..., None]
    error: Array = np.square(values - again).sum(-1)
    return error


def _pack(numbers: Array, bits: int) -> Array:
    """Two 4-bit numbers to a byte along the last axis; 8-bit numbers as they are."""
    if bits == 8:
        return numbers
    even = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, numbers.shape[-1] % 2)])
    packed: Array = even[..., 0::2] | (even[..., 1::2] << 4)
    return packed
