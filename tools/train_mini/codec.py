"""Codec of the embedded model: a decoder from codes to audio, and a small encoder.

Codes are relative to a speaker's mean spectrum and pitch; the decoder adds both.
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as fn

from . import data
from .checkpoint import Keeper
from .features import BANDS, FRAMES_PER_CODE
from .render import sharpening_matrix
from .speech import VOICES
from .units import PHONES, ROW, Units

IN = BANDS + 2
STATS = BANDS + 1
CORRUPTED = 0.02
"""Share of codes replaced while training, so that a wrong code does little harm."""
SLT_WEIGHT = 2.0
WARPED = 0.35
"""Share of crops in another voice than flite's four."""
ENCODER_EVERY = 4
"""The encoder, which only the prompt's codes need, learns at every so many steps."""


def centre_stats(stats: torch.Tensor) -> torch.Tensor:
    """Speaker means scaled to about unit size."""
    return torch.cat([(stats[..., :BANDS] + 6.0) / 2.0, (stats[..., BANDS:] - 4.8) * 2.0], -1)


class Encoder(nn.Module):
    """Relative features [B, 4T, 82] → logits of the two phones of each code [B, T, 2 × PHONES]."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.first = nn.Conv1d(IN, width, 5, padding=2)
        self.down = nn.Conv1d(width, width, 8, stride=FRAMES_PER_CODE, padding=2)
        self.middle = nn.Conv1d(width, width, 3, padding=1)
        self.last = nn.Conv1d(width, 2 * PHONES, 1)

    def forward(self, relative: torch.Tensor) -> torch.Tensor:
        x = fn.gelu(self.first(relative.transpose(1, 2)), approximate="tanh")
        x = fn.gelu(self.down(x), approximate="tanh")
        x = x + fn.gelu(self.middle(x), approximate="tanh")
        return self.last(x).transpose(1, 2)


class Decoder(nn.Module):
    """Descriptions of codes [B, T, ROW] and speaker means [B, 81] → relative features [B, 4T, 82].

    Looks four codes and two frames ahead at most: a stream that holds back five codes hears no
    difference. (left, right) padding is given per layer.
    """

    PADS = ((2, 2), (2, 2), (4, 0), (4, 0))

    def __init__(self, width: int = 192, fine: int = 112) -> None:
        super().__init__()
        self.fine = fine
        self.codes = nn.Linear(ROW, width)
        self.speaker = nn.Linear(STATS, width)
        self.coarse = nn.ModuleList(nn.Conv1d(width, width, 5) for _ in self.PADS)
        # Formants move with the speaker, and differently for each phone: scales, not only offsets.
        self.film = nn.Linear(STATS, 2 * width * len(self.PADS))
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.up = nn.Linear(width, FRAMES_PER_CODE * fine)
        self.fine_speaker = nn.Linear(STATS, fine)
        self.fines = nn.ModuleList(nn.Conv1d(fine, fine, 3, padding=1) for _ in range(2))
        self.out = nn.Linear(fine, IN)
        # Log-mel as foreseen → as rendered; `heard.py` trains it.
        self.sharp = nn.Parameter(sharpening_matrix())

    def forward(self, rows: torch.Tensor, stats: torch.Tensor) -> torch.Tensor:
        stats = centre_stats(stats)
        x = (self.codes(rows) + self.speaker(stats)[:, None]).transpose(1, 2)
        film = self.film(stats)[..., None].chunk(2 * len(self.PADS), 1)
        for i, (conv, pad) in enumerate(zip(self.coarse, self.PADS, strict=True)):
            y = conv(fn.pad(x, pad)) * (1 + film[2 * i]) + film[2 * i + 1]
            x = x + fn.gelu(y, approximate="tanh")
        x = self.up(x.transpose(1, 2)).reshape(x.shape[0], -1, self.fine)
        x = (x + self.fine_speaker(stats)[:, None]).transpose(1, 2)
        for conv in self.fines:
            x = x + fn.gelu(conv(x), approximate="tanh")
        return self.out(fn.gelu(x, approximate="tanh").transpose(1, 2))


class Codec(nn.Module):
    """Both directions; they are trained apart."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()


