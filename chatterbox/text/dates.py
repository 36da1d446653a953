"""Read dates and times of day: `jan. 5`, `Mon–Fri`, `2024-11-21`, `due 10/14`, `9-5pm`, `45:30`.

The step `names` runs before abbreviations are read, because the stops of short names would be taken
for the ends of sentences. `read` knows the full names only. `years` reads bare years.
"""

import re

from chatterbox.text.lexicon import any_in, any_of, spoken_in
from chatterbox.text.numbers import cardinal, digits, ordinal, short_year, year
from chatterbox.text.rules import Match, Step, text_after, text_before

# --- names of months and weekdays ----------------------------------------------------------------
MONTHS, WEEKDAYS = (tuple(spoken_in(name).values()) for name in ("months", "weekdays"))
_NAMES = spoken_in("months") | spoken_in("weekdays")
_MONTH = rf"(?i:{any_in('month names')}\b)"
_WEEKDAY = rf"(?i:{any_in('weekday names')}\b)"
_STOP = r"(?:\.(?![.\w]))?"
_BETWEEN = r"(?: ?[-–—/] ?|,? (?:and|or|to|through|thru|until|&) |, (?:and |or )?)"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?(?![\w%°$€£]|[.,:]\d)"
_LOWER_WORDS = frozenset({"may", "march", "mar"})
_LEADS = re.compile(rf"(?i)(?:^|[\n(:,]|\b{any_in('before months')}) ?$")
_COUNTED = re.compile(r" (?:[a-z]{2,}s|people|men|women|children|percent|km|mi|or more)\b")

names = Step(
    __name__,
    "names",
    rf"[0-9–—JFMASONDTW-](?:(?<![A-Z])|(?<!\w.)[A-Za-z]{{2}}(?<=(?i:{'|'.join(_NAMES)})))",
)
"""Read short names of months and weekdays in full: `Mon–Fri` → `Monday to Friday`."""


def _full(short: str) -> str:
    return _NAMES[short[:3].lower()]


@names.rule(
    rf"(?<![\w'-])(?=[JFMASONDTWjfmasondtw])(?:{_WEEKDAY}{_STOP}(?:{_BETWEEN}{_WEEKDAY}{_STOP})+"
    rf"|{_MONTH}{_STOP}(?:{_BETWEEN}{_MONTH}{_STOP})+)(?![\w'])"
)
def _say_run(match: Match) -> str:
    """Mon–Fri, Tue/Thu, Oct-Dec; in small letters only with a dash: `they sat, sun and all`."""
    written = match[0]
    if not re.search("[-–—]", written) and not written[0].isupper():
        return written
    maybe_words = re.match(r"(?i)(?:may|march|april|june|sat|sun|mar)\W", written)
    if maybe_words and "-" not in written and len(re.findall(r"[A-Z][a-z]{2,}", written)) < 2:
        return written
    final = "." * (written.endswith(".") and text_after(match, 2).strip() == "")
    parts = re.findall(r"[A-Za-z]{3,}\.?|[^A-Za-z]+|[A-Za-z]+", written)
    return "".join(map(_say_in_run, parts)) + final


def _say_in_run(part: str) -> str:
    word = part.rstrip(".")
    if word in ("and", "or", "to", "through", "thru", "until"):
        return "to" if word == "thru" else word
    if word.isalpha():
        return _full(word)
    return {"-": " to ", "–": " to ", "—": " to ", "/": ", "}.get(part.strip(), part)


