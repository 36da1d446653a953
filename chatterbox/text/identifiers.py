"""Reads figures that are names: telephone numbers, codes, versions, models, house numbers.

What has to be typed in is read digit by digit, in its groups; what is said as a name is read in
pairs: `RTX 4090`, `flight BA2490`, `error 404`, `1428 Elm Street`.
"""

import re

from chatterbox.text.lexicon import words
from chatterbox.text.neighbours import right_of
from chatterbox.text.numbers import cardinal, digits, number, paired

# --- telephone numbers ---------------------------------------------------------------------------
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+?\d{1,3}(?:[ .-]|(?=\()))?(?:\(\d{3}\)[ -]?"
    r"|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
    r"|(?<![\w.+-])\d{3}-\d{4}(?![\w-])|(?<![\w.+,$-])555 \d{4}(?![\w-]|[.,]\d)"
    r"|(?<!\w)\(0\d{1,5}\)[ -]?\d{3,4}[ -]?\d{3,6}(?![\w-])"
)
_INTERNATIONAL = re.compile(r"(?<![\w+])\+\d[\d ().-]{6,20}\d(?!\d)")
_GROUPS = re.compile(r"(?<![\w.-])\d++(?:-\d++){2,}+(?!\w)(?! ?=)")
_BLANKS = re.compile(r"(?<![\w.,$£€¥-])\d{2,8}(?: \d{2,8}){1,6}(?![\w%-]|[.,]\d)")
_CALL = re.compile(
    r"(?i)\b(call|dial|called|dialed|dialled|ring|phone|text|telephone|tel|fax|mobile|cell|hotline)"
    r"((?: (?:me|us|him|her|them|now|on|at|is|number|no))*(?: [A-Z]{2,10})?(?: to)?:? )"
    r"(\d{3}(?: \d{4})?|\d{5,15})(?![\w%-]|[.,:]\d)(?! (?:\d|[a-z]+s|people|men|women|more|of)\b)"
)
_VANITY = re.compile(r"(?<![\w-])(1[- ])?(8([08765432])\3|900)-([A-Z][A-Z-]{2,12})(?![\w-])")
_EMERGENCY = re.compile(
    r"\b(911|999|112|988|[2-8]11)(?= (?:operators?|calls?|callers?|dispatch\w*|emergenc\w+"
    r"|cent(?:er|re)s?"
    r"|hotline|lifeline|services?|tapes?|systems?|recordings?)\b)"
)
_LONG = re.compile(r"(?<![\w.,$£€¥])(?!\d+000\b)\d{10,}(?![\w.,%]*\d|%)(?! [a-z]+s\b)")

_FIGURES = re.compile("[0-9]+")
_NEAR = re.compile(r"[0-9][ .)-]{1,2}\(?[0-9]|\+\(?[0-9]")
"""Figures that may be groups of one number."""

# --- codes ---------------------------------------------------------------------------------------
_VALUE = r"(?P<value>(?=[A-Za-z-]{0,6}\d)[A-Za-z\d]{2,24}(?:[ -]\d{2,6}){0,5})(?![\w%]|[.,:/]\d)"
_LINK = (
    r"(?P<link>(?:(?:'s|,? (?:is|was|are|number|no\.?|now|reads|ending in|ending with)|:| ?#| ?=))"
    r"{0,3} ?)"
)
_COUNTED = (
    r"(?! ?(?:digits?|characters?|chars|letters?|lines?|bytes?|bits?|of|people|times|minutes?"
    r"|points"
    r"|hours?|days?|years?|mm|cm|km|m|kg|g|mg|ml|ft|or more)\b)"
)
_STRONG = re.compile(
    r"(?P<word>\b(?:(?i:codes?|otp|passcodes?|passwords?|zip|zipcode|postcode|ext|extension|cvv|cvc"
    r"|ssn|imei|pin code|pin number)|PIN|pin(?= is| was|:)))\b"
    rf"(?<!\d code){_LINK}{_VALUE}{_COUNTED}"
)
_CODE = re.compile(r"(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z\d]{5,24}")
_STRONG_WORDS = ("code", "otp", "pin", "pass", "zip", "ext", "cvv", "cvc", "ssn", "imei")
_WEAK_WORDS = words("code words")
_WEAK = re.compile(
    r"\b(?P<word>[A-Za-z]{2,12})\b(?!')"
    rf"(?=[:,#= ]){_LINK}{_VALUE}{_COUNTED}(?! [a-z]+s\b(?<!has|.is|was))"
)
_ENDING = re.compile(
    r"(?i)\b((?:card|account|number|visa|mastercard|amex|phone|iban|debit|credit)\b[^.!?\d]{0,30}"
    r"(?:ending|ends|ended) (?:in |with )?)(\d{2,6})\b"
)
_USED = re.compile(
    r"(?i)\b((?:enter|type|key in|use|reply|verify with) )(\d{4,8})(?=[.!]|$| (?:to [a-z]|as|on"
    r"|at)\b)"
    r"|(?<![\w.,$£€-])(\d{4,8})(?= is (?:your|the)(?: [\w-]+){0,3} (?:code|pin|otp|password"
    r"|passcode)\b)"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z\d]{4}){3,7}(?: ?[A-Z\d]{1,3})?\b")
