"""Renders features as audio: harmonics and noise, filtered in steps of 10 ms.

Uses torch operations that the ONNX exporter supports. Nothing here is trained.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as fn

from .features import BANDS, HOP, RATE_HZ, band_centres_hz

FFT = 768
"""A 20 ms piece of excitation and 12 ms of the filter's answer."""
PIECE = 2 * HOP
BINS = FFT // 2 + 1
BUZZ_BELOW_HZ, BUZZ_EDGE_HZ = 4800.0, 500.0
"""Voiced frames are harmonic below this and noise above, as breath is."""
SILENT_SAMPLES = FADE_SAMPLES = 480
"""Every call starts with 20 ms of nothing and fades in over the next 20 ms, as upstream's."""
SHARPEN = 1.3
"""Peaks of the predicted spectrum are raised by this much at first: a codec trained on absolute
error flattens them. `heard.py` goes on from here."""
EMPHASIS = 1.2
"""And by this much more in what ships: `heard.py` takes absolute errors too."""
QUICKEN = 1.5
"""What moves away from its mean over QUICKEN_FRAMES is raised by this much in what ships: windows
of four periods, pieces and absolute errors all slow the spectrum down."""
QUICKEN_FRAMES = 5


def quickening_taps(quicken: float = QUICKEN) -> list[float]:
    """A filter over frames, the middle one now. [QUICKEN_FRAMES]"""
    taps = [(1 - quicken) / QUICKEN_FRAMES] * QUICKEN_FRAMES
    taps[QUICKEN_FRAMES // 2] += quicken
    return taps


def waves(bins: int, size: int, kind: str) -> torch.Tensor:
    """cos or sin of 2π · bin · sample / FFT. [bins, size]"""
    angle = torch.arange(bins)[:, None] * torch.arange(size)[None] % FFT * (2 * math.pi / FFT)
    return angle.cos() if kind == "cos" else angle.sin()


def envelope_matrix() -> torch.Tensor:
    """Log power at band centres → at the bins of an FFT; steep above the top band. [BANDS, BINS]"""
    centres = band_centres_hz()
    hz = np.arange(BINS) * RATE_HZ / FFT
    matrix = np.zeros((BANDS, BINS), np.float32)
    at = np.interp(hz, centres, np.arange(BANDS))
    low = np.minimum(at.astype(int), BANDS - 2)
    matrix[low, np.arange(BINS)] += 1 - (at - low)
    matrix[low + 1, np.arange(BINS)] += at - low
    return torch.from_numpy(matrix)


def smoothing_matrix(width: float = 5.0) -> torch.Tensor:
    """Log-mel → its trend over bands; what stands out from it is sharpened. [BANDS, BANDS]"""
    near = np.exp(-0.5 * ((np.arange(BANDS)[:, None] - np.arange(BANDS)[None]) / width) ** 2)
    return torch.from_numpy((near / near.sum(0)).astype(np.float32))


def sharpening_matrix(sharpen: float = SHARPEN) -> torch.Tensor:
    """Log-mel → the same with what stands out from its trend raised. [BANDS, BANDS]"""
    return sharpen * torch.eye(BANDS) + (1 - sharpen) * smoothing_matrix()


class Renderer(nn.Module):
    """log-mel [B, T, 80], log f0 [B, T], voicing logits [B, T] → samples [B, T × 240]."""

    def __init__(self, sharp: torch.Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("sharp", sharpening_matrix() if sharp is None else sharp)
        self.register_buffer("envelope", envelope_matrix())
        hz = torch.arange(BINS) * RATE_HZ / FFT
        buzz = torch.sigmoid((BUZZ_BELOW_HZ - hz) / BUZZ_EDGE_HZ)
        self.register_buffer("buzz", buzz)
        fade_out = (1 - ((hz - 8300.0) / 1500.0).clamp(0, 1)) * ((hz - 30) / 40.0).clamp(0, 1)
        self.register_buffer("audible", fade_out)
        # cos and sin with the Hann piece on the way in; weights of a real inverse on the way out
        hann = 0.5 - 0.5 * torch.cos(2 * math.pi * (torch.arange(PIECE) + 0.5) / PIECE)
        self.register_buffer("hann", hann)
        self.register_buffer("wave_cos", waves(BINS, FFT, "cos"))
        self.register_buffer("wave_sin", waves(BINS, FFT, "sin"))
        double = torch.full((BINS,), 2.0 / FFT)
        double[0] = double[-1] = 1.0 / FFT
        self.register_buffer("inverse", double)
        self.register_buffer("ramp", (torch.arange(HOP) + 0.5) / HOP)

    def harmonics(self, log_f0: torch.Tensor) -> torch.Tensor:
        """Equal cosines at every multiple of f0 below half the rate; unit power. [B, T × HOP]"""
        f0 = log_f0.exp().clamp(50.0, 500.0) / RATE_HZ  # cycles a sample
        following = torch.cat([f0[:, 1:], f0[:, -1:]], 1)
        advance = (f0 + following) * (HOP / 2)
        # Whole cycles are dropped frame by frame, so that float32 keeps the phase over minutes.
        start = torch.cumsum(advance - advance.floor(), 1) - (advance - advance.floor())
        start = start - start.floor()
        ramp = self.ramp
        within = HOP * (f0[..., None] * ramp + (following - f0)[..., None] * ramp * ramp / 2)
        phase = start[..., None] + within
        phase = (phase - phase.round()) * math.pi  # half the angle, −π/2 … π/2
        count = (0.46 / f0).floor()[..., None]
        below = phase.sin()
        small = below.abs() < 1e-4
        kernel = torch.sin((2 * count + 1) * phase) / torch.where(
            small, torch.ones_like(below), below
        )
        kernel = torch.where(small, (2 * count + 1).expand_as(kernel), kernel)
        cosines = (kernel - 1) / 2
        wave = cosines * (4 * f0).sqrt()[..., None]
        return wave.reshape(f0.shape[0], -1)

    def pieces(self, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hann pieces around each frame → real and imaginary spectra [B, T, BINS]."""
        side = HOP // 2
        padded = fn.pad(wave, (side, side)).reshape(wave.shape[0], -1, HOP // 2)
        parts = [padded[:, k : k + padded.shape[1] - 3 : 2] for k in range(4)]
        piece = torch.cat(parts, -1) * self.hann
        real = piece @ self.wave_cos[:, :PIECE].t()
        return real, piece @ self.wave_sin[:, :PIECE].t()

    def filters(
        self, mel: torch.Tensor, voicing: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What harmonics and noise are multiplied by. [B, T, BINS] each"""
        power = (mel @ self.sharp @ self.envelope).clamp(max=4.0)
        gain = torch.exp(power * 0.5) * self.audible
        buzz = torch.sigmoid(voicing * 2.0)[..., None] * self.buzz
        return gain * buzz.sqrt(), gain * (1 - buzz).sqrt()

    def forward(
        self, mel: torch.Tensor, log_f0: torch.Tensor, voicing: torch.Tensor
    ) -> torch.Tensor:
        tone, hiss = self.filters(mel, voicing)
        tone_real, tone_imag = self.pieces(self.harmonics(log_f0))
        shape = torch.zeros_like(log_f0)[..., None].expand(-1, -1, HOP).reshape(log_f0.shape[0], -1)
        noise_real, noise_imag = self.pieces(torch.randn_like(shape))
        real = (tone_real * tone + noise_real * hiss) * self.inverse
        imag = (tone_imag * tone + noise_imag * hiss) * self.inverse
        # The piece lies at 0 … 480 of 768; the filter answers 144 samples to either side.
        middle = (FFT - PIECE) // 2
        turned = torch.cat([self.wave_cos[:, FFT - middle :], self.wave_cos[:, : FFT - middle]], 1)
        swirl = torch.cat([self.wave_sin[:, FFT - middle :], self.wave_sin[:, : FFT - middle]], 1)
        frames = real @ turned + imag @ swirl  # [B, T, FFT]
        return overlap(frames)


def overlap(frames: torch.Tensor) -> torch.Tensor:
    """Add pieces of FFT samples that start HOP apart; keep frame t's own HOP samples in place."""
    b, t, _ = frames.shape
    frames = fn.pad(frames, (0, 4 * HOP - FFT))
    parts = frames.reshape(b, t, 4, HOP)
    # Frame t starts (FFT − HOP) / 2 = 264 samples before its own HOP samples.
    total = sum(fn.pad(parts[:, :, k], (0, 0, k, 3 - k)) for k in range(4))
    flat = total.reshape(b, -1)
    before = (FFT - HOP) // 2
    return flat[:, before : before + t * HOP]


def fade_in(wave: torch.Tensor) -> torch.Tensor:
    """Silence the first 20 ms and raise the next 20 ms as upstream does."""
    ramp = (torch.cos(torch.linspace(math.pi, 0, FADE_SAMPLES)) + 1) / 2
    head = torch.cat([torch.zeros(SILENT_SAMPLES), ramp])
    first = wave[:, : SILENT_SAMPLES + FADE_SAMPLES] * head
    return torch.cat([first, wave[:, SILENT_SAMPLES + FADE_SAMPLES :]], 1)
