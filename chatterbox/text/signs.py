"""Signs in words: marks that touch figures, quotation marks, arrows and paths, signs in a sentence.

`marks` runs first, while quotation marks are still there; figures are words already when
`read` runs.
"""

import re
import unicodedata

from chatterbox.text.lexicon import (
    CURRENCIES,
    CURRENCY_SIGNS,
    GREEK,
    any_in,
    any_of,
    spoken_in,
    unit,
)
from chatterbox.text.rules import Step, noun_follows, space_after, text_after, text_before

# --- feet and inches, longitudes, groups of figures, as English writes them ----------------------
marks = Step(__name__, "marks")
_DIRECTIONS = {"N": "north", "S": "south", "E": "east", "W": "west"}
_INCHES = r"(?:1[01]|\d)(?:\.\d{1,2})?(?: \d/\d{1,2})?"
_VALUE = r"(?<![\w.'])(?P<value>\d{1,4}(?:[ -]\d{1,2}/\d{1,2}|\.\d{1,3}|/\d{1,3})?)"
_TO = r"( ?[-–—] ?(?=\d{1,2}'))?"
_MARK = re.compile(
    rf"{_VALUE}(?P<mark>\"|''|'(?![\w']))|(?P<double>\")|(?P<open>(?<!\w)'(?=\w)(?!\d\ds?\b))"
    r"|(?P<close>(?<=[\w.,!?])'(?!\w))|\n"
)
_CODE = re.compile(
    r"(?i)\b(?:code|pin|otp|number|no|call|dial|phone|tel|fax|text|account|card|id|ending in"
    r"|order|is|extension|ref|zip)[.:]? $"
)
marks.add(
    rf"(?<![\w)\].%°{CURRENCY_SIGNS}'\"–-])(?<![\d%] )–"
    rf"(?=(?:[A-Z]{{1,2}}\$|[{CURRENCY_SIGNS}])?\d)",
    "-",
    "–",
)
marks.add(r"(?<=\b[A-GJ])#(?=\d)", " sharp ", "#")
marks.add(r"(?<=\bUTC|\bGMT)[-–](?=\d)", " minus ", "UTC|GMT")
marks.add(r"\bRs\.? ?(?=\d)", "₹", "Rs")


@marks.rule(
    r"(?<![\w.])(\d{1,3}(?:\.\d{1,8})?)° ?(?:(\d{1,2}(?:\.\d{1,5})?)(?:' ?|(?!\w))"
    r"(?:(\d{1,2}(?:\.\d{1,5})?)(?:\"|'') ?)?)?([NSEW]\b)?",
    "°",
)
def _say_coordinate(match: re.Match[str]) -> str:
    """40°26'46"N; 40° alone is a temperature or an angle."""
    if not match[2] and not match[4]:
        return match[0]
    parts = zip(match.groups()[:3], ("degree", "minute", "second"), strict=True)
    said = [f"{value} {name}{'s' * (value != '1')}" for value, name in parts if value]
    return " ".join([*said, _DIRECTIONS[match[4]]] if match[4] else said)


@marks.rule(
    rf"(?<![\w.'])(\d{{1,2}})' ?({_INCHES})(?:\"|''){_TO}"
    rf"|(?<![\w.'])(\d{{1,2}})'(1[01]|\d)(?![\w'\"]|\.\d){_TO}",
    "[0-9]['\"]",
)
def _say_height(match: re.Match[str]) -> str:
    feet, inches, dash = match[1] or match[4], match[2] or match[5], match[3] or match[6]
    between = ", " if re.match(r" ?\d", text_after(match, 2)) else ""  # 5'10" 160 lb
    return f"{feet} foot {inches}{' to ' if dash else between}"


@marks.rule(r"(?s).+", "[0-9]['\"]")
def _say_marks(whole: re.Match[str]) -> str:
    """Marks of feet and inches, told from closing quotation marks, line by line."""
    double = single = False

    def say(match: re.Match[str]) -> str:
        nonlocal double, single
        mark = match["mark"]
        if mark is None:
            if match["double"]:
                double = not double
            elif match["open"] or match["close"]:
                single = match["open"] is not None
            else:
                double = single = False
            return match[0]
        if mark == '"' and double:
            double = False
            return match[0]
        if mark == "'" and (single or len(match["value"]) > 3):
            single = False
            return match[0]
        hyphen = "-" * noun_follows(match.string, match.end())
        return f"{match['value']}{hyphen}{'ft' if mark == chr(39) else 'in'}"

    return _MARK.sub(say, whole[0])


