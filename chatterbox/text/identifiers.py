"""Read numbers that are names: telephone numbers, codes, versions, models, house numbers.

Numbers that have to be typed in are read digit by digit, in their groups. Names are read in pairs
of digits: `RTX 4090`, `flight BA2490`, `error 404`, `1428 Elm Street`.
"""

import re

from chatterbox.text.lexicon import STREETS, any_in, any_of, words_in
from chatterbox.text.numbers import cardinal, digits, in_pairs, number, plural
from chatterbox.text.rules import Match, Step, space_after, text_after

read = Step(__name__, needs="[0-9]")
"""Read numbers that are names as words: `RTX 4090` → `RTX forty ninety`."""
_NEAR = r"[0-9][ .)-]{1,2}\(?[0-9]|\+\(?[0-9]"
"""Matches where several groups of digits may make up one number."""


def _say_digits(match: Match) -> str:
    return digits(match[0])


def _say_last(match: Match) -> str:
    """Read the second group of the match digit by digit, leave the first as it is."""
    return match[1] + digits(match[2])


def _in_groups(written: str) -> str:
    """Digit by digit, in the groups of a card or telephone number: 4155552671 → 415, 555, 2671."""
    if len(written) == 16:
        return digits(" ".join(written[at : at + 4] for at in range(0, 16, 4)))
    if len(written) in (7, 10):
        return digits(f"{written[:-7]} {written[-7:-4]} {written[-4:]}")
    return digits(written)


@read.rule(
    r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{2}(?:([:-])[0-9a-f]{2})"
    r"(?:\1[0-9a-f]{2}){4}(?![\w:-])",
    "(?i)[0-9a-f]{2}([:-])[0-9a-f]{2}\\1[0-9a-f]{2}|(?:-[0-9a-f]{4}){3}-",
)
def _say_hexadecimal(match: Match) -> str:
    """A UUID or the MAC address 00:1A:2B:3C:4D:5E, character by character."""
    groups = re.split("[:-]", match[0].upper())
    return ", ".join(" ".join(digits(c) if c.isdigit() else c for c in g) for g in groups)


# --- codes ---------------------------------------------------------------------------------------
_VALUE = r"(?P<value>(?=[A-Za-z-]{0,6}\d)[A-Za-z\d]{2,24}(?:[ -]\d{2,6}){0,5})(?![\w%]|[.,:/]\d)"
_LINK = (
    r"(?P<link>(?:(?:'s|,? (?:is|was|are|number|no\.?|now|reads|ending in|ending with)|:| ?#| ?=))"
    r"{0,3} ?)"
)
_COUNTED = rf"(?! ?{any_in('counted by codes')}\b)"
_CODE = re.compile(r"(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z\d]{5,24}")
_CODE_WORDS = words_in("code words")


def _spelled(code: str) -> str:
    """AB12-34 → A B one two, three four."""
    said = ""
    for part in re.findall(r"\d+|[A-Za-z]+|[ -]", code):
        if part in " -":
            said += ","
        elif part.isdigit():
            said += " " + _in_groups(part)
        else:
            said += " " + (part if len(part) > 3 else " ".join(part.upper()))
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
def _say_code(match: Match) -> str:
    """code 1945, otp is ab9453"""
    word, link, value = match.group("word", "link", "value")
    few = sum(c.isdigit() for c in value) < 3
    return match[0] if few and not _CODE.fullmatch(value) else f"{word}{link}{_spelled(value)}"


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
def _say_weak_code(match: Match) -> str:
    """`order number 1234` and `order 12345`, but not `order 1234`, which counts."""
    word, link, value = match.group("word", "link", "value")
    if word.lower() not in _CODE_WORDS or (word in ("id", "Id") and not link):
        return match[0]
    marked = re.search(r"number|no\b|[#:=]|ending|is|was", link) or word.upper() == "ID"
    few = sum(c.isdigit() for c in value) < (4 if marked else 5)
    counted = few or (value.endswith("000") and not marked)
    return match[0] if counted and not _CODE.fullmatch(value) else f"{word}{link}{_spelled(value)}"


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
    rf"(\b{any_in('states')},? |, [A-Z][a-z]{{3,12}} |\b{any_in('cities')} )"
    r"(\d{5}(?:-\d{4})?)(?![\w-]|,\d)(?! [a-z])",
    _say_last,
    "[0-9]{5}",
)


