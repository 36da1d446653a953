"""Brings characters into one form: one spelling for each blank, quote and dash.

One spelling for each blank, quote, dash, digit and compatibility form; no controls, no emoji, no
piles of accents.
"""

import re
import unicodedata

from chatterbox.text.lexicon import CHARACTERS, CURRENCY_SIGNS
from chatterbox.text.rules import left_of

MAX_MARKS = 4
"""Combining marks kept on one letter. Devanagari and Hebrew words pile up three or four, Zalgo
dozens; `unicodedata.normalize` is quadratic in an unbounded pile (CPython 3.11)."""

_VULGAR = {
    ord(c): " " + unicodedata.normalize("NFKC", c).replace("⁄", "/") for c in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
"""With a blank before: `1½` must not become `11/2`."""
_SUPERSCRIPT = {ord(c): d for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ⁿⁱ", "0123456789-+()ni", strict=True)}
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ⁿⁱ]+")
_FOOTNOTE = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹](?:(?<=[a-z]{4}.)|(?<=[.,;!?].))[⁰¹²³⁴⁵⁶⁷⁸⁹]*")
"""Raised figures after a word or a stop number a footnote; after `x`, `km`, `10` they raise it."""

_GROUPED = re.compile(
    "(?<![\\d.,+\xa0\u2009\u202f-])[1-9]\\d{0,2}(?:[\xa0\u2009\u202f]\\d{3})+(?![\\d\xa0])"
)
"""1 234 567 with blanks that do not break, as ISO and SI want it."""
_DEGREES = re.compile(r"(?<=\d) ?[º˚]")
_PRODUCT = re.compile(r" ?[·⋅](?:(?<=[\d)].)|(?<=[\d)] .)) ?(?=[\d(])")

_BEFORE_NFKC = (
    _VULGAR
    | {ord(char): f" {said} " for char, said in CHARACTERS.items()}
    | dict.fromkeys(map(ord, "⁄∕"), "/")
    | dict.fromkeys(map(ord, "⟶➔➜➝➞➡"), "→")
    | {ord("″"): "''"}
    | dict.fromkeys(map(ord, "“”„‟«»‹›〝〞＂״"), '"')
    | dict.fromkeys(map(ord, "‘’‚‛′´ʼʹ＇׳"), "'")
    | dict.fromkeys(map(ord, "‐‑‒−﹣－־"), "-")
    | dict.fromkeys(map(ord, "。｡।॥۔։።။។"), ". ")
    | dict.fromkeys(map(ord, "、､،，၊"), ", ")
    | dict.fromkeys(map(ord, "！"), "! ")
    | dict.fromkeys(map(ord, "？؟"), "? ")
    | dict.fromkeys(map(ord, "；؛"), "; ")
    | dict.fromkeys(map(ord, "：︰"), ": ")
    | dict.fromkeys(map(ord, "‣◦▪●○⁃∙"), "•")
    | dict.fromkeys(map(ord, "⇒⟶⟹➔➜➝➞➡⮕↦⇨"), "→")
    | dict.fromkeys(map(ord, "⟵⇐⬅"), "←")
    | dict.fromkeys(map(ord, "⇔⟷"), "↔")
    | {ord("٫"): ".", ord("٬"): ",", ord("٪"): "%"}
    | {ord("—"): "—", ord("―"): "—", ord("…"): "…", ord("№"): "number "}
    # NFKC would turn these signs and emoji into letters
    | dict.fromkeys(map(ord, "™®©℠ℹⓂ㊗㊙¨¯¸˙˚˛˜˝"), " ")
)
"""Characters that NFKC would spoil, or would not bring together."""

_KEPT_SIGNS = frozenset("°%‰&@#*+=<>/\\|^~_§×÷±≈≤≥≠√∞→←↔↑↓•`\"'()[]{}.,!?;:-–—…" + CURRENCY_SIGNS)
"""Signs that a later step reads or takes away itself; any other is a blank."""

