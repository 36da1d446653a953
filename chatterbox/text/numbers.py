"""Read numbers as words, and the symbols between them: `3-5`, `9.5/10`, `16:9`.

The first part knows no context: its callers decide whether digits are a year, a sum or a distance.
"""

import re
from decimal import Decimal
from functools import lru_cache
from math import gcd

from num2words import num2words

from chatterbox.text.lexicon import UNITS, any_in, unit
from chatterbox.text.rules import Match, Step, text_after, text_before

NUMBER = r"\d(?:\d{0,2}(?:,\d{3})++(?!\d)|\d?(?:,\d{2}(?=,))++,\d{3}(?!,?\d)|\d*+)(?:\.\d++)?+"
"""Matches a number without sign as English writes it: `1,234.5`, in India `1,00,000`."""
NO_NUMBER_BEFORE = r"(?<![\w.])(?<!\d,)"
"""Matches where a number can begin: not inside another number, a word or a version."""

MAX_CARDINAL_DIGITS = 12
"""Most digits without commas that are read as one quantity. Longer ones identify something, such
as a card or an account, and are read digit by digit."""
MAX_GROUPED_DIGITS = 36
"""The same limit for digits with commas: nobody can follow a quantity beyond decillions."""

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@lru_cache(maxsize=4096)
def cardinal(value: int) -> str:
    """123 → one hundred and twenty-three."""
    return str(num2words(value)).replace(",", "")


@lru_cache(maxsize=1024)
def ordinal(value: int) -> str:
    """21 → twenty-first."""
    return str(num2words(value, to="ordinal")).replace(",", "")


def digits(written: str) -> str:
    """Read digit by digit, with a pause at other characters: `55-01` → five five, zero one."""
    return ", ".join(" ".join(_DIGITS[int(d)] for d in g) for g in re.findall(r"\d+", written))


def number(written: str) -> str:
    """Read a match of NUMBER as a quantity: `1,234.5` → one thousand … point five."""
    whole, _, decimals = written.partition(".")
    longest = MAX_GROUPED_DIGITS if "," in whole else MAX_CARDINAL_DIGITS
    whole = whole.replace(",", "")
    is_name = whole[0] == "0" and len(whole) > 1 and not decimals  # 007 is a name, not seven
    said = digits(whole) if is_name or len(whole) > longest else cardinal(int(whole))
    return f"{said} point {digits(decimals)}" if decimals else said


@lru_cache(maxsize=1024)
def in_pairs(value: int) -> str:
    """Read in pairs of digits, as names and years are: 737 → seven thirty-seven, 1900 → nineteen
    hundred, 404 → four oh four, 2005 → two thousand and five."""
    return str(num2words(value, to="year")).replace("oh-", "oh ")


def year(value: int) -> str:
    """1999 → nineteen ninety-nine; 476 → four hundred and seventy-six."""
    return cardinal(value) if value < 1000 else in_pairs(value)


def short_year(written: str) -> str:
    """24 → twenty-four, 05 → oh five, 00 → two thousand."""
    if written == "00":
        return "two thousand"
    return f"{'oh ' if written[0] == '0' else ''}{cardinal(int(written))}"


def plural(said: str) -> str:
    """twenty → twenties, six → sixes, five → fives."""
    return said[:-1] + "ies" if said[-1] == "y" else said + ("es" if said[-1] == "x" else "s")


def decade(value: int) -> str:
    """1990 → nineteen nineties, 830 → eight thirties, 1800 → eighteen hundreds."""
    return plural(in_pairs(value))


def fraction(top: int, bottom: int) -> str:
    """3/4 → three quarters."""
    name = {2: "half", 4: "quarter"}.get(bottom) or ordinal(bottom)
    many = "halves" if name == "half" else name + "s"
    return f"one {name}" if top == 1 else f"{cardinal(top)} {many}"


def mixed_number(whole: str, top: int, bottom: int) -> str:
    """2 1/2 → two and a half."""
    said = fraction(top, bottom)
    if said in ("one half", "one quarter"):
        said = f"a {said.removeprefix('one ')}"
    return f"{number(whole)} and {said}"


