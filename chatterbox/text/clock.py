"""Reads times of day and lengths of time: `3:30 pm`, `14:05`, `9-5pm`, `45:30`."""

import re

from chatterbox.text.neighbours import left_of
from chatterbox.text.numbers import cardinal, digits

ALONE = r"(?<![\w./:-])(?<!\d,)"
_HALF = r"(?P<half>[AaPp])[Mm]\b"
_CLOCK = re.compile(
    rf"{ALONE}(?P<h>\d{{1,2}})[:.](?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))? ?{_HALF}"
    rf"|{ALONE}(?P<h2>[01]?\d|2[0-4]):(?P<m2>[0-5]\d)(?::(?P<s2>[0-5]\d))?(?![\w:]|[.,]\d)"
)
_LENGTH = re.compile(rf"{ALONE}(?P<min>2[5-9]|[3-9]\d):(?P<sec>[0-5]\d)(?![\w:]|[.,]\d)")
_LAP = re.compile(rf"{ALONE}(\d{{1,2}}):([0-5]\d)\.(\d{{1,3}})(?![\w:]|[.,]\d| ?[AaPp][Mm]\b)")
_FROM_TO = re.compile(
    rf"{ALONE}(\d{{1,2}}(?::[0-5]\d)?(?: ?[AaPp][Mm])?) ?[-–—] ?"
    r"(?=\d{1,2}(?:[:.][0-5]\d(?: ?[AaPp][Mm])?| ?[AaPp][Mm])\b)"
)
_HOUR = re.compile(rf"(?<![\w.:])(?P<h>1[0-2]|0?[1-9]) ?{_HALF}")
_OPENING = re.compile(rf"{ALONE}(\d{{1,2}}) ?[-–—] ?(\d{{1,2}})(?![\w%-]|[.,:]\d)")
_JOINED = re.compile("[0-9](?:[:.h][0-5]| ?(?:[-–—] ?[0-9]|[AaPp][Mm]))")
_WITH_H = re.compile(
    r"(?i:(\b(?:at|by|from|until|before|after|to|since) ))?"
    r"(?<![\w.:])(?:(2[0-3]|1\d)|(0?\d))h([0-5]\d)(?![\w:])"
)
_TO_HOUR = re.compile("[-–—] ?[0-9]")
_OPENS = re.compile(
    r"(?i)(?:day|\b(?:daily|hours?|open|works?|working|weekdays|weekends)),?(?: from)?:? $"
)
_JOB = re.compile(r" (?:jobs?|shifts?|hours|schedule|workday|grind)\b")


def spell_out(text: str) -> str:
    """`text` with every time of day in words. Linear time."""
    if not _JOINED.search(text):
        return text
    if ":" in text:
        text = _LAP.sub(_say_lap, _LENGTH.sub(_say_length, text))
    if _TO_HOUR.search(text):
        text = _OPENING.sub(_say_opening, _FROM_TO.sub(r"\1 to ", text))
    text = _WITH_H.sub(_say_with_h, text) if "h" in text else text
    return _HOUR.sub(_say_hour, _CLOCK.sub(_say_clock, text))


def time_of_day(hour: int, minute: int, half: str = "") -> str:
    """14, 5 → fourteen oh five; 3, 0, p → three PM; 10, 0 → ten o'clock."""
    after = f" {half.upper()}M" if half else ""
    if minute:
        return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}{after}"
    if half:
        return cardinal(hour) + after
    return f"{cardinal(hour)} o'clock" if 0 < hour < 13 else f"{cardinal(hour)} hundred hours"


def _say_with_h(match: re.Match[str]) -> str:
    """13h30 and `at 9h30` are times of day, 1h30 is a length."""
    hour, minute = int(match[2] or match[3]), int(match[4])
    before = match[1] or ""
    if before or match[2] or match[4][0] == "0":
        return before + time_of_day(hour, minute)
    return f"{cardinal(hour)} hour{'s' * (hour != 1)} {cardinal(minute)}"


def _say_length(match: re.Match[str]) -> str:
    """45:30 is no time of day; 60:40 is a share of a hundred."""
    minutes, seconds = int(match["min"]), int(match["sec"])
    if minutes + seconds == 100:
        return match[0]
    return f"{cardinal(minutes)} minutes{' ' + cardinal(seconds) if seconds else ''}"


def _say_lap(match: re.Match[str]) -> str:
    """3:26.05, as races are timed."""
    return f"{time_of_day(int(match[1]), int(match[2]))} point {digits(match[3])}"


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


def _say_opening(match: re.Match[str]) -> str:
    """`open daily 9-5`, `a 9-5 job`: hours, not the score that `won 9-5` is."""
    first, second, text = int(match[1]), int(match[2]), match.string
    opens = _OPENS.search(left_of(match, 24))
    if not (opens or _JOB.match(text, match.end())) or not second < first <= 12:
        return match[0]
    return f"{cardinal(first)} to {cardinal(second)}"
