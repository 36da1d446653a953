"""Reads dates: `jan. 5`, `Mon–Fri`, `Nov 3-5`, `2024-11-21`, `due 10/14`.

`names` runs before abbreviations, which would take the stops of short names for the ends of
sentences: every month that belongs to a date leaves with its full name and a capital, which is all
that `spell_out` knows. A bare year is the question of `years`, a time of day that of `clock`.
"""

import re

from chatterbox.text.clock import ALONE, time_of_day
from chatterbox.text.neighbours import left_of, right_of
from chatterbox.text.numbers import cardinal, ordinal, year

# --- names of months and weekdays ----------------------------------------------------------------
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NAMES = {name[:3].lower(): name for name in (*MONTHS, *WEEKDAYS)}

_MONTH = (
    r"(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b"
)
_WEEKDAY = (
    r"(?i:mon(?:day)?|tue(?:s(?:day)?)?|wed(?:s|nesday)?|thu(?:rs?(?:day)?)?|fri(?:day)?"
    r"|sat(?:urday)?|sun(?:day)?)\b"
)
_STOP = r"(?:\.(?![.\w]))?"
_BETWEEN = r"(?: ?[-–—/] ?|,? (?:and|or|to|through|thru|until|&) |, (?:and |or )?)"
_RUN = re.compile(
    rf"(?<![\w'-])(?=[JFMASONDTWjfmasondtw])(?:{_WEEKDAY}{_STOP}(?:{_BETWEEN}{_WEEKDAY}{_STOP})+"
    rf"|{_MONTH}{_STOP}(?:{_BETWEEN}{_MONTH}{_STOP})+)(?![\w'])"
)
_IN_RUN = re.compile(r"[A-Za-z]{3,}\.?|[^A-Za-z]+|[A-Za-z]+")
_LINKS = frozenset({"and", "or", "to", "through", "thru", "until"})

_DAY = r"\d{1,2}(?:st|nd|rd|th)?(?![\w%°$€£]|[.,:]\d)"
_BEFORE_FIGURE = re.compile(
    r"(?<![\w'])(?=[JFMASONDjfmasond])([A-Za-z]{3,9})\.?[ -]"
    rf"(?P<day>'?(?:{_DAY}|\d{{4}}(?![\w%]|[.,:]\d)))"
)
_IS_MONTH = re.compile(rf"{_MONTH}$")
_AFTER_FIGURE = re.compile(
    rf"(?<![\w.:/$-])(?P<day>\d{{1,2}}(?:st|nd|rd|th)?)(?P<gap> of |[ -])({_MONTH})"
    r"(?:(?P<hyphen>-(?=(?P<full>\d{4})\b|\d\d\b))|(?P<stop>\.?)"
    r"(?=(?P<year>,? '?\d{4}\b(?! [a-z]+s\b))|(?P<end>[,;:)!?]|$)|[^\w'-]))",
    re.M,
)
_NAME_ALONE = re.compile(
    r"\b(?=[JFMASONDTW])(?:(?P<sure>Feb|Apr|Jul|Aug|Sept?|Oct|Nov|Dec|Tues?|Thurs?|Thu|Fri)"
    r"|(?<=[Ii]n )(?P<month>Jan|Mar|Jun)(?!')|(?<=[Ee]arly )(?:Jan|Mar|Jun)|(?<=[Ll]ate )Jan"
    r"|(?:(?<=[Oo]n )|(?<=[Ee]very )|(?<=[Nn]ext )|(?<=[Ll]ast )|(?<=until ))(?:Mon|Wed|Sat|Sun)"
    r"(?! [A-Z])|(?:Mon|Wed|Sat|Sun)(?=\.?,? (?:\d{1,2}(?:[:/]\d{1,2}\b|(?:st|nd|rd|th)\b"
    rf"| ?[AaPp]\.?[Mm]\b| {_MONTH})|{_MONTH}|noon\b|(?:at|from) \d)))\b"
    r"(?P<stop>\.(?=,| ?[a-z\d(]))?(?!\w|\.\w)"
)
_FIGURE = re.compile("[0-9]")
_ANY_NAME = re.compile(rf"[adfjmnostw](?<!\w.)[a-z]{{2}}(?<={'|'.join(_NAMES)})")
"""A cheap look for the beginning of a name, in small letters."""
_LOWER_WORDS = frozenset({"may", "march", "mar"})
_LEADS = re.compile(
    r"(?i)(?:^|[\n(:,]|\b(?:on|by|until|till|since|from|before|after|to|for|last|next|of|due|dated"
    r"|born|early|late|mid)) ?$"
)
_COUNTED = re.compile(r" (?:[a-z]{2,}s|people|men|women|children|percent|km|mi|or more)\b")
_LIFE = re.compile(r"(?:(?<=\()|(?<=[,;] ))(b|d|fl|r|m)\. ?(?=(?:c\. ?|ca\. ?)?\d{3,4}\b)")
_LIVES = {"b": "born ", "d": "died ", "fl": "flourished ", "r": "reigned ", "m": "married "}


