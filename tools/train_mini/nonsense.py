"""Generates sentences of common words, with each word as often as requested.

The word lists come from SCOWL's package and from `everyday.py`.
"""

import random
import re
from collections.abc import Iterable
from pathlib import Path

from .everyday import WORDS

_PLAIN = (
    "the {} {} the {} in the {}.|{} and {} are {}, but {} is {}.|she said the {} was {} and {}.|"
    "do you {} the {} {}?|my {} {} with a {} {}.|he {} his {} to the {} of {}.|"
    "they {} a {} {} near the {}.|we {} {} {} {}.|{}, {}, {}, and {}.|a {} of {} is {} {}.|"
    "please {} the {} before the {}.|there is no {} {} at the {}.|it was the {} {} that {} us.|"
    "i {} to {} the {} on {}.|his {} {} all {}.|her {} is {} and very {}."
)
TIMES_EACH = 10


COMMON_TIMES = {10: 8, 20: 4}
"""How often a word of each size of SCOWL's lists is wanted: the smaller, the commoner its words."""
_GLUE = (
    "the|the|the|a|a|a|my|his|her|our|their|this|that|every|some|no|and the|of the|in the|on the|"
    "to the|at the|with a|for a|from the|by the|was a|is the|and|and|or|but|is|was|are|were|has|"
    "had|will|can|could|would|should|did not|to|to|of|of|in|for|with|very|not|he|she|we|they|i|"
    "you|it was|there is a|when the|if the|as a|than the|into a|about|before the|like a"
)
_GLUED = 0.7
"""Share of words with short ones before them."""


def _counts(known: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for sentence in known:
        for word in re.findall(r"[a-z']+", sentence):
            counts[word] = counts.get(word, 0) + 1
    return counts


HARD_FROM = {10: 0.05, 20: 0.2}
HARD_TIMES = {10: (4, 10), 20: (2, 2)}
"""From which score of `stumbles.py` a word of each size is said again, and how often: so many times
and so many more for a score of one."""


def hard(root: Path, scores: dict[str, float], seed: int) -> list[str]:
    """Sentences without sense of the common words that the model stumbles over."""
    rng, made, glue = random.Random(seed), list[str](), _GLUE.split("|")
    met: set[str] = set()
    for size, (least, more) in HARD_TIMES.items():
        wanting = [
            word
            for word in listed(root, size)
            if word not in met and scores.get(word, 0.0) > HARD_FROM[size]
            for _ in range(least + round(more * scores[word]))
        ]
        met.update(listed(root, size))
        rng.shuffle(wanting)
        while wanting:
            made.append(_strung(rng, glue, wanting))
    return made


def listed(root: Path, size: int) -> list[str]:
    """The plain words of one of SCOWL's lists."""
    folder, kinds = root / "usr/share/dict/scowl", ("english", "american")
    text = "\n".join((folder / f"{kind}-words.{size}").read_text("latin-1") for kind in kinds)
    return sorted({word for word in text.split() if re.fullmatch("[a-z]{2,}", word)})


def common_words(root: Path) -> set[str]:
    """All words of the lists that are looked at."""
    return {word for size in COMMON_TIMES for word in listed(root, size)}


def common(root: Path, known: Iterable[str], seed: int) -> list[str]:
    """Sentences without sense until each word of SCOWL's small lists has come COMMON_TIMES times,
    those in `known` counted, the commonest words first."""
    rng, counts, made = random.Random(seed), _counts(known), list[str]()
    glue = _GLUE.split("|")
    met: set[str] = set()
    for size, times in COMMON_TIMES.items():
        fresh = [word for word in listed(root, size) if word not in met]
        met.update(fresh)
        wanting = [w for w in fresh for _ in range(times - counts.get(w, 0))]
        rng.shuffle(wanting)
        while wanting:
            made.append(_strung(rng, glue, wanting))
    return made


def _strung(rng: random.Random, glue: list[str], wanting: list[str]) -> str:
    """A sentence of 5 to 12 words that takes some of its words from the end of `wanting`."""
    most, said = rng.randrange(5, 12), list[str]()
    while wanting and len(said) < most:
        short = rng.choice(glue) if rng.random() < _GLUED else ""
        word = wanting.pop()
        if short.endswith("a") and word[0] in "aeiou":
            short += "n"
        said += f"{short} {word}".split()
        if len(said) < most and rng.random() < 0.08:
            said[-1] += ","
    return " ".join(said).strip(",") + rng.choice("......?!")


def everyday(known: Iterable[str], seed: int) -> list[str]:
    """Sentences without sense until every common word has come TIMES_EACH times, those in `known`
    counted."""
    rng, counts = random.Random(seed), _counts(known)
    wanting = [
        word
        for word in sorted(set(WORDS.split()))
        for _ in range(max(1, TIMES_EACH - counts.get(word, 0)))
    ]
    rng.shuffle(wanting)
    templates, made = _PLAIN.split("|"), []
    while wanting:
        template = rng.choice(templates)
        slots = template.count("{}")
        words = [wanting.pop() if wanting else rng.choice(WORDS.split()) for _ in range(slots)]
        made.append(template.format(*words))
    return made
