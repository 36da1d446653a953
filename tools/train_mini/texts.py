"""Collects the training sentences: cleaned texts of Debian's packages, and generated sentences."""

import gzip
import html
import random
import re
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGES = (
    "fortunes",
    "fortunes-min",
    "fortunes-bofh-excuses",
    "bible-kjv-text",
    "wamerican",
    "debian-handbook",
    "debian-faq",
    "debian-reference-en",
    "anarchism",
    "developers-reference",
    "dict-jargon",
    "installation-guide-amd64",
    "aptitude-doc-en",
    "debian-policy",
    "git-doc",
    "miscfiles",
    "scowl",
)
MAX_WORDS = 25
MAX_CHARS = 170
HELD_OUT_EVERY = 40
"""One sentence in this many is never trained on."""

_TAG = re.compile(r"<(script|style|pre|code)\b.*?</\1>|<[^>]+>", re.S | re.I)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[A-Z\"'(])")
_ALLOWED = re.compile(r"[a-z',.?! ]+")
_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
]
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_OWN = (
    "hello.|hello there.|hello world.|good morning.|good evening, how are you?|thank you.|"
    "thank you very much.|yes.|no.|maybe.|please wait.|one moment, please.|how are you today?|"
    "what time is it?|welcome back.|nice to meet you.|see you tomorrow.|i am sorry.|"
    "the quick brown fox jumps over the lazy dog.|this is a test.|can you hear me?|"
    "the server is ready.|your order has been shipped.|turn left at the next street.|"
    "the kettle is on the stove.|she sells sea shells by the sea shore.|"
    "open the window and let in some air.|the weather is nice today.|it will rain tomorrow.|"
    "please speak slowly and clearly.|i would like a cup of tea.|where is the train station?|"
    "the meeting starts in ten minutes.|do not touch that.|what a beautiful day!|stop!|go on.|"
    "the library closes at nine.|we are going home.|he said nothing at all.|who is there?|"
    "my name is not important.|this voice was made by a very small model.|"
    "the lights in the kitchen are on.|the front door is locked.|"
    "your timer has finished.|the temperature outside is eleven degrees."
)


def spell_number(number: int) -> str:
    """A whole number below a thousand million in words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (" " + _ONES[ones] if ones else "")
    for size, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            head, rest = divmod(number, size)
            joint = " and " if size == 100 and rest else " "
            return f"{spell_number(head)} {name}" + (joint + spell_number(rest) if rest else "")
    raise AssertionError(number)


def normalise(text: str) -> str:
    """Lower case, straight quotes, and only letters, blanks and ' , . ? !."""
    text = unicodedata.normalize("NFKD", text).lower()
    text = text.replace("\u2019", "'").replace("\u2018", "'").replace("\u2026", ",")
    text = re.sub(r"[;:()\u2014\u2013]|--+", ",", text)
    text = re.sub(r"[-\"\u201c\u201d*_`]", " ", text)
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s*,[\s,]*", ", ", text)
    text = re.sub(r"\s+([.?!,])", r"\1", text)
    text = re.sub(r"([.?!])[.?!,]+", r"\1", text)
    text = re.sub(r",\s*([.?!])", r"\1", text)
    return text.strip(" ,'")


