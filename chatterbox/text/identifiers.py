"""Reads figures that are names: telephone numbers, codes, versions, models, house numbers.

What has to be typed in is read digit by digit, in its groups; what is said as a name is read in
pairs: `RTX 4090`, `flight BA2490`, `error 404`, `1428 Elm Street`.
"""

import re

from chatterbox.text.lexicon import STREETS, any_in, any_of, words_in
from chatterbox.text.numbers import cardinal, digits, in_pairs, number, plural
from chatterbox.text.rules import Step, space_after, text_after

read = Step(__name__, needs="[0-9]")
"""Figures that are names."""
_NEAR = r"[0-9][ .)-]{1,2}\(?[0-9]|\+\(?[0-9]"
"""Figures that may be groups of one number."""


def _say_digits(match: re.Match[str]) -> str:
    return digits(match[0])


def _say_last(match: re.Match[str]) -> str:
    """The last group digit by digit, the one before it as it is."""
    return match[1] + digits(match[2])


def _in_groups(figures: str) -> str:
    """Digit by digit with pauses, as long numbers are dictated: 4155552671 → 415, 555, 2671."""
    if len(figures) == 16:
        return digits(" ".join(figures[at : at + 4] for at in range(0, 16, 4)))
    if len(figures) in (7, 10):
        return digits(" ".join((figures[:-7], figures[-7:-4], figures[-4:])))
    return digits(figures)


# --- codes ---------------------------------------------------------------------------------------
_VALUE = r"(?P<value>(?=[A-Za-z-]{0,6}\d)[A-Za-z\d]{2,24}(?:[ -]\d{2,6}){0,5})(?![\w%]|[.,:/]\d)"
_LINK = (
    r"(?P<link>(?:(?:'s|,? (?:is|was|are|number|no\.?|now|reads|ending in|ending with)|:| ?#| ?=))"
    r"{0,3} ?)"
)
_COUNTED = rf"(?! ?{any_in('counted by codes')}\b)"
_CODE = re.compile(r"(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z\d]{5,24}")
_WEAK_WORDS = words_in("code words")


def _spelled(value: str) -> str:
    """A code sign by sign: AB12-34 → A B one two, three four."""
    said = ""
    for part in re.findall(r"\d+|[A-Za-z]+|[ -]", value):
        if part in " -":
            said += ","
        else:
            spaced = part if len(part) > 3 else " ".join(part.upper())
            said += " " + (_in_groups(part) if part.isdigit() else spaced)
    return said.lstrip()


read.add(
    r"\b[A-Z]{2}\d\d(?: ?[A-Z\d]{4}){3,7}(?: ?[A-Z\d]{1,3})?\b",
    lambda m: _spelled(m[0]),
    "[A-Z]{2}[0-9]{2}",
)


@read.rule(
    rf"(?P<word>\b(?:(?i:{any_in('sure code words')})|PIN|pin(?= is| was|:)))\b"
    rf"(?<!\d code){_LINK}{_VALUE}{_COUNTED}",
    rf"[0-9]{{3}}|{_NEAR}",
)
def _say_strong(match: re.Match[str]) -> str:
    count = sum(c.isdigit() for c in match["value"])
    if count < 3 and not _CODE.fullmatch(match["value"]):
        return match[0]
    return f"{match['word']}{match['link']}{_spelled(match['value'])}"


read.add(
    r"(?i)\b((?:card|account|number|visa|mastercard|amex|phone|iban|debit|credit)\b[^.!?\d]{0,30}"
    r"(?:ending|ends|ended) (?:in |with )?)(\d{2,6})\b",
    _say_last,
    "(?i:end)",
)


@read.rule(
    rf"\b(?P<word>[A-Za-z]{{2,12}})\b(?!')(?=[:,#= ]){_LINK}{_VALUE}{_COUNTED}"
    r"(?! [a-z]+s\b(?<!has|.is|was))",
    rf"[0-9]{{3}}|{_NEAR}",
)
def _say_weak(match: re.Match[str]) -> str:
    """`order number 1234`, `order 12345`; not `order 1234`, which counts."""
    word, link, value = match.group("word", "link", "value")
    if word.lower() not in _WEAK_WORDS or (word in ("id", "Id") and not link):
        return match[0]
    marked = re.search(r"number|no\b|[#:=]|ending|is|was", link) or word.upper() == "ID"
    count = sum(c.isdigit() for c in value)
    counted = count < (4 if marked else 5) or (value.endswith("000") and not marked)
    if counted and not _CODE.fullmatch(value):
        return match[0]
    return f"{word}{link}{_spelled(value)}"


