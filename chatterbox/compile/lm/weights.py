"""A language model's weights as values, however a file writes them: GPT-2 or Llama."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from onnxruntime.capi import _pybind_state as runtime

from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense, Weight

Activation = Literal["tanh", "erf", "silu"]
"""Between the feed-forward's two linears: GELU in one of its forms, or what gates with SiLU."""


@dataclass(frozen=True, slots=True, eq=False)
class SideBySide:
    """Weights over the same input whose outputs follow each other; joined when they are written,
    since a large model's would take as much memory as its file."""

    parts: tuple[Weight, ...]  # of one kind

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs K, outputs N."""
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    def joined(self) -> Weight:
        """As one. Exact."""
        parts = self.parts
        if isinstance(parts[0], Dense):
            return Dense(np.concatenate([w.values for w in parts if isinstance(w, Dense)], axis=1))
        blocks = [w for w in parts if isinstance(w, BlockQuantized)]
        zeros = [w.zero_points for w in blocks if w.zero_points is not None]
        return replace(
            blocks[0],
            codes=np.concatenate([w.codes for w in blocks]),
            scales=np.concatenate([w.scales for w in blocks]),
            zero_points=np.concatenate(zeros) if zeros else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """x → x · weight + bias."""

    weight: Weight | SideBySide
    bias: Array  # [N]

    def outputs(self, ranges: Sequence[tuple[int, int]]) -> "Linear":
        """With these outputs alone, from and up to, in this order. Exact."""
        if not ranges:
            return self
        weight, chosen = self.weight, np.concatenate([np.arange(*one) for one in ranges])
        if isinstance(weight, BlockQuantized):
            zeros = weight.zero_points
            weight = replace(
                weight,
                codes=weight.codes[chosen],
                scales=weight.scales[chosen],
                zero_points=None if zeros is None else zeros[chosen],
            )
        elif isinstance(weight, Dense):
            weight = Dense(weight.values[:, chosen])
        return Linear(weight, self.bias[chosen])

    def padded(self, multiple: int) -> "Linear":
        """With so many outputs more, which are nobody's, that there is a multiple of them."""
        count = self.weight.shape[1]
        return self.outputs([(0, count), (0, short)]) if (short := -count % multiple) else self


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Layer normalisation; without a shift, by the root of the mean square."""

    gamma: Array  # [hidden]
    beta: Array | None  # [hidden]
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One pre-norm transformer block; `qkv` holds query, key and value side by side, `up` the gate
    before what it gates, where there is one."""

    norm_1: Norm
    qkv: Linear
    out: Linear
    norm_2: Norm
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """Angles that queries and keys are turned by, half of a head against the other half."""

    cos: Array  # [positions, head_dim / 2]
    sin: Array


def angles_of(config: Mapping[str, Any]) -> Rotary | None:
    """Cosines and sines of every position, long waves stretched where it is scaled as Llama 3 is;
    None where it is no rotary model, or another scaling."""
    try:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        head_dim = config.get("head_dim") or hidden // heads
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        theta = float(rope.get("rope_theta") or config["rope_theta"])
        rates = theta ** -(np.arange(0, head_dim, 2) / head_dim)
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind == "llama3":
            turns = rope["original_max_position_embeddings"] * rates / (2 * math.pi)
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            kept = np.clip((turns - low) / (high - low), 0, 1)
            rates = rates * (kept + (1 - kept) / rope["factor"])
        elif kind != "default":
            return None
        angles = np.arange(config["max_position_embeddings"])[:, None] * rates
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
    return Rotary(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Transformer:
    """Embeddings or ids in, logits out. Positions are either rows that are added to the embeddings,
    or angles."""

    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear
    heads: int
    kv_heads: int
    head_dim: int
    activation: Activation
    positions: Array | Rotary  # rows: [max positions, hidden]
    table: Array | BlockQuantized | None = None  # [ids, hidden]; none: embeddings come in

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return len(self.norm.gamma)

    @property
    def vocab(self) -> int:
        """Width of the logits."""
        return self.head.weight.shape[1]


def concat(parts: Sequence[Linear]) -> Linear:
    """Linears over the same input as one: their outputs follow each other. Exact.

    Raises ValueError when their weights are not of one kind.
    """
    weights = [w for part in parts if not isinstance(w := part.weight, SideBySide)]
    kinds = {
        (w.bits, w.block, w.inputs, w.zero_points is None) if isinstance(w, BlockQuantized) else ()
        for w in weights
    }
    if len(weights) != len(parts) or len(kinds) != 1:
        raise ValueError("linears side by side are quantised differently")
    return Linear(SideBySide(tuple(weights)), np.concatenate([part.bias for part in parts]))


def pack_nibbles(numbers: Array) -> Array:
    """4-bit numbers two in a byte, as `unpack` reads them; the last axis is filled up."""
    short = -numbers.shape[-1] % 2
    padded = np.pad(numbers.astype(np.uint8), [(0, 0)] * (numbers.ndim - 1) + [(0, short)])
    return padded[..., ::2] | padded[..., 1::2] << 4


OUTPUTS_AT_ONCE = 8192
"""Bounds the memory that a large head takes."""


def quantize_blocks(weight: Dense, bits: int, block: int) -> BlockQuantized:
    """Quantise to 4 or 8 bits in blocks along K, asymmetric, to the nearest: by the functions that
    `onnxruntime.quantization` calls. That module would give the same bytes, but it needs `onnx_ir`
    and configures Python's logging when it is imported. Lossy."""
    inputs, outputs = weight.shape
    count = -(-inputs // block)
    codes = np.zeros((outputs, count, block * bits // 8), np.uint8)
    scales = np.zeros((outputs, count), np.float32)
    zeros = np.zeros((outputs, -(-count * bits // 8)), np.uint8)
    rounding = runtime.quantize_matmul_4bits if bits == 4 else runtime.quantize_matmul_8bits
    for at in range(0, outputs, OUTPUTS_AT_ONCE):
        part = slice(at, at + OUTPUTS_AT_ONCE)
        values = np.ascontiguousarray(weight.values[:, part], np.float32)
        flat = scales[part].reshape(-1), zeros[part].reshape(-1)
        rounding(codes[part], values, *flat, block, values.shape[1], inputs, False)
    return BlockQuantized(codes, scales, zeros, bits, block, inputs)
