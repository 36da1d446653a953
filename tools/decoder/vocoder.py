"""Writes the vocoder as a graph: mel frames to samples.

All of it works on [B, C, T] (authors' source: `models/s3gen/hifigan.py` and `f0_predictor.py`;
names of weights are theirs, weight norm already folded).
"""

import numpy as np

from tools.decoder.graph import FLOAT, Graph

TOP = "mel2wav"
SAMPLE_RATE_HZ = 24_000
HARMONICS = 9  # the fundamental and eight above it
SINE_AMPLITUDE = 0.1
NOISE_STD = 0.003
VOICED_ABOVE_HZ = 10.0
N_FFT, HOP = 16, 4
SLOPE = 0.1
LIMIT = 0.99
SAMPLES_PER_FRAME = 480
MUTED_SAMPLES = SAMPLE_RATE_HZ // 50


def waveform(g: Graph, mel: str) -> str:
    """mel [B, 80, F] → waveform [B, 480 F], in single precision, as pitch and source are in every
    edition: half a hertz is a turn of phase in two seconds."""
    with g.single():
        source = _source(g, _pitch(g, g.cast(mel)))
        spectrum = _stft(g, source)
    x = _filter(g, mel, g.cast(spectrum))
    with g.single():
        return _faded_in(g, _samples(g, g.cast(x)))


def _conv(g: Graph, x: str, name: str, *, dilation: int = 1, padding: int | None = None) -> str:
    taps = g.weights[f"{name}.weight"].shape[2]
    pad = (taps - 1) * dilation // 2 if padding is None else padding
    weight, bias = g.weight(f"{name}.weight"), g.weight(f"{name}.bias")
    return g.op("Conv", x, weight, bias, dilations=[dilation], pads=[pad, pad])


def _pitch(g: Graph, mel: str) -> str:
    """mel [B, 80, F] → f0 in Hz [B, 1, F]."""
    name = f"{TOP}.f0_predictor"
    g.scope = "pitch"
    count = len({k.split(".")[3] for k in g.weights if k.startswith(f"{name}.condnet.")})
    x = mel
    for i in range(count):
        x = g.op("Elu", _conv(g, x, f"{name}.condnet.{2 * i}"))
    f0 = g.op("Abs", g.linear(g.swap(x), f"{name}.classifier"))
    return g.swap(f0)


def _source(g: Graph, f0: str) -> str:
    """f0 [B, 1, F] → excitation [B, 1, 480 F]: harmonics where voiced, noise elsewhere.

    The authors sum f0 over samples; it is constant over a frame, so that summing the frames'
    turns, whole ones left out, gives the same phase with far less rounding."""
    g.scope = "source"
    multiples = np.arange(1, HARMONICS + 1, dtype=np.float32)[None, :, None]
    step = g.mul(f0, g.const(multiples / SAMPLE_RATE_HZ))  # [B, 9, F] turns a sample
    turns = _fraction(g, g.mul(step, g.const(SAMPLES_PER_FRAME)))
    begun = g.op("CumSum", turns, g.const(2, np.int64), exclusive=1)
    within = g.const(np.arange(1, SAMPLES_PER_FRAME + 1)[None, None, None])
    angles = g.add(g.op("Unsqueeze", begun, g.ints(3)),
                   g.mul(g.op("Unsqueeze", step, g.ints(3)), within))  # fmt: skip
    angles = g.mul(_fraction(g, g.op("Reshape", angles, g.ints(0, HARMONICS, -1))),
                   g.const(2 * np.pi))  # fmt: skip
    one = g.slice(angles, g.ints(0), g.ints(1), 2)
    phases = g.op("RandomUniformLike", one, low=-np.pi, high=np.pi)  # [B, 9, 1]
    fundamental = np.arange(HARMONICS)[None, :, None] > 0  # its phase is fixed at 0
    angles = g.add(angles, g.mul(phases, g.const(fundamental.astype(np.float32))))
    sines = g.mul(g.op("Sin", angles), g.const(SINE_AMPLITUDE))
    noise = g.op("RandomNormalLike", sines)
    voiced = g.op("Cast", g.op("Greater", f0, g.const(VOICED_ABOVE_HZ)), to=FLOAT)
    voiced = _held(g, voiced)
    unvoiced = g.mul(g.op("Sub", g.const(1.0), voiced), g.const(SINE_AMPLITUDE / 3))
    loudness = g.add(g.mul(voiced, g.const(NOISE_STD)), unvoiced)
    waves = g.add(g.mul(sines, voiced), g.mul(loudness, noise))
    return g.swap(g.op("Tanh", g.linear(g.swap(waves), f"{TOP}.m_source.l_linear")))


def _fraction(g: Graph, x: str) -> str:
    return g.op("Sub", x, g.op("Floor", x))


def _held(g: Graph, frames: str) -> str:
    """[B, 1, F] → [B, 1, 480 F]."""
    wide = g.op("Expand", g.op("Unsqueeze", frames, g.ints(3)),
                g.ints(1, 1, 1, SAMPLES_PER_FRAME))  # fmt: skip
    return g.op("Reshape", wide, g.ints(0, 1, -1))


