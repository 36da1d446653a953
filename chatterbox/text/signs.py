"""Signs in words: marks that touch figures, quotation marks, arrows and paths, signs in a sentence.

`marks` runs first, while quotation marks are still there; figures are words already when
`spell_out` runs.
"""

import re
import unicodedata

from chatterbox.text.lexicon import CURRENCIES, CURRENCY_SIGNS, GREEK, unit
from chatterbox.text.rules import has_noun, left_of, right_of

# --- feet and inches, longitudes, groups of figures ----------------------------------------------
_COORDINATE = re.compile(
    r"(?<![\w.])(\d{1,3}(?:\.\d{1,8})?)° ?(?:(\d{1,2}(?:\.\d{1,5})?)(?:' ?|(?!\w))"
    r"(?:(\d{1,2}(?:\.\d{1,5})?)(?:\"|'') ?)?)?([NSEW]\b)?"
)
_DIRECTIONS = {"N": "north", "S": "south", "E": "east", "W": "west"}
_INCHES = r"(?:1[01]|\d)(?:\.\d{1,2})?(?: \d/\d{1,2})?"
_HEIGHT = re.compile(
    rf"(?<![\w.'])(\d{{1,2}})' ?({_INCHES})(?:\"|'')( ?[-–—] ?(?=\d{{1,2}}'))?"
    rf"|(?<![\w.'])(\d{{1,2}})'(1[01]|\d)(?![\w'\"]|\.\d)( ?[-–—] ?(?=\d{{1,2}}'))?"
)
_VALUE = r"(?<![\w.'])(?P<value>\d{1,4}(?:[ -]\d{1,2}/\d{1,2}|\.\d{1,3}|/\d{1,3})?)"
_MARK = re.compile(
    rf"{_VALUE}(?P<mark>\"|''|'(?![\w']))|(?P<double>\")|(?P<open>(?<!\w)'(?=\w)(?!\d\ds?\b))"
    r"|(?P<close>(?<=[\w.,!?])'(?!\w))|\n"
)
_QUOTED_FIGURE = re.compile(r"\d['\"]")
_MINUS = re.compile(
    rf"(?<![\w)\].%°{CURRENCY_SIGNS}'\"–-])(?<![\d%] )–(?=(?:[A-Z]{{1,2}}\$|[{CURRENCY_SIGNS}])?\d)"
)
_SHARP = re.compile(r"(?<=\b[A-GJ])#(?=\d)")
_RUPEES = re.compile(r"\bRs\.? ?(?=\d)")
_BLANKS = re.compile(
    r"(?<![\w.,:/+-])(?<!\d )[1-9]\d{0,2}(?: \d{3}){1,4}(?![\w-]|[.,]?\d| \d)"
    r"(?= ?([A-Za-zμ%°]{1,5})?)"
)
_POINTS = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:\.\d{3}){2,4}(?![\w.]|,\d{3})")
_GROUP = re.compile(r"\d[ .]\d{3}(?!\d)")
_CODE = re.compile(
    r"(?i)\b(?:code|pin|otp|number|no|call|dial|phone|tel|fax|text|account|card|id|ending in"
    r"|order|is|extension|ref|zip)[.:]? $"
)


def marks(text: str) -> str:
    """`text` with these marks in words or in the way that English writes them. Linear time."""
    if "–" in text:
        text = _MINUS.sub("-", text)
    if "#" in text:
        text = _SHARP.sub(" sharp ", text)
    if "Rs" in text:
        text = _RUPEES.sub("₹", text)
    if "°" in text:
        text = _COORDINATE.sub(_say_coordinate, text)
    if _QUOTED_FIGURE.search(text):
        text = _MARK.sub(_Quotes().say, _HEIGHT.sub(_say_height, text))
    if _GROUP.search(text):
        text = _POINTS.sub(_with_commas, _BLANKS.sub(_grouped, text))
    return text


def _say_coordinate(match: re.Match[str]) -> str:
    """40°26'46"N; 40° alone is a temperature or an angle."""
    if not match[2] and not match[4]:
        return match[0]
    parts = zip(match.groups()[:3], ("degree", "minute", "second"), strict=True)
    said = [f"{value} {name}{'s' * (value != '1')}" for value, name in parts if value]
    return " ".join([*said, _DIRECTIONS[match[4]]] if match[4] else said)


def _say_height(match: re.Match[str]) -> str:
    feet, inches, dash = match[1] or match[4], match[2] or match[5], match[3] or match[6]
    return f"{feet} foot {inches}{' to ' if dash else ''}"


class _Quotes:
    """Tells the mark of feet or inches from a closing quotation mark, line by line."""

    def __init__(self) -> None:
        self._double = self._single = False

    def say(self, match: re.Match[str]) -> str:
        mark = match["mark"]
        if mark is None:
            self._follow(match)
            return match[0]
        if mark == '"' and self._double:
            self._double = False
            return match[0]
        if mark == "'" and (self._single or len(match["value"]) > 3):
            self._single = False
            return match[0]
        sign = "ft" if mark == "'" else "in"
        return f"{match['value']}{'-' * has_noun(match.string, match.end())}{sign}"

    def _follow(self, match: re.Match[str]) -> None:
        if match["double"]:
            self._double = not self._double
        elif match["open"]:
            self._single = True
        elif match["close"]:
            self._single = False
        else:
            self._double = self._single = False


