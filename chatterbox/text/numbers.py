"""Reads numbers, and whatever figures the other files have left.

The first part knows no context: whether a figure is a year, a sum or a distance is decided by its
caller.
"""

import re
from functools import lru_cache

from num2words import num2words

from chatterbox.text.neighbours import left_of, right_of

NUMBER = r"\d(?:\d{0,2}(?:,\d{3})++(?!\d)|\d?(?:,\d{2}(?=,))++,\d{3}(?!,?\d)|\d*+)(?:\.\d++)?+"
"""A pattern for figures as English writes them: `1,234.5`, in India `1,00,000`. No sign."""

MAX_CARDINAL_DIGITS = 12
"""Longer figures without commas are identifiers (cards, accounts): read digit by digit."""
MAX_GROUPED_DIGITS = 36
"""Longer figures with commas, too: beyond decillions nobody can follow."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NOT_DIGIT = re.compile(r"\D+")


@lru_cache(maxsize=4096)
def cardinal(value: int) -> str:
    """123 → one hundred and twenty-three."""
    return str(num2words(value)).replace(",", "")


@lru_cache(maxsize=1024)
def ordinal(value: int) -> str:
    """21 → twenty-first."""
    return str(num2words(value, to="ordinal")).replace(",", "")


def digits(figures: str) -> str:
    """Digit by digit; anything else between them is a short pause: `555-01` → five five five,
    zero one."""
    groups = [g for g in _NOT_DIGIT.split(figures) if g]
    return ", ".join(" ".join(_DIGITS[int(d)] for d in group) for group in groups)


def number(figures: str) -> str:
    """What NUMBER matches, as a quantity: `1,234.5` → one thousand … point five."""
    whole, _, fraction = figures.partition(".")
    grouped = "," in whole
    whole = whole.replace(",", "")
    if len(whole) > (MAX_GROUPED_DIGITS if grouped else MAX_CARDINAL_DIGITS):
        said = digits(whole)
    elif whole[0] == "0" and len(whole) > 1 and not fraction:
        said = digits(whole)  # 007 is a name, not seven
    else:
        said = cardinal(int(whole))
    return f"{said} point {digits(fraction)}" if fraction else said


def is_one(figures: str) -> bool:
    """Whether a noun after this figure stands in the singular."""
    return figures == "1"


def paired(value: int) -> str:
    """As names and years are said: 737 → seven thirty-seven, 404 → four oh four, 4090 → forty
    ninety, 1900 → nineteen hundred, 2005 → two thousand and five."""
    hundreds, rest = divmod(value, 100)
    if value < 100 or value % 1000 < 10 or (value < 1000 and rest == 0):
        return cardinal(value)
    if rest == 0:
        return f"{cardinal(hundreds)} hundred"
    return f"{cardinal(hundreds)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def year(value: int) -> str:
    """1999 → nineteen ninety-nine; 476 → four hundred and seventy-six."""
    return cardinal(value) if value < 1000 else paired(value)


def plural(said: str) -> str:
    """twenty → twenties, six → sixes, five → fives."""
    return said[:-1] + "ies" if said[-1] == "y" else said + ("es" if said[-1] == "x" else "s")


def decade(value: int) -> str:
    """1990 → nineteen nineties, 830 → eight thirties, 1800 → eighteen hundreds."""
    return plural(paired(value))


def fraction(top: int, bottom: int) -> str:
    """3/4 → three quarters."""
    name = {2: "half", 4: "quarter"}.get(bottom) or ordinal(bottom)
    if top == 1:
        return f"one {name}"
    return f"{cardinal(top)} {'halves' if name == 'half' else name + 's'}"


# --- what is left of figures in a text -----------------------------------------------------------
ALONE = r"(?<![\w.])(?<!\d,)"

# --- powers and products -------------------------------------------------------------------------
_SCIENCE = re.compile(rf"{ALONE}(\d{{1,9}}(?:\.\d{{1,18}})?)[eE]([+-]?)(\d{{1,3}})\b")
_EXPONENT = re.compile("[0-9][eE]")
_POWER = re.compile(r"(?<=[\w)])\^(-?)(\d{1,9})(?!\d)")
_TIMES = re.compile(r"(?<=\d) × (?=\d)|(?<=\d) ?[x×] ?(?=10\^)")
_BY = re.compile(r"(?<=\d)(?<!\b0) ?[x×] ?(?=\d)(?!10\^)")

# --- small forms ---------------------------------------------------------------------------------
_ORDINAL = re.compile(rf"{ALONE}(\d{{1,3}}(?:,\d{{3}})+|\d{{1,15}})(?:st|nd|rd|th|ST|ND|RD|TH)\b")
_IS_ORDINAL = re.compile("[0-9][snrtSNRT][tdhTDH]")
_FRACTION = re.compile(r"(?<![\w.,/])(?:(\d{1,4})(?: |-))?(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)")
_PRESSURE = re.compile(
    r"(?i)(\b(?:blood pressure|bp)\b[^\d.]{0,20})?(?<![\w./,-])([89]\d|1\d\d|2[0-4]\d)/([4-9]\d"
    r"|1[0-4]\d)"
    r"(?![\w/]|[.,]\d)( ?mm ?Hg\b)?"
)
_RATING = re.compile(
    r"(?i)\b(?:rat(?:ed?|ing|es)|scored?|review|grade|marks?)(?: of| is| was| it)?:? $"
)
_MUSIC = re.compile(r" (?:time|meter|metre|signature)\b")
_NUMBER_SIGN = re.compile(r"# ?(?=\d)")
_MILLIONS = re.compile(r"(?<=\d)M\b")
_ANY = re.compile(NUMBER)


def powers(text: str) -> str:
    """6.02e23, 10^-3, x², 3 × 4: must be taken before measures read `x`."""
    text = _SCIENCE.sub(_say_science, text) if _EXPONENT.search(text) else text
    if "x" not in text and "×" not in text:
        return text
    return _BY.sub(" by ", _TIMES.sub(" times ", text))


def pressure(text: str) -> str:
    """120/80: must be taken before its unit."""
    return _PRESSURE.sub(_say_pressure, text) if "/" in text else text


def fractions(text: str) -> str:
    """Powers, ordinals and fractions, which end before ranges begin."""
    text = _POWER.sub(_say_power, text) if "^" in text else text
    text = _NUMBER_SIGN.sub("number ", text)
    text = _MILLIONS.sub(" million", text) if "M" in text else text
    text = _FRACTION.sub(_say_fraction, text) if "/" in text else text
    if not _IS_ORDINAL.search(text):
        return text
    return _ORDINAL.sub(lambda m: ordinal(int(m[1].replace(",", ""))), text)


def rest(text: str) -> str:
    """Every figure that is still there, in words. Linear time."""
    return _ANY.sub(_say_any, text)


def _say_any(match: re.Match[str]) -> str:
    """A plain number, with a blank where a letter touches it: mp3, 4K."""
    before, after = left_of(match, 1).isalpha(), right_of(match).isalpha()
    return f"{' ' * before}{number(match[0])}{' ' * after}"


def _say_science(match: re.Match[str]) -> str:
    minus = "minus " if match[2] == "-" else ""
    return f"{number(match[1])} times ten to the power of {minus}{cardinal(int(match[3]))}"


def _say_power(match: re.Match[str]) -> str:
    minus, exponent = match[1], int(match[2])
    after = " " * right_of(match).isalpha()
    if not minus and exponent in (2, 3):
        return f" {'squared' if exponent == 2 else 'cubed'}{after}"
    return f" to the power of {'minus ' if minus else ''}{cardinal(exponent)}{after}"


def _say_pressure(match: re.Match[str]) -> str:
    before, top, bottom, unit = match[1] or "", int(match[2]), int(match[3]), match[4] or ""
    if top <= bottom or (top < 100 and not before and not unit):
        return match[0]
    return f"{before}{paired(top)} over {paired(bottom)}{unit and ' millimeters of mercury'}"


def _say_fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if whole and 0 < top < bottom <= 100:
        said = fraction(top, bottom)
        said = f"a {said.removeprefix('one ')}" if top == 1 and bottom in (2, 4) else said
        return f"{number(whole)} and {said}"
    before = f"{number(whole)} " if whole else ""
    link = _link(match, top, bottom)
    if link is None and top > 0 and 1 < bottom <= 64:
        return before + fraction(top, bottom)
    return f"{before}{cardinal(top)}{link or ' over '}{cardinal(bottom)}"


def _link(match: re.Match[str], top: int, bottom: int) -> str | None:
    """What stands between the two figures, where they are no fraction."""
    text = match.string
    before = left_of(match, 20)
    if _RATING.search(before):
        return " out of "
    if top > 1 and bottom in (2, 4, 8, 16) and _MUSIC.match(text, match.end()):
        return " "
    if (top, bottom) in ((24, 7), (9, 11), (7, 11)) or top == bottom > 10 or 24 <= top > bottom:
        return " "
    return " out of " if bottom in (10, 100) or top == bottom else None