# --- telephone numbers ---------------------------------------------------------------------------
@read.rule(r"(?<![\w-])(1[- ])?(8([08765432])\3|900)-([A-Z][A-Z-]{2,12})(?![\w-])", "[0-9]-[A-Z]")
def _say_vanity(match: Match) -> str:
    """1-800-FLOWERS → one eight hundred FLOWERS."""
    code = "eight hundred" if match[2] == "800" else digits(match[2])
    return f"{'one ' * bool(match[1])}{code} {match[4]}"


read.add(
    r"""(?x)
    (?<![\w.+-])(?:\+?\d{1,3}(?:[ .-]|(?=\()))?(?:\(\d{3}\)[ -]?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])
    | (?<![\w.+-])\d{3}-\d{4}(?![\w-])
    | (?<![\w.+,$-])555[ ]\d{4}(?![\w-]|[.,]\d)
    | (?<!\w)\(0\d{1,5}\)[ -]?\d{3,4}[ -]?\d{3,6}(?![\w-])""",
    _say_digits,
    _NEAR,
)


@read.rule(r"(?<![\w+])\+\d[\d ().-]{6,20}\d(?!\d)", r"\+[0-9]")
def _say_international(match: Match) -> str:
    """+44 20 7946 0958"""
    count = sum(c.isdigit() for c in match[0])
    return f"plus {digits(match[0])}" if 8 <= count <= 15 else match[0]


@read.rule(r"(?<![\w.,$£€¥-])\d{2,8}(?: \d{2,8}){1,6}(?![\w%-]|[.,]\d)", "[0-9] [0-9]")
def _say_spaced(match: Match) -> str:
    """07911 123456 and 4111 1111 1111 1111, but not 1 000 000 or 2019 2020 2021."""
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
    r"""(?xi)
    \b(call|dial|called|dialed|dialled|ring|phone|text|telephone|tel|fax|mobile|cell|hotline)
    ((?:[ ](?:me|us|him|her|them|now|on|at|is|number|no))*(?:[ ][A-Z]{2,10})?(?:[ ]to)?:?[ ])
    (\d{3}(?:[ ]\d{4})?|\d{5,15})
    (?![\w%-]|[.,:]\d)(?![ ](?:\d|[a-z]+s|people|men|women|more|of)\b)""",
    lambda m: m[1] + m[2] + _in_groups(m[3]),
    "[0-9]{3}",
)
read.add(
    rf"\b(911|999|112|988|[2-8]11)(?= {any_in('emergency services')}\b)", _say_digits, "[0-9]{3} "
)
read.add(r"(?<![\w.-])\d++(?:-\d++){2,}+(?!\w)(?! ?=)", _say_digits, "-[0-9]+-[0-9]")


# --- versions and names --------------------------------------------------------------------------
_RELEASED, _NUMBERED = words_in("released"), words_in("numbered things")
_STREET = rf"(?:{any_of(STREETS.values())}|Way|St|Ave|Rd|Dr|Ln|Blvd|Ct|Pl|Hwy|Pkwy)\b"


def _named(written: str) -> str:
    return digits(written) if written[0] == "0" else in_pairs(int(written))


def _say_name(match: Match) -> str:
    return _named(match[0]) + (" " if re.match(r"(?!s)[A-Za-z]", text_after(match)) else "")


def _dotted(version: str) -> str:
    """3.10 → three point ten: each part of a version is a number of its own."""
    return " point ".join(number(part) for part in version.split("."))


