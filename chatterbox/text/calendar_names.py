"""Writes the short names of months and weekdays out: `jan. 5`, `Mon–Fri`, `(b. 1945)`

Runs before abbreviations, which would take their stops for the ends of sentences. Every month that
belongs to a date leaves with its full name and a capital, which is all that `dates` knows.
"""

import re

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
_ALONE = re.compile(
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


def spell_out(text: str) -> str:
    """`text` with the names of its months and weekdays in full. Linear time."""
    if _FIGURE.search(text):
        text = _LIFE.sub(lambda m: _LIVES[m[1]], text)
    small = text.lower()
    if not any(name in small for name in _NAMES) or not _ANY_NAME.search(small):
        return text
    text = _AFTER_FIGURE.sub(_say_after_figure, _RUN.sub(_say_run, text))
    text = _BEFORE_FIGURE.sub(_say_before_figure, text)
    return _ALONE.sub(lambda m: _full(m[0].rstrip(".")), text)


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
    final = written.endswith(".") and match.string[match.end() : match.end() + 2].strip() == ""
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
        leads = _LEADS.search(text[max(0, match.start() - 8) : match.start()])
        dated = leads or re.match(r",? \d{4}\b", text[match.end() : match.end() + 7])
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
    if re.match(r"[,;:)!?]| [\da-z(]", match.string[match.end() : match.end() + 2]):
        stop = ""
    before_year = (match["hyphen"] or "").replace("-", " " if match["full"] else " '")
    return f"{day}{gap}{_full(month)}{stop}{before_year}"
