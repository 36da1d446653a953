"""Reads dates and times of day: `jan. 5`, `Mon–Fri`, `2024-11-21`, `due 10/14`, `9-5pm`, `45:30`.

`names` runs before abbreviations, which would take the stops of short names for the ends of
sentences: every month that belongs to a date leaves with its full name and a capital, which is all
that `read` knows. A bare year is the question of `years`.
"""

import re

from chatterbox.text.lexicon import any_in
from chatterbox.text.numbers import cardinal, digits, ordinal, year
from chatterbox.text.rules import Step, text_after, text_before

# --- names of months and weekdays ----------------------------------------------------------------
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NAMES = {name[:3].lower(): name for name in (*MONTHS, *WEEKDAYS)}
_MONTH = rf"(?i:{any_in('month names')}\b)"
_WEEKDAY = rf"(?i:{any_in('weekday names')}\b)"
_STOP = r"(?:\.(?![.\w]))?"
_BETWEEN = r"(?: ?[-–—/] ?|,? (?:and|or|to|through|thru|until|&) |, (?:and |or )?)"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?(?![\w%°$€£]|[.,:]\d)"
_LOWER_WORDS = frozenset({"may", "march", "mar"})
_LEADS = re.compile(
    r"(?i)(?:^|[\n(:,]|\b(?:on|by|until|till|since|from|before|after|to|for|last|next|of|due|dated"
    r"|born|early|late|mid)) ?$"
)
_COUNTED = re.compile(r" (?:[a-z]{2,}s|people|men|women|children|percent|km|mi|or more)\b")

_ANY = (
    r"[0-9–—JFMASONDTW-](?:(?<![A-Z])|(?<!\w.)[A-Za-z]{2}"
    rf"(?<=(?i:{'|'.join(_NAMES)})))"
)
"""A cheap look for a name; one in small letters has a figure or a dash beside it."""
names = Step(__name__, "names", _ANY)
"""The names of months and weekdays in full."""


def _full(short: str) -> str:
    return _NAMES[short[:3].lower()]


@names.rule(
    rf"(?<![\w'-])(?=[JFMASONDTWjfmasondtw])(?:{_WEEKDAY}{_STOP}(?:{_BETWEEN}{_WEEKDAY}{_STOP})+"
    rf"|{_MONTH}{_STOP}(?:{_BETWEEN}{_MONTH}{_STOP})+)(?![\w'])"
)
def _say_run(match: re.Match[str]) -> str:
    """Mon–Fri, Tue/Thu, Oct-Dec; in small letters only with a dash: `they sat, sun and all`."""
    written = match[0]
    maybe_words = re.match(r"(?i)(?:may|march|april|june|sat|sun|mar)\W", written)
    if not re.search("[-–—]", written) and not written[0].isupper():
        return written
    if maybe_words and "-" not in written and len(re.findall(r"[A-Z][a-z]{2,}", written)) < 2:
        return written
    final = written.endswith(".") and text_after(match, 2).strip() == ""
    parts = re.findall(r"[A-Za-z]{3,}\.?|[^A-Za-z]+|[A-Za-z]+", written)
    return "".join(map(_say_in_run, parts)) + ("." if final else "")


def _say_in_run(part: str) -> str:
    word = part.rstrip(".")
    if word in ("and", "or", "to", "through", "thru", "until"):
        return "to" if word == "thru" else word
    if word.isalpha():
        return _full(word)
    return " to " if part.strip() in ("-", "–", "—") else ", " if part.strip() == "/" else part


@names.rule(
    rf"(?<![\w.:/$-])(?P<day>\d{{1,2}}(?:st|nd|rd|th)?)(?P<gap> of |[ -])({_MONTH})"
    r"(?:(?P<hyphen>-(?=(?P<full>\d{4})\b|\d\d\b))|(?P<stop>\.?)"
    r"(?=(?P<year>,? '?\d{4}\b(?! [a-z]+s\b))|(?P<end>[,;:)!?\n]|\Z)|[^\w'-]))",
    "[0-9](?:st|nd|rd|th)?(?: of |[ -])[a-zA-Z]{3}",
)
def _say_after_figure(match: re.Match[str]) -> str:
    """25 sept., 5 jan 2024, 01-Jan-2023; not `the 5 may come`."""
    month, day, stop = match[3], match["day"], match["stop"] or ""
    dated = match["year"] or match["hyphen"] or match["end"] is not None
    if month in _LOWER_WORDS and day.isdigit() and not (dated or match["gap"] == " of "):
        return match[0]
    gap = " " if match["gap"] == "-" else match["gap"]
    if re.match(r"[,;:)!?]| [\da-z(]", text_after(match, 2)):
        stop = ""
    before_year = (match["hyphen"] or "").replace("-", " " if match["full"] else " '")
    return f"{day}{gap}{_full(month)}{stop}{before_year}"