POWERS = {"2": "square ", "3": "cubic ", "s": "square ", "c": "cubic "}
"""Words before a unit: for its power, or for the first letter of `sq` and `cu`."""


def per_unit(sign: str, power: str | None = None) -> str:
    """Return what is said behind `per`: the unit in the singular, or the word itself."""
    if sign == "s" and power == "2":
        return "second squared"  # of acceleration, never `square second`
    found = unit(sign)
    return POWERS.get(power or "", "") + UNITS[found][0] if found else sign


# --- slashes outside measures, dates and addresses -----------------------------------------------
slashes = Step(__name__, "slashes", "/")
"""Read slashes between counts or units as words: `step 2/5` → `step two of five`."""
_ITEM = re.compile(rf"(?i:\b{any_in('numbered items')}:? \d{{1,3}}$)")
_SCORED = re.compile(r"(?<!\.\d)(?<!\.\d\d)\.\d{1,2}$")
_RATED = re.compile(r"\d{1,3} (?:star|point|rating|mark)")
_COUNTED = re.compile(r"(?i)(?:\b(?:once|twice|[a-z]{3,15}s)|\d [a-z]{3,15})$")
slashes.add(r"(?<![\w/])24/7/365(?![\w/])", "twenty-four seven, three sixty-five")
slashes.add(r"(?<![\w/.])1/(?=\d{3,6}th\b)", "1 ")
slashes.add(r"(?<![\w/.])(\d{1,3}/\d{1,3})(?i:st|nd|rd|th)s?\b", r"\1")
slashes.add(r"(?<=°[CF])/(?=\d)", " or ")
slashes.add(r"\bf/(?=\d)", "f ")  # the aperture of a lens


@slashes.rule(r"(?<=\d)/(?=\d{1,3}(?![\w/]|[.,]\d))")
def _say_of(match: Match) -> str:
    """`step 2/5`, `9.5/10`, `4/5 stars`"""
    if _ITEM.search(text_before(match, 20)):
        return " of "
    rated = _SCORED.search(text_before(match, 20)) or _RATED.match(match.string, match.end())
    return " out of " if rated else match[0]


slashes.add(
    rf"(?i)(?<=[A-Za-z]) ?/ ?({any_in('words for each')}|{any_in('units for each')})\b(?!\^)",
    lambda m: f" per {per_unit(m[1])}" if _COUNTED.search(text_before(m, 20)) else m[0],
)


@slashes.rule(
    r"(?<![\w/.])(?<!\d )(km|mi|mg|kg|mL|ml|μg|MB|GB|Mbit|kWh|ft|m|L|g|W|J)/"
    r"(h|hr|s|sec|min|L|l|dL|kg|day|m\^?[23])( ?K\b)?(?![\w/])"
)
def _say_unit_alone(match: Match) -> str:
    """A unit without a number: `speed in km/h`."""
    per = per_unit(match[2].rstrip("^23"), match[2][-1] if match[2][-1] in "23" else None)
    return f"{UNITS[match[1]][1]} per {per}{' kelvin' if match[3] else ''}"


slashes.add(rf"{NO_NUMBER_BEFORE}({NUMBER}) / (?={NUMBER}(?![\w/]))", r"\1 divided by ")

# --- before dates, times and measures ------------------------------------------------------------
ratios = Step(__name__, "ratios")
"""Read ratios, blood pressures and `~` as words: `odds of 3:1` → `odds of three to one`."""
_TERM = r"(?:\d{1,3}(?:,\d{3})+|\d{1,4})"
_RATIO = rf"({_TERM}):({_TERM})"


@ratios.rule(
    r"(?i)(\b(?:blood pressure|bp)\b[^\d.]{0,20})?(?<![\w./,-])([89]\d|1\d\d|2[0-4]\d)/"
    r"([4-9]\d|1[0-4]\d)(?![\w/]|[.,]\d)( ?mm ?Hg\b)?",
    "/",
)
def _say_pressure(match: Match) -> str:
    """120/80"""
    before, top, bottom, unit = match[1] or "", int(match[2]), int(match[3]), match[4] or ""
    if top <= bottom or (top < 100 and not before and not unit):
        return match[0]
    return f"{before}{in_pairs(top)} over {in_pairs(bottom)}{unit and ' millimeters of mercury'}"