read.add(
    r"(?i)\b((?:enter|type|key in|use|reply|verify with) )(\d{4,8})(?=[.!]|$| (?:to [a-z]|as|on"
    r"|at)\b)",
    _say_last,
    "[0-9]{4}",
)
read.add(
    r"(?i)(?<![\w.,$£€-])(\d{4,8})(?= is (?:your|the)(?: [\w-]+){0,3} (?:code|pin|otp|password"
    r"|passcode)\b)",
    _say_digits,
    "[0-9]{4} is",
)
read.add(
    rf"(\b{any_in('states')},? |, [A-Z][a-z]{{3,12}} |\b(?:New York|Los Angeles|Beverly Hills"
    rf"|Las Vegas|San (?:Francisco|Diego|Jose|Antonio)|{any_in('cities')}) )"
    r"(\d{5}(?:-\d{4})?)(?![\w-]|,\d)(?! [a-z])",
    _say_last,
    "[0-9]{5}",
)


# --- telephone numbers ---------------------------------------------------------------------------
@read.rule(r"(?<![\w-])(1[- ])?(8([08765432])\3|900)-([A-Z][A-Z-]{2,12})(?![\w-])", "[0-9]-[A-Z]")
def _say_vanity(match: re.Match[str]) -> str:
    """1-800-FLOWERS → one eight hundred FLOWERS."""
    code = "eight hundred" if match[2] == "800" else digits(match[2])
    return f"{'one ' * bool(match[1])}{code} {match[4]}"


read.add(
    r"(?<![\w.+-])(?:\+?\d{1,3}(?:[ .-]|(?=\()))?(?:\(\d{3}\)[ -]?"
    r"|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
    r"|(?<![\w.+-])\d{3}-\d{4}(?![\w-])|(?<![\w.+,$-])555 \d{4}(?![\w-]|[.,]\d)"
    r"|(?<!\w)\(0\d{1,5}\)[ -]?\d{3,4}[ -]?\d{3,6}(?![\w-])",
    _say_digits,
    _NEAR,
)


@read.rule(r"(?<![\w+])\+\d[\d ().-]{6,20}\d(?!\d)", r"\+[0-9]")
def _say_international(match: re.Match[str]) -> str:
    count = sum(c.isdigit() for c in match[0])
    return f"plus {digits(match[0])}" if 8 <= count <= 15 else match[0]


@read.rule(r"(?<![\w.,$£€¥-])\d{2,8}(?: \d{2,8}){1,6}(?![\w%-]|[.,]\d)", "[0-9] [0-9]")
def _say_blanks(match: re.Match[str]) -> str:
    """07911 123456, 4111 1111 1111 1111; not 1 000 000 or 2019 2020 2021."""
    groups = match[0].split(" ")
    sizes = [len(group) for group in groups]
    if groups[0][0] == "0":
        dialled = 8 <= sum(sizes) <= 16
    else:
        counted = sizes[0] < 4 and set(sizes[1:]) == {3}
        years = all(len(group) == 4 and group[:2] in ("18", "19", "20") for group in groups)
        sure = 10 <= sum(sizes) <= 19 and min(sizes) > 2 and not (counted or years)
        dialled = sure or sizes == [3, 3, 4]
    return digits(match[0]) if dialled else match[0]


read.add(
    r"(?<![\w.,$£€¥])(?!\d+000\b)\d{10,}(?![\w.,%]*\d|%)(?! [a-z]+s\b)",
    lambda m: _in_groups(m[0]),
    "[0-9]{9}",
)
read.add(
    r"(?i)\b(call|dial|called|dialed|dialled|ring|phone|text|telephone|tel|fax|mobile|cell|hotline)"
    r"((?: (?:me|us|him|her|them|now|on|at|is|number|no))*(?: [A-Z]{2,10})?(?: to)?:? )"
    r"(\d{3}(?: \d{4})?|\d{5,15})(?![\w%-]|[.,:]\d)(?! (?:\d|[a-z]+s|people|men|women|more|of)\b)",
    lambda m: m[1] + m[2] + _in_groups(m[3]),
    "[0-9]{3}",
)
read.add(
    rf"\b(911|999|112|988|[2-8]11)(?= {any_in('emergency services')}\b)",
    _say_digits,
    "[0-9]{3} ",
)
read.add(r"(?<![\w.-])\d++(?:-\d++){2,}+(?!\w)(?! ?=)", _say_digits, "-[0-9]+-[0-9]")


# --- versions and names --------------------------------------------------------------------------
_RELEASED, _NAMES = words_in("released"), words_in("numbered things")
_STREET = rf"(?:{any_of(STREETS.values())}|Way|St|Ave|Rd|Dr|Ln|Blvd|Ct|Pl|Hwy|Pkwy)\b"


def _named(figures: str) -> str:
    return digits(figures) if figures[0] == "0" else in_pairs(int(figures))


def _say_name(match: re.Match[str]) -> str:
    return _named(match[0]) + (" " if re.match(r"(?!s)[A-Za-z]", text_after(match)) else "")


def _dotted(version: str) -> str:
    """3.10 → three point ten: the parts of a version are numbers of their own."""
    return " point ".join(number(part) for part in version.split("."))


