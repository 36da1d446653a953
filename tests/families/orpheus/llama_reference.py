"""Llama in NumPy, float64, one row at once: what language models are compared with here.

Written from the architecture's definition: `tools/parity_llama.py` holds it against transformers'
own code.
"""

import numpy as np

from chatterbox.compile.lm.weights import Rotary, SideBySide, Transformer
from chatterbox.runtime.quantized_weights import dense


def logits(model: Transformer, ids: np.ndarray) -> np.ndarray:
    """Ids [S] → [S, vocab]: what follows each of them."""
    assert isinstance(model.positions, Rotary)
    head = values(model.head.weight)
    stream = head.T[ids]  # the table is the head
    cos, sin = (np.asarray(a[: len(ids)], np.float64) for a in vars_of(model.positions))
    heads, kv_heads, width = model.heads, model.kv_heads, model.head_dim
    later = np.triu(np.ones((len(ids), len(ids)), bool), 1)
    for layer in model.layers:
        joined = normed(stream, layer.norm_1) @ values(layer.qkv.weight)
        query, key, value = np.split(joined, np.cumsum([heads, kv_heads]) * width, axis=1)
        query, key, value = (
            part.reshape(len(ids), -1, width).transpose(1, 0, 2) for part in (query, key, value)
        )
        query, key = turned(query, cos, sin), turned(key, cos, sin)
        key, value = (np.repeat(part, heads // kv_heads, axis=0) for part in (key, value))
        scores = query @ key.transpose(0, 2, 1) / width**0.5
        scores[:, later] = -np.inf
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = (shares @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        stream = stream + mixed @ values(layer.out.weight)
        up = layer.up.weight
        assert isinstance(up, SideBySide)
        gate, gated = (normed(stream, layer.norm_2) @ values(part) for part in up.parts)
        stream = stream + gate / (1 + np.exp(-gate)) * gated @ values(layer.down.weight)
    return normed(stream, model.norm) @ head


def vars_of(angles: Rotary) -> tuple[np.ndarray, np.ndarray]:
    return angles.cos, angles.sin


def values(weight) -> np.ndarray:
    """[K, N] in float64."""
    return dense(weight).astype(np.float64)


def normed(rows: np.ndarray, norm) -> np.ndarray:
    """By the root of the mean square."""
    root = np.sqrt(np.square(rows).mean(axis=-1, keepdims=True) + norm.epsilon)
    return rows / root * norm.gamma


def turned(rows: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """One half of a head against the other."""
    first, second = np.split(rows, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