def _with_commas(match: re.Match[str]) -> str:
    return re.sub("[ .]", ",", match[0])


@marks.rule(
    r"(?<![\w.,:/+-])(?<!\d )[1-9]\d{0,2}(?: \d{3}){1,4}(?![\w-]|[.,]?\d| \d)"
    r"(?= ?([A-Za-zμ%°]{1,5})?)",
    "[0-9] [0-9]{3}(?![0-9])",
)
def _say_groups(match: re.Match[str]) -> str:
    """Groups of three with a blank between are one figure where they end in zeros, where there
    are three of them, or before a unit; after `code`, `call` and the like they are digits."""
    before, round_ = text_before(match, 16), match[0].endswith(" 000")
    if _CODE.search(before) and not round_:
        return match[0]
    sure = round_ or match[0].count(" ") > 1 or before[-1:] in tuple(CURRENCY_SIGNS)
    measured = match[1] and unit(match[1]) not in (None, "in", "x", "us")
    return _with_commas(match) if sure or measured else match[0]


marks.add(
    r"(?<![\w.,])[1-9]\d{0,2}(?:\.\d{3}){2,4}(?![\w.]|,\d{3})", _with_commas, r"[0-9]\.[0-9]{3}\."
)

# --- double quotes (the model stumbles over them), smileys, single quotes but for apostrophes -----
quotes = Step(__name__, "quotes")
_ELISION = r"(?:tis|twas|em|til|cause|bout|round|neath|n)\b"
quotes.add(r"(?<!\S)(?:[:;=]'?-?[()DPpO/|3]+|<3+|[xX]D+|\^_*\^)(?!\S)", " ", "[:;=<^D]")
quotes.add('"', "")
quotes.add(r"(?<=\d)'(?=\d)", " ", "'")
quotes.add(
    rf"(?i)'(?:(?<![^\W_].)(?!{_ELISION}|\d\d\b|\d0s\b)|(?<=[^\W\d_s].)(?![^\W\d_])"
    r"|(?<=\d.)(?!s\b))",
    "",
    "'",
)
"""An apostrophe stays between letters, after s (`the dogs' tails`), in elisions."""

# --- signs ---------------------------------------------------------------------------------------
read = Step(__name__)
_LETTERS = "".join(GREEK)
_SPOKEN = spoken_in("spoken signs")
read.add(
    f"[{_LETTERS}](?<![{_LETTERS}].)(?![{_LETTERS}\u0370-\u03ff])",
    lambda m: f"{' ' * text_before(m, 1).isalnum()}{GREEK[m[0]]}{space_after(m)}",
)
_AMOUNTLESS = CURRENCY_SIGNS.replace("$", "")
read.add(rf"(?<!\S)[{_AMOUNTLESS}](?!\w)", lambda m: f" {CURRENCIES[m[0]][0]} ", f"[{_AMOUNTLESS}]")
read.add(any_of(map(re.escape, _SPOKEN)), lambda m: f" {_SPOKEN[m[0]]} ", "[^\\w\\s',.]")
for _sign, _pattern, _said in (
    ("#", r"(?<=\b[CDEFGAJ])#(?!\w)", " sharp "),
    ("b m", r"(?<=\b[A-G])b(?= (?:major|minor|maj|min)\b)", " flat"),
    ("+", r"\+\+(?<=\w..)(?!\+)", " plus plus "),
    ("+", r"\+(?:(?<=\w.)(?![\w+])(?! ?[\w(])|(?<=\d.)(?= ))", " plus "),
    ("~", r"~ ?(?=\w)", " about "),
    ("≈", r"(?<=\w) {0,2}≈", " is about "),
    ("≈", r"≈", " about "),
    ("≤", r"(?<=\w) {0,2}≤", " is at most "),
    ("≤", r"≤", " at most "),
    ("≥", r"(?<=\w) {0,2}≥", " is at least "),
    ("≥", r"≥", " at least "),
    (">", r"-{1,3}>|=>", " to "),
    ("=", r"(?<=[^\s=<>!]) {0,2}={1,3} {0,2}(?=[\w(])", " equals "),
    ("<", r"(?<=\w) < ?(?=\w)", " is less than "),
    (">", r"(?<=\w) > ?(?=\w)", " is greater than "),
    ("<", r"<(?= ?\w+\b(?!>))", " less than "),
    (">", r">(?= ?\w)", " greater than "),
    ("+", r"(?<=[\w)]) ?\+ ?(?=[\w(])", " plus "),
    ("√", r"√ ?", " square root of "),
    ("%", r"(?<=[a-z])%|(?<!\S)%(?!\w)", " percent "),
    ("$", r"(?<=\w )\$(?= [a-z]|[.,;!?]|$)", " dollar "),
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
):
    read.add(_pattern, _said, re.escape(_sign))