@names.rule(
    rf"""(?x)
    (?<![\w.:/$-]) (?P<day>\d{{1,2}}(?:st|nd|rd|th)?) (?P<gap>[ ]of[ ]|[\ -]) ({_MONTH})
    (?: (?P<hyphen>-(?=(?P<full>\d{{4}})\b|\d\d\b))
      | (?P<stop>\.?) (?= (?P<year>,?[ ]'?\d{{4}}\b(?![ ][a-z]+s\b))
                        | (?P<end>[,;:)!?\n]|\Z) | [^\w'-] ) )""",
    "[0-9](?:st|nd|rd|th)?(?: of |[ -])[a-zA-Z]{3}",
)
def _say_after_number(match: Match) -> str:
    """`25 sept.`, `5 jan 2024` and `01-Jan-2023`, but not `the 5 may come`."""
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
def _say_before_number(match: Match) -> str:
    """`jan. 5`, `JULY 22` and `Jan-15`, but not `they march 10 miles`, `it may 5 times`."""
    if match["month"] in _LOWER_WORDS:
        leads = _LEADS.search(text_before(match, 8))
        dated = leads or re.match(r",? \d{4}\b", text_after(match, 7))
        if not dated or _COUNTED.match(match.string, match.end()):
            return match[0]
    return f"{_full(match['month'])} {match['day']}"


names.add(
    rf"""(?x)
    \b(?=[JFMASONDTW])
    (?: (?:Feb|Apr|Jul|Aug|Sept?|Oct|Nov|Dec|Tues?|Thurs?|Thu|Fri)
      | (?<=[Ii]n[ ])(?:Jan|Mar|Jun)(?!') | (?<=[Ee]arly[ ])(?:Jan|Mar|Jun) | (?<=[Ll]ate[ ])Jan
      | (?:(?<=[Oo]n[ ])|(?<=[Ee]very[ ])|(?<=[Nn]ext[ ])|(?<=[Ll]ast[ ])|(?<=until[ ]))
        (?:Mon|Wed|Sat|Sun)(?![ ][A-Z])
      | (?:Mon|Wed|Sat|Sun)
        (?=\.?,?[ ]
           (?: \d{{1,2}}(?:[:/]\d{{1,2}}\b|(?:st|nd|rd|th)\b|[ ]?[AaPp]\.?[Mm]\b|[ ]{_MONTH})
             | {_MONTH} | noon\b | (?:at|from)[ ]\d )) )
    \b(?:\.(?=,|[ ]?[a-z\d(]))?(?!\w|\.\w)""",
    lambda m: _full(m[0]),
)

# --- dates ---------------------------------------------------------------------------------------
read = Step(__name__, needs=f"[0-9][-/.][0-9]|{any_of(MONTHS)}")
"""Read dates as words: `due 10/14` → `due October fourteenth`."""
_START = r"(?<![\w./:-])(?<!\d,)"
_NAME = rf"(?:{any_of(MONTHS)})\b"
_END = r"(?![\w/%°]|[.,:-]\d)"
_DAYS = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_TO = r"(?P<to> ?[-–—~] ?| (?:to|through|and|or|&) )(?P<last>\d{1,2})(?:st|nd|rd|th)?"


