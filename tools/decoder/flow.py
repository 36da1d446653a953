"""Writes the flow as a graph: speech codes to mel frames.

Most of it works on [B, T, C] (authors' source: `models/s3gen/flow.py`,
`transformer/upsample_encoder.py`, `decoder.py`; names of weights are theirs).
"""

import math
from collections.abc import Mapping

import numpy as np

from tools.decoder.graph import INT32, MICROSOFT, Array, Graph

HEAD_DIM = 64  # of the estimator's attention; the weights do not tell
TIME_SCALE = 1000.0
ENCODER = "flow.encoder"
ESTIMATOR = "flow.decoder.estimator"
MASKED = -6e4  # the least that half precision has


def mel_frames(
    g: Graph, codes: str, lengths: str | None, speaker: str, prompt: str, steps: int
) -> str:
    """Codes [B, T] (prompt, speech, silence), speaker [B, 192] and prompt mel [B, F, 80] → the
    speech's mel [B, 80, 2T - F]. `lengths` [B] are the rows' own T where shorter ones are padded;
    `steps` Euler steps (the published weights were distilled for two)."""
    g.scope = "flow"
    total = g.size(codes, 1)
    if lengths is None:
        lengths = g.op("Expand", total, g.size(codes, 0))
    mask = _mask(g, lengths, total)
    mask2 = _mask(g, g.mul(lengths, g.ints(2)), g.mul(total, g.ints(2)))
    mu = _encoder(g, codes, mask, mask2)
    with g.single():
        noise = g.swap(g.op("RandomNormalLike", g.cast(g.swap(mu))))
    mel = _estimate(g, g.cast(noise), mu, _speaker(g, speaker), g.cast(prompt), mask2, steps)
    g.scope = "flow"
    return g.slice(g.swap(mel), g.size(prompt, 1), g.ints(np.iinfo(np.int64).max), 2)


def _mask(g: Graph, lengths: str, total: str) -> str:
    """f32 [B, T]: 1 where a row has something."""
    scalar = g.op("Squeeze", total)
    positions = g.op("Range", g.const(0, np.int64), scalar, g.const(1, np.int64))
    inside = g.op("Less", positions, g.op("Unsqueeze", lengths, g.ints(1)))
    return g.cast(inside)


def _column(g: Graph, mask: str) -> str:
    """[B, T] → [B, T, 1]."""
    return g.op("Unsqueeze", mask, g.ints(2))


def _key_bias(g: Graph, mask: str) -> str:
    """[B, T] → [B, 1, 1, T]: what attention adds to its scores."""
    bias = g.mul(g.op("Sub", g.const(1.0), mask), g.const(MASKED))
    return g.op("Unsqueeze", bias, g.ints(1, 2))


def _speaker(g: Graph, speaker: str) -> str:
    """x-vector [B, 192] → [B, 1, 80]."""
    g.scope = "speaker"
    with g.single():
        norm = g.op("Max", g.op("ReduceL2", speaker, g.ints(1), keepdims=1), g.const(1e-12))
        made = g.linear(g.op("Div", speaker, norm), "flow.spk_embed_affine_layer")
    return g.cast(g.op("Unsqueeze", made, g.ints(1)))


# --- encoder


def _encoder(g: Graph, codes: str, mask: str, mask2: str) -> str:
    """Codes [B, T] → mu [B, 2T, 80]."""
    g.scope = "encoder"
    column = _column(g, mask)
    x = g.op("Gather", g.weight("flow.input_embedding.weight"), codes, axis=0)
    x = _embed(g, g.mul(x, column), f"{ENCODER}.embed")
    x = _look_ahead(g, g.mul(x, column))
    x = _conformers(g, x, mask, f"{ENCODER}.encoders")
    x = _twice(g, x)
    x = g.causal_conv(x, f"{ENCODER}.up_layer.conv")
    x = _embed(g, x, f"{ENCODER}.up_embed")
    x = _conformers(g, x, mask2, f"{ENCODER}.up_encoders")
    return g.linear(g.layer_norm(x, f"{ENCODER}.after_norm"), "flow.encoder_proj")


def _embed(g: Graph, x: str, name: str) -> str:
    x = g.layer_norm(g.linear(x, f"{name}.out.0"), f"{name}.out.1")
    width = g.weights[f"{name}.out.0.weight"].shape[0]
    return g.mul(x, g.const(math.sqrt(width)))


def _look_ahead(g: Graph, x: str) -> str:
    name = f"{ENCODER}.pre_lookahead_layer"
    ahead = g.weights[f"{name}.conv1.weight"].shape[2] - 1
    made = g.op("LeakyRelu", g.causal_conv(x, f"{name}.conv1", ahead=ahead), alpha=0.01)
    return g.add(g.causal_conv(made, f"{name}.conv2"), x)


