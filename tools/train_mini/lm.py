"""Language model of the embedded model: a small GPT-2 over speaker, letters, starts and codes.

Codes come from `codec.py`. The graph that ships is a plain GPT-2; the guide, the
phone head and the corrupted inputs exist in training alone.
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

from . import align, codec, data
from .checkpoint import Keeper
from .features import BANDS, FRAMES_PER_CODE
from .units import CODES, ROW, Units

WIDTH, LAYERS, HEADS, POSITIONS = 192, 6, 3, 2048
START, STOP, VOCAB = 6561, 6562, 6563
EXPECTED_POSITIONS = 1152
"""Letters of the longest segment are expected well before this."""
GUIDED = (2, 3)
"""Layers whose first head is led to the letter being said."""
PHONE_LAYER = 4
FURTHER = {"more": 1, "everyday": 2, "common": 1, "hard": 2, "again": 4}
"""Folders of sentences that only the language model learns from, and how often each comes in a
round: their sound is not kept. Common words are few and their spelling is no guide."""
FIRST_CODE = 3
"""[speaker] + two start codes come before the first code, besides the letters."""
LEAD_CODES = 2
"""Silence before the first phone (`speech.LEAD_S`)."""
CORRUPTED = 0.12
AVERAGED_OVER = 300
"""Steps over which the shipped weights are averaged: most of what a falling rate would give, at any
moment of a run that may go on."""
POOL = 512
"""Items that are sorted by length and cut into batches together."""
JOINED = 0.15
"""Share of training items made of two sentences of one voice."""
AUGMENTED = 0.35
"""Share of training items whose speaker is another than flite's: codes don't change with him."""


def sinusoids(rows: int, width: int) -> torch.Tensor:
    """The usual position waves, with periods 6 … 10000."""
    rates = torch.exp(torch.linspace(math.log(1.0), math.log(6e-4), width // 2))
    angles = torch.arange(rows)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


def code_rows(units: Units) -> torch.Tensor:
    """Descriptions of all codes; start and stop have none. [VOCAB, ROW]"""
    return torch.cat([units.rows(), torch.zeros(2, ROW)])


class Model(nn.Module):
    """GPT-2 with the tables around it. Block weights are stacked over layers: [LAYERS, in, out]."""

    def __init__(self, units: Units) -> None:
        super().__init__()

        def matrix(rows: int, columns: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(torch.randn(LAYERS, rows, columns) * scale / math.sqrt(rows))

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*shape))

        self.q, self.k, self.v = (matrix(WIDTH, WIDTH) for _ in range(3))
        self.o = matrix(WIDTH, WIDTH, 0.3)
        self.fc, self.proj = matrix(WIDTH, 4 * WIDTH), matrix(4 * WIDTH, WIDTH, 0.3)
        self.q_b, self.k_b, self.v_b, self.o_b = (zeros(LAYERS, WIDTH) for _ in range(4))
        self.fc_b, self.proj_b = zeros(LAYERS, 4 * WIDTH), zeros(LAYERS, WIDTH)
        self.ln = nn.Parameter(torch.ones(LAYERS, 2, WIDTH))
        self.ln_b = zeros(LAYERS, 2, WIDTH)
        self.ln_f, self.ln_f_b = nn.Parameter(torch.ones(WIDTH)), zeros(WIDTH)
        self.wpe = nn.Parameter(sinusoids(POSITIONS, WIDTH) * 0.35)
        self.expected = nn.Parameter(sinusoids(EXPECTED_POSITIONS, WIDTH) * 0.35)
        self.letters = nn.Parameter(torch.randn(len(align.LETTERS), WIDTH) * 0.5)
        self.speaker = nn.Linear(codec.STATS, WIDTH)
        self.embed_rows = nn.Parameter(torch.randn(ROW, WIDTH) * 0.3)
        self.start = nn.Parameter(torch.randn(2, WIDTH) * 0.3)
        self.head_free, self.head_b = zeros(VOCAB, WIDTH), zeros(VOCAB)
        self.head_rows = nn.Parameter(torch.randn(ROW, WIDTH) * 0.05)
        self.phone = nn.Linear(WIDTH, len(align.PHONES))
        self.register_buffer("code_rows", code_rows(units), persistent=False)

    def speech_table(self) -> torch.Tensor:
        """Embeddings of codes, start and stop. [VOCAB, WIDTH]"""
        return torch.cat([self.code_rows[:CODES] @ self.embed_rows, self.start])

    def head(self) -> torch.Tensor:
        """Output weights. [VOCAB, WIDTH]"""
        return self.head_free + self.code_rows @ self.head_rows

    def _layer(self, x: torch.Tensor, i: int, keep_guide: bool):
        b, s, _ = x.shape
        half = torch.bfloat16 if self.training else torch.float32

        def linear(h: torch.Tensor, w: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            return fn.linear(h, w[i].t().to(half), bias[i].to(half))

        h = fn.layer_norm(x, (WIDTH,), self.ln[i, 0], self.ln_b[i, 0]).to(half)
        q, k, v = (
            linear(h, w, c).view(b, s, HEADS, -1).transpose(1, 2).reshape(b * HEADS, s, -1)
            for w, c in ((self.q, self.q_b), (self.k, self.k_b), (self.v, self.v_b))
        )
        # Written out: torch's fused attention is two to four times slower here on a CPU.
        mask = torch.full((s, s), -1e9, dtype=half).triu(1).expand(b * HEADS, s, s)
        scale = 1 / math.sqrt(WIDTH // HEADS)
        weights = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale).softmax(-1)
        guide = weights.view(b, HEADS, s, s)[:, 0] if keep_guide else None
        a = (weights @ v).view(b, HEADS, s, -1)
        x = x + linear(a.transpose(1, 2).reshape(b, s, WIDTH), self.o, self.o_b)
        h = fn.layer_norm(x, (WIDTH,), self.ln[i, 1], self.ln_b[i, 1]).to(half)
        # In bfloat16 the exact form costs half of GPT-2's; they differ by 0.0005 at most.
        h = fn.gelu(linear(h, self.fc, self.fc_b), approximate="none" if self.training else "tanh")
        return x + linear(h, self.proj, self.proj_b), guide

    def forward(self, x: torch.Tensor):
        """Embedded rows without positions [B, S, WIDTH] → hidden, phone hidden, guides."""
        x = x + self.wpe[: x.shape[1]]
        guides, middle = [], x
        for i in range(LAYERS):
            x, guide = self._layer(x, i, i in GUIDED and self.training)
            if guide is not None:
                guides.append(guide)
            if i == PHONE_LAYER - 1:
                middle = x
        return fn.layer_norm(x, (WIDTH,), self.ln_f, self.ln_f_b), middle, guides

    def embed_text(self, letters: torch.Tensor, lasting: torch.Tensor) -> torch.Tensor:
        """Letters [n] → rows [n, WIDTH]: the letter and where its code is expected."""
        at = expected_positions(lasting[letters])
        return self.letters[letters] + self.expected[at]


def expected_positions(lasting: torch.Tensor) -> torch.Tensor:
    """Each letter's expected position in the whole sequence, from letters' lengths [n]."""
    n = len(lasting)
    before = lasting.cumsum(0) - lasting
    return (
        (before + float(n + FIRST_CODE - 1 + LEAD_CODES))
        .round()
        .long()
        .clamp(max=EXPECTED_POSITIONS - 1)
    )


def _labelled(folder: Path) -> dict[str, Any]:
    """What a corpus tells the language model: codes, letters, and where each is said."""
    corpus = data.load(folder / "speech")
    with np.load(folder / "units.npz") as found:
        codes = found["codes"].astype(np.int64)
    with np.load(folder / "align.npz") as found:
        where, phones = found["where"], found["phones"]
        lasting = torch.from_numpy(found["letter_codes"]).float()
    return {
        "codes": codes, "where": where, "phones": phones, "lasting": lasting,
        "sizes": corpus.lengths // FRAMES_PER_CODE, "voices": corpus.voices,
        "texts": corpus.texts, "stats": corpus.stats, "numbers": corpus.numbers,
    }  # fmt: skip


class Items:
    """Training items: codes, letters, guide positions and phones of one or two sentences."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        times = {folder: 1} | {folder / name: often for name, often in FURTHER.items()}
        times = {f: often for f, often in times.items() if (f / "align.npz").exists()}
        parts = [_labelled(f) for f in times]
        codes, where, phones, sizes, voices = (
            np.concatenate([p[k] for p in parts])
            for k in ("codes", "where", "phones", "sizes", "voices")
        )
        self.codes, self.where, self.phones = torch.from_numpy(codes), where, phones
        self.sizes, self.voices = sizes, voices
        self.first = np.concatenate([[0], np.cumsum(self.sizes)])
        assert self.first[-1] == len(self.where) == len(self.codes), "files of different corpora"
        self.stats, self.lasting = parts[0]["stats"], parts[0]["lasting"]
        self.letters = [torch.from_numpy(align.letter_ids(t)) for p in parts for t in p["texts"]]
        self.warps = data.warp_matrices()
        self.curves = torch.cos(
            torch.arange(BANDS)[None] / BANDS * math.pi * torch.arange(4)[:, None]
        )
        often = np.repeat(list(times.values()), [len(p["sizes"]) for p in parts])
        often[: len(parts[0]["sizes"])] = parts[0]["numbers"] % 97 != 5
        self.train_ids = np.repeat(np.arange(len(sizes)), often)
        self.valid_ids = np.flatnonzero(often == 0)

    def speaker_of(self, voice: int, training: bool) -> torch.Tensor:
        """The speaker's means as the model is told them."""
        told = self.stats[voice].clone()
        if not training:
            return told
        rng = self.rng
        if rng.random() < AUGMENTED:
            warp = self.warps[rng.integers(0, 9)]
            shift = rng.uniform(-1, 1) * data.F0_SHIFT_SEMITONES * math.log(2) / 12
            tilt = torch.from_numpy(rng.normal(0, 0.5, 4).astype(np.float32))
            told = torch.cat([told[:BANDS] @ warp + tilt @ self.curves, told[BANDS:] + shift])
        told[:BANDS] += rng.normal(0, 0.12)
        told[BANDS] += rng.normal(0, 0.02)
        return told

    def item(self, i: int, training: bool = True) -> dict:
        """One utterance, sometimes with a second one of its voice behind it."""
        told = self.speaker_of(self.voices[i], training)
        chosen = [i]
        if training and self.rng.random() < JOINED and self.sizes[i] < 180:
            j = int(self.rng.choice(self.train_ids))
            if self.voices[j] == self.voices[i] and self.sizes[j] < 180:
                chosen.append(j)
        codes, letters, where, phones, offset = [], [], [], [], 0
        for j in chosen:
            if offset:
                letters.append(torch.zeros(1, dtype=torch.long))  # a blank between sentences
                offset += 1
            span = slice(self.first[j], self.first[j + 1])
            codes.append(self.codes[span])
            letters.append(self.letters[j])
            where.append(self.where[span] + offset)
            phones.append(self.phones[span])
            offset += len(self.letters[j])
        return {
            "codes": torch.cat(codes), "letters": torch.cat(letters), "told": told,
            "where": np.concatenate(where), "phones": np.concatenate(phones),
        }  # fmt: skip

    def batches(self, rows_per_batch: int):
        """Endless batches of items of like length, joined ones counted whole: little padding."""
        while True:
            order = self.rng.permutation(self.train_ids)
            for first in range(0, len(order), POOL):
                pool = [self.item(int(i)) for i in order[first : first + POOL]]
                pool.sort(key=rows_of)
                blocks, block = [], []
                for item in pool:
                    if block and (len(block) + 1) * rows_of(item) > rows_per_batch:
                        blocks.append(block)
                        block = []
                    block.append(item)
                blocks.append(block)
                for b in self.rng.permutation(len(blocks)):
                    yield blocks[b]


