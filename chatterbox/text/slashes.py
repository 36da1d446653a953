"""Slashes in words: `3 times/day`, `speed in km/h`, `9.5/10`, `4/5 stars`, `step 2/5`."""

import re

from chatterbox.text.numbers import NUMBER
from chatterbox.text.units import UNITS, WORDS_FOR_EACH, unit

_START = r"(?<![\w.])(?<!\d,)"
_PER_WORD = re.compile(
    rf"(?<=[A-Za-z]) ?/ ?({'|'.join(sorted(WORDS_FOR_EACH))}|s|sec|min|h|hr|yr|mo)\b", re.I
)
_COUNTED = re.compile(r"(?:\b(?:once|twice|[a-z]{3,15}s)|\d [a-z]{3,15})$", re.I)
_PER_UNIT = re.compile(
    r"(?<![\w/.])(km|mi|mg|kg|mL|ml|μg|MB|GB|Mbit|kWh|ft|m|L|g|W|J)/"
    r"(h|hr|s|sec|min|L|l|dL|kg|day|m\^?[23])( ?K\b)?(?![\w/])"
)
_ALWAYS = re.compile(r"(?<![\w/])24/7/365(?![\w/])")
_OF = re.compile(r"(?<=\d)/(?=\d{1,3}(?![\w/]|[.,]\d))")
_ITEM = re.compile(
    r"\b(?:step|part|page|slide|chapter|lesson|question|round|level|day|week|phase|episode|item"
    r"|stage|section|attempt|batch|epoch|try|test|file|track|dis[ck]|tweet|post|image|photo"
    r"|task|turn):? \d{1,3}$",
    re.I,
)
_SCORED = re.compile(r"\.\d{1,2}$")
_RATED = re.compile(r"\d{1,3} (?:star|point|rating|mark)")
_ORDINAL_FRACTION = re.compile(r"(?<![\w/.])(\d{1,3}/\d{1,3})(?i:st|nd|rd|th)s?\b")
_QUOTIENT = re.compile(rf"{_START}({NUMBER}) / (?={NUMBER}(?![\w/]))")


def spell_out(text: str) -> str:
    """`text` with slashes in words, but for those of measures, dates and addresses. Linear time."""
    if "/" not in text:
        return text
    text = _ALWAYS.sub("twenty-four seven, three sixty-five", text)
    text = _OF.sub(_say_of, _ORDINAL_FRACTION.sub(r"\1", text))
    text = _PER_UNIT.sub(_say_per_unit, _PER_WORD.sub(_say_per_word, text))
    return _QUOTIENT.sub(r"\1 divided by ", text) if " / " in text else text


def _before(match: re.Match[str]) -> str:
    return match.string[max(0, match.start() - 20) : match.start()]


def _say_of(match: re.Match[str]) -> str:
    before = _before(match)
    if _ITEM.search(before):
        return " of "
    rated = _SCORED.search(before) or _RATED.match(match.string, match.end())
    return " out of " if rated else match[0]


def _say_per_word(match: re.Match[str]) -> str:
    counted = _COUNTED.search(_before(match))
    return f" per {each(match[1], None)}" if counted else match[0]


def _say_per_unit(match: re.Match[str]) -> str:
    """A unit without a figure: `speed in km/h`."""
    per, power = match[2].rstrip("^23"), match[2][-1] if match[2][-1].isdigit() else None
    if match.string[max(0, match.start() - 1) : match.start()] == " " and (
        match.string[max(0, match.start() - 2) : match.start() - 1].isdigit()
    ):
        return match[0]
    return f"{UNITS[match[1]][1]} per {each(per, power)}{' kelvin' if match[3] else ''}"


def each(sign: str, power: str | None) -> str:
    """What stands after `per`: a unit in the singular, or the word itself."""
    if sign == "s" and power == "2":
        return "second squared"  # of acceleration, never `square second`
    found = unit(sign)
    return raised(power) + UNITS[found][0] if found else sign


def raised(power: str | None) -> str:
    return {"2": "square ", "3": "cubic ", "s": "square ", "c": "cubic "}.get(power or "", "")
