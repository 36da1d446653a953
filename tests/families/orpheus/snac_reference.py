"""SNAC's decoder written a second time, in numpy, from its authors' description."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def decoded(weights: Mapping[str, Array], codes: Sequence[Array], noise: Sequence[Array]) -> Array:
    """Three rows of codes [F], [2F], [4F], a row of noise for each block → samples [2048 F]."""
    x = np.zeros(())
    for i, (row, times) in enumerate(zip(codes, (4, 2, 1), strict=True)):
        name = f"quantizer.quantizers.{i}"
        vectors = weights[f"{name}.codebook.weight"].astype(float)[row].T
        x = x + np.repeat(_conv(weights, vectors, f"{name}.out_proj"), times, axis=1)
    x = _conv(weights, _conv(weights, x, "decoder.model.0"), "decoder.model.1")
    for i, rate in enumerate((8, 8, 4, 2)):
        name = f"decoder.model.{i + 2}.block"
        x = _raised(weights, _snake(weights, x, f"{name}.0"), f"{name}.1", rate)
        x = x + noise[i] * (weights[f"{name}.2.linear.weight"][:, :, 0] @ x)
        for unit, dilation in enumerate((1, 3, 9), 3):
            y = _snake(weights, x, f"{name}.{unit}.block.0")
            y = _conv(weights, y, f"{name}.{unit}.block.1", dilation)
            y = _snake(weights, y, f"{name}.{unit}.block.2")
            x = x + _conv(weights, y, f"{name}.{unit}.block.3")
    x = _conv(weights, _snake(weights, x, "decoder.model.6"), "decoder.model.7")
    return np.tanh(x[0])


def _snake(weights: Mapping[str, Array], x: Array, name: str) -> Array:
    alpha = weights[f"{name}.alpha"][0]
    return x + np.sin(alpha * x) ** 2 / (alpha + 1e-9)


def _conv(weights: Mapping[str, Array], x: Array, name: str, dilation: int = 1) -> Array:
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    out, inside, taps = kernel.shape
    reach = (taps - 1) // 2 * dilation
    padded = np.pad(x, ((0, 0), (reach, reach)))
    made = np.zeros((out, x.shape[1]))
    for tap in range(taps):
        part = padded[:, tap * dilation : tap * dilation + x.shape[1]]
        # One input channel for each output, or all of them.
        made += kernel[:, :, tap] * part if inside == 1 < x.shape[0] else kernel[:, :, tap] @ part
    return made + bias[:, None]


def _raised(weights: Mapping[str, Array], x: Array, name: str, rate: int) -> Array:
    """Transposed convolution: each step adds a kernel of two strides to the output."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    made = np.zeros((kernel.shape[1], (x.shape[1] + 1) * rate))
    for step in range(x.shape[1]):
        made[:, step * rate : (step + 2) * rate] += np.einsum("iok,i->ok", kernel, x[:, step])
    return made[:, rate // 2 : rate // 2 + x.shape[1] * rate] + bias[:, None]