def _date(month: int, day: int, a_year: int | None = None) -> str | None:
    """Return a date, month first, None if the calendar has no such day."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    said = f"{MONTHS[month - 1]} {ordinal(day)}"
    return said if a_year is None else f"{said}, {year(a_year)}"


@read.rule(
    _START + r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:(?:T| )(\d{2}):(\d{2})(?::\d{2}(?:\.\d{1,9})?)?"
    r"(Z|[+-]\d{2}:?\d{2})?+)?+(?![\w/-]|\.\d)",
    "[0-9]{4}[-/.]",
)
def _say_iso(match: Match) -> str:
    """2024-11-21T14:05:00Z"""
    said = _date(int(match[3]), int(match[4]), int(match[1]))
    if not said or (len(match[3]) + len(match[4]) < 4 and match[2] == "."):
        return match[0]
    zone = " UTC" if match[7] == "Z" else ""
    return f"{said}, {time_of_day(int(match[5]), int(match[6]))}{zone}" if match[5] else said


@read.rule(_START + r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})" + _END, "[-/.][0-9]{1,2}[-/.]")
def _say_slashed(match: Match) -> str:
    """11/21/2024. Month first, as in America, unless that cannot be or dots separate the parts."""
    first, sign, second, written = int(match[1]), match[2], int(match[3]), match[4]
    if sign != "/" and len(written) == 2:
        return match[0]  # 1.2.34 is a version, 1-2-34 a score or a code
    month, day = (second, first) if sign == "." or first > 12 else (first, second)
    century = 0 if len(written) == 4 else 2000 if int(written) < 50 else 1900
    return _date(month, day, century + int(written)) or match[0]


@read.rule(_START + r"((?:19|20)\d\d)([-/])(0[1-9]|1[0-2])(?![\w/-]|[.,:]\d)", "[0-9]{4}[-/]")
def _say_year_month(match: Match) -> str:
    """2024-05, but not 2003-05, where the second number is a later year."""
    a_year, month = int(match[1]), int(match[3])
    return match[0] if month > a_year % 100 else f"{MONTHS[month - 1]} {year(a_year)}"


read.add(
    _START + r"(0?[1-9]|1[0-2])/((?:19|20)\d\d)(?![\w/-]|[.,:]\d)",
    lambda m: f"{MONTHS[int(m[1]) - 1]} {year(int(m[2]))}",
    "/[0-9]{4}",
)


@read.rule(
    rf"(?i)\b({any_in('before dates')})(:? )(\d{{1,2}})/(\d{{1,2}})(?![\w/%]|[.,:]\d| of\b)",
    "[0-9]/[0-9]",
)
def _say_without_year(match: Match) -> str:
    """`on 12/25` and `due 3/4`, but not `by 3/4`, or 9/11, which has a name of its own."""
    first, second = int(match[3]), int(match[4])
    maybe = match[1].lower() in ("by", "for", "until", "before", "after", "since", "through")
    fraction = maybe and first < second and second in (2, 3, 4, 5, 6, 8, 10, 12, 16)
    said = _date(second, first) if first > 12 else _date(first, second)
    if not said or fraction or (first, second) == (9, 11):
        return match[0]
    return f"{match[1]}{match[2]}{said}"


read.add(rf"(?<=\d|[a-z]) ?[-–—] ?(?={_NAME} \d|\d{{1,2}} {_NAME})", " to ", "[-–—]")


def _year(written: str) -> str:
    """Read a year in full or of two digits: 2024, '24."""
    return short_year(written[1:]) if written[0] == "'" else year(int(written))


def _days(match: Match) -> str | None:
    """Return the day, or the first and the last of several, None where no month has such days."""
    days = [int(day) for day in match.group("day", "last") if day]
    if not all(1 <= day <= 31 for day in days):
        return None
    link = (match["to"] or "").strip()
    between = f" {link} " if link.isalpha() else " and " if link == "&" else " to "
    return between.join(ordinal(day) for day in days)


@read.rule(
    rf"{_START}(?P<the>[Tt]he )?+{_DAYS}(?:{_TO})?(?: of)? (?P<month>{_NAME})"
    rf"(?:,? (?P<year>\d{{4}}|'\d\d|\d\d(?=[.,;:)]|$)){_END})?+"
)
def _say_day_month(match: Match) -> str:
    """21 November 2024"""
    if not (days := _days(match)):
        return match[0]
    said = f"{match['the'] or 'the '}{days} of {match['month']}"
    return f"{said}, {_year(match['year'])}" if match["year"] else said


@read.rule(
    rf"\b(?P<month>{_NAME}) {_DAYS}(?:{_TO}(?!\d| ?[ap]m\b|[%°:/]))?"
    rf"(?:,? (?P<year>\d{{4}}|'\d\d)(?! [a-z]+s\b))?{_END}"
    r"(?! (?:people|men|women|children|more|other|days|weeks|months|years|hours|minutes|miles)\b)"
)
def _say_month_day(match: Match) -> str:
    """November 21, 2024"""
    if not (days := _days(match)):
        return match[0]
    return f"{match['month']} {days}" + (f", {_year(match['year'])}" if match["year"] else "")