@names.rule(
    rf"(?<![\w'])(?=[JFMASONDjfmasond])(?P<month>{_MONTH})\.?[ -]"
    rf"(?P<day>'?(?:{_DAY}|\d{{4}}(?![\w%]|[.,:]\d)))",
    r"[a-zA-Z]{2}\.?[ -]'?[0-9]",
)
def _say_before_figure(match: re.Match[str]) -> str:
    """jan. 5, JULY 22, Jan-15; not `they march 10 miles`, `it may 5 times`."""
    if match["month"] in _LOWER_WORDS:
        dated = _LEADS.search(text_before(match, 8)) or re.match(
            r",? \d{4}\b", text_after(match, 7)
        )
        if not dated or _COUNTED.match(match.string, match.end()):
            return match[0]
    return f"{_full(match['month'])} {match['day']}"


names.add(
    r"\b(?=[JFMASONDTW])(?:(?:Feb|Apr|Jul|Aug|Sept?|Oct|Nov|Dec|Tues?|Thurs?|Thu|Fri)"
    r"|(?<=[Ii]n )(?:Jan|Mar|Jun)(?!')|(?<=[Ee]arly )(?:Jan|Mar|Jun)|(?<=[Ll]ate )Jan"
    r"|(?:(?<=[Oo]n )|(?<=[Ee]very )|(?<=[Nn]ext )|(?<=[Ll]ast )|(?<=until ))(?:Mon|Wed|Sat|Sun)"
    r"(?! [A-Z])|(?:Mon|Wed|Sat|Sun)(?=\.?,? (?:\d{1,2}(?:[:/]\d{1,2}\b|(?:st|nd|rd|th)\b"
    rf"| ?[AaPp]\.?[Mm]\b| {_MONTH})|{_MONTH}|noon\b|(?:at|from) \d)))\b"
    r"(?:\.(?=,| ?[a-z\d(]))?(?!\w|\.\w)",
    lambda m: _full(m[0]),
)
# --- dates ---------------------------------------------------------------------------------------
read = Step(__name__, needs=f"[0-9][-/.][0-9]|{'|'.join(MONTHS)}")
"""Every date."""
ALONE = r"(?<![\w./:-])(?<!\d,)"
_NAME = rf"(?:{'|'.join(MONTHS)})\b"
_END = r"(?![\w/%°]|[.,:-]\d)"
_DAYS = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_TO = r"(?P<to> ?[-–—~] ?| (?:to|through|and|or|&) )(?P<last>\d{1,2})(?:st|nd|rd|th)?"


