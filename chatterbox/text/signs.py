"""How are quotation marks and signs between words read, and which are left away?

Knows no figures: they are words already when `spell_out` runs.
"""

import re
import unicodedata

from chatterbox.text.symbols import GREEK
from chatterbox.text.units import CURRENCIES, CURRENCY_SIGNS

_SMILEY = re.compile(r"(?<!\S)(?:[:;=]'?-?[()DPpO/|3]+|<3+|[xX]D+|\^_*\^)(?!\S)")
_ELISION = r"(?:tis|twas|em|til|cause|bout|round|neath|n)\b"
_LOOSE_QUOTE = re.compile(
    rf"'(?:(?<![^\W_].)(?!{_ELISION}|\d\d\b|\d0s\b)|(?<=[^\W\d_s].)(?![^\W\d_])|(?<=\d.)(?!s\b))",
    re.I,
)
"""An apostrophe stays between letters, after s (`the dogs' tails`), in elisions."""
_BETWEEN_FIGURES = re.compile(r"(?<=\d)'(?=\d)")

_SIGNS: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (sign, re.compile(pattern), put)
    for sign, pattern, put in (
        ("#", r"(?<=\b[CDEFGAJ])#(?!\w)", " sharp "),
        ("b", r"(?<=\b[A-G])b(?= (?:major|minor|maj|min)\b)", " flat"),
        ("+", r"\+\+(?<=\w..)(?!\+)", " plus plus "),
        ("+", r"\+(?:(?<=\w.)(?![\w+])(?! ?[\w(])|(?<=\d.)(?= ))", " plus "),
        ("~", r"~ ?(?=\w)", " about "),
        ("≈", r"(?<=\w) {0,2}≈", " is about "),
        ("≈", r"≈", " about "),
        ("≠", r"≠", " is not equal to "),
        ("!=", r"!=", " is not equal to "),
        ("≤", r"≤", " is at most "),
        ("<=", r"<=", " is at most "),
        ("≥", r"≥", " is at least "),
        (">=", r">=", " is at least "),
        (">", r"-{1,3}>|=>", " to "),
        ("=", r"(?<=[^\s=<>!]) {0,2}={1,3} {0,2}(?=[\w(])", " equals "),
        ("<", r"(?<=\w) < ?(?=\w)", " is less than "),
        (">", r"(?<=\w) > ?(?=\w)", " is greater than "),
        ("<", r"<(?= ?\w+\b(?!>))", " less than "),
        (">", r">(?= ?\w)", " greater than "),
        ("&", r"&{1,2}", " and "),
        ("+", r"(?<=[\w)]) ?\+ ?(?=[\w(])", " plus "),
        ("±", r"±", " plus or minus "),
        ("×", r"×", " times "),
        ("÷", r"÷", " divided by "),
        ("√", r"√ ?", " square root of "),
        ("∞", r"∞", " infinity "),
        ("§", r"§{1,2}", " section "),
        ("%", r"(?<=[a-z])%|(?<!\S)%(?!\w)", " percent "),
        ("$", r"(?<=\w )\$(?= [a-z]|[.,;!?]|$)", " dollar "),
        *(
            (sign, rf"(?<!\S){sign}(?!\w)", f" {CURRENCIES[sign][0]} ")
            for sign in CURRENCY_SIGNS.replace("$", "")
        ),
        (
            "-",
            r"-(?:(?<=\b[A-DF]-)"
            r"(?= ?(?:[.,;!?)\n]|$|(?:in|on|for|to|average|grade|student|rating)\b))"
            r"|(?<=\b[Aan] [A-DF]-)(?=[\s.,;!?)]|$))",
            " minus ",
        ),
        ("°", r"(?<=[a-z])°", " degrees"),
        (":", r"(?<=\w):(?=[\\/]\w)", " colon "),
        ("/", r"(?<=\w)/ {0,2}(?=partial )", " over "),
        ("/", r"/(?:(?<![\w/].)|(?<=\w.))(?=\w)", " slash "),
        ("\\", r"\\(?=\w)", " backslash "),
        ("@", r"@", " at "),
    )
)
"""Sign to look for first (a text has few of them), pattern, what is said. In this order."""
_GREEK_LETTER = re.compile(
    f"[{''.join(GREEK)}](?<![{''.join(GREEK)}].)(?![{''.join(GREEK)}\u0370-\u03ff])"
)
_UNSAID = re.compile(r"[^\w\s'.,!?;:()…—–\[\]-]|_")


def without_quotes(text: str) -> str:
    """Double quotes gone (the model stumbles over them), single ones kept only where they are
    apostrophes; smileys gone."""
    text = _SMILEY.sub(" ", text).replace('"', "")
    return _LOOSE_QUOTE.sub("", _BETWEEN_FIGURES.sub(" ", text)) if "'" in text else text


def _say_greek(match: re.Match[str]) -> str:
    text, start, end = match.string, match.start(), match.end()
    before = " " * text[max(0, start - 1) : start].isalnum()
    return f"{before}{GREEK[match[0]]}{' ' * text[end : end + 1].isalnum()}"


def spell_out(text: str) -> str:
    """`text` with signs in words, and blanks for those that nobody says. Linear time."""
    text = text if text.isascii() else _GREEK_LETTER.sub(_say_greek, text)
    for sign, pattern, said in _SIGNS:
        if sign in text:
            text = pattern.sub(said, text)
    return _UNSAID.sub(" " if text.isascii() else _unsaid, text)


def _unsaid(match: re.Match[str]) -> str:
    """Vowel signs and joiners are parts of words in many scripts, though no letters."""
    return match[0] if unicodedata.category(match[0]) in ("Mn", "Mc", "Cf") else " "
