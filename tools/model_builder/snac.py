"""Writes a SNAC 24 kHz codec as published on the hub: `decoder_model` and `encoder_model`.

The computation is that of the authors' package `snac` with weight norm folded; weights are named as
theirs are, random or given. Noise is drawn inside the decoder, without a seed, as exporters leave
it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from tools.decoder.graph import FLOAT, INT64, Array, Graph

SUFFIX = {"fp32": "", "fp16": "_fp16"}
DILATIONS = (1, 3, 9)
RATES = (8, 8, 4, 2)  # of the decoder's blocks; the encoder's backwards
STRIDES = (4, 2, 1)  # latents for each code of the three codebooks
CODES, CODE_WIDTH = 4096, 8


@dataclass(frozen=True, slots=True)
class SnacSize:
    """Widths; the defaults are the published ones."""

    encoder: int = 48
    decoder: int = 1024

    @property
    def latent(self) -> int:
        """Channels between encoder and decoder."""
        return self.encoder << len(RATES)


SMALL = SnacSize(encoder=4, decoder=64)


def write_snac(
    directory: Path, seed: int = 0, *, small: bool = True, precisions: Iterable[str] = ("fp32",)
) -> None:
    """Write a codec with random weights in the hub's layout."""
    size = SMALL if small else SnacSize()
    weights = random_weights(size, seed)
    config = {
        "model_type": "snac",
        "sampling_rate": 24000,
        "encoder_dim": size.encoder,
        "encoder_rates": RATES[::-1],
        "decoder_dim": size.decoder,
        "decoder_rates": RATES,
        "codebook_size": CODES,
        "codebook_dim": CODE_WIDTH,
        "vq_strides": STRIDES,
    }
    folder = directory / "onnx"
    folder.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for precision in precisions:
        for name, made in (("decoder_model", decoder_model), ("encoder_model", encoder_model)):
            model = made(weights, half=precision == "fp16")
            onnx.save(model, str(folder / f"{name}{SUFFIX[precision]}.onnx"))


def random_weights(size: SnacSize, seed: int = 0) -> dict[str, Array]:
    """Under the authors' names; the sound that they make is about as loud as speech."""
    dice = _Dice(seed)
    width = size.encoder
    dice.conv("encoder.block.0", width, 1, 7)
    for i, rate in enumerate(reversed(RATES), 1):
        _random_units(dice, f"encoder.block.{i}.block", 0, width)
        dice.alpha(f"encoder.block.{i}.block.3", width)
        dice.conv(f"encoder.block.{i}.block.4", 2 * width, width, 2 * rate)
        width *= 2
    dice.conv(f"encoder.block.{len(RATES) + 1}", width, 1, 7)
    for i in range(len(STRIDES)):
        name = f"quantizer.quantizers.{i}"
        dice.conv(f"{name}.in_proj", CODE_WIDTH, width, 1)
        dice.conv(f"{name}.out_proj", width, CODE_WIDTH, 1)
        dice.set(f"{name}.codebook.weight", (CODES, CODE_WIDTH), 1.0)
    dice.conv("decoder.model.0", width, 1, 7)
    dice.conv("decoder.model.1", size.decoder, width, 1)
    width = size.decoder
    for i, rate in enumerate(RATES, 2):
        name, inputs, width = f"decoder.model.{i}.block", width, width // 2
        dice.alpha(f"{name}.0", inputs)
        dice.set(f"{name}.1.weight", (inputs, width, 2 * rate), (4 * inputs) ** -0.5)
        dice.set(f"{name}.1.bias", (width,), 0.02)
        dice.set(f"{name}.2.linear.weight", (width, width, 1), 0.3 * width**-0.5)
        _random_units(dice, name, 3, width)
    dice.alpha("decoder.model.6", width)
    dice.conv("decoder.model.7", 1, width, 7, gain=0.1)
    return dice.made


def _random_units(dice: "_Dice", name: str, first: int, width: int) -> None:
    for i in range(first, first + len(DILATIONS)):
        dice.alpha(f"{name}.{i}.block.0", width)
        dice.conv(f"{name}.{i}.block.1", width, 1, 7)
        dice.alpha(f"{name}.{i}.block.2", width)
        dice.conv(f"{name}.{i}.block.3", width, width, 1, gain=0.3)


class _Dice:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.made: dict[str, Array] = {}

    def set(self, name: str, shape: tuple[int, ...], deviation: float) -> None:
        values = self._rng.standard_normal(shape, np.float32) * np.float32(deviation)
        self.made[name] = values

    def conv(self, name: str, out: int, inside: int, taps: int, gain: float = 1.0) -> None:
        self.set(f"{name}.weight", (out, inside, taps), gain * (inside * taps) ** -0.5)
        self.set(f"{name}.bias", (out,), 0.02 * gain)

    def alpha(self, name: str, width: int) -> None:
        values = self._rng.lognormal(0.0, 0.3, (1, width, 1))
        self.made[f"{name}.alpha"] = values.astype(np.float32)