def _filter(g: Graph, mel: str, spectrum: str) -> str:
    """mel and the excitation's spectrum → loudness and phase of 9 bins [B, 18, 120 F + 1]."""
    g.scope = "filter"
    stages = len({k.split(".")[2] for k in g.weights if k.startswith(f"{TOP}.ups.")})
    kernels = len({k.split(".")[2] for k in g.weights if k.startswith(f"{TOP}.resblocks.")})
    kernels //= stages
    x = _conv(g, mel, f"{TOP}.conv_pre")
    for i in range(stages):
        x = _upsampled(g, g.op("LeakyRelu", x, alpha=SLOPE), f"{TOP}.ups.{i}")
        if i == stages - 1:
            x = g.op("Pad", x, g.ints(0, 0, 1, 0, 0, 0), mode="reflect")
        x = g.add(x, _residual(g, _downsampled(g, spectrum, i), f"{TOP}.source_resblocks.{i}"))
        blocks = [_residual(g, x, f"{TOP}.resblocks.{i * kernels + j}") for j in range(kernels)]
        x = g.mul(g.op("Sum", *blocks), g.const(1.0 / kernels))
    return _conv(g, g.op("LeakyRelu", x, alpha=0.01), f"{TOP}.conv_post")


def _samples(g: Graph, x: str) -> str:
    """Loudness and phase of 9 bins → waveform [B, 480 F]."""
    g.scope = "samples"
    bins = N_FFT // 2 + 1
    loud, turned = g.ops("Split", x, g.ints(bins, bins), outputs=2, axis=1)
    loud = g.op("Min", g.op("Exp", loud), g.const(1e2))
    turned = g.op("Sin", turned)
    real, imaginary = g.mul(loud, g.op("Cos", turned)), g.mul(loud, g.op("Sin", turned))
    wave = _istft(g, g.cat(real, imaginary, axis=1))
    return g.op("Clip", wave, g.const(-LIMIT), g.const(LIMIT))


def _upsampled(g: Graph, x: str, name: str) -> str:
    taps = g.weights[f"{name}.weight"].shape[2]
    rate = taps // 2
    pad = (taps - rate) // 2
    weight, bias = g.weight(f"{name}.weight"), g.weight(f"{name}.bias")
    return g.op("ConvTranspose", x, weight, bias, strides=[rate], pads=[pad, pad])


def _downsampled(g: Graph, spectrum: str, stage: int) -> str:
    name = f"{TOP}.source_downs.{stage}"
    taps = g.weights[f"{name}.weight"].shape[2]
    rate = max(taps // 2, 1)
    pad = rate // 2 if taps > 1 else 0
    weight, bias = g.weight(f"{name}.weight"), g.weight(f"{name}.bias")
    return g.op("Conv", spectrum, weight, bias, strides=[rate], pads=[pad, pad])


def _residual(g: Graph, x: str, name: str) -> str:
    for i, dilation in enumerate((1, 3, 5)):
        inner = _conv(
            g, _snake(g, x, f"{name}.activations1.{i}"), f"{name}.convs1.{i}", dilation=dilation
        )
        inner = _conv(g, _snake(g, inner, f"{name}.activations2.{i}"), f"{name}.convs2.{i}")
        x = g.add(x, inner)
    return x


def _snake(g: Graph, x: str, name: str) -> str:
    """x + sin²(αx) / α."""
    alpha = g.weights[f"{name}.alpha"][None, :, None]
    sine = g.op("Sin", g.mul(x, g.weight(f"{name}.alpha", alpha)))
    return g.add(x, g.mul(g.mul(sine, sine), g.const(1.0 / (alpha + 1e-9))))


def _stft(g: Graph, x: str) -> str:
    """[B, 1, S] → [B, 18, S/4 + 1]: real parts, then imaginary ones."""
    padded = g.op("Pad", x, g.ints(0, 0, N_FFT // 2, 0, 0, N_FFT // 2), mode="reflect")
    times, bins = np.arange(N_FFT), np.arange(N_FFT // 2 + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * times / N_FFT)
    angles = 2 * np.pi * bins[:, None] * times / N_FFT
    basis = np.concatenate([np.cos(angles), -np.sin(angles)]) * window  # [18, 16]
    return g.op("Conv", padded, g.const(basis[:, None]), strides=[HOP])


def _istft(g: Graph, spectrum: str) -> str:
    """[B, 18, N] → [B, 4 (N - 1)]: overlap-add, divided by the windows' sum of squares."""
    times, bins = np.arange(N_FFT), np.arange(N_FFT // 2 + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * times / N_FFT)
    twice = np.where((bins == 0) | (bins == N_FFT // 2), 1.0, 2.0)[:, None] / N_FFT
    angles = 2 * np.pi * bins[:, None] * times / N_FFT
    basis = np.concatenate([np.cos(angles) * twice, -np.sin(angles) * twice]) * window
    wave = g.op("ConvTranspose", spectrum, g.const(basis[:, None]), strides=[HOP])
    ones = g.op(
        "Expand", g.const(np.ones((1, 1, 1))), g.cat(g.ints(1, 1), g.size(spectrum, 2), axis=0)
    )
    weight = g.op("ConvTranspose", ones, g.const((window**2)[None, None]), strides=[HOP])
    ends = g.ints(N_FFT // 2), g.ints(-(N_FFT // 2))
    wave, weight = g.slice(wave, *ends, 2), g.slice(weight, *ends, 2)
    return g.op("Squeeze", g.op("Div", wave, weight), g.ints(1))


def _faded_in(g: Graph, wave: str) -> str:
    """The first 20 ms muted, the next 20 ms faded in."""
    ramp = (np.cos(np.linspace(np.pi, 0, MUTED_SAMPLES)) + 1) / 2
    fade = g.const(np.concatenate([np.zeros(MUTED_SAMPLES), ramp]))
    behind = g.op("Sub", g.size(wave, 1), g.ints(2 * MUTED_SAMPLES))
    rest = g.op("Expand", g.const([1.0]), behind)
    return g.mul(wave, g.cat(fade, rest, axis=0))
