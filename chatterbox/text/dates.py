"""How are dates and times of day read?

Knows the figures of a calendar and a clock only; a bare year is `figures`' question.
"""

import re

from chatterbox.text.numbers import cardinal, ordinal, year

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_NAME = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b"
)
_NAMED = re.compile(rf"\b{_NAME}")
_MONTH = f"(?P<month>{_NAME})"
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ALONE = r"(?<![\w./:-])(?<!\d,)"
_END = r"(?![\w/]|[.,:-]\d)"

_ISO = re.compile(
    _ALONE + r"(\d{4})-(\d{2})-(\d{2})(?:(?:T| )(\d{2}):(\d{2})(?::\d{2}(?:\.\d{1,9})?)?"
    r"(Z|[+-]\d{2}:?\d{2})?+)?+(?![\w-])"
)
_SLASHED = re.compile(_ALONE + r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})" + _END)
_WEEKDAY = re.compile(
    rf"\b(Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)\b\.?,?+(?= (?:\d{{1,2}} )?{_NAME})"
)
_MONTH_DAY = re.compile(
    rf"\b{_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:(?P<comma>,?) (?P<year>\d{{4}}))?{_END}"
)
_DAY_MONTH = re.compile(
    rf"{_ALONE}(?P<the>[Tt]he )?+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}"
    rf"(?:,? (?P<year>\d{{4}}){_END})?+"
)
_MONTH_YEAR = re.compile(rf"\b{_MONTH} (?P<year>1\d{{3}}|20\d\d){_END}")

_HALF = r"(?P<half>[AaPp])[Mm]\b"
_CLOCK = re.compile(
    rf"{_ALONE}(?P<h>\d{{1,2}})[:.](?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))? ?{_HALF}"
    rf"|{_ALONE}(?P<h2>[01]?\d|2[0-4]):(?P<m2>[0-5]\d)(?::(?P<s2>[0-5]\d))?(?![\w:]|[.,]\d)"
)
_FROM_TO = re.compile(
    rf"{_ALONE}(\d{{1,2}}(?::[0-5]\d)?(?: ?[AaPp][Mm])?) ?[-–—] ?"
    r"(?=\d{1,2}(?:[:.][0-5]\d(?: ?[AaPp][Mm])?| ?[AaPp][Mm])\b)"
)
_HOUR = re.compile(rf"(?<![\w.:])(?P<h>1[0-2]|0?[1-9]) ?{_HALF}")


def spell_out(text: str) -> str:
    """`text` with every date and every time of day in words. Linear time."""
    text = _SLASHED.sub(_say_slashed, _ISO.sub(_say_iso, text))
    if _NAMED.search(text):
        text = _DAY_MONTH.sub(_say_day_month, _WEEKDAY.sub(_say_weekday, text))
        text = _MONTH_DAY.sub(_say_month_day, text)
        text = _MONTH_YEAR.sub(lambda m: f"{_month(m['month'])} {year(int(m['year']))}", text)
    text = _CLOCK.sub(_say_clock, _FROM_TO.sub(r"\1 to ", text))
    return _HOUR.sub(_say_hour, text)


def time_of_day(hour: int, minute: int, half: str = "") -> str:
    """14, 5 → fourteen oh five; 3, 0, p → three PM; 10, 0 → ten o'clock."""
    after = f" {half.upper()}M" if half else ""
    if minute:
        return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}{after}"
    if half:
        return cardinal(hour) + after
    return f"{cardinal(hour)} o'clock" if 0 < hour < 13 else f"{cardinal(hour)} hundred hours"


def _month(written: str) -> str:
    return next(month for month in _MONTHS if month[:3] == written[:3])


def _say_weekday(match: re.Match[str]) -> str:
    return next(day for day in _WEEKDAYS if day[:3] == match[1][:3]) + ","


def _date(a_year: int | None, month: int, day: int) -> str:
    said = f"{_MONTHS[month - 1]} {ordinal(day)}"
    return said if a_year is None else f"{said}, {year(a_year)}"


def _say_iso(match: re.Match[str]) -> str:
    a_year, month, day = int(match[1]), int(match[2]), int(match[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    said = _date(a_year, month, day)
    if match[4] is None:
        return said
    zone = " UTC" if match[6] == "Z" else ""
    return f"{said}, {time_of_day(int(match[4]), int(match[5]))}{zone}"


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


def _say_month_day(match: re.Match[str]) -> str:
    day = int(match["day"])
    if not 1 <= day <= 31:
        return match[0]
    said = f"{_month(match['month'])} {ordinal(day)}"
    return f"{said}, {year(int(match['year']))}" if match["year"] else said


def _say_day_month(match: re.Match[str]) -> str:
    day = int(match["day"])
    if not 1 <= day <= 31:
        return match[0]
    said = f"{match['the'] or 'the '}{ordinal(day)} of {_month(match['month'])}"
    return f"{said}, {year(int(match['year']))}" if match["year"] else said


def _say_clock(match: re.Match[str]) -> str:
    hour = int(match["h"] or match["h2"])
    minute = int(match["m"] or match["m2"])
    if match["half"] and hour > 23:
        return match[0]
    second = match["s"] or match["s2"]
    said = time_of_day(hour, minute, "" if second else match["half"] or "")
    if not second:
        return said
    half = f" {match['half'].upper()}M" if match["half"] else ""
    return f"{said} and {cardinal(int(second))} {'second' if second == '01' else 'seconds'}{half}"


def _say_hour(match: re.Match[str]) -> str:
    return time_of_day(int(match["h"]), 0, match["half"])
