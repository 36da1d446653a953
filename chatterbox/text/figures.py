"""How are figures read that are neither date nor sum nor measure?

Knows years, ordinals, ranges, fractions, versions, telephone numbers, powers and plain numbers.
"""

import re

from chatterbox.text.numbers import (
    NUMBER,
    cardinal,
    decade,
    digits,
    fraction,
    number,
    ordinal,
    year,
)

_ALONE = r"(?<![\w.])(?<!\d,)"

# --- identifiers ---------------------------------------------------------------------------------
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
    r"|(?<![\w.+-])\d{3}-\d{4}(?![\w-])"
)
_INTERNATIONAL = re.compile(r"(?<![\w+])\+\d[\d ().-]{6,20}\d(?!\d)")
_GROUPS = re.compile(r"(?<![\w.-])\d++(?:-\d++){2,}+(?!\w)")
_VERSION = re.compile(
    r"(?<![\w.])(?:[vV] ?)?(\d++(?:\.\d++){2,}+)|\bv(\d{1,4}(?:\.\d{1,4})?)(?![\w.]\d)"
)
_CALL = re.compile(r"(?i)\b(call|dial|called|dialed|ring|phone) (\d{3})\b")
_LEADING_POINT = re.compile(r"(?<![\w.])\.(?=\d)")

# --- powers and products -------------------------------------------------------------------------
_SCIENCE = re.compile(rf"{_ALONE}(\d{{1,9}}(?:\.\d{{1,18}})?)[eE]([+-]?)(\d{{1,3}})\b")
_POWER = re.compile(r"(?<=[\w)])\^(-?)(\d{1,9})(?!\d)")
_TIMES = re.compile(r"(?<=\d) × (?=\d)|(?<=\d) ?[x×] ?(?=10\^)")
_BY = re.compile(r"(?<=\d)(?<!\b0) ?[x×] ?(?=\d)(?!10\^)")

# --- years ---------------------------------------------------------------------------------------
_DECADE = re.compile(r"(?<![\w.,])'?((?:1[1-9]|20)\d0)'?s\b|(?<!\w)'([2-9]0)'?s\b")
_AGE = re.compile(r"(?i)\b((?:the|his|her|my|your|our|their|early|mid|late)[ -])([2-9]0)'?s\b")
_SHORT_YEAR = re.compile(r"(?<!\w)'(\d\d)\b(?!')")
_YEARS = re.compile(
    r"(?<![\w.,/$-])((?:1[1-9]|20)\d\d) ?[-–—] ?((?:1[1-9]|20)\d\d)(?![\w/-]|[.,]\d)"
)
_SEASON = re.compile(r"(?<![\w.,/$])((?:19|20)\d\d)[/–-](\d\d)(?![\w/-]|[.,]\d)")
_YEAR = re.compile(r"(?<![\w.,/$+#])(?<!\^)((?:1\d|20)\d\d)(?![\w/^]|[.,]\d)")
_SURE_YEAR = re.compile(
    r"(?i)(?:\b(?:in|since|until|till|during|circa|year|spring|summer|autumn|fall|winter|january"
    r"|february|march|april|may|june|july|august|september|october|november|december),? |[(])$"
)
_LIKELY_YEAR = re.compile(r"(?i)\b(?:from|by|before|after|about|around|of|early|late|mid)[ -]$")
_OF_QUANTITY = re.compile(
    r"(?i)\b(?:than|over|under|nearly|almost|exactly|only|approximately|least|most|all|some|every"
    r"|these|those|another|other|times|plus|minus|equals|number) $"
)
_ERA = re.compile(r" ?(?:AD|BC|CE|BCE)\b")
_COUNTED = re.compile(
    r" (?!(?:was|is|has|does|its|his|this|as|us|thus|plus|perhaps|always|sees|saw)\b)"
    r"(?:[a-z]{2,}s|people|men|women|children|feet|of|times|more|or|and a half)\b"
)

# --- small forms ---------------------------------------------------------------------------------
_ORDINAL = re.compile(rf"{_ALONE}(\d{{1,3}}(?:,\d{{3}})+|\d{{1,15}})(?:st|nd|rd|th|ST|ND|RD|TH)\b")
_FRACTION = re.compile(r"(?<![\w.,/])(?:(\d{1,4})(?: |-))?(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)")
_RATIO = re.compile(rf"{_ALONE}(\d{{1,4}}) ?:(\d{{1,4}})(?![\w:]|[.,]\d)")
_RANGE = re.compile(rf"{_ALONE}(?<!-)({NUMBER}) ?([-–—]) ?({NUMBER})(?![\w-]|[.,]\d)")
_NUMBER_SIGN = re.compile(r"# ?(?=\d)")
_MINUS = re.compile(r"(?<![\w)\].,%°$£€¥^-])-(?=[^\w\s-]?\d|[A-Z]{1,2}\$\d)")
_MILLIONS = re.compile(r"(?<=\d)M\b")
_PLUS = re.compile(r"(?<![\w+])\+(?=\d)")
_ANY = re.compile(NUMBER)


def identifiers(text: str) -> str:
    """Telephone numbers, codes and versions: must be taken before dates' and sums' leftovers."""
    text = _INTERNATIONAL.sub(_say_international, _PHONE.sub(lambda m: digits(m[0]), text))
    text = _CALL.sub(lambda m: f"{m[1]} {digits(m[2])}", _GROUPS.sub(lambda m: digits(m[0]), text))
    text = _VERSION.sub(_say_version, text)
    return _PLUS.sub("plus ", _MINUS.sub("minus ", _LEADING_POINT.sub("0.", text)))