def mel_loss(mel: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Absolute error; louder frames count more, slopes over frequency and time too."""
    weight = 0.15 + torch.sigmoid(wanted.mean(-1, keepdim=True) * 2.0 + 2.5)
    error = mel - wanted
    over_bands = error[..., 2:] - error[..., :-2]
    over_time = error[:, 1:] - error[:, :-1]
    return (
        (weight * error.abs()).mean()
        + 0.7 * (weight * over_bands.abs()).mean()
        + 0.3 * (weight[:, 1:] * over_time.abs()).mean()
    )


def loss_parts(out: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Mel, pitch, voicing."""
    voiced = target[..., BANDS + 1]
    pitch = ((out[..., BANDS] - target[..., BANDS]).abs() * voiced).sum() / voiced.sum().clamp(1)
    voicing = fn.binary_cross_entropy_with_logits(out[..., BANDS + 1], voiced)
    return mel_loss(out[..., :BANDS], target[..., :BANDS]), pitch, voicing


class Batches:
    """Random crops of codes and features, warped, shifted in pitch, with their speaker's means."""

    def __init__(
        self, corpus: data.Corpus, codes: np.ndarray, seed: int, length: int = 40, size: int = 24
    ) -> None:
        self.corpus, self.size, self.length = corpus, size, length
        self.codes = torch.from_numpy(codes.astype(np.int64))
        self.rng = np.random.default_rng(seed)
        self.warps = data.warp_matrices()
        self.sizes = corpus.lengths // FRAMES_PER_CODE
        self.first = np.concatenate([[0], np.cumsum(self.sizes)])[:-1]
        self.long = np.flatnonzero(self.sizes >= length)
        # The one woman among the four is the hardest to get right, being unlike the others.
        weight = np.where(corpus.voices[self.long] == VOICES.index("slt"), SLT_WEIGHT, 1.0)
        self.share = weight / weight.sum()

    def next(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Relative features [B, 4T, 82], codes [B, T], speaker means as told [B, 81]."""
        c, rng = self.corpus, self.rng
        rows, stats, codes = [], [], []
        for i in rng.choice(self.long, self.size, p=self.share):
            # A fifth of the crops begin with their sentence, as streams do.
            last = self.sizes[i] - self.length
            at = 0 if rng.random() < 0.2 else int(rng.integers(0, last + 1))
            first = c.starts[i] + at * FRAMES_PER_CODE
            rows.append(c.features[first : first + self.length * FRAMES_PER_CODE])
            codes.append(self.codes[self.first[i] + at : self.first[i] + at + self.length])
            stats.append(c.stats[c.voices[i]])
        x, s = torch.stack(rows).float(), torch.stack(stats)
        warp = np.where(rng.random(self.size) >= WARPED, data.PLAIN, rng.integers(0, 9, self.size))
        matrix = self.warps[torch.from_numpy(warp)]
        mel = torch.bmm(x[..., :BANDS], matrix)
        mean = torch.bmm(s[:, None, :BANDS], matrix)[:, 0]
        # The means are estimates from a clip: they come with an error, as in use.
        wobble = torch.from_numpy(rng.normal(0, 0.12, (self.size, 1)).astype(np.float32))
        pitch_error = torch.from_numpy(rng.normal(0, 0.02, (self.size, 1)).astype(np.float32))
        shift = rng.uniform(-1, 1, (self.size, 1)) * (warp[:, None] != data.PLAIN)
        shift = shift * data.F0_SHIFT_SEMITONES * math.log(2) / 12
        shift = torch.from_numpy(shift.astype(np.float32))
        f0 = x[..., BANDS : BANDS + 1] + shift[:, None]
        given = torch.cat([mean + wobble, s[:, BANDS:] + shift + pitch_error], -1)
        moved = torch.cat([mel, f0, x[..., BANDS + 1 :]], -1)
        relative = data.relative(moved, given[:, None])
        # A random equaliser changes the speaker, not the relative features.
        tilt = torch.from_numpy(rng.normal(0, 0.5, (self.size, 4)).astype(np.float32))
        curve = torch.cos(torch.arange(BANDS)[None] / BANDS * math.pi * torch.arange(4)[:, None])
        plain = torch.from_numpy((warp == data.PLAIN)[:, None])
        given[:, :BANDS] += torch.where(plain, 0.0, tilt @ curve)
        return relative, torch.stack(codes), given


def train(folder: Path, steps: int, seed: int, minutes: float = math.inf) -> Codec:
    """Train, or go on training, the codec of `folder`. A limit in minutes of computing makes the
    result depend on the machine; without one it depends on `seed` alone."""
    torch.manual_seed(seed)
    codec, done = Codec(), 0
    optimiser = torch.optim.AdamW(codec.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    state_path = folder / "codec.pt"
    if state_path.exists():
        state = torch.load(state_path)
        codec.load_state_dict(state["model"])
        if "optimiser" in state:
            optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
    units = Units.load(folder)
    rows, parts_of = units.rows(), torch.from_numpy(units.parts())
    with np.load(folder / "units.npz") as found:
        batches = Batches(data.load(folder / "speech"), found["codes"], seed + done)
    began, keeper = time.process_time(), Keeper(state_path)
    sums: dict[str, float] = {}
    counted = 0
    with (folder / "codec_losses.jsonl").open("a") as log:
        while done < steps and not keeper.asked_to_end:
            part = max(done / steps, (time.process_time() - began) / 60 / minutes)
            if part >= 1:
                break
            rate = 2e-3 * min(1.0, (done + 1) / 100) * min(1.0, 1.6 * (1 - part))
            for group in optimiser.param_groups:
                group["lr"] = rate
            relative, codes, stats = batches.next()
            wrong = torch.rand(codes.shape) < CORRUPTED
            fed = torch.where(wrong, torch.randint(0, len(rows), codes.shape), codes)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = codec.decoder(rows[fed], stats)
            mel, pitch, voicing = loss_parts(out.float(), relative)
            loss = mel + 0.5 * pitch + 0.3 * voicing
            found_losses = {"mel": mel, "pitch": pitch, "voicing": voicing}
            if done % ENCODER_EVERY == 0:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    heard = codec.encoder(relative)
                heard = heard.float().reshape(-1, PHONES)
                wanted = parts_of[codes][..., :2].reshape(-1)
                found_losses["phones"] = fn.cross_entropy(heard, wanted) * ENCODER_EVERY
                loss = loss + found_losses["phones"] / ENCODER_EVERY
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
            optimiser.step()
            done, counted = done + 1, counted + 1
            for key, value in found_losses.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach())
            if done % 200 == 0:
                line = {"step": done} | {k: round(v / counted, 4) for k, v in sums.items()}
                line |= {"rate": round(rate, 6), "cpu_s": round(time.process_time() - began)}
                print(json.dumps(line), file=log, flush=True)
                sums, counted = {}, 0
            if keeper.due():
                keeper.write(state_of(codec, optimiser, done))
    keeper.write(state_of(codec, optimiser, done))
    return codec


def state_of(codec: Codec, optimiser: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    """What a checkpoint keeps."""
    return {"model": codec.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