def fetch(folder: Path) -> None:
    """Download and unpack PACKAGES with apt into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        for deb in folder.glob(f"{package}_*.deb"):
            subprocess.run(["dpkg-deb", "-x", deb, folder / "root"], check=True)


def _documents(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
        name = path.name
        if "copyright" in name or "changelog" in name or path.suffix in (".u8", ".1"):
            continue
        is_html = name.endswith((".html", ".html.gz"))
        is_fortune = "/games/fortunes/" in str(path) and not path.suffix
        is_text = name.endswith((".txt", ".txt.gz", ".asc", ".adoc", ".dict.dz"))
        is_bible = "bible" in str(path) and name.endswith((".rawtext", ".txt.gz", ".txt"))
        if not (is_html or is_fortune or is_text or is_bible):
            continue
        if is_html and not re.search(
            r"(\.en\.|/en/|/en-US/|anarchism|policy|handbook|git|faq|"
            r"aptitude|reference)",
            str(path),
        ):
            continue
        if re.search(
            r"/(de|fr|es|it|ja|zh|ru|pt|pt-BR|pl|ro|ar|cs|da|el|fi|hu|ko|nb|nl|sv|tr|vi|"
            r"[a-z]{2}-[A-Z]{2}|[a-z]{2}_[A-Z]{2}|sr|uk|id|hr|fa|ca)/",
            str(path),
        ) and ("en-US" not in str(path)):
            continue
        data = path.read_bytes()
        if name.endswith((".gz", ".dz")):
            data = gzip.decompress(data)
        text = data.decode("utf-8", "ignore")
        if is_html:
            text = html.unescape(_TAG.sub(" ", text))
        source = path.relative_to(root).parts[-2] if not is_fortune else "fortunes"
        yield source, text


def _sentences(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n|\n%\n|<p>", text):
        block = re.sub(r"\s+", " ", block).strip()
        yield from _SENTENCE_END.split(block)


def _usable(sentence: str, lexicon: set[str]) -> bool:
    if not 8 <= len(sentence) <= MAX_CHARS or not _ALLOWED.fullmatch(sentence):
        return False
    if sentence[-1] not in ".?!" or sentence.count(",") > 4:
        return False
    words = re.findall(r"[a-z']+", sentence)
    if not 1 <= len(words) <= MAX_WORDS:
        return False
    known = sum(w.strip("'") in lexicon for w in words)
    single = sum(len(w) == 1 and w not in "ai" for w in words)
    return known >= len(words) - (1 if len(words) > 6 else 0) and single == 0


def _made(rng: random.Random, common: list[str], rare: list[str]) -> Iterator[str]:
    """Endless made sentences: numbers, dates and times in words, and rare words in a row."""
    while True:
        kind = rng.random()
        n = spell_number(
            rng.choice((rng.randrange(100), rng.randrange(2000), rng.randrange(10**6)))
        )
        year = rng.randrange(1500, 2090)
        year_text = f"{spell_number(year // 100)} {spell_number(max(year % 100, 10))}"
        w = [rng.choice(common) for _ in range(6)]
        r = [rng.choice(rare) for _ in range(8)]
        day = rng.choice(_ORDINALS)
        if kind < 0.45:
            yield rng.choice(
                (
                    f"there are {n} {w[0]} in the {w[1]}.",
                    f"the {w[0]} was {n} {w[1]} {w[2]}.",
                    f"on the {day} of {rng.choice(_MONTHS)}, {year_text}, the {w[0]} came.",
                    f"{n}.",
                    f"it is {spell_number(rng.randrange(1, 13))} "
                    f"{spell_number(rng.randrange(10, 60))} "
                    f"{rng.choice(('in the morning', 'in the evening', 'already', 'now'))}.",
                    f"chapter {spell_number(rng.randrange(1, 60))}, the {w[0]} and the {w[1]}.",
                    f"it costs {n} dollars and {spell_number(rng.randrange(2, 100))} cents.",
                    f"{n} point {spell_number(rng.randrange(10))} percent of the {w[0]}.",
                    f"call {' '.join(rng.choice(_ONES[:10]) for _ in range(rng.randrange(3, 8)))}.",
                    f"we need {n} more {w[0]}, not {spell_number(rng.randrange(100))}.",
                    f"the year {year_text} was a good {w[0]}.",
                )
            )
        elif kind < 0.6:
            yield rng.choice(
                (
                    f"{w[0]}.",
                    f"{w[0]} {w[1]}.",
                    f"{w[0]} {w[1]} {w[2]}.",
                    f"the {w[0]}.",
                    f"{w[0]}, {w[1]}.",
                    f"{r[0]}.",
                    f"the {r[0]}?",
                )
            )
        else:
            words = [
                rng.choice((rng.choice(rare), rng.choice(rare), rng.choice(common)))
                for _ in range(rng.randrange(2, 9))
            ]
            if rng.random() < 0.5:
                words[rng.randrange(len(words))] += rng.choice((",", " and", " of the", " in a"))
            yield " ".join(words).strip(" ,") + rng.choice("..?!")


def collect(root: Path, count: int, seed: int, known: Iterable[str] = ()) -> list[str]:
    """`count` distinct sentences that are not `known`, in a random order fixed by `seed`."""
    rng = random.Random(seed)
    listed = (root / "usr/share/dict/american-english").read_text().split()
    lexicon = {w.lower() for w in listed}
    found: dict[str, list[str]] = {}
    seen = set(known)
    for source, text in _documents(root):
        for raw in _sentences(text):
            if any(c.isdigit() for c in raw) or re.search(r"[/\\=<>{}$#@|+~^%\[\]]|[A-Z]{2,}", raw):
                continue
            sentence = normalise(raw)
            if sentence not in seen and _usable(sentence, lexicon):
                seen.add(sentence)
                found.setdefault(source, []).append(sentence)
    counts: dict[str, int] = {}
    for group in found.values():
        for sentence in group:
            for word in re.findall(r"[a-z']+", sentence):
                counts[word] = counts.get(word, 0) + 1
    common = sorted(w for w, c in counts.items() if c >= 20 and len(w) > 2 and "'" not in w)
    plain = {w for w in listed if w.isalpha() and w.islower() and w.isascii() and len(w) > 3}
    rare = sorted(plain)
    made = _made(rng, common, rare)
    own = [] if known else list(_OWN.split("|"))
    texts = [next(made) for _ in range(count // 5)] + own * 2
    # A source gives at most a quarter, so that scripture or politics doesn't set the tone.
    pools = [rng.sample(g, len(g)) for _, g in sorted(found.items())]
    weights = [min(len(p), count // 4) for p in pools]
    natural: list[str] = []
    share = count - len(texts)
    scale = share / max(sum(weights), 1)
    for pool, weight in zip(pools, weights, strict=True):
        natural += pool[: min(len(pool), round(weight * scale) + 1)]
    texts += natural[:]
    rng.shuffle(texts)
    return texts[:count] if len(texts) > count else texts
