"""Writes Llama as a plain exporter does: rotary positions, attention, norms and gates spelled out,
positions counted from the past, and keys and values extended by a Concat."""

from pathlib import Path
from typing import Any

import numpy as np

from chatterbox.compile.lm.weights import Linear, Norm, SideBySide, Transformer
from chatterbox.runtime.quantized_weights import Array, dense
from tools.model_builder.graph import Graph, ints
from tools.stock_forms.llama import LlamaSize


def write_plain_llama(model: Transformer, size: LlamaSize, precision: Any, folder: Path) -> Path:
    """Write `model<suffix>.onnx` and its sidecar; returns the graph's path."""
    name: Any = "model"
    with Graph(folder, name, precision) as graph:
        _Plain(graph, model, size).build()
    return next(folder.glob("model*.onnx"))


class _Plain:
    def __init__(self, graph: Graph, model: Transformer, size: LlamaSize) -> None:
        self._g = graph
        self._m = model
        self._size = size

    def build(self) -> None:
        g, m = self._g, self._m
        ids = g.input("input_ids", np.int64, ["batch", "sequence"])
        mask = g.input("attention_mask", np.int64, ["batch", "total"])
        shape = ("batch", m.kv_heads, "past", m.head_dim)
        pasts = [
            [g.input(f"past_key_values.{i}.{kind}", g.act, shape) for kind in ("key", "value")]
            for i in range(len(m.layers))
        ]
        angles, allowed = self._positions(ids, mask, pasts[0][0])
        head = self._values(m.head)
        x, presents = g.lookup(head.T, ids), []
        for layer, past in zip(m.layers, pasts, strict=True):
            normed = self._norm(x, layer.norm_1)
            cuts = np.cumsum([m.heads, m.kv_heads]) * m.head_dim
            parts = np.split(self._values(layer.qkv), cuts, axis=1)
            query, key, value = (self._heads(g.linear(normed, part)) for part in parts)
            key = g.op("Concat", past[0], self._turned(key, angles), axis=2)
            value = g.op("Concat", past[1], value, axis=2)
            presents += [key, value]
            mixed = self._attention(self._turned(query, angles), key, value, allowed)
            x = g.op("Add", x, g.linear(mixed, self._values(layer.out)))
            normed = self._norm(x, layer.norm_2)
            assert isinstance(layer.up.weight, SideBySide)
            gate, up = (g.linear(normed, dense(part)) for part in layer.up.weight.parts)
            gated = g.op("Mul", g.op("Mul", gate, g.op("Sigmoid", gate)), up)
            x = g.op("Add", x, g.linear(gated, self._values(layer.down)))
        logits = g.f32(g.linear(self._norm(x, m.norm), head))
        g.output("logits", logits, np.float32, ["batch", "sequence", m.vocab])
        for place, present in enumerate(presents):
            name = f"present.{place // 2}.{('key', 'value')[place % 2]}"
            g.output(name, present, g.act, ("batch", m.kv_heads, "total", m.head_dim))

    def _values(self, linear: Linear) -> Array:
        assert not isinstance(linear.weight, SideBySide)
        return dense(linear.weight)

    def _positions(self, ids: str, mask: str, past: str) -> tuple[list[str], str]:
        """Cosines and sines [new, head_dim], and [1, 1, new, total]: what may be read."""
        g, zero, one = self._g, np.array(0, np.int64), np.array(1, np.int64)
        before = g.scalar(g.shape(past, 2))
        total = g.op("Add", before, g.scalar(g.shape(ids, 1)))
        rows = g.op("Unsqueeze", g.op("Range", before, total, one), ints(1))
        half = self._m.head_dim // 2
        rotary: Any = self._m.positions
        rates = np.arctan2(rotary.sin[1], rotary.cos[1])[None].astype(np.float32)
        assert rates.shape == (1, half)
        turned = g.op("Mul", g.cast(rows, np.float32), np.concatenate([rates, rates], axis=1))
        angles = [g.to_act(g.op(kind, turned)) for kind in ("Cos", "Sin")]
        causal = g.op("LessOrEqual", g.op("Range", zero, total, one), rows)
        real = g.op("Greater", g.op("Unsqueeze", mask, ints(1, 2)), zero)
        return angles, g.op("And", causal, real)

    def _heads(self, x: str) -> str:
        split = self._g.op("Reshape", x, ints(0, 0, -1, self._m.head_dim))
        return self._g.op("Transpose", split, perm=[0, 2, 1, 3])

    def _turned(self, x: str, angles: list[str]) -> str:
        g, half = self._g, self._m.head_dim // 2
        first = g.op("Slice", x, ints(0), ints(half), ints(3))
        second = g.op("Slice", x, ints(half), ints(1 << 40), ints(3))
        across = g.op("Concat", g.op("Neg", second), first, axis=-1)
        return g.op("Add", g.op("Mul", x, angles[0]), g.op("Mul", across, angles[1]))

    def _attention(self, query: str, key: str, value: str, allowed: str) -> str:
        g, m = self._g, self._m
        key, value = (self._repeated(part) for part in (key, value))
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = g.op("Mul", scores, g.num(m.head_dim**-0.5))
        shares = g.op("Softmax", g.op("Where", allowed, scores, g.num(-6e4)), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", shares, value), perm=[0, 2, 1, 3])
        return g.op("Reshape", mixed, ints(0, 0, m.heads * m.head_dim))

    def _repeated(self, x: str) -> str:
        """Each head as often as queries share it."""
        g, times = self._g, self._m.heads // self._m.kv_heads
        wide = g.op("Concat", *[g.op("Unsqueeze", x, ints(2))] * times, axis=2)
        return g.op("Reshape", wide, ints(0, self._m.heads, -1, self._m.head_dim))

    def _norm(self, x: str, norm: Norm) -> str:
        g = self._g
        wide = g.f32(x)
        mean = g.op("ReduceMean", g.op("Pow", wide, np.float32(2)), ints(-1), keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, np.float32(norm.epsilon)))
        normal = g.to_act(g.op("Div", wide, root))
        return g.op("Mul", normal, g.param(norm.gamma))
