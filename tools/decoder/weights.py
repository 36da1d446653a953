"""Loads the decoder's weights from the authors' file, or makes random weights."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tools.decoder.graph import Array

PREFIXES = ("flow.", "mel2wav.")
NORMED = {
    ".parametrizations.weight.original0": ".parametrizations.weight.original1",
    ".weight_g": ".weight_v",
}


def read_weights(path: Path) -> dict[str, Array]:
    """The decoder's part of `s3gen_meanflow.safetensors`, weight norm folded."""
    return folded({k: v for k, v in load_file(path).items() if k.startswith(PREFIXES)})


def folded(weights: dict[str, Array]) -> dict[str, Array]:
    """Replace each gain and direction by the weight they make: g · v / |v|."""
    made = dict(weights)
    for name in weights:
        for gain, direction in NORMED.items():
            if name.endswith(gain):
                stem = name.removesuffix(gain)
                g, v = made.pop(name), made.pop(stem + direction)
                norm = np.sqrt(np.square(v, dtype=np.float64).sum(axis=(1, 2), keepdims=True))
                made[f"{stem}.weight"] = (g * v / norm).astype(np.float32)
    return made


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large a random decoder is; these are the published one's."""

    codes: int = 6561
    encoder: int = 512
    encoder_head: int = 64
    encoder_inner: int = 2048
    blocks: int = 6
    up_blocks: int = 4
    channels: int = 256
    attention: int = 512
    mid_stages: int = 12
    stage_blocks: int = 4
    vocoder: int = 512
    pitch: int = 512


TINY = Sizes(
    encoder=16, encoder_head=8, encoder_inner=32, blocks=1, up_blocks=1, channels=16,
    attention=64, mid_stages=1, stage_blocks=1, vocoder=16, pitch=8,
)  # fmt: skip


class _Dice:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.made: dict[str, Array] = {}

    def linear(self, name: str, out: int, inside: int, *, bias: bool = True) -> None:
        self.conv(name, out, inside, 0, bias=bias)

    def conv(
        self, name: str, out: int, inside: int, taps: int, *, bias: bool = True, gain: float = 1.0
    ) -> None:
        shape = (out, inside, taps) if taps else (out, inside)
        scale = gain / np.sqrt(inside * max(taps, 1))
        self.set(f"{name}.weight", self._rng.normal(0, scale, shape))
        if bias:
            self.set(f"{name}.bias", self._rng.normal(0, 0.02, out))

    def norm(self, name: str, width: int) -> None:
        self.set(f"{name}.weight", np.ones(width))
        self.set(f"{name}.bias", np.zeros(width))

    def normal(self, name: str, *shape: int) -> None:
        self.set(name, self._rng.normal(0, 0.1, shape))

    def set(self, name: str, value: Array) -> None:
        self.made[name] = value.astype(np.float32)


def random_weights(sizes: Sizes, seed: int = 0) -> dict[str, Array]:
    """A decoder that makes noise of speech's loudness, voiced at about 150 Hz."""
    dice = _Dice(seed)
    _encoder(dice, sizes)
    _estimator(dice, sizes)
    _vocoder(dice, sizes)
    return dice.made


def _encoder(d: _Dice, s: Sizes) -> None:
    d.normal("flow.input_embedding.weight", s.codes, s.encoder)
    d.linear("flow.spk_embed_affine_layer", 80, 192)
    d.linear("flow.encoder_proj", 80, s.encoder)
    top = "flow.encoder"
    d.norm(f"{top}.after_norm", s.encoder)
    d.conv(f"{top}.pre_lookahead_layer.conv1", s.encoder, s.encoder, 4)
    d.conv(f"{top}.pre_lookahead_layer.conv2", s.encoder, s.encoder, 3)
    d.conv(f"{top}.up_layer.conv", s.encoder, s.encoder, 5)
    for which, count in (("", s.blocks), ("up_", s.up_blocks)):
        d.linear(f"{top}.{which or ''}embed.out.0", s.encoder, s.encoder)
        d.norm(f"{top}.{which}embed.out.1", s.encoder)
        for i in range(count):
            name = f"{top}.{which}encoders.{i}"
            d.norm(f"{name}.norm_mha", s.encoder)
            d.norm(f"{name}.norm_ff", s.encoder)
            for part in "qkv":
                d.linear(f"{name}.self_attn.linear_{part}", s.encoder, s.encoder)
            d.linear(f"{name}.self_attn.linear_out", s.encoder, s.encoder)
            d.linear(f"{name}.self_attn.linear_pos", s.encoder, s.encoder, bias=False)
            for bias in "uv":
                heads = s.encoder // s.encoder_head
                d.normal(f"{name}.self_attn.pos_bias_{bias}", heads, s.encoder_head)
            d.linear(f"{name}.feed_forward.w_1", s.encoder_inner, s.encoder)
            d.linear(f"{name}.feed_forward.w_2", s.encoder, s.encoder_inner)