_STATE = re.compile(
    r"(\b(?:A[LKZR]|C[AOT]|D[CE]|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|PR|RI"
    r"|S[CD]|T[NX]|UT|V[TAI]|W[AVIY]),? |, [A-Z][a-z]{3,12} "
    r"|\b(?:New York|Los Angeles|San (?:Francisco|Diego|Jose|Antonio)|Chicago|Boston|Houston|Miami"
    r"|Seattle|Dallas|Austin|Denver|Atlanta|Phoenix|Philadelphia|Brooklyn|Beverly Hills"
    r"|Las Vegas|Portland|Detroit) )(\d{5}(?:-\d{4})?)"
    r"(?![\w-]|,\d)(?! [a-z])"
)

# --- versions and names --------------------------------------------------------------------------
_VERSIONED = re.compile("[.v][0-9]")
_VERSION = re.compile(
    r"(?<![\w.])(?:[vV] ?)?(\d++(?:\.\d++){2,}+)|\bv(\d{1,4}(?:\.\d{1,4})?)(?![\w.]\d)"
)
_RELEASED = words("released")
_RELEASE = re.compile(r"\b([A-Za-z]{2,7}) (\d{1,2}\.[1-9]\d|\d\d\.\d\d)(?!\w|\.\d)")
_WIFI = re.compile(r"\b802\.(\d{1,2})(?=[a-z]{0,2}\b)")
_SERIES = re.compile(r"\b(7[0-8]7|A3\d\d)-(\d{1,4})(?=[A-Z]{0,3}\b)")
_JETS = re.compile("7[0-8]7")
_JET = re.compile(
    r"(?<=\b[Aa] )7[0-8]7\b(?! [a-z]+s\b|[.,:%-]\d)|(?<![\w.,$-])7[0-8]7(?=s\b| MAX\b)"
)
_IS_LINES = re.compile("[0-9][pikK]")
_LINES = re.compile(
    r"(?<![\w.,$])(?:144|240|360|480|576|720|1080|1440|2160|4320)(?=[pi](?:\d\d)?\b)|\b401(?=[kK]\b)"
)
_MODEL = re.compile(
    r"(?<![\w.,$£€-])(?!(?:ISO|USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|CNY|Q\d|FY|CY|v|EN|DIN)-?\d)"
    r"([A-Z][A-Za-z]{0,4}-?|[ixh])(\d{3,4})(?![\d%]|[.,:/]\d|-\d)"
)
_NAMES = words("numbered things")
_NAMED = re.compile(
    r"\b([A-Za-z]{2,10}) (\d{3,4})(?![\d%]|[.,:/]\d|-\d)(?! (?:[a-z]+s|people|men|women)\b)"
)
_STREET = (
    r"(?:Street|Avenue|Road|Drive|Lane|Boulevard|Court|Place|Way|Highway|Parkway|Square|Terrace"
    r"|Circle|Expressway|Crescent|St|Ave|Rd|Dr|Ln|Blvd|Ct|Pl|Hwy|Pkwy)\b"
)
_HOUSE = re.compile(
    r"(?<![\w.,$£€-])(\d{3,5})(?= (?:(?:[NSEW]|[NS][EW]|North|South|East|West)\.? )?"
    rf"(?!{_STREET})(?:[A-Z][\w'-]*\.?|\d{{1,3}}(?:st|nd|rd|th)) (?:[A-Z][\w'-]* ){{0,2}}{_STREET})"
)
# --- signs before figures ------------------------------------------------------------------------
_FIGURE = re.compile("[0-9]")
_LEADING_POINT = re.compile(r"\.(?<![\w.].)(?=\d)")
_MINUS = re.compile(r"-(?<![\w)\].,%°$£€¥^-].)(?=[^\w\s-]?\d|[A-Z]{1,2}\$\d)")
_PLUS = re.compile(r"\+(?<![\w+].)(?=\d)")


