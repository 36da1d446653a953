"""Normalise characters before a text is read, and stops, dashes and line ends afterwards.

`normalise_characters` leaves one form of each space, quote, dash and digit, and no control
characters, emoji or piles of accents. `tidy` leaves one space between words, single stops, no
parentheses, and a stop at the end of each line.
"""

import re
import unicodedata
from functools import lru_cache

from chatterbox.text.lexicon import CHARACTERS, CURRENCY_SIGNS, spoken_in
from chatterbox.text.rules import Match, Step, text_before

MAX_MARKS = 4
"""Most combining marks on one letter; further marks are dropped. Devanagari and Hebrew words have
three or four, Zalgo text dozens. `unicodedata.normalize` takes quadratic time for long runs."""

_VULGAR = {
    c: " " + unicodedata.normalize("NFKC", c).replace("⁄", "/") for c in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
"""With a space in front, so that `1½` does not become `11/2`."""
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ⁿⁱ", "0123456789-+()ni")
_BEFORE_NFKC = str.maketrans(
    _VULGAR
    | {char: f" {said} " for char, said in CHARACTERS.items()}
    | {char: put for chars, put in spoken_in("one spelling").items() for char in chars}
    | {char: f"{put} " for chars, put in spoken_in("wide stops").items() for char in chars}
    | {"№": "number "}
    # NFKC would turn these signs and emoji into letters
    | dict.fromkeys("™®©℠ℹⓂ㊗㊙¨¯¸˙˚˛˜˝", " ")
)
"""Replacements for characters that NFKC would spoil, or would not bring into one form."""
_KEPT_SIGNS = frozenset("°%‰&@#*+=<>/\\|^~_§×÷±≈≤≥≠√∞→←↔↑↓•`\"'()[]{}.,!?;:-–—…" + CURRENCY_SIGNS)
"""Symbols that a later step reads or removes; any other becomes a space."""
_ACCENTS = frozenset(
    "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0323\u0331"
)
"""Accents that are kept although they form no letter with another character: Yoruba, stress in
Russian."""
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")

_ascii = Step(__name__)
"""Remove terminal colours and slips of the shift key: `wow!!1!` → `wow!`"""
_ascii.add(r"\x1b\[[0-9;?]*+[ -/]*+[@-~]", "", "\x1b")
_ascii.add(_LINE_END.pattern, "\n")
_ascii.add(r"(?<=!!)[!1]++(?!\w)", "", "!!")  # `!!!1!`: the shift key let go too soon

_others = Step(__name__)
"""Read characters that would be lost when they are normalised: `4.5★` → `four point five stars`."""


@_others.rule(
    "(?<=\\d)[ \xa0]?[★⭐]\ufe0f?(?![★☆⭐])|(?<![★☆⭐])[★⭐]{1,5}☆{0,4}(?![★☆⭐])", "[★⭐]"
)
def _say_stars(match: Match) -> str:
    """5★ and ★★★★☆; other stars are decoration."""
    stars = match[0].strip("\xa0 \ufe0f")
    if text_before(match, 1).isdigit():
        return " star" if re.search(r"(?<![\d.])1$", text_before(match, 2)) else " stars"
    return f" {5 - stars.count('☆')} stars " if len(stars) == 5 else " "


_others.add("\ufe0f?\u20e3|[\U0001f000-\U0001fbff]+", " ")  # keycaps, pictographs
# Between the steps of a path on a page; elsewhere these are quotation marks.
_others.add("(?<=\\S)[ \xa0][›»▸][ \xa0](?=\\S)", " > ", r"\A[^«‹]*+\Z")
# Raised figures after a word or a stop number a footnote; after `x`, `km`, `10` they raise it.
_others.add("[⁰¹²³⁴⁵⁶⁷⁸⁹](?:(?<=[a-z]{4}.)|(?<=[.,;!?].))[⁰¹²³⁴⁵⁶⁷⁸⁹]*", "")
# 1 234 567 with no-break spaces, as ISO and SI prescribe.
_others.add(
    "(?<![\\d.,+\xa0\u2009\u202f-])[1-9]\\d{0,2}(?:[\xa0\u2009\u202f]\\d{3})+(?![\\d\xa0])",
    lambda m: re.sub(r"\D", ",", m[0]),
)
_others.add(r"(?<=\d) ?[º˚]", "°")
_others.add(r" ?[·⋅](?:(?<=[\d)].)|(?<=[\d)] .)) ?(?=[\d(])", " × ")


@_others.rule("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ⁿⁱ]+")
def _say_raised(match: Match) -> str:
    power = match[0].translate(_SUPERSCRIPT)
    if ion := re.fullmatch(r"(\d?)([+-])", power):  # Ca²⁺
        return f" {ion[1]} {'plus' if ion[2] == '+' else 'minus'} "
    return f"^{power}" if power.lstrip("-").isdigit() else f"^{{{power}}}"


def normalise_characters(text: str) -> str:
    """Reduce `text` to letters and their accents, ASCII digits, spaces, line feeds and
    `_KEPT_SIGNS`. Linear time."""
    text = _ascii(text)
    if not text.isascii():
        text = _few_marks(_others(text).translate(_BEFORE_NFKC))
        parts = re.split("([…ำຳ])", text)  # what NFKC would take apart
        parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
        text = _after_nfkc("".join(parts))
    return text.translate({ord(char): _one(char) for char in set(text)})


_after_nfkc = Step(__name__)
"""Remove accents without a letter, variation selectors, and joiners outside Persian and Indian
words: `a\u200db` → `ab`."""
_after_nfkc.add(
    "(?:[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f])+",
    lambda m: m[0] if m[0] in _ACCENTS else "",
)
_after_nfkc.add("(?<![\u0600-\u1fff])[\u200c\u200d]|[\u200c\u200d](?![\u0600-\u1fff])", "")


def _few_marks(text: str) -> str:
    """Keep at most MAX_MARKS combining marks in a row, and none without a letter."""
    marks = {char for char in set(text) if unicodedata.category(char)[0] == "M"}
    if not marks:
        return text
    kept, room = [], 0
    for char in text:
        if char in marks:
            if not room:
                continue
            room -= 1
        elif char not in "\u200c\u200d":
            room = MAX_MARKS if char.isalpha() else 0
        kept.append(char)
    return "".join(kept)


@lru_cache(maxsize=4096)
def _one(char: str) -> str:
    """Return the form of a character in normalised text."""
    if char in "\n \u200c\u200d" or char in _KEPT_SIGNS:
        return char
    if ord(char) in _BEFORE_NFKC:
        return _BEFORE_NFKC[ord(char)]  # a result of NFKC
    kind = unicodedata.category(char)
    if kind[0] in "ML" and kind != "Me":
        return char
    if kind == "Nd":
        return str(unicodedata.decimal(char))
    # the rest: controls, joiners, direction marks, soft hyphens, unassigned
    return " " if char == "\t" or kind[0] in "ZPSN" else ""


def is_speakable(text: str) -> bool:
    """Whether `text` contains a letter."""
    return any(c.isalpha() for c in text)


# --- lines, stops, dashes ------------------------------------------------------------------------
TAG = re.compile(r"\[[^\[\]\n]{1,64}\]")
"""Matches a tag or a pause in normalised text."""
_WRAPPED_CHARS = 60
"""Least length of a line without a stop that an editor has wrapped (editors wrap at 60 to 80). A
shorter line is a heading, an address or a verse."""
_UNFINISHED = re.compile(
    r"(?:^| )(?:a|an|the|of|to|and|or|in|on|at|by|for|from|with|as|is|are|was|were|that|this|his"
    r"|her|its|their|our|my|your)$"
)
"""Matches words that end a line only where an editor has wrapped it."""
_BLANKS = re.compile(" {2,}")


def squeeze_spaces(text: str) -> str:
    """Reduce runs of spaces to one space."""
    return _BLANKS.sub(" ", text) if "  " in text else text


def runs_on(previous: str, line: str, earlier: int = 0) -> bool:
    """Whether an editor has wrapped a line behind `previous`, so that `line` continues it.

    `earlier` is the number of characters of the same line in front of `previous`.
    """
    return previous[-1] not in ".!?:" and (
        len(previous) + earlier >= _WRAPPED_CHARS
        or line[0].islower()
        or _UNFINISHED.search(previous[-8:]) is not None
    )


def unwrap_lines(text: str) -> str:
    """Join lines that an editor has wrapped, and drop empty lines."""
    joined: list[str] = []
    previous = ""
    for written in squeeze_spaces(text).split("\n"):
        line = written.strip()
        if line:
            joined.append((" " if previous and runs_on(previous, line) else "\n") + line)
        previous = line
    return "".join(joined).lstrip("\n")


_stops = Step(__name__)
"""Clean up parentheses, dashes and stops: `The cat (a tabby) sat..` → `The cat, a tabby, sat.`"""
_stops.add(r"\((?<=\w.)(e?s)\)", r"\1", r"\(")
# The letter or number of a clause, `501(c)(3)`; numbers are words by now.
_stops.add(
    r"\((?<=[\w)].)(\w|[ivx]{1,4}|one|two|three|four|five|six|seven|eight|nine|ten)\)",
    r" \1 ",
    r"\(",
)
_stops.add(r"[()](?:(?<=[,.!?;:]\))|(?<=[,.!?;:] \())", "", "[()]")
_stops.add(r" ?\)(?= ?\w)|\(", ", ", "[()]")
_stops.add(r"\)", " ", r"\)")
_stops.add("…", ", ", "…")
_stops.add(" {2,}", " ", "  ")


@_stops.rule(r" ?[-–—](?: ?[-–—])*+ ?", "[-–—]")
def _say_dashes(match: Match) -> str:
    """A run of dashes becomes one dash; hyphens that touch a word stay."""
    run = match[0]
    is_dash = "–" in run or "—" in run or "--" in run or (run[0] == " " and run[-1] == " ")
    return " — " if is_dash else run


_stops.add(r"-(?:(?<!\w-)-*|-*(?!\w))", " ", "-")
_stops.add(" {2,}", " ", "  ")
_stops.add(r" — ?(?=[,.!?;:])|(?<=[,.!?;:]) ?—(?= )", "", "—")


@_stops.rule(r"(?: [,.!?;:]|[,.!?;:](?= ?[,.!?;:]))(?: ?[,.!?;:])*+")
def _say_stops(match: Match) -> str:
    """A run of stops becomes the strongest of them."""
    marks = match[0].replace(" ", "")
    if asked := "".join(mark for mark in "?!" if mark in marks):
        return asked
    if "." in marks:  # with a comma: an abbreviation's stop inside a sentence
        return "," if "," in marks else "..." if marks.count(".") > 1 else "."
    return marks[0]


_stops.add(r"[,.!?;:](?=[\w\[])", r"\g<0> ")
_stops.add(" {2,}", " ", "  ")


def tidy(text: str) -> str:
    """Clean up stops, drop lines without words, and end each line with a stop. Linear time.

    A line of tags alone is joined to the next line, at the end of the text to the line before.
    """
    lines: list[str] = []
    tags = ""
    for line in _stops(text).split("\n"):
        if not is_speakable(line):
            continue
        line = line.lstrip(" ,.!?;:—-").rstrip(" ,;:—-")
        if not is_speakable(TAG.sub("", line)):
            tags = " ".join([tags, *TAG.findall(line)])
            continue
        lines.append(f"{tags} {line}".lstrip() + "." * (line[-1] not in ".!?"))
        tags = ""
    if tags:
        lines[-1:] = [" ".join([*lines[-1:], tags.lstrip()])]
    return "\n".join(lines)
