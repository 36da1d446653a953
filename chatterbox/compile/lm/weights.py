"""Weights of a language model (GPT-2 or Llama), independent of the file they came from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from chatterbox.runtime.quantized_weights import Array, BlockQuantized, Dense, Weight

Activation = Literal["tanh", "erf", "silu"]
"""Activation of the feed-forward: GELU by tanh or erf, or SiLU with a gate."""


@dataclass(frozen=True, slots=True, eq=False)
class SideBySide:
    """Concatenated weights of the same input. They are joined only when written, because a large
    model's joined weights would take as much memory as its file."""

    parts: tuple[Weight, ...]  # of the same kind and quantisation

    @property
    def shape(self) -> tuple[int, int]:
        """(inputs, outputs)."""
        return self.parts[0].shape[0], sum(part.shape[1] for part in self.parts)

    def joined(self) -> Weight:
        """Concatenate the parts into one weight. Exact."""
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
        """Return the layer with only the outputs in `ranges` (start, end), in this order; all if
        `ranges` is empty. Exact."""
        if not ranges:
            return self
        weight, chosen = self.weight, np.concatenate([np.arange(*r) for r in ranges])
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
        """Return the layer with unused outputs added up to a multiple of `multiple`."""
        count = self.weight.shape[1]
        return self.outputs([(0, count), (0, short)]) if (short := -count % multiple) else self


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Layer normalisation, or RMS normalisation if `beta` is None."""

    gamma: Array  # [hidden]
    beta: Array | None  # [hidden]
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One pre-norm transformer layer. `qkv` concatenates query, key and value; `up` concatenates
    the gate, if any, and the up projection."""

    norm_1: Norm
    qkv: Linear
    out: Linear
    norm_2: Norm
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """Cosines and sines of a rotary position embedding that pairs the halves of a head."""

    cos: Array  # [positions, head_dim / 2]
    sin: Array


def angles_of(config: Mapping[str, Any]) -> Rotary | None:
    """Compute the rotary angles of every position from `config.json`, with Llama 3's scaling if it
    is configured. Returns None if the model is not rotary or scales in another way."""
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
            weight = np.clip((turns - low) / (high - low), 0, 1)
            rates = rates * (weight + (1 - weight) / rope["factor"])
        elif kind != "default":
            return None
        angles = np.arange(config["max_position_embeddings"])[:, None] * rates
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
    return Rotary(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Transformer:
    """A transformer from embeddings or ids to logits. Positions are rows added to the embeddings,
    or rotary angles."""

    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear
    heads: int
    kv_heads: int
    head_dim: int
    activation: Activation
    positions: Array | Rotary  # rows: [max positions, hidden]
    table: Array | BlockQuantized | None = None  # [ids, hidden]; None if embeddings are the input

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return len(self.norm.gamma)

    @property
    def vocab(self) -> int:
        """Width of the logits."""
        return self.head.weight.shape[1]


def concat(parts: Sequence[Linear]) -> Linear:
    """Concatenate linear layers of the same input. Exact.

    Raises ValueError if their weights are quantised differently.
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
    """Pack 4-bit numbers two per byte, as `unpack` expects. Pads the last axis to an even size."""
    short = -numbers.shape[-1] % 2
    padded = np.pad(numbers.astype(np.uint8), [(0, 0)] * (numbers.ndim - 1) + [(0, short)])
    return padded[..., ::2] | padded[..., 1::2] << 4