@read.rule(
    r"(?<![\w.])(?:[vV] ?)?(\d++(?:\.\d++){2,}+)|\bv(\d{1,4}(?:\.\d{1,4})?)(?![\w.]\d)",
    "[.v][0-9]",
)
def _say_version(match: re.Match[str]) -> str:
    parts = (match[1] or match[2]).split(".")
    if len(parts) == 4 and all(len(p) < 4 and int(p) < 256 for p in parts):
        return " dot ".join(digits(p) for p in parts)  # an IPv4 address
    said = _dotted(match[1] or match[2])
    return f" version {said}" if match[0].lstrip()[0] in "vV" else said


@read.rule(r"\b([A-Za-z]{2,7}) (\d{1,2}\.[1-9]\d|\d\d\.\d\d)(?!\w|\.\d)", r" [0-9]{1,2}\.[0-9]{2}")
def _say_release(match: re.Match[str]) -> str:
    """Python 3.12."""
    released = match[1].lower() in _RELEASED
    return f"{match[1]} {_dotted(match[2])}" if released else match[0]


read.add(
    r"\b802\.(\d{1,2})(?=[a-z]{0,2}\b)",
    lambda m: f"eight oh two dot {cardinal(int(m[1]))} ",
    r"802\.",
)


@read.rule(r"\b(7[0-8]7|A3\d\d)-(\d{1,4})(?=[A-Z]{0,3}\b)", "[0-9]{2}-[0-9]")
def _say_series(match: re.Match[str]) -> str:
    """737-800, A320-200."""
    first = match[1].replace("A", "A ")
    return f"{first[:-3]}{_named(first[-3:])} {_named(match[2])}{space_after(match)}"


read.add(
    r"(?<=\b[Ff]light [A-Z][A-Z\d] )\d{3,4}(?![\w%]|[.,:/-]\d)",
    lambda m: _named(m[0]),
    "[Ff]light ",
)


@read.rule(
    r"\b([A-Za-z]{2,10}) (\d{3,4})(?![\d%]|[.,:/]\d|-\d)(?! (?:[a-z]+s|people|men|women)\b)",
    "[a-zA-Z] [0-9]{3}",
)
def _say_named(match: re.Match[str]) -> str:
    named = match[1].lower() in _NAMES
    return f"{match[1]} {in_pairs(int(match[2]))}" if named else match[0]


@read.rule(
    r"(?<![\w.,$£€-])(?!(?:ISO|USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|CNY|Q\d|FY|CY|v|EN|DIN)-?\d)"
    r"([A-Z][A-Za-z]{0,4}-?|[ixh])(\d{3,4})(?![\d%]|[.,:/]\d|-\d)",
    "[a-zA-Z-][0-9]{3}",
)
def _say_model(match: re.Match[str]) -> str:
    """A380; of several, A380s, the plural is said by the step that knows plurals."""
    if re.match(r"s\b", text_after(match, 2)):
        return f"{match[1]} {plural(_named(match[2])).removesuffix('s')}"
    return f"{match[1].rstrip('-')} {_named(match[2])}{space_after(match)}"


read.add(
    r"(?<=\b[Aa] )7[0-8]7\b(?! [a-z]+s\b|[.,:%-]\d)|(?<![\w.,$-])7[0-8]7(?=s\b| MAX\b)",
    _say_name,
    "7[0-8]7",
)
read.add(
    r"(?<![\w.,$])(?:144|240|360|480|576|720|1080|1440|2160|4320)(?=[pi](?:\d\d)?\b)|\b401(?=[kK]\b)",
    _say_name,
    "[0-9][pikK]",
)


@read.rule(
    r"(?<![\w.,$£€-])(\d{3,5})(?= (?:(?:[NSEW]|[NS][EW]|North|South|East|West)\.? )?"
    rf"(?!{_STREET})"
    rf"(?:[A-Z][\w'-]*\.?|\d{{1,3}}(?:st|nd|rd|th)) (?:[A-Z][\w'-]* ){{0,2}}{_STREET})",
    "[0-9]{3} ",
)
def _say_house(match: re.Match[str]) -> str:
    """12345 Main Street → twelve three forty-five."""
    house = match[1]
    if len(house) < 5:
        return _named(house)
    if house[2] == "0":
        return cardinal(int(house)) if house.endswith("000") else digits(house)
    return f"{cardinal(int(house[:2]))} {in_pairs(int(house[2:]))}"


# --- signs before figures ------------------------------------------------------------------------
read.add(r"\.(?<![\w.].)(?=\d)", "0.", r"\.[0-9]")
read.add(
    r"-(?<![\w)\].,%°$£€¥^-].)(?=[^\w\s-]?\d|[A-Z]{1,2}\$\d)", "minus ", r"-[^\w]?[0-9]|-[A-Z]"
)
read.add(r"\+(?<![\w+].)(?=\d)", "plus ", r"\+[0-9]")
