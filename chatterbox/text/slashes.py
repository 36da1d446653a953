"""Slashes in words: `3 times/day`, `speed in km/h`, `9.5/10`, `4/5 stars`, `step 2/5`."""

import re

from chatterbox.text.numbers import NUMBER
from chatterbox.text.units import UNITS, WORDS_FOR_EACH, unit

_START = r"(?<![\w.])(?<!\d,)"
_PER_WORD = re.compile(
    rf"(?i)(?:\b(once|twice|[a-z]{{3,15}}s)|(?<=\d )([a-z]{{3,15}})) ?/ ?"
    rf"({'|'.join(sorted(WORDS_FOR_EACH))}|s|sec|min|h|hr|yr|mo)\b"
)
_PER_UNIT = re.compile(
    r"(?<![\w/.])(km|mi|mg|kg|mL|ml|μg|MB|GB|Mbit|kWh|ft|m|L|g|W|J)/"
    r"(h|hr|s|sec|min|L|l|dL|kg|day|m\^?[23])( ?K\b)?(?![\w/])"
)
_SCORE = re.compile(
    rf"{_START}({NUMBER})/(\d{{1,3}})(?= (?:stars?|points?|rating|marks?)\b)"
    rf"|{_START}(\d{{1,3}}\.\d{{1,2}})/(\d{{1,3}})(?![\w/]|[.,]\d)"
)
_STEP = re.compile(
    r"(?i)\b(step|part|page|slide|chapter|lesson|question|round|level|day|week|phase|episode|item"
    r"|stage|section|attempt|batch|epoch) (\d{1,3})/(\d{1,3})(?![\w/])"
)
_ORDINAL_FRACTION = re.compile(r"(?<![\w/.])(\d{1,3}/\d{1,3})(?i:st|nd|rd|th)s?\b")
_QUOTIENT = re.compile(rf"{_START}({NUMBER}) / (?={NUMBER}(?![\w/]))")


def spell_out(text: str) -> str:
    """`text` with slashes in words, but for those of measures, dates and addresses. Linear time."""
    if "/" not in text:
        return text
    text = _ORDINAL_FRACTION.sub(r"\1", _STEP.sub(r"\1 \2 of \3", text))
    text = _SCORE.sub(lambda m: f"{m[1] or m[3]} out of {m[2] or m[4]}", text)
    text = _PER_WORD.sub(lambda m: f"{m[1] or m[2]} per {each(m[3], None)}", text)
    text = _PER_UNIT.sub(_say_per_unit, text)
    return _QUOTIENT.sub(r"\1 divided by ", text)


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