def _twice(g: Graph, x: str) -> str:
    """[B, T, C] → [B, 2T, C], each step twice."""
    pairs = g.op("Unsqueeze", x, g.ints(2))
    return g.op(
        "Reshape",
        g.cat(pairs, pairs, axis=2),
        g.ints(0, -1, g.weights[f"{ENCODER}.up_layer.conv.weight"].shape[1]),
    )


def _conformers(g: Graph, x: str, mask: str, name: str) -> str:
    count = len({k.split(".")[3] for k in g.weights if k.startswith(f"{name}.")})
    positions = _relative_positions(g, x, g.weights[f"{name}.0.norm_mha.weight"].shape[0])
    bias = _key_bias(g, mask)
    for i in range(count):
        g.scope = f"{name}.{i}"
        x = g.add(x, _relative_attention(g, x, positions, bias, f"{name}.{i}"))
        inner = g.layer_norm(x, f"{name}.{i}.norm_ff", 1e-12)
        inner = g.linear(inner, f"{name}.{i}.feed_forward.w_1")
        inner = g.mul(inner, g.op("Sigmoid", inner))
        x = g.add(x, g.linear(inner, f"{name}.{i}.feed_forward.w_2"))
    return x


def _relative_positions(g: Graph, x: str, width: int) -> str:
    """Sinusoids of the distances T-1 … -(T-1): [2T-1, width]."""
    length = g.op("Squeeze", g.size(x, 1))
    distances = g.op(
        "Range",
        g.op("Sub", length, g.const(1, np.int64)),
        g.op("Neg", length),
        g.const(-1, np.int64),
    )
    rates = np.exp(np.arange(0, width, 2, dtype=np.float32) * -(math.log(10000.0) / width))
    with g.single():
        column = g.op("Unsqueeze", g.cast(distances), g.ints(1))
        angles = g.mul(column, g.const(rates[None]))
        waves = [g.op("Unsqueeze", g.op(wave, angles), g.ints(2)) for wave in ("Sin", "Cos")]
    return g.cast(g.op("Reshape", g.cat(*waves, axis=2), g.ints(-1, width)))


def _relative_attention(g: Graph, x: str, positions: str, bias: str, name: str) -> str:
    """Attention whose scores know the distance between query and key (espnet's `rel_selfattn`)."""
    heads, width = g.weights[f"{name}.self_attn.pos_bias_u"].shape
    x = g.layer_norm(x, f"{name}.norm_mha", 1e-12)

    def split(tensor: str, perm: list[int]) -> str:
        return g.op("Transpose", g.op("Reshape", tensor, g.ints(0, 0, heads, width)), perm=perm)

    q = g.linear(x, f"{name}.self_attn.linear_q")
    k = split(g.linear(x, f"{name}.self_attn.linear_k"), [0, 2, 3, 1])  # [B, H, D, T]
    v = split(g.linear(x, f"{name}.self_attn.linear_v"), [0, 2, 1, 3])
    p = g.linear(positions, f"{name}.self_attn.linear_pos", bias=False)
    p = g.op("Transpose", g.op("Reshape", p, g.ints(-1, heads, width)), perm=[1, 2, 0])
    scaled = 1.0 / math.sqrt(width)
    biased = []
    for which in ("u", "v"):
        offset = g.weights[f"{name}.self_attn.pos_bias_{which}"].reshape(-1)
        shifted = g.add(q, g.weight(f"{name}.self_attn.pos_bias_{which}", offset))
        biased.append(split(g.mul(shifted, g.const(scaled)), [0, 2, 1, 3]))
    scores = g.op("MatMul", biased[0], k)
    scores = g.add(scores, _shifted(g, g.op("MatMul", biased[1], p), g.size(x, 1)))
    weights = g.op("Softmax", g.add(scores, bias), axis=-1)
    out = g.op("Transpose", g.op("MatMul", weights, v), perm=[0, 2, 1, 3])
    out = g.op("Reshape", out, g.ints(0, 0, heads * width))
    return g.linear(out, f"{name}.self_attn.linear_out")


def _shifted(g: Graph, scores: str, length: str) -> str:
    """[B, H, T, 2T-1] by distance → [B, H, T, T] by key: row i starts at column T-1-i."""
    padded = g.op("Pad", scores, g.ints(0, 0, 0, 1, 0, 0, 0, 0))  # [B, H, T, 2T]
    batch_heads = g.op("Shape", scores, start=0, end=2)
    shape = g.cat(batch_heads, g.ints(-1), length, axis=0)
    turned = g.op("Reshape", padded, shape)  # [B, H, 2T, T]
    turned = g.slice(turned, g.ints(1), g.ints(np.iinfo(np.int64).max), 2)
    turned = g.op("Reshape", turned, g.op("Shape", scores))
    return g.slice(turned, g.ints(0), length, 3)


# --- estimator


