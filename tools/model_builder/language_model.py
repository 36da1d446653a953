"""Writes the language-model graph: GPT-2 over embeddings with plain past and present.

The caller supplies the weights, one at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chatterbox.hub.files import Precision
from tools.model_builder.graph import Graph, ints

Array = NDArray[Any]
LAYER_NORM_EPSILON = 1e-5  # GPT-2's
LOWEST = {2: float(np.finfo(np.float16).min), 4: float(np.finfo(np.float32).min)}
"""By bytes of a number: the score of what must not be read. Finite, so that a row which may read
nothing (padding) stays finite too."""
GELU_INNER = float(np.sqrt(2 / np.pi))
GELU_CUBIC = 0.044715  # gelu_new


@dataclass(frozen=True, slots=True)
class LanguageModelSize:
    """Dimensions of a GPT-2."""

    layers: int
    heads: int
    head_dim: int
    inner: int  # width of the feed-forward
    positions: int
    vocab: int

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.heads * self.head_dim


class Weights(Protocol):
    """Where weights come from."""

    def get(self, name: str, *shape: int) -> Array:
        """The float32 weight `name`; the same each time. Names: `positions`, `head`, `head.bias`,
        `norm.gamma`, `norm.beta` and, with a layer's number in front, `0.norm_1.gamma`,
        `0.qkv`, `0.qkv.bias`, `0.out`, `0.norm_2.…`, `0.up`, `0.down` and their biases."""
        ...


def write_language_model(
    folder: Path, precision: Precision, size: LanguageModelSize, weights: Weights
) -> None:
    """Write `language_model<suffix>.onnx` and its sidecar."""
    with Graph(folder, "language_model", precision) as graph:
        _LanguageModel(graph, size, weights).build()


class _LanguageModel:
    def __init__(self, graph: Graph, size: LanguageModelSize, weights: Weights) -> None:
        self._g = graph
        self._size = size
        self._weights = weights
        self._present: list[tuple[str, str]] = []

    def build(self) -> None:
        g, size = self._g, self._size
        embeds = g.input("inputs_embeds", np.float32, ["batch", "sequence", size.hidden])
        mask = g.input("attention_mask", np.int64, ["batch", "total"])
        positions = g.input("position_ids", np.int64, ["batch", "sequence"])
        past = [
            [self._cache_input(layer, kind) for kind in ("key", "value")]
            for layer in range(size.layers)
        ]
        allowed = self._allowed(embeds, mask)
        table = self._weights.get("positions", size.positions, size.hidden)
        x = g.op("Add", g.to_act(embeds), g.lookup(table, positions))
        for layer, (key, value) in enumerate(past):
            x = g.op("Add", x, self._attention(layer, x, key, value, allowed))
            x = g.op("Add", x, self._feed_forward(layer, x))
        x = self._norm(x, "norm")
        logits = self._linear(x, "head", size.hidden, size.vocab)
        g.output("logits", g.f32(logits), np.float32, ["batch", "sequence", size.vocab])
        for name, value in self._present:
            g.output(name, value, g.act, ["batch", size.heads, "total", size.head_dim])

    def _cache_input(self, layer: int, kind: str) -> str:
        size = self._size
        shape = ("batch", size.heads, "past", size.head_dim)
        return self._g.input(f"past_key_values.{layer}.{kind}", self._g.act, shape)

    def _allowed(self, embeds: str, mask: str) -> str:
        """[batch, 1, sequence, total]: which columns each row may read."""
        g = self._g
        new, total = g.scalar(g.shape(embeds, 1)), g.scalar(g.shape(mask, 1))
        zero, one = np.array(0, np.int64), np.array(1, np.int64)
        columns = g.op("Range", zero, total, one)
        rows = g.op("Range", g.op("Sub", total, new), total, one)
        causal = g.op("LessOrEqual", columns, g.op("Unsqueeze", rows, ints(1)))
        real_columns = g.op("Greater", g.op("Unsqueeze", mask, ints(1, 2)), zero)
        return g.op("And", causal, real_columns)

    def _attention(self, layer: int, x: str, key: str, value: str, allowed: str) -> str:
        g, size = self._g, self._size
        normal = self._norm(x, f"{layer}.norm_1")
        joined = self._linear(normal, f"{layer}.qkv", size.hidden, 3 * size.hidden)
        parts = g.ops("Split", 3, joined, axis=-1, num_outputs=3)
        q, k, v = (self._heads(part) for part in parts)
        k, v = g.op("Concat", key, k, axis=2), g.op("Concat", value, v, axis=2)
        self._present += [(f"present.{layer}.key", k), (f"present.{layer}.value", v)]
        scaled = g.op("Mul", q, g.num(size.head_dim**-0.5))
        scores = g.op("MatMul", scaled, g.op("Transpose", k, perm=[0, 1, 3, 2]))
        lowest = np.array(LOWEST[g.act.itemsize], g.act)
        shares = g.op("Softmax", g.op("Where", allowed, scores, lowest), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", shares, v), perm=[0, 2, 1, 3])
        flat = g.op("Reshape", mixed, ints(0, 0, size.hidden))
        return self._linear(flat, f"{layer}.out", size.hidden, size.hidden)

    def _heads(self, x: str) -> str:
        """[batch, sequence, hidden] → [batch, heads, sequence, head_dim]."""
        split = self._g.op("Reshape", x, ints(0, 0, self._size.heads, self._size.head_dim))
        return self._g.op("Transpose", split, perm=[0, 2, 1, 3])

    def _feed_forward(self, layer: int, x: str) -> str:
        g, size = self._g, self._size
        normal = self._norm(x, f"{layer}.norm_2")
        up = self._linear(normal, f"{layer}.up", size.hidden, size.inner)
        cubed = g.op("Mul", g.op("Pow", up, g.num(3)), g.num(GELU_CUBIC))
        inner = g.op("Tanh", g.op("Mul", g.op("Add", up, cubed), g.num(GELU_INNER)))
        gelu = g.op("Mul", g.op("Mul", up, g.num(0.5)), g.op("Add", inner, g.num(1)))
        return self._linear(gelu, f"{layer}.down", size.inner, size.hidden)

    def _norm(self, x: str, name: str) -> str:
        g, hidden = self._g, self._size.hidden
        gamma = g.param(self._weights.get(f"{name}.gamma", hidden))
        beta = g.param(self._weights.get(f"{name}.beta", hidden))
        return g.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def _linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        matrix = self._weights.get(name, inputs, outputs)
        return self._g.linear(x, matrix, self._weights.get(f"{name}.bias", outputs))
