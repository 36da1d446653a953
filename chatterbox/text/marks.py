"""Marks that touch figures, in words while quotation marks are still there: feet and inches,
longitudes, a dash that is a minus, figures grouped with blanks or points."""

import re

from chatterbox.text.attributive import has_noun
from chatterbox.text.units import CURRENCY_SIGNS, unit

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


def spell_out(text: str) -> str:
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
    before = match.string[max(0, match.start() - 16) : match.start()]
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