def spell_out(text: str) -> str:
    """`text` with the figures that are names in words. Linear time."""
    longest = max(map(len, _FIGURES.findall(text)), default=0)
    if longest > 2 or _NEAR.search(text):
        text = _phones(_code(text, longest), longest)
    if text.count("-") > 1:
        text = _GROUPS.sub(lambda m: digits(m[0]), text)
    if not _FIGURE.search(text):
        return text
    text = _names(text, longest)
    return _PLUS.sub("plus ", _MINUS.sub("minus ", _LEADING_POINT.sub("0.", text)))


def _phones(text: str, longest: int) -> str:
    if "8" in text or "900-" in text:
        text = _VANITY.sub(_say_vanity, text)
    if _NEAR.search(text):
        text = _INTERNATIONAL.sub(_say_international, _PHONE.sub(lambda m: digits(m[0]), text))
        text = _BLANKS.sub(_say_blanks, text)
    if longest > 9:
        text = _LONG.sub(lambda m: _in_groups(m[0]), text)
    if longest > 2 and _FIGURE.search(text):
        text = _CALL.sub(_say_call, text)
        text = _EMERGENCY.sub(lambda m: digits(m[0]), text)
    return text


def _code(text: str, longest: int) -> str:
    small = text.lower()
    if small != text:
        text = _IBAN.sub(lambda m: _spelled(m[0]), text)
    if any(word in small for word in _STRONG_WORDS):
        text = _STRONG.sub(_say_strong, text)
    if "end" in small:
        text = _ENDING.sub(lambda m: m[1] + digits(m[2]), text)
    if any(word in small for word in _WEAK_WORDS):
        text = _WEAK.sub(_say_weak, text)
    if longest > 3:
        text = _USED.sub(lambda m: (m[1] or "") + digits(m[2] or m[3]), text)
    return _STATE.sub(lambda m: m[1] + digits(m[2]), text) if longest > 4 else text


def _say_vanity(match: re.Match[str]) -> str:
    """1-800-FLOWERS → one eight hundred FLOWERS."""
    code = "eight hundred" if match[2] == "800" else digits(match[2])
    return f"{'one ' * bool(match[1])}{code} {match[4]}"


def _say_call(match: re.Match[str]) -> str:
    return match[1] + match[2] + _in_groups(match[3])


def _names(text: str, longest: int) -> str:
    if _VERSIONED.search(text):
        text = _RELEASE.sub(_say_release, _VERSION.sub(_say_version, text))
    if longest < 3:
        return text
    text = _WIFI.sub(lambda m: f"eight oh two dot {cardinal(int(m[1]))} ", text)
    text = _SERIES.sub(_say_series, text)
    text = _MODEL.sub(_say_model, _NAMED.sub(_say_named, text))
    if _JETS.search(text):
        text = _JET.sub(_say_name, text)
    text = _LINES.sub(_say_name, text) if _IS_LINES.search(text) else text
    return _HOUSE.sub(_say_house, text)


def _say_house(match: re.Match[str]) -> str:
    """12345 Main Street → twelve three forty-five."""
    house = match[1]
    if len(house) < 5:
        return _named(house)
    if house[2] == "0":
        return cardinal(int(house)) if house.endswith("000") else digits(house)
    return f"{cardinal(int(house[:2]))} {paired(int(house[2:]))}"


def _say_named(match: re.Match[str]) -> str:
    named = match[1].lower() in _NAMES
    return f"{match[1]} {paired(int(match[2]))}" if named else match[0]


