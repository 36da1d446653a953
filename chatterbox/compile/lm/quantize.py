"""Quantizes weights to 4 or 8 bits in blocks, rounded to nearest, with scale and zero point.

These are the functions that `onnxruntime.quantization`'s MatMulNBits quantizer calls. That module
would give the same bytes, but it needs `onnx_ir` and configures Python's logging when imported.
"""

import numpy as np
from onnxruntime.capi import _pybind_state as runtime

from chatterbox.compile.lm.weights import Array, BlockQuantized, Dense

OUTPUTS_AT_ONCE = 8192
"""Bounds the memory that a large head takes."""


def quantize_blocks(weight: Dense, bits: int, block: int) -> BlockQuantized:
    """Quantise to 4 or 8 bits in blocks along K, asymmetric. Lossy."""
    values = weight.values
    inputs, outputs = values.shape
    parts = [
        _quantized(
            np.ascontiguousarray(values[:, at : at + OUTPUTS_AT_ONCE], np.float32), bits, block
        )
        for at in range(0, outputs, OUTPUTS_AT_ONCE)
    ]
    codes, scales, zeros = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return BlockQuantized(codes, scales, zeros, bits, block, inputs)


def _quantized(values: Array, bits: int, block: int) -> tuple[Array, Array, Array]:
    """Codes, scales and zero points, [outputs, …] each."""
    inputs, outputs = values.shape
    count = -(-inputs // block)
    codes = np.zeros((outputs, count, block * bits // 8), np.uint8)
    scales = np.zeros(outputs * count, np.float32)
    zeros = np.zeros(outputs * (-(-count * bits // 8)), np.uint8)
    rounding = runtime.quantize_matmul_4bits if bits == 4 else runtime.quantize_matmul_8bits
    rounding(codes, values, scales, zeros, block, outputs, inputs, False)
    return codes, scales.reshape(outputs, count), zeros.reshape(outputs, -1)