_EMOJI_BLOCKS = re.compile("[\U0001f000-\U0001fbff]+")
"""Pictographs and their modifiers; some of them would have letters as compatibility forms."""
_DECORATION = re.compile(
    "(?:[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f])+"
)
"""Accents for which NFKC found no letter, and variation selectors."""
_ACCENTS = frozenset(
    "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0323\u0331"
)
"""Those that a language needs where they stand alone (Yoruba, stress in Russian)."""
_WHOLE = re.compile("([…ำຳ])")
"""What NFKC would take apart."""
_JOINER = re.compile("(?<![\u0600-\u1fff])[\u200c\u200d]|[\u200c\u200d](?![\u0600-\u1fff])")
"""Joiners but for those inside words (Persian, Indian scripts)."""
_STARS = re.compile("(?<=\\d)[ \xa0]?[★⭐]\ufe0f?(?![★☆⭐])|(?<![★☆⭐])[★⭐]{1,5}☆{0,4}(?![★☆⭐])")
_KEYCAP = re.compile("\ufe0f?\u20e3")
_CRUMB = re.compile("(?<=\\S)[ \xa0][›»▸][ \xa0](?=\\S)")
"""Between the steps of a path on a page; elsewhere these are quotation marks."""
_SLIPPED = re.compile(r"(?<=!!)[!1]++(?!\w)")
"""`!!!1!`: the shift key let go too soon."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*+[ -/]*+[@-~]")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def readable(text: str) -> str:
    """`text` in known characters: letters and their accents, ASCII digits, blanks, line feeds and
    `_KEPT_SIGNS`. Linear time."""
    text = _LINE_END.sub("\n", _ANSI.sub("", text))
    text = _SLIPPED.sub("", text) if "!!" in text else text
    if text.isascii():
        return text.translate(_written(text))
    text = _STARS.sub(_stars, text) if "★" in text or "⭐" in text else text
    text = _EMOJI_BLOCKS.sub(" ", _KEYCAP.sub(" ", text))
    if "«" not in text and "‹" not in text:
        text = _CRUMB.sub(" > ", text)
    text = _FOOTNOTE.sub("", text)
    text = _PRODUCT.sub(" × ", _DEGREES.sub("°", _GROUPED.sub(_with_commas, text)))
    text = _SUPERSCRIPTS.sub(_raised, text)
    text = _few_marks(text.translate(_BEFORE_NFKC))
    parts = _WHOLE.split(text)
    parts[::2] = [unicodedata.normalize("NFKC", part) for part in parts[::2]]
    text = _DECORATION.sub(lambda m: m[0] if m[0] in _ACCENTS else "", "".join(parts))
    return _JOINER.sub("", text.translate(_written(text)))


def _with_commas(match: re.Match[str]) -> str:
    return re.sub(r"\D", ",", match[0])


def _raised(match: re.Match[str]) -> str:
    power = match[0].translate(_SUPERSCRIPT)
    return f"^{power}" if power.lstrip("-").isdigit() else f"^{{{power}}}"


def _stars(match: re.Match[str]) -> str:
    """5★ and ★★★★☆; any other stars are decoration."""
    stars = match[0].strip("\xa0 \ufe0f")
    if match.string[match.start() - 1 : match.start()].isdigit():
        alone = re.search(r"(?<![\d.])1$", left_of(match, 2))
        return " star" if alone else " stars"
    return f" {5 - stars.count('☆')} stars " if len(stars) == 5 else " "


def _few_marks(text: str) -> str:
    """At most MAX_MARKS combining marks in a row, and none but on a letter."""
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


def _written(text: str) -> dict[int, str]:
    """How each distinct character of `text` is written from now on."""
    return {ord(char): _one(char) for char in set(text)}


def _one(char: str) -> str:
    if char in "\n \u200c\u200d" or char in _KEPT_SIGNS:
        return char
    if ord(char) in _BEFORE_NFKC:
        return _BEFORE_NFKC[ord(char)]  # came out of NFKC itself
    kind = unicodedata.category(char)
    if kind[0] == "M":
        return "" if kind == "Me" else char
    if kind[0] == "L":
        return char
    if kind == "Nd":
        return str(unicodedata.decimal(char))
    if char == "\t" or kind[0] in "ZPSN":
        return " "
    return ""  # controls, joiners, direction marks, soft hyphens, unassigned


def is_speakable(text: str) -> bool:
    """Whether at least one letter is left to say."""
    return any(c.isalpha() for c in text)
