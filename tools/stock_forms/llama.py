"""Writes a random Llama as onnxruntime-genai's model builder does for a CPU or CUDA: ids and a mask
as inputs, rotary positions inside the attention, and one product for query, key and value.

In float, the head is stored once and the table is its transpose; quantised, both are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from chatterbox.compile.lm.weights import (
    Layer,
    Linear,
    Norm,
    Rotary,
    SideBySide,
    Transformer,
    angles_of,
    concat,
)
from chatterbox.hub.files import Precision
from chatterbox.runtime.quantized_weights import Array, Dense
from tools.stock_forms.genai import Builder
from tools.stock_forms.genai_graph import SEQUENCE
from tools.stock_forms.plain import CONTRIB

Form = Literal["packed", "split", "outside"]
"""Query, key and value one product, or three; or three whose angles are operators of their own, by
`position_ids`, as the builder writes for WebGPU and DirectML."""


@dataclass(frozen=True, slots=True)
class LlamaSize:
    """Dimensions and angles, as `config.json` has them."""

    layers: int = 28
    hidden: int = 3072
    heads: int = 24
    kv_heads: int = 8
    head_dim: int = 128
    inner: int = 8192
    vocab: int = 156940
    positions: int = 131072
    theta: float = 500000.0
    factor: float = 32.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192  # positions that the angles were made for


class RandomDense(Dense):
    """Weights that are drawn when they are asked for, and kept by nobody."""

    def __init__(self, inputs: int, outputs: int, key: Sequence[int]) -> None:
        object.__setattr__(self, "_drawn", (inputs, outputs, tuple(key)))

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs K, outputs N."""
        inputs, outputs, _ = self._drawn  # type: ignore[attr-defined]
        return inputs, outputs

    @property
    def values(self) -> Array:  # type: ignore[override]
        """[K, N]; outputs are about as large as inputs."""
        inputs, outputs, key = self._drawn  # type: ignore[attr-defined]
        drawn = np.random.default_rng(key).standard_normal((outputs, inputs), np.float32)
        drawn *= np.float32(inputs**-0.5)
        return drawn.T


def random_llama(size: LlamaSize, seed: int = 0) -> Transformer:
    """Reads all of its cache and means nothing."""
    keys = iter(range(1 << 20))
    angles = angles_of(llama_config(size))
    assert angles is not None

    def linear(inputs: int, outputs: int) -> Linear:
        weight = RandomDense(inputs, outputs, [seed, next(keys)])
        return Linear(weight, np.zeros(outputs, np.float32))

    def norm() -> Norm:
        drawn = np.random.default_rng([seed, next(keys)]).standard_normal(size.hidden, np.float32)
        return Norm(1 + 0.1 * drawn, None, 1e-5)

    qkv = (size.heads + 2 * size.kv_heads) * size.head_dim
    layers = tuple(
        Layer(
            norm(),
            linear(size.hidden, qkv),
            linear(size.heads * size.head_dim, size.hidden),
            norm(),
            concat([linear(size.hidden, size.inner), linear(size.hidden, size.inner)]),
            linear(size.inner, size.hidden),
        )
        for _ in range(size.layers)
    )
    return Transformer(
        layers=layers,
        norm=norm(),
        head=linear(size.hidden, size.vocab),
        heads=size.heads,
        kv_heads=size.kv_heads,
        head_dim=size.head_dim,
        activation="silu",
        positions=angles,
    )


def write_llama(
    model: Transformer,
    precision: Precision,
    directory: Path,
    shard_bytes: int = 2_000_000_000,
    form: Form = "packed",
) -> Path:
    """Write `model<suffix>.onnx` and its sidecars; returns the graph's path."""
    builder = LlamaBuilder(model, precision, shard_bytes)
    builder.form = form
    return builder.build().write(directory)


def llama_config(size: LlamaSize) -> dict[str, Any]:
    """`config.json`."""
    rope = {"factor": size.factor, "low_freq_factor": size.low, "high_freq_factor": size.high}
    rope |= {"original_max_position_embeddings": size.original}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": size.hidden,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "max_position_embeddings": size.positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": size.theta,
        "rope_scaling": rope | {"rope_type": "llama3"},
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "vocab_size": size.vocab,
        "bos_token_id": 128000,
        "eos_token_id": 128009,
        "pad_token_id": 128004,
    }


class LlamaBuilder(Builder):
    """Writes Llama over ids."""

    file_name = "model"
    bias = False
    form: Form = "packed"

    def _embedded(self) -> tuple[str, list[str]]:
        lengths = self._lengths()
        head = self.m.head.weight
        assert isinstance(head, Dense)
        if self._bits:
            return self._lookup("embed_tokens", head.values.T, "input_ids"), lengths
        base = "/model/embed_tokens"
        table = self._node("Transpose", ["lm_head.MatMul.weight"], f"{base}/Transpose", perm=[1, 0])
        return self._node("Gather", [table, "input_ids"], f"{base}/Gather", self.m.hidden), lengths

    def _queries(self, name: str, qkv: Linear, normed: str) -> list[str]:
        if self.form == "packed":
            return [self._linear(normed, f"{name}/qkv_proj", qkv), "", ""]
        assert isinstance(qkv.weight, Dense)
        cuts = np.cumsum([self.m.heads, self.m.kv_heads]) * self.m.head_dim
        parts = zip(
            "qkv",
            np.split(qkv.weight.values, cuts, axis=1),
            np.split(qkv.bias, cuts),
            strict=True,
        )
        found = [
            self._linear(normed, f"{name}/{part}_proj", Linear(Dense(values), bias))
            for part, values, bias in parts
        ]
        if self.form == "outside":
            found[:2] = [
                self._node(
                    "RotaryEmbedding",
                    [turned, "position_ids", *self._tables()],
                    f"{name}/{part}_rotary/RotaryEmbedding",
                    domain=CONTRIB,
                    interleaved=0,
                    num_heads=0,
                    rotary_embedding_dim=0,
                )
                for part, turned in zip("qk", found, strict=False)
            ]
        return found

    def _feed_forward(self, name: str, layer: Layer, normed: str) -> str:
        assert isinstance(layer.up.weight, SideBySide)
        inner = layer.down.weight.shape[0]
        nothing = np.zeros(inner, np.float32)
        gate, up = (
            self._linear(normed, f"{name}/{part}_proj", Linear(weight, nothing))
            for part, weight in zip(("gate", "up"), layer.up.weight.parts, strict=True)
        )
        sigmoid = self._node("Sigmoid", [gate], f"{name}/act_fn/Sigmoid", inner)
        silu = self._node("Mul", [gate, sigmoid], f"{name}/act_fn/Mul", inner)
        product = self._node("Mul", [silu, up], f"{name}/Mul", inner)
        return self._linear(product, f"{name}/down_proj", layer.down)

    def _angles(self) -> list[str]:
        return ["", ""] if self.form == "outside" else self._tables()

    def _tables(self) -> list[str]:
        """Cosines and sines."""
        angles, names = self.m.positions, ["cos_cache", "sin_cache"]
        assert isinstance(angles, Rotary)
        if names[0] not in self._stored:
            for name, values in zip(names, (angles.cos, angles.sin), strict=True):
                self._tensor(name, values.shape, self._kind, lambda values=values: values)
        return names

    def _edges(self) -> list[onnx.ValueInfoProto]:
        value = helper.make_tensor_value_info
        return [
            value("input_ids", TensorProto.INT64, SEQUENCE),
            value("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
            *([value("position_ids", TensorProto.INT64, SEQUENCE)] * (self.form == "outside")),
        ]
