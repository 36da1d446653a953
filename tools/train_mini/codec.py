"""Which code stands for which 40 ms of speech? An FSQ autoencoder over relative features.

Knows no text. Codes are relative to a speaker's mean spectrum and pitch; the decoder adds both.
"""

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as fn

from . import data
from .features import BANDS, FRAMES_PER_CODE

DIGITS = 8
CODES = 3**DIGITS
IN = BANDS + 2
STATS = BANDS + 1
POWERS = torch.tensor([3**i for i in range(DIGITS)])
CORRUPTED = 0.02
"""Share of digits replaced while training, so that a wrong code does little harm."""


def centre_stats(stats: torch.Tensor) -> torch.Tensor:
    """Speaker means scaled to about unit size."""
    return torch.cat([(stats[..., :BANDS] + 6.0) / 2.0, (stats[..., BANDS:] - 4.8) * 2.0], -1)


class Encoder(nn.Module):
    """Relative features [B, 4T, 82] → digits in −1, 0, 1 [B, T, 8]."""

    def __init__(self, width: int = 144) -> None:
        super().__init__()
        self.first = nn.Conv1d(IN, width, 5, padding=2)
        self.down = nn.Conv1d(width, width, 8, stride=FRAMES_PER_CODE, padding=2)
        self.middle = nn.Conv1d(width, width, 3, padding=1)
        self.last = nn.Conv1d(width, DIGITS, 1)

    def forward(self, relative: torch.Tensor) -> torch.Tensor:
        x = fn.gelu(self.first(relative.transpose(1, 2)), approximate="tanh")
        x = fn.gelu(self.down(x), approximate="tanh")
        x = x + fn.gelu(self.middle(x), approximate="tanh")
        return torch.tanh(self.last(x)).transpose(1, 2)


class Decoder(nn.Module):
    """Digits [B, T, 8] and speaker means [B, 81] → relative features [B, 4T, 82].

    Looks two codes and two frames ahead at most: a stream that holds back three codes hears no
    difference. (left, right) padding is given per layer.
    """

    PADS = ((3, 1), (3, 1), (4, 0))

    def __init__(self, width: int = 192, fine: int = 112) -> None:
        super().__init__()
        self.fine = fine
        self.digits = nn.Linear(DIGITS, width)
        self.speaker = nn.Linear(STATS, width)
        self.coarse = nn.ModuleList(nn.Conv1d(width, width, 5) for _ in self.PADS)
        self.up = nn.Linear(width, FRAMES_PER_CODE * fine)
        self.fine_speaker = nn.Linear(STATS, fine)
        self.fines = nn.ModuleList(nn.Conv1d(fine, fine, 3, padding=1) for _ in range(2))
        self.out = nn.Linear(fine, IN)

    def forward(self, digits: torch.Tensor, stats: torch.Tensor) -> torch.Tensor:
        stats = centre_stats(stats)
        x = (self.digits(digits) + self.speaker(stats)[:, None]).transpose(1, 2)
        for conv, pad in zip(self.coarse, self.PADS, strict=True):
            x = x + fn.gelu(conv(fn.pad(x, pad)), approximate="tanh")
        x = self.up(x.transpose(1, 2)).reshape(x.shape[0], -1, self.fine)
        x = (x + self.fine_speaker(stats)[:, None]).transpose(1, 2)
        for conv in self.fines:
            x = x + fn.gelu(conv(x), approximate="tanh")
        return self.out(fn.gelu(x, approximate="tanh").transpose(1, 2))


class Codec(nn.Module):
    """Encoder, quantiser and decoder together."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, relative: torch.Tensor, stats: torch.Tensor) -> torch.Tensor:
        soft = self.encoder(relative)
        hard = soft + (soft.round() - soft).detach()
        if self.training:
            noise = torch.randint(-1, 2, hard.shape).to(hard.dtype)
            hard = torch.where(torch.rand(hard.shape) < CORRUPTED, noise, hard)
        return self.decoder(hard, stats)


def to_codes(digits: torch.Tensor) -> torch.Tensor:
    """Digits −1, 0, 1 → raw index 0..6560 (before silence gets its reserved place)."""
    return ((digits.round() + 1).long() * POWERS).sum(-1)


def to_digits(codes: torch.Tensor) -> torch.Tensor:
    """Inverse of `to_codes`."""
    return (codes[..., None] // POWERS % 3 - 1).float()


def loss_parts(out: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Mel (louder frames count more; slopes over time and frequency too), pitch, voicing."""
    mel, wanted = out[..., :BANDS], target[..., :BANDS]
    weight = (0.15 + torch.sigmoid(wanted.mean(-1, keepdim=True) * 2.0 + 2.5))
    error = mel - wanted
    over_bands = error[..., 2:] - error[..., :-2]
    over_time = error[:, 1:] - error[:, :-1]
    mel_loss = (
        (weight * error.abs()).mean()
        + 0.7 * (weight * over_bands.abs()).mean()
        + 0.3 * (weight[:, 1:] * over_time.abs()).mean()
    )
    voiced = target[..., BANDS + 1]
    pitch = ((out[..., BANDS] - target[..., BANDS]).abs() * voiced).sum() / voiced.sum().clamp(1)
    return mel_loss, pitch, fn.binary_cross_entropy_with_logits(out[..., BANDS + 1], voiced)