def rows_of(item: dict) -> int:
    """Rows of the sequence that an item becomes."""
    return FIRST_CODE + len(item["letters"]) + len(item["codes"])


def collate(
    model: Model, items: list[dict], lasting: torch.Tensor, corrupt: np.random.Generator | None
):
    """Items → embedded rows, and flat indices and targets of the rows that predict codes."""
    width = max(rows_of(i) for i in items)
    table = model.speech_table()
    letters = fn.embedding(torch.cat([i["letters"] for i in items]), model.letters)
    at = torch.cat([expected_positions(lasting[i["letters"]]) for i in items])
    text = letters + fn.embedding(at, model.expected)
    speakers = model.speaker(codec.centre_stats(torch.stack([i["told"] for i in items])))
    inputs, targets, rows, where, phones = [], [], [], [], []
    for b, item in enumerate(items):
        codes = item["codes"]
        fed = codes
        if corrupt is not None:
            wrong = torch.from_numpy(corrupt.random(len(codes)) < CORRUPTED)
            other = torch.from_numpy(corrupt.integers(0, CODES, len(codes)))
            fed = torch.where(wrong, other, codes)
        inputs.append(torch.cat([torch.tensor([START, START]), fed]))
        targets.append(torch.cat([codes, torch.tensor([STOP])]))
        n = len(item["letters"])
        rows.append(b * width + n + FIRST_CODE - 1 + torch.arange(len(codes) + 1))
        where.append(np.append(item["where"], n - 1) + 1)
        phones.append(np.append(item["phones"], align.PHONES.index("pau")))
    speech = fn.embedding(torch.cat(inputs), table)
    x, t, s = [], 0, 0
    for b, item in enumerate(items):
        n, c = len(item["letters"]), len(item["codes"]) + 2
        x.append(fn.pad(torch.cat([speakers[b : b + 1], text[t : t + n], speech[s : s + c]]),
                        (0, 0, 0, width - 1 - n - c)))  # fmt: skip
        t, s = t + n, s + c
    guide, said = (torch.from_numpy(np.concatenate(parts)) for parts in (where, phones))
    return torch.stack(x), torch.cat(rows), torch.cat(targets), guide, said