def _estimator(d: _Dice, s: Sizes) -> None:
    top = "flow.decoder.estimator"
    time = 4 * s.channels
    d.linear(f"{top}.time_mlp.linear_1", time, 320)
    d.linear(f"{top}.time_mlp.linear_2", time, time)
    d.linear(f"{top}.time_embed_mixer", time, 2 * time, bias=False)
    stages = {"down_blocks.0": 320, "up_blocks.0": 2 * s.channels}
    stages |= {f"mid_blocks.{i}": s.channels for i in range(s.mid_stages)}
    for stage, inside in stages.items():
        name = f"{top}.{stage}"
        d.linear(f"{name}.0.mlp.1", s.channels, time)
        d.conv(f"{name}.0.res_conv", s.channels, inside, 1)
        for i, wide in ((1, inside), (2, s.channels)):
            d.conv(f"{name}.0.block{i}.block.0", s.channels, wide, 3)
            d.norm(f"{name}.0.block{i}.block.2", s.channels)
        for i in range(s.stage_blocks):
            _transformer(d, s, f"{name}.1.{i}")
    for end in ("down_blocks.0.2", "up_blocks.0.2", "final_block.block.0"):
        d.conv(f"{top}.{end}", s.channels, s.channels, 3)
    d.norm(f"{top}.final_block.block.2", s.channels)
    d.conv(f"{top}.final_proj", 80, s.channels, 1)


def _transformer(d: _Dice, s: Sizes, name: str) -> None:
    d.norm(f"{name}.norm1", s.channels)
    d.norm(f"{name}.norm3", s.channels)
    for part in "qkv":
        d.linear(f"{name}.attn1.to_{part}", s.attention, s.channels, bias=False)
    d.linear(f"{name}.attn1.to_out.0", s.channels, s.attention)
    d.linear(f"{name}.ff.net.0.proj", 4 * s.channels, s.channels)
    d.linear(f"{name}.ff.net.2", s.channels, 4 * s.channels)


def _vocoder(d: _Dice, s: Sizes) -> None:
    top = "mel2wav"
    d.linear(f"{top}.m_source.l_linear", 1, 9)
    d.conv(f"{top}.conv_pre", s.vocoder, 80, 7)
    downs = {0: 30, 1: 6, 2: 1}
    for i, (taps, source_taps) in enumerate(((16, 7), (11, 7), (7, 11))):
        inside, width = s.vocoder >> i, s.vocoder >> (i + 1)
        d.conv(f"{top}.ups.{i}", inside, width, taps)
        d.made[f"{top}.ups.{i}.bias"] = d.made[f"{top}.ups.{i}.bias"][:width]
        d.conv(f"{top}.source_downs.{i}", width, 18, downs[i])
        _residual(d, f"{top}.source_resblocks.{i}", width, source_taps)
        for j, inner_taps in enumerate((3, 7, 11)):
            _residual(d, f"{top}.resblocks.{3 * i + j}", width, inner_taps)
    d.conv(f"{top}.conv_post", 18, s.vocoder >> 3, 7, gain=0.3)
    d.made[f"{top}.conv_post.bias"][:9] = -3.0  # quiet: magnitudes are exponentials
    for i in range(5):
        d.conv(f"{top}.f0_predictor.condnet.{2 * i}", s.pitch, s.pitch if i else 80, 3)
    d.linear(f"{top}.f0_predictor.classifier", 1, s.pitch)
    d.made[f"{top}.f0_predictor.classifier.weight"] *= 20.0
    d.set(f"{top}.f0_predictor.classifier.bias", np.array([150.0]))


def _residual(d: _Dice, name: str, width: int, taps: int) -> None:
    for i in range(3):
        for which in (1, 2):
            d.conv(f"{name}.convs{which}.{i}", width, width, taps, gain=0.5)
            d.set(f"{name}.activations{which}.{i}.alpha", np.ones(width))