def _estimate(
    g: Graph, noise: str, mu: str, speaker: str, prompt: str, mask: str, steps: int
) -> str:
    """Euler steps from noise [B, 2T, 80] to mel [B, 2T, 80]."""
    g.scope = "estimator"
    frames = g.size(noise, 1)
    behind = g.op("Sub", frames, g.size(prompt, 1))
    pads = g.cat(g.ints(0, 0, 0, 0), behind, g.ints(0), axis=0)
    known = g.op("Pad", prompt, pads)
    spoken = g.op("Expand", speaker, g.op("Shape", mu))
    column = _column(g, mask)
    keys = g.op("Cast", mask, to=INT32)
    x = noise
    times = np.linspace(0.0, 1.0, steps + 1, dtype=np.float32)
    for i in range(steps):
        begin, end = float(times[i]), float(times[i + 1])
        step = _Step(g, f"euler{i}", _time_embedding(g.weights, begin, end), column, keys)
        slope = step(g.cat(x, mu, spoken, known, axis=2))
        x = g.add(x, g.mul(slope, g.const(end - begin)))
    return x


def _time_embedding(weights: Mapping[str, Array], begin: float, end: float) -> Array:
    """What the estimator makes of a step from `begin` to `end`: constant, so computed here."""
    channels = weights[f"{ESTIMATOR}.time_mlp.linear_1.weight"].shape[1]
    rates = np.exp(np.arange(channels // 2) * -(math.log(10000) / (channels // 2 - 1)))

    def embed(moment: float) -> Array:
        angles = TIME_SCALE * moment * rates
        x = np.concatenate([np.sin(angles), np.cos(angles)])
        x = _dense(weights, f"{ESTIMATOR}.time_mlp.linear_1", x)
        return _dense(weights, f"{ESTIMATOR}.time_mlp.linear_2", x / (1 + np.exp(-x)))

    mixer = weights[f"{ESTIMATOR}.time_embed_mixer.weight"].astype(np.float64)
    return mixer @ np.concatenate([embed(begin), embed(end)])


def _dense(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    return weights[f"{name}.weight"].astype(np.float64) @ x + weights[f"{name}.bias"]


class _Step:
    """One evaluation of the estimator."""

    def __init__(self, g: Graph, scope: str, time: Array, column: str, keys: str) -> None:
        self._g, self._scope, self._column, self._keys = g, scope, column, keys
        self._time = time * np.tanh(np.log1p(np.exp(time)))  # mish

    def __call__(self, x: str) -> str:
        g, top = self._g, ESTIMATOR
        x = self._stage(x, f"{top}.down_blocks.0")
        skip = x
        x = g.causal_conv(g.mul(x, self._column), f"{top}.down_blocks.0.2")
        count = len({k.split(".")[4] for k in g.weights if k.startswith(f"{top}.mid_blocks.")})
        for i in range(count):
            x = self._stage(x, f"{top}.mid_blocks.{i}")
        x = self._stage(g.cat(x, skip, axis=2), f"{top}.up_blocks.0")
        x = g.causal_conv(g.mul(x, self._column), f"{top}.up_blocks.0.2")
        x = self._block(x, f"{top}.final_block.block")
        return g.mul(g.causal_conv(x, f"{top}.final_proj"), self._column)

    def _stage(self, x: str, name: str) -> str:
        g = self._g
        g.scope = f"{self._scope}/{name}"
        time = g.const(_dense(g.weights, f"{name}.0.mlp.1", self._time))
        inner = g.add(self._block(x, f"{name}.0.block1.block"), time)
        inner = self._block(inner, f"{name}.0.block2.block")
        x = g.add(inner, g.causal_conv(g.mul(x, self._column), f"{name}.0.res_conv"))
        count = len(
            {
                k.split(".")[len(name.split(".")) + 1]
                for k in g.weights
                if k.startswith(f"{name}.1.")
            }
        )
        for i in range(count):
            x = self._transformer(x, f"{name}.1.{i}")
        return x

    def _block(self, x: str, name: str) -> str:
        """Masked convolution, norm, mish, masked."""
        g = self._g
        x = g.layer_norm(g.causal_conv(g.mul(x, self._column), f"{name}.0"), f"{name}.2")
        x = g.mul(x, g.op("Tanh", g.op("Softplus", x)))
        return g.mul(x, self._column)

    def _transformer(self, x: str, name: str) -> str:
        g = self._g
        inner = g.layer_norm(x, f"{name}.norm1")
        q, k, v = (g.linear(inner, f"{name}.attn1.to_{w}", bias=False) for w in "qkv")
        heads = g.weights[f"{name}.attn1.to_q.weight"].shape[0] // HEAD_DIM
        inner = g.op(
            "MultiHeadAttention", q, k, v, "", self._keys, domain=MICROSOFT, num_heads=heads
        )
        x = g.add(x, g.linear(inner, f"{name}.attn1.to_out.0"))
        inner = g.linear(g.layer_norm(x, f"{name}.norm3"), f"{name}.ff.net.0.proj")
        inner = g.op("Gelu", inner, domain=MICROSOFT)
        return g.add(x, g.linear(inner, f"{name}.ff.net.2"))
