"""Reads dates: `Nov 3-5`, `2024-11-21`, `due 10/14`. Month names are full ones by now.

A bare year is the question of `years`, a time of day that of `clock`.
"""

import re

from chatterbox.text.calendar_names import MONTHS
from chatterbox.text.clock import time_of_day
from chatterbox.text.numbers import cardinal, ordinal, year

_NAME = "(?:" + "|".join(MONTHS) + r")\b"
_NAMED = re.compile(_NAME)
_ALONE = r"(?<![\w./:-])(?<!\d,)"
_END = r"(?![\w/%°]|[.,:-]\d)"
_YEAR = r"(?:(?P<comma>,?) (?P<year>\d{4}|'\d\d))"

_JOINED = re.compile("[0-9][-/.][0-9]")
_SLASH = re.compile("[0-9]/[0-9]")
_ISO = re.compile(
    _ALONE + r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:(?:T| )(\d{2}):(\d{2})(?::\d{2}(?:\.\d{1,9})?)?"
    r"(Z|[+-]\d{2}:?\d{2})?+)?+(?![\w/-]|\.\d)"
)
_YEAR_MONTH = re.compile(_ALONE + r"((?:19|20)\d\d)([-/])(0[1-9]|1[0-2])(?![\w/-]|[.,:]\d)")
_MONTH_OF_YEAR = re.compile(_ALONE + r"(0?[1-9]|1[0-2])/((?:19|20)\d\d)(?![\w/-]|[.,:]\d)")
_SLASHED = re.compile(_ALONE + r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})" + _END)
_NO_YEAR = re.compile(
    r"(?i)\b((?:mon|tues|wednes|thurs|fri|satur|sun)day,?|on|due|by|until|before|after|since|dated?|starting|ending|starts|ends|deadline"
    r"|effective|as of|week of|for|born|through)(:? )(\d{1,2})/(\d{1,2})(?![\w/%]|[.,:]\d| of\b)"
)
_MAYBE_FRACTION = frozenset({"by", "for", "until", "before", "after", "since", "through"})
_USUAL_BOTTOMS = frozenset({2, 3, 4, 5, 6, 8, 10, 12, 16})
_DAYS = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_TO = r"(?P<to> ?[-–—~] ?| (?:to|through|and|or|&) )(?P<last>\d{1,2})(?:st|nd|rd|th)?"
_MONTH_DAY = re.compile(
    rf"\b(?P<month>{_NAME}) {_DAYS}(?:{_TO}(?!\d| ?[ap]m\b|[%°:/]))?"
    rf"(?:{_YEAR}(?! [a-z]+s\b))?{_END}"
    r"(?! (?:people|men|women|children|more|other|days|weeks|months|years|hours|minutes|miles)\b)"
)
_DAY_MONTH = re.compile(
    rf"{_ALONE}(?P<the>[Tt]he )?+{_DAYS}(?:{_TO})?(?: of)? (?P<month>{_NAME})"
    rf"(?:,? (?P<year>\d{{4}}|'\d\d|\d\d(?=[.,;:)]|$)){_END})?+"
)
_BETWEEN_DATES = re.compile(rf"(?<=\d|[a-z]) ?[-–—] ?(?={_NAME} \d|\d{{1,2}} {_NAME})")
_MONTH_YEAR = re.compile(rf"\b(?P<month>{_NAME}),? (?P<year>1\d{{3}}|20\d\d|'\d\d){_END}")


def spell_out(text: str) -> str:
    """`text` with every date in words. Linear time."""
    if _JOINED.search(text):
        text = _SLASHED.sub(_say_slashed, _ISO.sub(_say_iso, text))
        text = _YEAR_MONTH.sub(_say_year_month, text)
    if _SLASH.search(text):
        text = _MONTH_OF_YEAR.sub(lambda m: f"{MONTHS[int(m[1]) - 1]} {year(int(m[2]))}", text)
        text = _NO_YEAR.sub(_say_no_year, text)
    if _NAMED.search(text):
        text = _DAY_MONTH.sub(_say_day_month, _BETWEEN_DATES.sub(" to ", text))
        text = _MONTH_DAY.sub(_say_month_day, text)
        text = _MONTH_YEAR.sub(lambda m: f"{m['month']} {_year(m['year'])}", text)
    return text


def _year(written: str) -> str:
    """2024; '24."""
    if written[0] != "'":
        return year(int(written))
    return ("oh " if written[1] == "0" else "") + cardinal(int(written[1:]))


def _date(a_year: int | None, month: int, day: int) -> str:
    said = f"{MONTHS[month - 1]} {ordinal(day)}"
    return said if a_year is None else f"{said}, {year(a_year)}"


def _say_iso(match: re.Match[str]) -> str:
    a_year, month, day = int(match[1]), int(match[3]), int(match[4])
    short = len(match[3]) + len(match[4]) < 4
    if not (1 <= month <= 12 and 1 <= day <= 31) or (short and match[2] == "."):
        return match[0]
    said = _date(a_year, month, day)
    if match[5] is None:
        return said
    zone = " UTC" if match[7] == "Z" else ""
    return f"{said}, {time_of_day(int(match[5]), int(match[6]))}{zone}"


def _say_year_month(match: re.Match[str]) -> str:
    """2024-05; where the second figure is the greater, it is a later year: 2003-05."""
    a_year, month = int(match[1]), int(match[3])
    if month > a_year % 100:
        return match[0]
    return f"{MONTHS[month - 1]} {year(a_year)}"


def _say_slashed(match: re.Match[str]) -> str:
    """Month first, as in America, unless that cannot be or the separator is a dot."""
    first, sign, second, written = int(match[1]), match[2], int(match[3]), match[4]
    if sign != "/" and len(written) == 2:
        return match[0]  # 1.2.34 is a version, 1-2-34 a score or a code
    month, day = (second, first) if sign == "." or first > 12 else (first, second)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    a_year = int(written)
    if len(written) == 2:
        a_year += 2000 if a_year < 50 else 1900
    return _date(a_year, month, day)


def _say_no_year(match: re.Match[str]) -> str:
    """on 12/25, due 3/4; not `by 3/4`, nor 9/11, which has a name of its own."""
    first, second = int(match[3]), int(match[4])
    month, day = (second, first) if first > 12 else (first, second)
    fraction = first < second and second in _USUAL_BOTTOMS
    if not (1 <= month <= 12 and 1 <= day <= 31) or (first, second) == (9, 11):
        return match[0]
    if fraction and match[1].lower() in _MAYBE_FRACTION:
        return match[0]
    return f"{match[1]}{match[2]}{_date(None, month, day)}"


def _days(match: re.Match[str]) -> str | None:
    """The day, or the first and the last of several; None where there are no such days."""
    days = [int(day) for day in match.group("day", "last") if day]
    if not all(1 <= day <= 31 for day in days):
        return None
    link = (match["to"] or "").strip()
    between = f" {link} " if link.isalpha() else " and " if link == "&" else " to "
    return between.join(ordinal(day) for day in days)


def _say_month_day(match: re.Match[str]) -> str:
    days = _days(match)
    if days is None:
        return match[0]
    return f"{match['month']} {days}" + (f", {_year(match['year'])}" if match["year"] else "")


def _say_day_month(match: re.Match[str]) -> str:
    days = _days(match)
    if days is None:
        return match[0]
    said = f"{match['the'] or 'the '}{days} of {match['month']}"
    return f"{said}, {_year(match['year'])}" if match["year"] else said