def _grouped(match: re.Match[str]) -> str:
    """Groups of three with a blank between are one figure where they end in zeros, where there
    are three of them, or before a unit; after `code`, `call` and the like they are digits."""
    before = left_of(match, 16)
    if _CODE.search(before) and not match[0].endswith(" 000"):
        return match[0]
    sure = (
        match[0].endswith(" 000") or match[0].count(" ") > 1 or before[-1:] in tuple(CURRENCY_SIGNS)
    )
    if not (sure or (match[1] and unit(match[1]) not in (None, "in", "x", "us"))):
        return match[0]
    return _with_commas(match)


def _with_commas(match: re.Match[str]) -> str:
    return re.sub("[ .]", ",", match[0])


# --- quotation marks and signs -------------------------------------------------------------------
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
    before = " " * left_of(match, 1).isalnum()
    return f"{before}{GREEK[match[0]]}{' ' * right_of(match).isalnum()}"


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


# --- arrows and menu paths -----------------------------------------------------------------------
_ARROW = re.compile(r" ?(<?)(?:-{1,3}>|={1,3}>|→|↔)(?: ?→)*+ ?")
_BACKWARD = re.compile(r" ?(?:←|<-{1,3}(?= ?[A-Za-z])) ?")
_ABOVE = re.compile(r"(?<![-=<>]) ?(?<![-=<>] )>{1,2}(?![>=]) ?")
_WORD_BEFORE = re.compile(r"([^\W_][\w'+./-]*)[)\]]?(?:\.\.\.)?$")
_WORD_AFTER = re.compile(r"[\[(]?([^\W_][\w'+/-]*)")
_MENU = re.compile(
    r"\b(?i:go(?:es|ing)? to|open(?:ed)?|click(?:ed|ing)?|press|tap(?:ped|ping)?|select|choose"
    r"|choosing|pick|navigate|under|via|menu|settings?|preferences|options|tools|file|edit|view"
    r"|window|system|control panel|start|home|insert|format|help|accounts?|profile|privacy|general"
    r"|apps?|network|accessibility|advanced|security|layout|notifications|image|layer|filter"
    r"|terminal|extensions|admin|dashboard|plugins|appearance|data|review|developer)\b"
)
"""Words that tell of a menu near by."""
_SEVERAL = re.compile(r"[A-Z]\S* [A-Z]\S*\n|\n[A-Z]\S* [A-Z]")
_CLAUSE_END = re.compile(r"[,;:\n(]|[.!?] ")
_NEAR_CHARS = 48


def arrows(text: str) -> str:
    """`text` with `then` between the steps of a path and `to` for other arrows. Linear time."""
    if "→" in text or "->" in text or "=>" in text or "↔" in text:
        text = _ARROW.sub(_say_arrow, text)
    if "←" in text or "<-" in text:
        text = _BACKWARD.sub(" from ", text)
    if ">" in text:
        text = _ABOVE.sub(_say_above, text)
    return text.replace("↑", " up ").replace("↓", " down ")


def _is_short(word: str) -> bool:
    """A figure or a single letter: something that is counted or compared, not a step."""
    return len(word) == 1 or word[0].isdigit()


def _around(match: re.Match[str]) -> tuple[str, str, str]:
    """The words before and behind a sign ("": none), and what else stands near in its clause."""
    before = _CLAUSE_END.split(left_of(match, _NEAR_CHARS))[-1]
    after = _CLAUSE_END.split(right_of(match, _NEAR_CHARS), maxsplit=1)[0]
    left, right = _WORD_BEFORE.search(before), _WORD_AFTER.match(after)
    return left[1] if left else "", right[1] if right else "", f"{before}\n{after}"


def _say_arrow(match: re.Match[str]) -> str:
    if left_of(match, 1) in ("", *"\n.,;:!?") or right_of(match) in ("", "\n"):
        return " "
    if match[1] or "↔" in match[0]:
        return " to and from "
    left, right, near = _around(match)
    if not left or not right or _is_short(left) or _is_short(right):
        return " to "
    is_path = any(sign in near for sign in ("→", "->", "=>")) or _tells_of_menu(near)
    return ", then " if is_path else " to "


def _say_above(match: re.Match[str]) -> str:
    """`then` between two words that begin with capitals, in a path of three steps, and where the
    words before tell of a menu; any other `>` compares."""
    left, right, near = _around(match)
    if not left or not right or _is_short(right) or match[0] not in (">", " > ", " >> "):
        return match[0]
    is_path = " > " in near or " >> " in near or _tells_of_menu(near)
    if _is_short(left):
        is_step = is_path and right[0].isupper()
    else:
        titles = left[0].isupper() and right[0].isupper() and (is_path or _are_long(near))
        is_step = titles or (is_path and match[0] != ">")
    return ", then " if is_step else match[0]


def _are_long(near: str) -> bool:
    """Whether a side of the sign has several words with capitals: `Tools > Check Database`; two
    single words are compared: `Profit > Loss`."""
    return _SEVERAL.search(near) is not None


def _tells_of_menu(near: str) -> bool:
    return _MENU.search(near.partition("\n")[0]) is not None