def decoder_model(weights: Mapping[str, Array], *, half: bool = False) -> onnx.ModelProto:
    """Codes [B, F], [B, 2F], [B, 4F] → samples [B, 1, 2048 F]."""
    g = Graph(weights, half=half)
    latent = ""
    for i, stride in enumerate(STRIDES):
        name = f"quantizer.quantizers.{i}"
        codes = g.input(f"audio_codes.{i}", INT64, ["batch", f"codes_{i}"])
        rows = g.op("Gather", g.weight(f"{name}.codebook.weight"), codes, axis=0)
        part = _repeated(g, _conv(g, g.swap(rows), f"{name}.out_proj"), stride)
        latent = g.add(latent, part) if latent else part
    x = _conv(g, latent, "decoder.model.0", pads=[3, 3], group=weights["decoder.model.0.bias"].size)
    x = _conv(g, x, "decoder.model.1")
    for i, rate in enumerate(RATES, 2):
        name = f"decoder.model.{i}.block"
        x = _snake(g, x, f"{name}.0")
        kernel, bias = g.weight(f"{name}.1.weight"), g.weight(f"{name}.1.bias")
        x = g.op("ConvTranspose", x, kernel, bias, strides=[rate], pads=[rate // 2] * 2)
        x = g.add(x, g.mul(_noise(g, x), g.op("Conv", x, g.weight(f"{name}.2.linear.weight"))))
        x = _units(g, x, name, 3)
    x = _conv(g, _snake(g, x, "decoder.model.6"), "decoder.model.7", pads=[3, 3])
    samples = g.op("Cast", g.op("Tanh", x), to=FLOAT)
    g.output(samples, "audio_values", FLOAT, ["batch", 1, "samples"])
    return g.model()


def encoder_model(weights: Mapping[str, Array], *, half: bool = False) -> onnx.ModelProto:
    """Samples [B, 1, 2048 F] → codes [B, F], [B, 2F], [B, 4F]."""
    g = Graph(weights, half=half)
    x = g.cast(g.input("audio_values", FLOAT, ["batch", 1, "samples"]))
    x = _conv(g, x, "encoder.block.0", pads=[3, 3])
    for i, rate in enumerate(reversed(RATES), 1):
        name = f"encoder.block.{i}.block"
        x = _snake(g, _units(g, x, name, 0), f"{name}.3")
        x = _conv(g, x, f"{name}.4", strides=[rate], pads=[rate // 2] * 2)
    last = f"encoder.block.{len(RATES) + 1}"
    x = _conv(g, x, last, pads=[3, 3], group=weights[f"{last}.bias"].size)
    for i, stride in enumerate(STRIDES):
        name = f"quantizer.quantizers.{i}"
        pooled = g.op("AveragePool", x, kernel_shape=[stride], strides=[stride])
        codebook = weights[f"{name}.codebook.weight"]
        directions = codebook / np.linalg.norm(codebook, axis=1, keepdims=True)
        # The nearest of vectors of length one is the one with the largest product.
        alike = g.op("MatMul", g.swap(_conv(g, pooled, f"{name}.in_proj")), g.const(directions.T))
        codes = g.op("ArgMax", alike, axis=-1, keepdims=0)
        g.output(codes, f"audio_codes.{i}", INT64, ["batch", f"codes_{i}"])
        rows = g.op("Gather", g.weight(f"{name}.codebook.weight"), codes, axis=0)
        part = _repeated(g, _conv(g, g.swap(rows), f"{name}.out_proj"), stride)
        x = g.op("Sub", x, part)
    return g.model()


def _conv(g: Graph, x: str, name: str, **how: object) -> str:
    return g.op("Conv", x, g.weight(f"{name}.weight"), g.weight(f"{name}.bias"), **how)


def _snake(g: Graph, x: str, name: str) -> str:
    alpha = g.weights[f"{name}.alpha"]
    squared = g.op("Pow", g.op("Sin", g.mul(g.weight(f"{name}.alpha"), x)), g.const(2.0))
    return g.add(x, g.mul(g.const(1 / (alpha + 1e-9)), squared))


def _units(g: Graph, x: str, name: str, first: int) -> str:
    for i, dilation in enumerate(DILATIONS, first):
        unit, pad = f"{name}.{i}.block", 3 * dilation
        channels = g.weights[f"{unit}.1.bias"].size
        y = _snake(g, x, f"{unit}.0")
        y = _conv(g, y, f"{unit}.1", pads=[pad, pad], dilations=[dilation], group=channels)
        x = g.add(x, _conv(g, _snake(g, y, f"{unit}.2"), f"{unit}.3"))
    return x


def _noise(g: Graph, x: str) -> str:
    """One number for each step, the same in all channels."""
    shape = g.cat(g.size(x, 0), g.ints(1), g.size(x, 2), axis=0)
    with g.single():
        drawn = g.op("RandomNormalLike", g.op("ConstantOfShape", shape))
    return g.cast(drawn)


def _repeated(g: Graph, x: str, times: int) -> str:
    """Each step so many times over, [B, C, T] → [B, C, T × times]."""
    if times == 1:
        return x
    wide = g.op("Concat", *[g.op("Unsqueeze", x, g.ints(3))] * times, axis=3)
    return g.op("Reshape", wide, g.ints(0, 0, -1))