def _say_name(match: re.Match[str]) -> str:
    following = right_of(match)
    return _named(match[0]) + (" " if following.isalpha() and following != "s" else "")


def _named(figures: str) -> str:
    return digits(figures) if figures[0] == "0" else paired(int(figures))


def _in_groups(figures: str) -> str:
    """Digit by digit with pauses, as long numbers are dictated: 4155552671 → 415, 555, 2671."""
    if len(figures) == 16:
        return digits(" ".join(figures[at : at + 4] for at in range(0, 16, 4)))
    if len(figures) in (7, 10):
        return digits(" ".join((figures[:-7], figures[-7:-4], figures[-4:])))
    return digits(figures)


def _spelled(value: str) -> str:
    """A code sign by sign: AB12-34 → A B one two, three four."""
    parts = re.findall(r"\d+|[A-Za-z]+|[ -]", value)
    said = (
        _in_groups(part)
        if part.isdigit()
        else ","
        if part in " -"
        else part
        if len(part) > 3
        else " ".join(part.upper())
        for part in parts
    )
    return " ".join(said).replace(" ,", ",")


def _say_strong(match: re.Match[str]) -> str:
    count = sum(c.isdigit() for c in match["value"])
    if count < 3 and not _CODE.fullmatch(match["value"]):
        return match[0]
    return f"{match['word']}{match['link']}{_spelled(match['value'])}"


def _say_weak(match: re.Match[str]) -> str:
    """`order number 1234`, `order 12345`; not `order 1234`, which counts."""
    link, value = match["link"], match["value"]
    if match["word"].lower() not in _WEAK_WORDS or (match["word"] in ("id", "Id") and not link):
        return match[0]
    count = sum(c.isdigit() for c in value)
    marked = re.search(r"number|no\b|[#:=]|ending|is|was", link) or match["word"].upper() == "ID"
    if _CODE.fullmatch(value):
        return f"{match['word']}{link}{_spelled(value)}"
    if count < (4 if marked else 5) or (value.endswith("000") and not marked):
        return match[0]
    return f"{match['word']}{link}{_spelled(value)}"


def _say_blanks(match: re.Match[str]) -> str:
    """07911 123456, 4111 1111 1111 1111; not 1 000 000 or 2019 2020 2021."""
    groups = match[0].split(" ")
    total = sum(map(len, groups))
    if groups[0][0] == "0":
        dialled = 8 <= total <= 16
    else:
        thousands = len(groups[0]) < 4 and all(len(group) == 3 for group in groups[1:])
        years = all(len(group) == 4 and group[:2] in ("18", "19", "20") for group in groups)
        phone = [len(group) for group in groups] == [3, 3, 4]
        short = min(map(len, groups)) < 3
        dialled = phone or (10 <= total <= 19 and not (thousands or years or short))
    return digits(match[0]) if dialled else match[0]


def _say_international(match: re.Match[str]) -> str:
    count = sum(c.isdigit() for c in match[0])
    return f"plus {digits(match[0])}" if 8 <= count <= 15 else match[0]


def _dotted(version: str) -> str:
    """3.10 → three point ten: the parts of a version are numbers of their own."""
    return " point ".join(number(part) for part in version.split("."))


def _say_release(match: re.Match[str]) -> str:
    """Python 3.12."""
    released = match[1].lower() in _RELEASED
    return f"{match[1]} {_dotted(match[2])}" if released else match[0]


def _say_version(match: re.Match[str]) -> str:
    parts = (match[1] or match[2]).split(".")
    if len(parts) == 4 and all(len(p) < 4 and int(p) < 256 for p in parts):
        return " dot ".join(digits(p) for p in parts)  # an IPv4 address
    said = _dotted(match[1] or match[2])
    return f" version {said}" if match[0].lstrip()[0] in "vV" else said


def _say_series(match: re.Match[str]) -> str:
    """737-800, A320-200."""
    first = match[1].replace("A", "A ")
    after = " " if right_of(match).isalpha() else ""
    return f"{first[:-3]}{_named(first[-3:])} {_named(match[2])}{after}"


def _say_model(match: re.Match[str]) -> str:
    after = right_of(match)
    return f"{match[1].rstrip('-')} {_named(match[2])}{' ' if after.isalpha() else ''}"
