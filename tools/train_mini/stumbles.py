"""Finds common words that the language model mispronounces, by its guesses of flite's phones.

Given the speech so far, the model predicts the next phone. For a word that it pronounces correctly,
that is the current phone or a neighbour of it, since only the timing is uncertain.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as fn

from . import align, lm
from .units import CODES, PHONES, Units

HEARD = 2
"""Times that each word is looked at."""
ROWS = 2600


def surprise(guessed: torch.Tensor, halves: np.ndarray) -> np.ndarray:
    """How much of the guesses [n, 2, PHONES] is for other phones than those around, by code."""
    flat = halves.reshape(-1)
    turns = np.flatnonzero(np.diff(flat, prepend=-1))  # where another phone begins
    said, which = flat[turns], np.cumsum(np.diff(flat, prepend=-1) != 0) - 1
    near = [said[np.clip(which + step, 0, len(said) - 1)] for step in (-1, 0, 1)]
    allowed = torch.zeros(len(flat), PHONES)
    for phones in near:
        allowed[torch.arange(len(flat)), torch.from_numpy(phones)] = 1
    inside = (guessed.reshape(-1, PHONES) * allowed).sum(1).reshape(-1, 2)
    return (1 - inside).max(1).values.numpy()


@torch.no_grad()
def scores(folder: Path, wanted: set[str]) -> dict[str, float]:
    """Of each word of `wanted` that has been said in the data: how surprised the model is by it."""
    units = Units.load(folder)
    model = lm.Model(units)
    model.load_state_dict(torch.load(folder / "lm.pt")["average"])
    model.train()  # in halves, as it learns: three times as fast
    items, chosen = lm.Items(folder, 0), []
    seen: dict[str, int] = {}
    texts = ["".join(align.LETTERS[k] for k in letters) for letters in items.letters]
    for i in np.random.default_rng(0).permutation(np.unique(items.train_ids)):
        words = [w for w in set(re.findall(r"[a-z']+", texts[i])) if w in wanted]
        if any(seen.get(w, 0) < HEARD for w in words):
            chosen.append(int(i))
            for word in words:
                seen[word] = seen.get(word, 0) + 1
    parts = torch.from_numpy(units.parts()[:, :2])
    first, second = (fn.one_hot(parts[:, k], PHONES).float() for k in (0, 1))
    found: dict[str, list[float]] = {}
    chosen.sort(key=lambda i: len(texts[i]))
    for block in _blocks(items, chosen):
        batch = [items.item(i, training=False) for i in block]
        x, rows, *_ = lm.collate(model, batch, items.lasting, None)
        hidden = model(x)[0].reshape(-1, lm.WIDTH)[rows].bfloat16()
        logits = fn.linear(hidden, model.head().bfloat16(), model.head_b.bfloat16())
        chances = logits[:, :CODES].float().softmax(1)
        guessed = torch.stack([chances @ first, chances @ second], 1)
        at = 0
        for i, item in zip(block, batch, strict=True):
            n = len(item["codes"])
            odd = surprise(guessed[at : at + n], parts[item["codes"]].numpy())
            at += n + 1
            for said in re.finditer(r"[a-z']+", texts[i]):
                inside = (item["where"] >= said.start()) & (item["where"] < said.end())
                if said.group() in wanted and inside.any():
                    found.setdefault(said.group(), []).append(float(odd[inside].max()))
    return {word: float(np.mean(values)) for word, values in found.items()}


def _blocks(items: lm.Items, chosen: list[int]) -> list[list[int]]:
    blocks: list[list[int]] = [[]]
    for i in chosen:
        rows = lm.FIRST_CODE + len(items.letters[i]) + int(items.sizes[i])
        if (len(blocks[-1]) + 1) * rows > ROWS:
            blocks.append([])
        blocks[-1].append(i)
    return blocks