def losses(model: Model, items: list[dict], lasting: torch.Tensor, corrupt) -> dict:
    """Cross-entropy of codes, of phones, and how far the guided heads look elsewhere."""
    x, rows, targets, where, phones = collate(model, items, lasting, corrupt)
    hidden, middle, guides = model(x)
    half = torch.bfloat16 if model.training else torch.float32
    flat = hidden.reshape(-1, WIDTH)[rows].to(half)
    logits = fn.linear(flat, model.head().to(half), model.head_b.to(half))
    out = {"code": fn.cross_entropy(logits, targets)}
    out["phone"] = fn.cross_entropy(model.phone(middle.reshape(-1, WIDTH)[rows]), phones)
    if not model.training:
        out["right"] = (logits.argmax(1) == targets).float().mean()
    if guides:
        near = torch.stack([where + d for d in (-1, 0, 1, 2)], 1).clamp(min=1)
        terms = []
        for guide in guides:
            flat_guide = guide.reshape(-1, guide.shape[-1])[rows]
            seen = flat_guide.gather(1, near.clamp(max=guide.shape[-1] - 1)).float().sum(1)
            terms.append(-seen.clamp(1e-4, 1.0).log().mean())
        out["guide"] = torch.stack(terms).mean()
    return out


class Muon:
    """Orthogonalised momentum for stacked matrices [LAYERS, in, out]."""

    def __init__(self, matrices: list[torch.Tensor]) -> None:
        self.matrices = matrices
        self.momenta = [torch.zeros_like(m) for m in matrices]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for matrix, momentum in zip(self.matrices, self.momenta, strict=True):
            momentum.mul_(0.95).add_(matrix.grad)
            g = matrix.grad.add(momentum, alpha=0.95)
            tall = g.shape[1] > g.shape[2]
            x = (g.transpose(1, 2) if tall else g).bfloat16()
            x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
            for _ in range(5):
                a = x @ x.transpose(1, 2)
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = (x.transpose(1, 2) if tall else x).float()
            matrix.mul_(1 - rate * 0.02)
            matrix.add_(x, alpha=-rate * 0.2 * math.sqrt(max(g.shape[1:])))
            matrix.grad = None


