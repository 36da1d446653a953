"""Read symbols as words: marks that touch numbers, quotation marks, arrows, symbols in a sentence.

`marks` runs first, while quotation marks are still there. `read` runs last, when numbers are words.
"""

import re
import unicodedata

from chatterbox.text import lexicon
from chatterbox.text.lexicon import CURRENCY_SIGNS, GREEK, any_in, any_of, spoken_in, unit
from chatterbox.text.rules import Match, Step, noun_follows, space_after, text_after, text_before

# --- feet and inches, longitudes, groups of digits -----------------------------------------------
marks = Step(__name__, "marks")
"""Read feet, inches, coordinates and digit groups as units: `6'2"` → `six foot two`."""
_INCHES = r"(?:1[01]|\d)(?:\.\d{1,2})?(?: \d/\d{1,2})?"
_TO = r"( ?[-–—] ?(?=\d{1,2}'))?"
_MARK = re.compile(
    r"""(?x)
    (?<![\w.'])(?P<value>\d{1,4}(?:[ -]\d{1,2}/\d{1,2}|\.\d{1,3}|/\d{1,3})?)
    (?P<mark>\"|''|'(?![\w']))
    | (?P<double>\") | (?P<open>(?<!\w)'(?=\w)(?!\d\ds?\b)) | (?P<close>(?<=[\w.,!?])'(?!\w))
    | \n"""
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
def _say_coordinate(match: Match) -> str:
    """40°26'46"N; 40° alone is a temperature or an angle."""
    if not match[2] and not match[4]:
        return match[0]
    parts = zip(match.groups()[:3], ("degree", "minute", "second"), strict=True)
    said = [f"{value} {name}{'s' * (value != '1')}" for value, name in parts if value]
    return " ".join([*said, lexicon.DIRECTIONS[match[4]].lower()] if match[4] else said)


@marks.rule(
    rf"(?<![\w.'])(\d{{1,2}})' ?({_INCHES})(?:\"|''){_TO}"
    rf"|(?<![\w.'])(\d{{1,2}})'(1[01]|\d)(?![\w'\"]|\.\d){_TO}",
    "[0-9]['\"]",
)
def _say_height(match: Match) -> str:
    """5'4, 6'2" """
    feet, inches, dash = match[1] or match[4], match[2] or match[5], match[3] or match[6]
    between = ", " if re.match(r" ?\d", text_after(match, 2)) else ""  # 5'10" 160 lb
    return f"{feet} foot {inches}{' to ' if dash else between}"


@marks.rule(r"(?s).+", "[0-9]['\"]")
def _say_marks(whole: Match) -> str:
    """12" pizza, a 10' pole. Quotation marks that close are told from inches, line by line."""
    double = single = False

    def say(match: Match) -> str:
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


def _with_commas(match: Match) -> str:
    return re.sub("[ .]", ",", match[0])


@marks.rule(
    r"(?<![\w.,:/+-])(?<!\d )[1-9]\d{0,2}(?: \d{3}){1,4}(?![\w-]|[.,]?\d| \d)"
    r"(?= ?([A-Za-zμ%°]{1,5})?)",
    "[0-9] [0-9]{3}(?![0-9])",
)
def _say_groups(match: Match) -> str:
    """Groups of three are one number where they end in zeros, where there are three of them, and
    before a unit; not after `code`, `call` and the like."""
    before, is_round = text_before(match, 16), match[0].endswith(" 000")
    if _CODE.search(before) and not is_round:
        return match[0]
    sure = is_round or match[0].count(" ") > 1 or before[-1:] in tuple(CURRENCY_SIGNS)
    measured = match[1] and unit(match[1]) not in (None, "in", "x", "us")
    return _with_commas(match) if sure or measured else match[0]


marks.add(
    r"(?<![\w.,])[1-9]\d{0,2}(?:\.\d{3}){2,4}(?![\w.]|,\d{3})", _with_commas, r"[0-9]\.[0-9]{3}\."
)

# --- quotation marks, which the model stumbles over, and smileys ---------------------------------
quotes = Step(__name__, "quotes")
"""Remove quotation marks and smileys, keep apostrophes: `“it's” :)` → `it's`."""
_ELISION = r"(?:tis|twas|em|til|cause|bout|round|neath|n)\b"
quotes.add(r"(?<!\S)(?:[:;=]'?-?[()DPpO/|3]+|<3+|[xX]D+|\^_*\^)(?!\S)", " ", "[:;=<^D]")
quotes.add('"', "")
quotes.add(r"(?<=\d)'(?=\d)", " ", "'")
quotes.add(  # an apostrophe stays between letters, after s (`the dogs' tails`), in elisions
    rf"(?i)'(?:(?<![^\W_].)(?!{_ELISION}|\d\d\b|\d0s\b)|(?<=[^\W\d_s].)(?![^\W\d_])"
    r"|(?<=\d.)(?!s\b))",
    "",
    "'",
)

# --- symbols in a sentence -----------------------------------------------------------------------
read = Step(__name__)
"""Read the symbols that are left as words: `AT&T` → `AT and T`."""
_LETTERS = "".join(GREEK)
_SPOKEN = spoken_in("spoken signs")
read.add(
    f"[{_LETTERS}](?<![{_LETTERS}].)(?![{_LETTERS}\u0370-\u03ff])",
    lambda m: f"{' ' * text_before(m, 1).isalnum()}{GREEK[m[0]]}{space_after(m)}",
)
_AMOUNTLESS = CURRENCY_SIGNS.replace("$", "")
read.add(
    rf"(?<!\S)[{_AMOUNTLESS}](?!\w)",
    lambda m: f" {lexicon.CURRENCIES[m[0]].one} ",
    f"[{_AMOUNTLESS}]",
)
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
    ("-", rf"(?<=\b[A-DF])-(?= ?(?:[.,;!?)\n]|$|{any_in('after grades')}\b))", " minus "),
    ("-", r"(?<=\b[Aa] [A-DF])-(?=[\s.,;!?)]|$)|(?<=\ban [A-DF])-(?=[\s.,;!?)]|$)", " minus "),
    ("°", r"(?<=[a-z])°", " degrees"),
    (":", r"(?<=\w):(?=[\\/]\w)", " colon "),
    ("/", r"(?<=\w)/ {0,2}(?=partial )", " over "),
    ("/", r"/(?:(?<![\w/].)|(?<=\w.))(?=\w)", " slash "),
    ("\\", r"\\(?=\w)", " backslash "),
):
    read.add(_pattern, _said, re.escape(_sign))