ratios.add(r"(?<=[\d%°CFkKm]) ?~ ?(?=[$£€]?\d)", "–", "~")


def _say_ratio(match: Match) -> str:
    before, first, second = match.groups()
    link = " " if first == second and len(first) > 1 else " to "
    return f"{before}{number(first)}{link}{number(second)}"


ratios.add(
    rf"(?i)(\b(?:ratio|scale|odds|split|dilution)(?: of| is| was|:)? ){_RATIO}\b",
    _say_ratio,
    "[0-9]:[0-9]",
)
ratios.add(
    rf"(?i)(?<![\w.:])(){_RATIO}(?= (?:ratio|scale|odds|mix|split|dilution|majority|aspect)\b)",
    _say_ratio,
    "[0-9]:[0-9]",
)
ratios.add(r"(?<=\d(?:st|nd|rd|th)) ?[-–—] ?(?=\d{1,4}(?:st|nd|rd|th)\b)", " to ")
ratios.add(r"(?<=\d)-in-(?=\d|a\b)", " in ", "-in-")

# --- before measures, which read `x` -------------------------------------------------------------
powers = Step(__name__, "powers")
"""Read scientific notation and products as words: `3 × 4` → `three times four`."""
powers.add(
    rf"{NO_NUMBER_BEFORE}(\d{{1,9}}(?:\.\d{{1,18}})?)[eE]([+-]?\d{{1,3}})\b",
    lambda m: f"{number(m[1])} times ten to the power of {cardinal(int(m[2]))}",
    "[0-9][eE]",
)
powers.add(r"(?<=\d) × (?=\d)|(?<=\d) ?[x×] ?(?=10\^)", " times ", "[x×]")
powers.add(r"(?<=\d)(?<!\b0) ?[x×] ?(?=\d)(?!10\^)", " by ", "[x×]")

# --- before ranges -------------------------------------------------------------------------------
fractions = Step(__name__, "fractions")
"""Read powers, ordinals and fractions as words: `2 1/2` → `two and a half`."""
_RATING = re.compile(
    r"(?i)\b(?:rat(?:ed?|ing|es)|scored?|review|grade|marks?)(?: of| is| was| it)?:? $"
)
_MUSIC = re.compile(r" (?:time|meter|metre|signature)\b")


@fractions.rule(r"(?<=[\w)])\^(-?\d{1,9})(?!\d)", r"\^")
def _say_power(match: Match) -> str:
    """x^2, 10^-6"""
    said = {"2": "squared", "3": "cubed"}.get(match[1])
    said = said or f"to the power of {cardinal(int(match[1]))}"
    return f" {said}{' ' * text_after(match).isalpha()}"


fractions.add(r"# ?(?=\d)", "number ", "#")
fractions.add(r"(?<=\d)M\b", " million", "M")


@fractions.rule(
    r"(?<![\w.,/])(?:(\d{1,4})(?: |-))?(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)", "[0-9]/[0-9]"
)
def _say_fraction(match: Match) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if whole and 0 < top < bottom <= 100:
        return mixed_number(whole, top, bottom)
    before = f"{number(whole)} " if whole else ""
    link = _link(match, top, bottom)
    if link is None and top > 0 and 1 < bottom <= 64:
        return before + fraction(top, bottom)
    return f"{before}{cardinal(top)}{link or ' over '}{cardinal(bottom)}"