def train(
    folder: Path, steps: int, seed: int, minutes: float = math.inf, batch_rows: int = 2600
) -> Model:
    """Train, or go on training, the language model of `folder`."""
    torch.manual_seed(seed)
    model, done = Model(Units.load(folder)), 0
    blocks = [model.q, model.k, model.v, model.o, model.fc, model.proj]
    chosen = {id(b) for b in blocks}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    muon = Muon(blocks)
    adam = torch.optim.AdamW(rest, 3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    path = folder / "lm.pt"
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        if "adam" in state:
            adam.load_state_dict(state["adam"])
        muon.momenta = state["muon"]
        done = state["step"]
    average = {name: value.clone() for name, value in model.state_dict().items()}
    if path.exists():
        average = state.get("average", average)
    items = Items(folder, seed + done)
    batches = items.batches(batch_rows)
    valid = [items.item(int(i), training=False) for i in items.valid_ids[:48]]
    began, keeper = time.process_time(), Keeper(path)
    sums: dict[str, float] = {}
    counted = 0
    with (folder / "lm_losses.jsonl").open("a") as log:
        while done < steps and not keeper.asked_to_end:
            clock = (time.process_time() - began) / 60 / minutes
            part = max(done / steps, clock)
            if part >= 1:
                break
            rate = 3e-3 * min(1.0, (done + 1) / 150) * min(1.0, 2 * (1 - part))
            model.train()
            found = losses(model, next(batches), items.lasting, items.rng)
            guide = 0.3 if part < 0.6 else 0.1
            loss = found["code"] + 0.3 * found["phone"] + guide * found["guide"]
            loss.backward()
            nn.utils.clip_grad_norm_(rest, 1.0)
            for group in adam.param_groups:
                group["lr"] = rate
            adam.step()
            adam.zero_grad()
            muon.step(rate)
            done, counted = done + 1, counted + 1
            keep = 1 - 1 / min(AVERAGED_OVER, 1 + done / 4)
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    average[name].lerp_(value, 1 - keep)
            for key, value in found.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach())
            if done % 100 == 0:
                line = {"step": done} | {k: round(v / counted, 4) for k, v in sums.items()}
                sums, counted = {}, 0
                if done % 300 == 0:
                    current = {k: v.clone() for k, v in model.state_dict().items()}
                    model.load_state_dict(average)
                    model.eval()
                    with torch.no_grad():
                        checked = [losses(model, valid[k : k + 12], items.lasting, None)
                                   for k in range(0, len(valid), 12)]  # fmt: skip
                    line["valid"] = round(float(np.mean([float(c["code"]) for c in checked])), 4)
                    line["valid_right"] = round(
                        float(np.mean([float(c["right"]) for c in checked])), 4
                    )
                    model.load_state_dict(current)
                line |= {"rate": round(rate, 6), "cpu_s": round(time.process_time() - began)}
                print(json.dumps(line), file=log, flush=True)
            if keeper.due():
                keeper.write(_state(model, average, adam, muon, done))
        keeper.write(_state(model, average, adam, muon, done))
    return model


def _state(
    model: Model,
    average: dict[str, torch.Tensor],
    adam: torch.optim.Optimizer,
    muon: Muon,
    step: int,
) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "average": average,
        "adam": adam.state_dict(),
        "muon": muon.momenta,
        "step": step,
    }
