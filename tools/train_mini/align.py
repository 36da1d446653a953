"""Aligns letters with codes: maps timed phones to letters with a small HMM.

Used only to train the language model: for its guide and for the duration of letters.
"""

import json
from pathlib import Path

import numpy as np

from .features import CODE_SAMPLES, RATE_HZ

LETTERS = " abcdefghijklmnopqrstuvwxyz',.?!"
PHONES = [
    "aa",
    "ae",
    "ah",
    "ao",
    "aw",
    "ax",
    "ay",
    "b",
    "ch",
    "d",
    "dh",
    "eh",
    "er",
    "ey",
    "f",
    "g",
    "hh",
    "ih",
    "iy",
    "jh",
    "k",
    "l",
    "m",
    "n",
    "ng",
    "ow",
    "oy",
    "p",
    "pau",
    "r",
    "s",
    "sh",
    "t",
    "th",
    "uh",
    "uw",
    "v",
    "w",
    "y",
    "z",
    "zh",
    "ssil",
]
STEPS = 9  # a phone may lie at most this many letters after the one before, less one
CODE_S = CODE_SAMPLES / RATE_HZ
_PHONE_ID = {p: i for i, p in enumerate(PHONES)}


def letter_ids(text: str) -> np.ndarray:
    """Index into LETTERS of each character."""
    return np.array([LETTERS.index(c) for c in text])


def parse(phones: str) -> tuple[np.ndarray, np.ndarray]:
    """`p:end p:end …` → phone ids and end times in seconds."""
    pairs = [item.split(":") for item in phones.split()]
    ids = np.array([_PHONE_ID.get(p, _PHONE_ID["ax"]) for p, _ in pairs])
    return ids, np.array([float(t) for _, t in pairs])


def _viterbi(phones: np.ndarray, letters: np.ndarray, emit: np.ndarray, step: np.ndarray):
    count, size = len(phones), len(letters)
    score = np.full(size, -60.0)
    score[: min(4, size)] = -np.arange(min(4, size)) * 1.0
    score += emit[phones[0], letters]
    back = np.zeros((count, size), np.int8)
    for k in range(1, count):
        moves = np.full((STEPS, size), -1e9)
        for d in range(min(STEPS, size)):
            moves[d, d:] = score[: size - d] + step[d]
        back[k] = moves.argmax(0)
        score = moves.max(0) + emit[phones[k], letters]
    score -= 0.7 * np.arange(size)[::-1]  # the last phone belongs to the last letters
    path = np.zeros(count, int)
    path[-1] = score.argmax()
    for k in range(count - 1, 0, -1):
        path[k - 1] = path[k] - back[k, path[k]]
    return path


class Aligner:
    """Letter-to-phone tables learnt by four rounds of Viterbi counts."""

    def __init__(self, texts: list[str], phones: list[str], rounds: int = 4) -> None:
        pairs = [(parse(p)[0], letter_ids(t)) for t, p in zip(texts, phones, strict=True)]
        self.emit = np.zeros((len(PHONES), len(LETTERS)))
        self.step = np.log(np.array([0.15, 0.45, 0.2, 0.1, 0.04, 0.02, 0.01, 0.01, 0.01]) + 1e-3)
        counts = np.full(self.emit.shape, 0.02)
        for ids, letters in pairs:  # start: a straight line from first to last letter
            where = np.minimum((np.arange(len(ids)) + 0.5) / len(ids) * len(letters), 1e9).astype(
                int
            )
            for shift, weight in ((-1, 0.5), (0, 1.0), (1, 0.5)):
                at = np.clip(where + shift, 0, len(letters) - 1)
                np.add.at(counts, (ids, letters[at]), weight)
        for _ in range(rounds):
            self.emit = np.log(counts / counts.sum(0, keepdims=True))
            counts = np.full(self.emit.shape, 0.02)
            for ids, letters in pairs:
                path = _viterbi(ids, letters, self.emit, self.step)
                np.add.at(counts, (ids, letters[path]), 1.0)
        self.emit = np.log(counts / counts.sum(0, keepdims=True))

    def path(self, text: str, phones: str) -> np.ndarray:
        """The letter of each phone."""
        return _viterbi(parse(phones)[0], letter_ids(text), self.emit, self.step)


def per_code(path: np.ndarray, phones: str, codes: int) -> tuple[np.ndarray, np.ndarray]:
    """Letter position and phone id in the middle of each code."""
    ids, ends = parse(phones)
    middle = (np.arange(codes) + 0.5) * CODE_S
    at = np.minimum(np.searchsorted(ends, middle), len(ids) - 1)
    return path[at], ids[at]


def letter_codes(texts: list[str], paths: list[np.ndarray], phones: list[str]) -> np.ndarray:
    """Mean length of each letter in codes, silence at the ends left out."""
    total, seen = np.zeros(len(LETTERS)), np.full(len(LETTERS), 1e-3)
    for text, path, spoken in zip(texts, paths, phones, strict=True):
        _, ends = parse(spoken)
        letters = letter_ids(text)
        lasting = np.diff(ends, prepend=0.0) / CODE_S
        inner = slice(1, len(path) - 1)
        np.add.at(total, letters[path[inner]], lasting[inner])
        np.add.at(seen, letters, 1.0)
    return total / seen


def prepare(corpus, folder: Path) -> None:
    """Write `align.npz`: per utterance its letters' positions and phones by code, and the
    letters' lengths."""
    few = np.random.default_rng(0).permutation(len(corpus.texts))[:1200]
    aligner = Aligner([corpus.texts[i] for i in few], [corpus.phones[i] for i in few])
    paths = [aligner.path(t, p) for t, p in zip(corpus.texts, corpus.phones, strict=True)]
    where, said = [], []
    for path, spoken, frames in zip(paths, corpus.phones, corpus.lengths, strict=True):
        at, phone = per_code(path, spoken, int(frames) // 4)
        where.append(at)
        said.append(phone)
    codes = letter_codes(corpus.texts, paths, corpus.phones)
    np.savez(folder / "align.npz", where=np.concatenate(where), phones=np.concatenate(said),
             letter_codes=codes)  # fmt: skip
    (folder / "letters.json").write_text(
        json.dumps(dict(zip(LETTERS, codes.round(2), strict=True)))
    )