read.add(rf"\b({_NAME}),? (1\d{{3}}|20\d\d|'\d\d){_END}", lambda m: f"{m[1]} {_year(m[2])}")

# --- times of day and lengths of time ------------------------------------------------------------
clock = Step(__name__, "clock", "[0-9](?:[:.h][0-5]| ?(?:[-–—] ?[0-9]|[AaPp][Mm]| h))")
"""Read times of day and lengths of time as words: `3:30 pm` → `three thirty PM`."""
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


@clock.rule(rf"{_START}(2[5-9]|[3-9]\d):([0-5]\d)(?![\w:]|[.,]\d)", ":")
def _say_length(match: Match) -> str:
    """45:30 is a length of time, but 60:40 a share of a hundred."""
    minutes, seconds = int(match[1]), int(match[2])
    if minutes + seconds == 100:
        return match[0]
    return f"{cardinal(minutes)} minutes{' ' + cardinal(seconds) if seconds else ''}"


clock.add(  # 3:26.05, as races are timed
    rf"{_START}(\d{{1,2}}):([0-5]\d)\.(\d{{1,3}})(?![\w:]|[.,]\d| ?[AaPp][Mm]\b)",
    lambda m: f"{time_of_day(int(m[1]), int(m[2]))} point {digits(m[3])}",
    ":",
)
clock.add(
    rf"{_START}(\d{{1,2}}(?::[0-5]\d)?(?: ?[AaPp][Mm])?) ?[-–—] ?"
    r"(?=\d{1,2}(?:[:.][0-5]\d(?: ?[AaPp][Mm])?| ?[AaPp][Mm])\b)",
    r"\1 to ",
    "[-–—] ?[0-9]",
)


@clock.rule(rf"{_START}(\d{{1,2}}) ?[-–—] ?(\d{{1,2}})(?![\w%-]|[.,:]\d)", "[-–—] ?[0-9]")
def _say_opening(match: Match) -> str:
    """`open daily 9-5` and `a 9-5 job` are hours, `won 9-5` is a score."""
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
def _say_with_h(match: Match) -> str:
    """13h30 and `at 9h30` are times of day, 1h30 is a length."""
    hour, minute, before = int(match[2] or match[3]), int(match[4]), match[1] or ""
    if before or match[2] or match[4][0] == "0":
        return before + time_of_day(hour, minute)
    return f"{cardinal(hour)} hour{'s' * (hour != 1)} {cardinal(minute)}"


@clock.rule(
    rf"{_START}(?P<h>\d{{1,2}})[:.](?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))? ?{_HALF}"
    rf"|{_START}(?P<h2>[01]?\d|2[0-4]):(?P<m2>[0-5]\d)(?::(?P<s2>[0-5]\d))?(?![\w:]|[.,]\d)"
)
def _say_clock(match: Match) -> str:
    """3:30 pm, 14:05:30"""
    hour, minute = int(match["h"] or match["h2"]), int(match["m"] or match["m2"])
    second, half = match["s"] or match["s2"], match["half"] or ""
    if half and hour > 23:
        return match[0]
    if not second:
        return time_of_day(hour, minute, half)
    said = f"{time_of_day(hour, minute)} and {cardinal(int(second))} second{'s' * (second != '01')}"
    return f"{said} {half.upper()}M" if half else said


@clock.rule(
    rf"{_START}([01]\d|2[0-4])([0-5]\d)(?:(?<=0...)|(?<=\bat ....)) (?:hours|hrs)\b", "hours|hrs"
)
def _say_military(match: Match) -> str:
    """0930 hours; `1500 hours` only after `at`, otherwise the hours are counted."""
    hour, minute = (f"{'oh ' * (part[0] == '0')}{cardinal(int(part))}" for part in match.groups())
    return f"{hour} {'hundred' if match[2] == '00' else minute} hours"


clock.add(rf"(?<![\w.:])(1[0-2]|0?[1-9]) ?{_HALF}", lambda m: time_of_day(int(m[1]), 0, m["half"]))