def names(text: str) -> str:
    """`text` with the names of its months and weekdays in full. Linear time."""
    if _FIGURE.search(text):
        text = _LIFE.sub(lambda m: _LIVES[m[1]], text)
    small = text.lower()
    if not any(name in small for name in _NAMES) or not _ANY_NAME.search(small):
        return text
    text = _AFTER_FIGURE.sub(_say_after_figure, _RUN.sub(_say_run, text))
    text = _BEFORE_FIGURE.sub(_say_before_figure, text)
    return _NAME_ALONE.sub(lambda m: _full(m[0].rstrip(".")), text)


def _full(short: str) -> str:
    return _NAMES[short[:3].lower()]


def _say_run(match: re.Match[str]) -> str:
    """Mon–Fri, Tue/Thu, Oct-Dec; in small letters only with a dash: `they sat, sun and all`."""
    written = match[0]
    if not re.search("[-–—]", written) and not written[0].isupper():
        return written
    if (
        re.fullmatch(r"(?i)(?:may|march|april|june|sat|sun|mar)\W.*", written)
        and "-" not in written
    ):
        named = re.findall(r"[A-Z][a-z]{2,}", written)
        if len(named) < 2:
            return written
    final = written.endswith(".") and right_of(match, 2).strip() == ""
    parts = _IN_RUN.findall(written)
    return "".join(map(_say_in_run, parts)) + ("." if final else "")


def _say_in_run(part: str) -> str:
    word = part.rstrip(".")
    if word.lower() in _LINKS:
        return "to" if word == "thru" else word
    if word.isalpha():
        return _full(word)
    return " to " if part.strip() in ("-", "–", "—") else ", " if part.strip() == "/" else part


def _say_before_figure(match: re.Match[str]) -> str:
    """jan. 5, JULY 22, Jan-15; not `they march 10 miles`, `it may 5 times`."""
    month = match[1]
    if not _IS_MONTH.match(month):
        return match[0]
    if month in _LOWER_WORDS:
        text = match.string
        leads = _LEADS.search(left_of(match, 8))
        dated = leads or re.match(r",? \d{4}\b", right_of(match, 7))
        if not dated or _COUNTED.match(text, match.end()):
            return match[0]
    return f"{_full(month)} {match['day']}"


def _say_after_figure(match: re.Match[str]) -> str:
    """25 sept., 5 jan 2024, 01-Jan-2023; not `the 5 may come`."""
    month, day, stop = match[3], match["day"], match["stop"] or ""
    dated = match["year"] or match["hyphen"] or match["end"] is not None
    if month in _LOWER_WORDS and day.isdigit() and not (dated or match["gap"] == " of "):
        return match[0]
    gap = " " if match["gap"] == "-" else match["gap"]
    if re.match(r"[,;:)!?]| [\da-z(]", right_of(match, 2)):
        stop = ""
    before_year = (match["hyphen"] or "").replace("-", " " if match["full"] else " '")
    return f"{day}{gap}{_full(month)}{stop}{before_year}"


# --- dates ---------------------------------------------------------------------------------------
_NAME = "(?:" + "|".join(MONTHS) + r")\b"
_NAMED = re.compile(_NAME)
_END = r"(?![\w/%°]|[.,:-]\d)"
_YEAR = r"(?:(?P<comma>,?) (?P<year>\d{4}|'\d\d))"

_JOINED = re.compile("[0-9][-/.][0-9]")
_SLASH = re.compile("[0-9]/[0-9]")
_ISO = re.compile(
    ALONE + r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:(?:T| )(\d{2}):(\d{2})(?::\d{2}(?:\.\d{1,9})?)?"
    r"(Z|[+-]\d{2}:?\d{2})?+)?+(?![\w/-]|\.\d)"
)
_YEAR_MONTH = re.compile(ALONE + r"((?:19|20)\d\d)([-/])(0[1-9]|1[0-2])(?![\w/-]|[.,:]\d)")
_MONTH_OF_YEAR = re.compile(ALONE + r"(0?[1-9]|1[0-2])/((?:19|20)\d\d)(?![\w/-]|[.,:]\d)")
_SLASHED = re.compile(ALONE + r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})" + _END)
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
    rf"{ALONE}(?P<the>[Tt]he )?+{_DAYS}(?:{_TO})?(?: of)? (?P<month>{_NAME})"
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
