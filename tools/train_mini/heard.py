"""Trains the decoder on its own rendered audio, to match flite's speech after rendering.

The loss is computed after rendering, so that the decoder and the renderer's sharpening compensate
for what windows, filters and smoothed features lose.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as fn

from . import codec, data, speech
from .checkpoint import Keeper
from .features import BANDS, BINS, FRAMES_PER_CODE, HOP, N_FFT, filters
from .render import FFT, PIECE, Renderer, overlap
from .units import Units

WINDOWS = (320, 600, 1024)
"""Samples heard at once: bursts, as a recogniser hears, single harmonics."""
FLOOR = 3e-6
EDGE_FRAMES = 2
"""Frames at the ends of a crop whose neighbours are missing."""
CROP_CODES, CROPS = 40, 12
PLAIN_CROPS = 12
LONGEST_FRAMES = 900
SURE = 4.0
"""Voicing logit of a voiced frame."""
RATE = 6e-4
FEATURES_COUNT = 0.5
"""Share of the old loss on crops that are heard."""


def prepare(corpus: data.Corpus, folder: Path, count: int) -> None:
    """Let flite say `count` of the sentences again and keep the sound: `heard.npy`, `heard.npz`."""
    fitting = (corpus.lengths >= CROP_CODES * FRAMES_PER_CODE) & (corpus.lengths <= LONGEST_FRAMES)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(fitting))[:count]
    sounds = []
    for i in chosen:
        told = speech.speak(corpus.texts[i], speech.VOICES[corpus.voices[i]], folder / "heard.wav")
        audio, _ = speech.trim(speech.level(told[0]), told[1])
        assert len(audio) // HOP == corpus.lengths[i], "flite says it otherwise than before"
        sounds.append(np.clip(np.round(audio * 32767), -32768, 32767).astype(np.int16))
    np.savez(folder / "heard.npz", chosen=chosen, sizes=np.array([len(s) for s in sounds]))
    np.save(folder / "heard.npy", np.concatenate(sounds))


class Crops:
    """Random crops of speech with its sound, in flite's own voices."""

    def __init__(self, corpus: data.Corpus, codes: np.ndarray, folder: Path, seed: int) -> None:
        self.corpus, self.codes = corpus, torch.from_numpy(codes.astype(np.int64))
        with np.load(folder / "heard.npz") as found:
            self.chosen, sizes = found["chosen"], found["sizes"]
        self.sound = np.load(folder / "heard.npy", mmap_mode="r")
        self.starts = np.cumsum(sizes) - sizes
        self.sizes = corpus.lengths // FRAMES_PER_CODE
        self.first = np.cumsum(self.sizes) - self.sizes
        self.rng = np.random.default_rng(seed)
        weight = np.where(
            corpus.voices[self.chosen] == speech.VOICES.index("slt"), codec.SLT_WEIGHT, 1.0
        )
        self.share = weight / weight.sum()

    def next(self) -> tuple[torch.Tensor, ...]:
        """Features [B, 4T, 82], codes [B, T], speaker means [B, 81], sound [B, 4T × HOP]."""
        c, frames = self.corpus, CROP_CODES * FRAMES_PER_CODE
        rows = []
        for k in self.rng.choice(len(self.chosen), CROPS, p=self.share):
            i = self.chosen[k]
            at = int(self.rng.integers(0, self.sizes[i] - CROP_CODES + 1))
            first = c.starts[i] + at * FRAMES_PER_CODE
            start = self.starts[k] + at * FRAMES_PER_CODE * HOP
            sound = self.sound[start : start + frames * HOP].astype(np.float32) / 32767
            codes = self.codes[self.first[i] + at : self.first[i] + at + CROP_CODES]
            features = c.features[first : first + frames].float()
            rows.append((features, codes, c.stats[c.voices[i]], torch.from_numpy(sound)))
        features, codes, stats, sound = (torch.stack([r[k] for r in rows]) for k in range(4))
        wobble = torch.from_numpy(self.rng.normal(0, 0.12, (CROPS, 1)).astype(np.float32))
        stats = torch.cat([stats[:, :BANDS] + wobble, stats[:, BANDS:]], 1)
        return features, codes, stats, sound