def _link(match: Match, top: int, bottom: int) -> str | None:
    """Return what is said for the slash, None where the numbers are a fraction."""
    if _RATING.search(text_before(match, 20)):
        return " out of "
    if top >= 10 and re.match(r" (?:hour|day|week|month|year)s\b", text_after(match, 8)):
        return " or "
    if top > 1 and bottom in (2, 4, 8, 16) and _MUSIC.match(match.string, match.end()):
        return " "
    if (top, bottom) in ((24, 7), (9, 11), (7, 11)) or top == bottom > 10 or 24 <= top > bottom:
        return " "
    marks = top >= 10 and bottom not in (12, 16, 32, 64) and gcd(top, bottom) > 1  # 45/50
    return " out of " if bottom in (10, 100) or top == bottom or marks else None


fractions.add(
    rf"{NO_NUMBER_BEFORE}(\d{{1,3}}(?:,\d{{3}})+|\d{{1,15}})(?:st|nd|rd|th|ST|ND|RD|TH)\b",
    lambda m: ordinal(int(m[1].replace(",", ""))),
    "[0-9][snrtSNRT][tdhTDH]",
)

# --- ranges, scores, differences and ratios of plain numbers -------------------------------------
ranges = Step(__name__, "ranges", "[0-9] ?[-–—:]")
"""Read ranges, scores, differences and ratios as words: `3-5` → `three to five`."""
_REST_OF_SUM = re.compile(r"[ \d.,()+*/×÷–-]{0,40}=|(?: [+*×÷] | ?[+*×÷])\d")
_START_OF_SUM = re.compile(
    r"(?i)(?:[=+*×÷(] ?|- |\b(?:what is|what's|whats|calculate|compute|solve|evaluate|equals|is) )$"
)
_SPORT = re.compile(rf"(?i)\b{any_in('sport')}\b")
_SET = r"\d{1,2}[-–]\d{1,2}"
ranges.add(
    rf"{NO_NUMBER_BEFORE}()({_TERM}(?:\.\d{{1,2}})?) ?:({_TERM})(?![\w:]|[.,]\d)", _say_ratio
)


@ranges.rule(
    rf"{NO_NUMBER_BEFORE}(?<!\d-)(?<!^-)({NUMBER})( - | – |[-–—])({NUMBER})(?![\w-]|[.,]\d)"
)
def _say_range(match: Match) -> str:
    """A hyphen is `to` where the numbers rise (3-5), `minus` in a calculation, and silent between
    the numbers of a score (5-3)."""
    first, sign, second = match.groups()
    low, high = (Decimal(written.replace(",", "")) for written in (first, second))
    link = " to "
    if "-" in sign and _in_sum(match, spaced=sign == " - "):
        link = " minus "
    elif sign in ("-", "–") and (low >= high or _is_set(match)):
        link = " "
    elif low > high and not _SPORT.search(f"{text_before(match, 40)} {text_after(match, 40)}"):
        if sign != " - " or (len(first) == 4 and len(second) < 3):
            return match[0]  # a dash in a sentence
        link = " minus "
    return number(first) + link + number(second)


def _is_set(match: Match) -> bool:
    """Whether the match is one set of a game where another set falls: 6-4, 4-6, 7-5."""
    near = re.findall(rf"(?:\b{_SET}, ){{1,4}}$", text_before(match, 30)) + re.findall(
        rf"^(?:,? (?:and )?{_SET}\b){{1,4}}", text_after(match, 30)
    )
    sets = re.findall(r"(\d+)[-–](\d+)", " ".join(near))
    return any(int(first) > int(second) for first, second in sets)


def _in_sum(match: Match, *, spaced: bool) -> bool:
    """Whether the hyphen stands in a calculation."""
    if _REST_OF_SUM.match(match.string, match.end()):
        return True
    if not (start := _START_OF_SUM.search(text_before(match, 12))):
        return False
    sign, ends = start[0].strip(), text_after(match) in ("?", "", ".")
    return sign in tuple("=+*×÷") or (sign != "(" and (spaced or ends))


remaining = Step(__name__, "remaining")
"""Read every number that is left, apart from the letters it touches: `mp3` → `mp three`."""
remaining.add(
    NUMBER,
    lambda m: f"{' ' * text_before(m, 1).isalpha()}{number(m[0])}{' ' * text_after(m).isalpha()}",
)