def _date(month: int, day: int, a_year: int | None = None) -> str | None:
    """None where there is no such day."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    said = f"{MONTHS[month - 1]} {ordinal(day)}"
    return said if a_year is None else f"{said}, {year(a_year)}"


@read.rule(
    ALONE + r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:(?:T| )(\d{2}):(\d{2})(?::\d{2}(?:\.\d{1,9})?)?"
    r"(Z|[+-]\d{2}:?\d{2})?+)?+(?![\w/-]|\.\d)",
    "[0-9]{4}[-/.]",
)
def _say_iso(match: re.Match[str]) -> str:
    said = _date(int(match[3]), int(match[4]), int(match[1]))
    if not said or (len(match[3]) + len(match[4]) < 4 and match[2] == "."):
        return match[0]
    zone = " UTC" if match[7] == "Z" else ""
    return f"{said}, {time_of_day(int(match[5]), int(match[6]))}{zone}" if match[5] else said


@read.rule(ALONE + r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})" + _END, "[-/.][0-9]{1,2}[-/.]")
def _say_slashed(match: re.Match[str]) -> str:
    """Month first, as in America, unless that cannot be or the separator is a dot."""
    first, sign, second, written = int(match[1]), match[2], int(match[3]), match[4]
    if sign != "/" and len(written) == 2:
        return match[0]  # 1.2.34 is a version, 1-2-34 a score or a code
    month, day = (second, first) if sign == "." or first > 12 else (first, second)
    century = 0 if len(written) == 4 else 2000 if int(written) < 50 else 1900
    return _date(month, day, century + int(written)) or match[0]


@read.rule(ALONE + r"((?:19|20)\d\d)([-/])(0[1-9]|1[0-2])(?![\w/-]|[.,:]\d)", "[0-9]{4}[-/]")
def _say_year_month(match: re.Match[str]) -> str:
    """2024-05; where the second figure is the greater, it is a later year: 2003-05."""
    a_year, month = int(match[1]), int(match[3])
    return match[0] if month > a_year % 100 else f"{MONTHS[month - 1]} {year(a_year)}"


read.add(
    ALONE + r"(0?[1-9]|1[0-2])/((?:19|20)\d\d)(?![\w/-]|[.,:]\d)",
    lambda m: f"{MONTHS[int(m[1]) - 1]} {year(int(m[2]))}",
    "/[0-9]{4}",
)


@read.rule(
    rf"(?i)\b({any_in('before dates')})(:? )(\d{{1,2}})/(\d{{1,2}})(?![\w/%]|[.,:]\d| of\b)",
    "[0-9]/[0-9]",
)
def _say_no_year(match: re.Match[str]) -> str:
    """on 12/25, due 3/4; not `by 3/4`, nor 9/11, which has a name of its own."""
    first, second = int(match[3]), int(match[4])
    maybe = match[1].lower() in ("by", "for", "until", "before", "after", "since", "through")
    fraction = maybe and first < second and second in (2, 3, 4, 5, 6, 8, 10, 12, 16)
    said = _date(second, first) if first > 12 else _date(first, second)
    if not said or fraction or (first, second) == (9, 11):
        return match[0]
    return f"{match[1]}{match[2]}{said}"


read.add(rf"(?<=\d|[a-z]) ?[-–—] ?(?={_NAME} \d|\d{{1,2}} {_NAME})", " to ", "[-–—]")


def _year(written: str) -> str:
    """2024; '24."""
    if written[0] != "'":
        return year(int(written))
    return ("oh " if written[1] == "0" else "") + cardinal(int(written[1:]))


def _days(match: re.Match[str]) -> str | None:
    """The day, or the first and the last of several; None where there are no such days."""
    days = [int(day) for day in match.group("day", "last") if day]
    if not all(1 <= day <= 31 for day in days):
        return None
    link = (match["to"] or "").strip()
    between = f" {link} " if link.isalpha() else " and " if link == "&" else " to "
    return between.join(ordinal(day) for day in days)


@read.rule(
    rf"{ALONE}(?P<the>[Tt]he )?+{_DAYS}(?:{_TO})?(?: of)? (?P<month>{_NAME})"
    rf"(?:,? (?P<year>\d{{4}}|'\d\d|\d\d(?=[.,;:)]|$)){_END})?+"
)
def _say_day_month(match: re.Match[str]) -> str:
    days = _days(match)
    if days is None:
        return match[0]
    said = f"{match['the'] or 'the '}{days} of {match['month']}"
    return f"{said}, {_year(match['year'])}" if match["year"] else said


@read.rule(
    rf"\b(?P<month>{_NAME}) {_DAYS}(?:{_TO}(?!\d| ?[ap]m\b|[%°:/]))?"
    rf"(?:,? (?P<year>\d{{4}}|'\d\d)(?! [a-z]+s\b))?{_END}"
    r"(?! (?:people|men|women|children|more|other|days|weeks|months|years|hours|minutes|miles)\b)"
)
def _say_month_day(match: re.Match[str]) -> str:
    days = _days(match)
    if days is None:
        return match[0]
    return f"{match['month']} {days}" + (f", {_year(match['year'])}" if match["year"] else "")


read.add(rf"\b({_NAME}),? (1\d{{3}}|20\d\d|'\d\d){_END}", lambda m: f"{m[1]} {_year(m[2])}")
# --- times of day and lengths of time ------------------------------------------------------------
clock = Step(__name__, "clock", "[0-9](?:[:.h][0-5]| ?(?:[-–—] ?[0-9]|[AaPp][Mm]| h))")
_HALF = r"(?P<half>[AaPp])[Mm]\b"
_OPENS = re.compile(
    r"(?i)(?:day|\b(?:daily|hours?|open|works?|working|weekdays|weekends)),?(?: from)?:? $"
)
_JOB = re.compile(r" (?:jobs?|shifts?|hours|schedule|workday|grind)\b")