def decades(text: str) -> str:
    """1990s, the 80s: must be taken before seconds."""
    if "0s" in text or "0's" in text:
        text = _DECADE.sub(lambda m: decade(int(m[1] or m[2])), text)
        text = _AGE.sub(lambda m: m[1] + decade(int(m[2])), text)
    return _SHORT_YEAR.sub(lambda m: _short_year(m[1]), text) if "'" in text else text


def powers(text: str) -> str:
    """6.02e23, 10^-3, x², 3 × 4: must be taken before measures read `x`."""
    text = _SCIENCE.sub(_say_science, text)
    if "x" not in text and "×" not in text:
        return text
    return _BY.sub(" by ", _TIMES.sub(" times ", text))


def rest(text: str) -> str:
    """Every figure that is still there, in words. Linear time."""
    text = _POWER.sub(_say_power, text)
    text = _MILLIONS.sub(" million", _NUMBER_SIGN.sub("number ", text))
    text = _ORDINAL.sub(lambda m: ordinal(int(m[1].replace(",", ""))), text)
    text = _YEARS.sub(lambda m: f"{year(int(m[1]))} to {year(int(m[2]))}", text)
    text = _SEASON.sub(_say_season, text)
    text = _FRACTION.sub(_say_fraction, text)
    text = _RATIO.sub(lambda m: f"{cardinal(int(m[1]))} to {cardinal(int(m[2]))}", text)
    text = _RANGE.sub(_say_range, text)
    text = _YEAR.sub(_say_year, text)
    return _ANY.sub(_say_any, text)


def _say_any(match: re.Match[str]) -> str:
    """A plain number, with a blank where a letter touches it: mp3, 4K."""
    text, start, end = match.string, match.start(), match.end()
    before = " " if text[max(0, start - 1) : start].isalpha() else ""
    after = " " if text[end : end + 1].isalpha() else ""
    return f"{before}{number(match[0])}{after}"


def _say_international(match: re.Match[str]) -> str:
    count = sum(c.isdigit() for c in match[0])
    return f"plus {digits(match[0])}" if 8 <= count <= 15 else match[0]


def _say_version(match: re.Match[str]) -> str:
    parts = (match[1] or match[2]).split(".")
    if len(parts) == 4 and all(len(p) < 4 and int(p) < 256 for p in parts):
        return " dot ".join(digits(p) for p in parts)  # an IPv4 address
    said = " point ".join(number(p) for p in parts)
    return f" version {said}" if match[0].lstrip()[0] in "vV" else said


def _say_science(match: re.Match[str]) -> str:
    minus = "minus " if match[2] == "-" else ""
    return f"{number(match[1])} times ten to the power of {minus}{cardinal(int(match[3]))}"


def _say_power(match: re.Match[str]) -> str:
    minus, exponent = match[1], int(match[2])
    after = " " * match.string[match.end() : match.end() + 1].isalpha()
    if not minus and exponent in (2, 3):
        return f" {'squared' if exponent == 2 else 'cubed'}{after}"
    return f" to the power of {'minus ' if minus else ''}{cardinal(exponent)}{after}"


def _short_year(figures: str) -> str:
    if figures == "00":
        return "two thousand"
    return f"{'oh ' if figures[0] == '0' else ''}{cardinal(int(figures))}"


def _say_season(match: re.Match[str]) -> str:
    """2023/24; not 2024-11, where the second is no later year."""
    first, second = int(match[1]), int(match[2])
    if second != (first + 1) % 100:
        return match[0]
    return f"{year(first)} {_short_year(match[2])}"


def _say_fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if whole and 0 < top < bottom <= 100:
        said = fraction(top, bottom)
        said = f"a {said.removeprefix('one ')}" if top == 1 and bottom in (2, 4) else said
        return f"{number(whole)} and {said}"
    before = f"{number(whole)} " if whole else ""
    if (top, bottom) in ((24, 7), (9, 11)) or 24 <= top > bottom:
        return f"{before}{cardinal(top)} {cardinal(bottom)}"
    if top == bottom > 10:
        return f"{before}{cardinal(top)} {cardinal(bottom)}"
    if bottom in (10, 100) or top == bottom:
        return f"{before}{cardinal(top)} out of {cardinal(bottom)}"
    if top > 0 and 1 < bottom <= 64:
        return before + fraction(top, bottom)
    return f"{before}{cardinal(top)} over {cardinal(bottom)}"


def _say_range(match: re.Match[str]) -> str:
    """3-5 counts upwards; 5-3 is a score, 5 - 3 a sum."""
    first, sign, second = match[1], match[2], match[3]
    if sign == "-" and " " in match[0]:
        return f"{number(first)} minus {number(second)}"
    between = " to " if _size(first) < _size(second) else " "
    return number(first) + between + number(second)


def _size(figures: str) -> tuple[int, str, str]:
    """Orders figures of any length without computing with them."""
    whole, _, hundredths = figures.replace(",", "").partition(".")
    return len(whole.lstrip("0")), whole.lstrip("0"), hundredths


def _say_year(match: re.Match[str]) -> str:
    """A bare figure from 1000 to 2099 is a year where its neighbours say so; from 1900 on, also
    where they say nothing."""
    value, text = int(match[1]), match.string
    before = text[max(0, match.start() - 16) : match.start()]
    after = text[match.end() : match.end() + 24]
    if _ERA.match(after) or (value >= 1900 and before.lower().endswith("the ")):
        return year(value)
    counted = _COUNTED.match(after) is not None or _OF_QUANTITY.search(before) is not None
    sure, likely = _SURE_YEAR.search(before), _LIKELY_YEAR.search(before)
    if value >= 1900:
        return cardinal(value) if counted and not sure else year(value)
    return year(value) if (sure or likely) and not counted else cardinal(value)