@read.rule(r"[^\w\s'.,!?;:()…—–\[\]-]|_")
def _say_nothing(match: re.Match[str]) -> str:
    """A blank; but vowel signs and joiners are parts of words in many scripts, if no letters."""
    return match[0] if unicodedata.category(match[0]) in ("Mn", "Mc", "Cf") else " "


# --- `then` between the steps of a path, `to` for other arrows -----------------------------------
arrows = Step(__name__, "arrows", "[→↔←↑↓>]|<-")
_MENU = re.compile(rf"\b(?i:{any_in('menus')})\b")
_SEVERAL = re.compile(r"[A-Z]\S* [A-Z]\S*\n|\n[A-Z]\S* [A-Z]")
_CLAUSE_END = re.compile(r"[,;:\n(]|[.!?] ")
_NEAR_CHARS = 48


def _is_short(word: str) -> bool:
    """A figure or a single letter: something that is counted or compared, not a step."""
    return len(word) == 1 or word[0].isdigit()


def _around(match: re.Match[str]) -> tuple[str, str, str]:
    """The words before and behind a sign ("": none), and what else stands near in its clause."""
    before = _CLAUSE_END.split(text_before(match, _NEAR_CHARS))[-1]
    after = _CLAUSE_END.split(text_after(match, _NEAR_CHARS), maxsplit=1)[0]
    left = re.search(r"([^\W_][\w'+./-]*)[)\]]?(?:\.\.\.)?$", before)
    right = re.match(r"[\[(]?([^\W_][\w'+/-]*)", after)
    return left[1] if left else "", right[1] if right else "", f"{before}\n{after}"


def _tells_of_menu(near: str) -> bool:
    return _MENU.search(near.partition("\n")[0]) is not None


@arrows.rule(r" ?(<?)(?:-{1,3}>|={1,3}>|→|↔)(?: ?→)*+ ?", "[→↔]|[-=]>")
def _say_arrow(match: re.Match[str]) -> str:
    if text_before(match, 1) in ("", *"\n.,;:!?") or text_after(match) in ("", "\n"):
        return " "
    if match[1] or "↔" in match[0]:
        return " to and from "
    left, right, near = _around(match)
    if not left or not right or _is_short(left) or _is_short(right):
        return " to "
    is_path = any(sign in near for sign in ("→", "->", "=>")) or _tells_of_menu(near)
    return ", then " if is_path else " to "


arrows.add(r" ?(?:←|<-{1,3}(?= ?[A-Za-z])) ?", " from ", "←|<-")


@arrows.rule(r"(?<![-=<>]) ?(?<![-=<>] )>{1,2}(?![>=]) ?", ">")
def _say_above(match: re.Match[str]) -> str:
    """`then` between two words that begin with capitals, in a path of three steps, and where the
    words before tell of a menu; any other `>` compares: `Profit > Loss`."""
    left, right, near = _around(match)
    if not left or not right or _is_short(right) or match[0] not in (">", " > ", " >> "):
        return match[0]
    is_path = " > " in near or " >> " in near or _tells_of_menu(near)
    if _is_short(left):
        is_step = is_path and right[0].isupper()
    else:
        titles = left[0].isupper() and right[0].isupper() and (is_path or _SEVERAL.search(near))
        is_step = bool(titles) or (is_path and match[0] != ">")
    return ", then " if is_step else match[0]


arrows.add("↑", " up ", "↑")
arrows.add("↓", " down ", "↓")