def time_of_day(hour: int, minute: int, half: str = "") -> str:
    """14, 5 → fourteen oh five; 3, 0, p → three PM; 10, 0 → ten o'clock."""
    after = f" {half.upper()}M" if half else ""
    if minute:
        return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}{after}"
    if half:
        return cardinal(hour) + after
    return f"{cardinal(hour)} o'clock" if 0 < hour < 13 else f"{cardinal(hour)} hundred hours"


@clock.rule(rf"{ALONE}(2[5-9]|[3-9]\d):([0-5]\d)(?![\w:]|[.,]\d)", ":")
def _say_length(match: re.Match[str]) -> str:
    """45:30 is no time of day; 60:40 is a share of a hundred."""
    minutes, seconds = int(match[1]), int(match[2])
    if minutes + seconds == 100:
        return match[0]
    return f"{cardinal(minutes)} minutes{' ' + cardinal(seconds) if seconds else ''}"


@clock.rule(rf"{ALONE}(\d{{1,2}}):([0-5]\d)\.(\d{{1,3}})(?![\w:]|[.,]\d| ?[AaPp][Mm]\b)", ":")
def _say_lap(match: re.Match[str]) -> str:
    """3:26.05, as races are timed."""
    return f"{time_of_day(int(match[1]), int(match[2]))} point {digits(match[3])}"


clock.add(
    rf"{ALONE}(\d{{1,2}}(?::[0-5]\d)?(?: ?[AaPp][Mm])?) ?[-–—] ?"
    r"(?=\d{1,2}(?:[:.][0-5]\d(?: ?[AaPp][Mm])?| ?[AaPp][Mm])\b)",
    r"\1 to ",
    "[-–—] ?[0-9]",
)


@clock.rule(rf"{ALONE}(\d{{1,2}}) ?[-–—] ?(\d{{1,2}})(?![\w%-]|[.,:]\d)", "[-–—] ?[0-9]")
def _say_opening(match: re.Match[str]) -> str:
    """`open daily 9-5`, `a 9-5 job`: hours, not the score that `won 9-5` is."""
    first, second = int(match[1]), int(match[2])
    opens = _OPENS.search(text_before(match, 24)) or _JOB.match(match.string, match.end())
    if not opens or not second < first <= 12:
        return match[0]
    return f"{cardinal(first)} to {cardinal(second)}"


@clock.rule(
    r"(?i:(\b(?:at|by|from|until|before|after|to|since) ))?"
    r"(?<![\w.:])(?:(2[0-3]|1\d)|(0?\d))h([0-5]\d)(?![\w:])",
    "[0-9]h[0-5]",
)
def _say_with_h(match: re.Match[str]) -> str:
    """13h30 and `at 9h30` are times of day, 1h30 is a length."""
    hour, minute = int(match[2] or match[3]), int(match[4])
    before = match[1] or ""
    if before or match[2] or match[4][0] == "0":
        return before + time_of_day(hour, minute)
    return f"{cardinal(hour)} hour{'s' * (hour != 1)} {cardinal(minute)}"


@clock.rule(
    rf"{ALONE}(?P<h>\d{{1,2}})[:.](?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))? ?{_HALF}"
    rf"|{ALONE}(?P<h2>[01]?\d|2[0-4]):(?P<m2>[0-5]\d)(?::(?P<s2>[0-5]\d))?(?![\w:]|[.,]\d)"
)
def _say_clock(match: re.Match[str]) -> str:
    hour, minute = int(match["h"] or match["h2"]), int(match["m"] or match["m2"])
    second, half = match["s"] or match["s2"], match["half"] or ""
    if half and hour > 23:
        return match[0]
    if not second:
        return time_of_day(hour, minute, half)
    said = f"{time_of_day(hour, minute)} and {cardinal(int(second))} second{'s' * (second != '01')}"
    return f"{said} {half.upper()}M" if half else said


@clock.rule(
    rf"{ALONE}([01]\d|2[0-4])([0-5]\d)(?:(?<=0...)|(?<=\bat ....)) (?:hours|hrs)\b", "hours|hrs"
)
def _say_military(match: re.Match[str]) -> str:
    """0930 hours; `1500 hours` only after `at`, else they are counted."""
    hour, minute = (f"{'oh ' * (part[0] == '0')}{cardinal(int(part))}" for part in match.groups())
    return f"{hour} {'hundred' if match[2] == '00' else minute} hours"


clock.add(rf"(?<![\w.:])(1[0-2]|0?[1-9]) ?{_HALF}", lambda m: time_of_day(int(m[1]), 0, m["half"]))