class Ear(nn.Module):
    """Sound [B, n] → log-mel of each of WINDOWS [B, T, 80], from whole windows alone."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.from_numpy(filters()))
        for size in WINDOWS:
            hann = torch.hann_window(size)
            before = (N_FFT - size) // 2
            hann = fn.pad(hann / hann.square().sum().sqrt(), (before, N_FFT - size - before))
            self.register_buffer(f"window_{size}", hann)

    def forward(self, sound: torch.Tensor) -> list[torch.Tensor]:
        frames = sound.unfold(1, N_FFT, HOP)
        found = []
        for size in WINDOWS:
            spectrum = torch.fft.rfft(frames * self.get_buffer(f"window_{size}"))
            power = spectrum.real.square() + spectrum.imag.square()
            found.append((power[..., :BINS] @ self.bank + FLOOR).log())
        return found


def render(
    renderer: Renderer, mel: torch.Tensor, log_f0: torch.Tensor, voicing: torch.Tensor
) -> torch.Tensor:
    """What `Renderer` does, with fast transforms: [B, T × HOP]."""
    tone, hiss = renderer.filters(mel, voicing)
    with torch.no_grad():
        wave = renderer.harmonics(log_f0)
        sources = [_pieces(renderer, w) for w in (wave, torch.randn_like(wave))]
    frames = torch.fft.irfft(sources[0] * tone + sources[1] * hiss, n=FFT)
    return overlap(frames.roll((FFT - PIECE) // 2, 2))


def _pieces(renderer: Renderer, wave: torch.Tensor) -> torch.Tensor:
    """Spectra of the Hann pieces around each frame. [B, T, FFT / 2 + 1]"""
    padded = fn.pad(wave, (HOP // 2, HOP // 2))
    return torch.fft.rfft(padded.unfold(1, PIECE, HOP) * renderer.hann, n=FFT)


def difference(
    ear: Ear, said: torch.Tensor, wanted: torch.Tensor, stats: torch.Tensor
) -> torch.Tensor:
    """How far one sound is from the other to the ear, as `codec.mel_loss` counts."""
    edge = EDGE_FRAMES * HOP
    mean = stats[:, None, :BANDS]
    terms = [
        codec.mel_loss((a - mean) / 2, (b - mean) / 2)
        for a, b in zip(ear(said[:, edge:-edge]), ear(wanted[:, edge:-edge]), strict=True)
    ]
    return torch.stack(terms).mean()


def train(folder: Path, steps: int, seed: int) -> codec.Codec:
    """Let the codec of `folder` learn from its sound (→ `heard.pt`); goes on where it stopped."""
    torch.manual_seed(seed)
    trained, path = codec.Codec(), folder / "heard.pt"
    decoder, ear = trained.decoder, Ear()
    state = torch.load(path if path.exists() else folder / "codec.pt")
    trained.load_state_dict(state["model"])
    optimiser = torch.optim.AdamW(decoder.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.01)
    done = 0
    if path.exists():
        optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
    corpus, rows = data.load(folder / "speech"), Units.load(folder).rows()
    with np.load(folder / "units.npz") as found:
        codes_of = found["codes"]
    crops = Crops(corpus, codes_of, folder, seed + done)
    plain = codec.Batches(corpus, codes_of, seed + done, CROP_CODES, PLAIN_CROPS)
    renderer = Renderer()
    began, keeper, sums, counted = time.process_time(), Keeper(path), np.zeros(5), 0
    with (folder / "heard_losses.jsonl").open("a") as log:
        while done < steps and not keeper.asked_to_end:
            rate = RATE * min(1.0, (done + 1) / 100) * (1 - done / steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            features, codes, stats, sound = crops.next()
            relative, other_codes, other_stats = plain.next()
            fed = torch.cat([codes, other_codes])
            wrong = torch.rand(fed.shape) < codec.CORRUPTED
            fed = torch.where(wrong, torch.randint(0, len(rows), fed.shape), fed)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = decoder(rows[fed], torch.cat([stats, other_stats]))
            out = out.float()
            own = data.relative(features, stats[:, None])
            renderer.sharp = decoder.sharp
            said = render(
                renderer, out[:CROPS, :, :BANDS] * 2 + stats[:, None, :BANDS],
                features[..., BANDS], (features[..., BANDS + 1] * 2 - 1) * SURE,
            )  # fmt: skip
            heard = difference(ear, said, sound, stats)
            parts = [codec.loss_parts(out[:CROPS], own), codec.loss_parts(out[CROPS:], relative)]
            plain_losses = [mel + 0.5 * pitch + 0.3 * voicing for mel, pitch, voicing in parts]
            loss = heard + FEATURES_COUNT * plain_losses[0] + plain_losses[1]
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
            optimiser.step()
            done, counted = done + 1, counted + 1
            told = (heard, parts[0][0], parts[1][0], parts[0][1], parts[0][2])
            sums += [float(x.detach()) for x in told]
            if done % 50 == 0:
                names = ("heard", "mel", "mel_warped", "pitch", "voicing")
                line = {"step": done} | dict(
                    zip(names, (sums / counted).round(4).tolist(), strict=True)
                )
                line |= {"rate": round(rate, 6), "cpu_s": round(time.process_time() - began)}
                print(json.dumps(line), file=log, flush=True)
                sums, counted = np.zeros(5), 0
            if keeper.due():
                keeper.write(codec.state_of(trained, optimiser, done))
    keeper.write(codec.state_of(trained, optimiser, done))
    return trained