read.add(  # vowel signs and joiners, though no letters, are parts of words in many scripts
    r"[^\w\s'.,!?;:()…—–\[\]-]|_",
    lambda m: m[0] if unicodedata.category(m[0]) in ("Mn", "Mc", "Cf") else " ",
)

# --- arrows --------------------------------------------------------------------------------------
arrows = Step(__name__, "arrows", "[→↔←↑↓>]|<-")
"""Read arrows as words: `open File > Print > PDF` → `open File, then Print, then PDF`."""
_MENU = re.compile(rf"\b(?i:{any_in('menus')})\b")
_SEVERAL = re.compile(r"[A-Z]\S* [A-Z]\S*\n|\n[A-Z]\S* [A-Z]")
_CLAUSE_END = re.compile(r"[,;:\n(]|[.!?] ")
_NEAR_CHARS = 48


def _is_short(word: str) -> bool:
    """Whether the word is a number or a letter: something that is compared, not a menu entry."""
    return len(word) == 1 or word[0].isdigit()


def _around(match: Match) -> tuple[str, str, str]:
    """Return the word before the sign, the word behind it, and both sides of its clause."""
    before = _CLAUSE_END.split(text_before(match, _NEAR_CHARS))[-1]
    after = _CLAUSE_END.split(text_after(match, _NEAR_CHARS), maxsplit=1)[0]
    left = re.search(r"([^\W_][\w'+./-]*)[)\]]?(?:\.\.\.)?$", before)
    right = re.match(r"[\[(]?([^\W_][\w'+/-]*)", after)
    return left[1] if left else "", right[1] if right else "", f"{before}\n{after}"


def _names_menu(near: str) -> bool:
    return _MENU.search(near.partition("\n")[0]) is not None


@arrows.rule(r" ?(<?)(?:-{1,3}>|={1,3}>|→|↔)(?: ?→)*+ ?", "[→↔]|[-=]>")
def _say_arrow(match: Match) -> str:
    """Idea → Draft → Print, A → B"""
    if text_before(match, 1) in ("", *"\n.,;:!?") or text_after(match) in ("", "\n"):
        return " "
    if match[1] or "↔" in match[0]:
        return " to and from "
    left, right, near = _around(match)
    if not left or not right or _is_short(left) or _is_short(right):
        return " to "
    is_path = any(sign in near for sign in ("→", "->", "=>")) or _names_menu(near)
    return ", then " if is_path else " to "


arrows.add(r" ?(?:←|<-{1,3}(?= ?[A-Za-z])) ?", " from ", "←|<-")


@arrows.rule(r"(?<![-=<>]) ?(?<![-=<>] )>{1,2}(?![>=]) ?", ">")
def _say_above(match: Match) -> str:
    """`>` is `then` between two words that begin with capitals, in a path of three steps, and where
    the words before name a menu. Any other `>` compares: `Profit > Loss`."""
    left, right, near = _around(match)
    if not left or not right or _is_short(right) or match[0] not in (">", " > ", " >> "):
        return match[0]
    is_path = " > " in near or " >> " in near or _names_menu(near)
    if _is_short(left):
        is_step = is_path and right[0].isupper()
    else:
        titles = left[0].isupper() and right[0].isupper() and (is_path or _SEVERAL.search(near))
        is_step = bool(titles) or (is_path and match[0] != ">")
    return ", then " if is_step else match[0]


arrows.add("↑", " up ", "↑")
arrows.add("↓", " down ", "↓")