class Batches:
    """Random crops, warped and shifted in pitch, with their speaker's means."""

    def __init__(self, corpus: data.Corpus, seed: int, codes: int = 40, size: int = 24) -> None:
        self.corpus, self.size = corpus, size
        self.frames = codes * FRAMES_PER_CODE
        self.rng = np.random.default_rng(seed)
        self.warps = data.warp_matrices()
        self.long = np.flatnonzero(corpus.lengths >= self.frames)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        c, rng = self.corpus, self.rng
        rows, stats = [], []
        for i in rng.choice(self.long, self.size):
            first = c.starts[i] + rng.integers(0, c.lengths[i] - self.frames + 1)
            rows.append(c.features[first : first + self.frames])
            stats.append(c.stats[c.voices[i]])
        x, s = torch.stack(rows).float(), torch.stack(stats)
        warp = np.where(rng.random(self.size) < 0.5, data.PLAIN, rng.integers(0, 9, self.size))
        matrix = self.warps[torch.from_numpy(warp)]
        mel = torch.bmm(x[..., :BANDS], matrix)
        mean = torch.bmm(s[:, None, :BANDS], matrix)[:, 0]
        # The means are estimates from a clip: they come with an error, as in use.
        wobble = torch.from_numpy(rng.normal(0, 0.12, (self.size, 1)).astype(np.float32))
        mean = mean + wobble
        pitch_error = torch.from_numpy(rng.normal(0, 0.02, (self.size, 1)).astype(np.float32))
        shift = rng.uniform(-1, 1, (self.size, 1)) * (warp[:, None] != data.PLAIN)
        shift = shift * data.F0_SHIFT_SEMITONES * math.log(2) / 12
        shift = torch.from_numpy(shift.astype(np.float32))
        f0 = x[..., BANDS : BANDS + 1] + shift[:, None]
        given = torch.cat([mean, s[:, BANDS:] + shift + pitch_error], -1)
        relative = data.relative(torch.cat([mel, f0, x[..., BANDS + 1 :]], -1), given[:, None])
        # A random equaliser changes the speaker, not the relative features.
        tilt = torch.from_numpy(rng.normal(0, 0.5, (self.size, 4)).astype(np.float32))
        curve = torch.cos(torch.arange(BANDS)[None] / BANDS * math.pi * torch.arange(4)[:, None])
        plain = torch.from_numpy((warp == data.PLAIN)[:, None])
        given[:, :BANDS] += torch.where(plain, 0.0, tilt @ curve)
        return relative, given


def train(folder: Path, steps: int, seed: int, minutes: float, reload_every: int = 1000) -> Codec:
    """Train, or go on training, the codec of `folder`; stops after `minutes` at the latest."""
    torch.manual_seed(seed)
    codec, done = Codec(), 0
    optimiser = torch.optim.AdamW(codec.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    state_path = folder / "codec.pt"
    if state_path.exists():
        state = torch.load(state_path)
        codec.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
    began, log = time.monotonic(), (folder / "codec_losses.jsonl").open("a")
    sums, count = np.zeros(3), 0
    batches = None
    codec.train()
    while done < steps:
        if batches is None or done % reload_every == 0:
            batches = Batches(data.load(folder / "speech"), seed + done)
        # The later of the two clocks decides the learning rate, so that it always ends at 0.
        part = max(done / steps, (time.monotonic() - began) / 60 / minutes)
        if part >= 1:
            break
        rate = 2e-3 * min(1.0, (done + 1) / 100) * min(1.0, 1.6 * (1 - part))
        for group in optimiser.param_groups:
            group["lr"] = rate
        relative, stats = batches.next()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = codec(relative, stats)
        parts = loss_parts(out.float(), relative)
        loss = parts[0] + 0.5 * parts[1] + 0.3 * parts[2]
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimiser.step()
        done, count = done + 1, count + 1
        sums += [float(p.detach()) for p in parts]
        if done % 200 == 0:
            mel, pitch, voicing = (round(float(v), 4) for v in sums / count)
            line = {"step": done, "mel": mel, "pitch": pitch, "voicing": voicing,
                    "rate": round(rate, 6), "seconds": round(time.monotonic() - began)}  # fmt: skip
            print(json.dumps(line), file=log, flush=True)
            sums, count = np.zeros(3), 0
        if done % 1000 == 0:
            _save(state_path, codec, optimiser, done)
    _save(state_path, codec, optimiser, done)
    return codec


def _save(path: Path, codec: Codec, optimiser: torch.optim.Optimizer, step: int) -> None:
    state = {"model": codec.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