@read.rule(
    r"(?<![\w.])(?:[vV] ?)?(\d++(?:\.\d++){2,}+)|\bv(\d{1,4}(?:\.\d{1,4})?)(?![\w.]\d)",
    "[.v][0-9]",
)
def _say_version(match: Match) -> str:
    """1.2.3, v2.0, 192.168.1.1"""
    parts = (match[1] or match[2]).split(".")
    if len(parts) == 4 and all(len(p) < 4 and int(p) < 256 for p in parts):
        return " dot ".join(digits(p) for p in parts)  # an IPv4 address
    said = _dotted(match[1] or match[2])
    return f" version {said}" if match[0].lstrip()[0] in "vV" else said


@read.rule(r"\b([A-Za-z]{2,7}) (\d{1,2}\.[1-9]\d|\d\d\.\d\d)(?!\w|\.\d)", r" [0-9]{1,2}\.[0-9]{2}")
def _say_release(match: Match) -> str:
    """Python 3.12"""
    released = match[1].lower() in _RELEASED
    return f"{match[1]} {_dotted(match[2])}" if released else match[0]


read.add(
    r"\b802\.(\d{1,2})(?=[a-z]{0,2}\b)",
    lambda m: f"eight oh two dot {cardinal(int(m[1]))} ",
    r"802\.",
)
read.add(  # 737-800, A320-200
    r"\b(A?)(7[0-8]7|(?<=A)3\d\d)-(\d{1,4})(?=[A-Z]{0,3}\b)",
    lambda m: f"{m[1] and 'A '}{_named(m[2])} {_named(m[3])}{space_after(m)}",
    "[0-9]{2}-[0-9]",
)
read.add(
    r"(?<=\b[Ff]light [A-Z][A-Z\d] )\d{3,4}(?![\w%]|[.,:/-]\d)",
    lambda m: _named(m[0]),
    "[Ff]light ",
)


@read.rule(
    r"\b([A-Za-z]{2,10}) (\d{3,4})(?![\d%]|[.,:/]\d|-\d)(?! (?:[a-z]+s|people|men|women)\b)",
    "[a-zA-Z] [0-9]{3}",
)
def _say_numbered(match: Match) -> str:
    """error 404"""
    named = match[1].lower() in _NUMBERED
    return f"{match[1]} {in_pairs(int(match[2]))}" if named else match[0]


@read.rule(
    r"(?<![\w.,$£€-])(?!(?:ISO|USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|CNY|Q\d|FY|CY|v|EN|DIN)-?\d)"
    r"([A-Z][A-Za-z]{0,4}-?|[ixh])(\d{3,4})(?![\d%]|[.,:/]\d|-\d)",
    "[a-zA-Z-][0-9]{3}",
)
def _say_model(match: Match) -> str:
    """A380; the step `years.decades` reads the plural of A380s."""
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
    r"(?<![\w.,$£€-])(\d{3}(?= )|\d{4,5})"
    r"(?=[A-Za-z]? (?:(?:[NSEW]|[NS][EW]|North|South|East|West)\.? )?"
    rf"(?!{_STREET})(?:[A-Z][\w'-]*\.?|\d{{1,3}}(?:st|nd|rd|th)) "
    rf"(?:[A-Z][\w'-]* ){{0,2}}{_STREET})",
    "[0-9]{3}[A-Za-z]? ",
)
def _say_house(match: Match) -> str:
    """12345 Main Street → twelve three forty-five."""
    house, gap = match[1], space_after(match)
    if len(house) < 5:
        return _named(house) + gap
    if house[2] != "0":
        return f"{cardinal(int(house[:2]))} {in_pairs(int(house[2:]))}{gap}"
    return (cardinal(int(house)) if house.endswith("000") else digits(house)) + gap


# --- signs before numbers ------------------------------------------------------------------------
read.add(r"\.(?<![\w.].)(?=\d)", "0.", r"\.[0-9]")
read.add(
    r"-(?<![\w)\].,%°$£€¥^-].)(?=[^\w\s-]?\d|[A-Z]{1,2}\$\d)", "minus ", r"-[^\w]?[0-9]|-[A-Z]"
)
read.add(r"\+(?<![\w+].)(?=\d)", "plus ", r"\+[0-9]")
