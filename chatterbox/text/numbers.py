"""How is one number read?

Knows no context: whether a figure is a year, a sum or a distance is decided by its caller.
"""

import re
from functools import lru_cache

from num2words import num2words

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
