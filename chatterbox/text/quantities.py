"""How are sums of money, measures and percentages read?

Knows units and currencies; a figure without either is `figures`' question.
"""

import re

from chatterbox.text.numbers import NUMBER, cardinal, is_one, number
from chatterbox.text.units import CURRENCIES, SCALES, UNITS, Currency

_START = r"(?<![\w.])(?<!\d,)"
_SIGN = r"(?:(?:US|AU|CA|[AC])?\$|[£€¥₹₩₽₿])"
_CODE = r"(?:[€£¥₹₩₽₿¢$]|(?:USD|EUR|GBP|JPY|CHF|AUD|CAD|INR)\b)"
_SCALE = r"(?: ?(?P<scale>thousand|million|billion|trillion|mio|mn|mm|bn|tn|[kKmMbB])\b)?"
_RANGE = rf"(?P<a>{NUMBER})(?: ?[-–—] ?{_SIGN}?(?P<b>{NUMBER}))?"
_EACH = r"(?:/(?P<per>[A-Za-z]{1,8})\b)?"
_BEFORE = re.compile(rf"(?P<what>{_SIGN}) ?(?P<minus>-)?{_RANGE}{_SCALE}{_EACH}")
_AFTER = re.compile(rf"{_START}(?P<minus>-)?{_RANGE}{_SCALE} ?(?P<what>{_CODE}){_EACH}")
_ONLY_TOUCHING = frozenset({"in", "x", "us"})
"""Units that are also words: read as units only where nothing stands between figure and unit."""

_MEASURE = re.compile(
    rf"{_START}(?P<a>{NUMBER})(?: ?(?P<to>[-–—]|to|±|or) ?(?P<b>{NUMBER}))?(?P<gap>[ -]?)"
    r"(?P<square>(?:sq|cu)(?:\. ?| ))?(?P<unit>(?:°(?: ?[CFK]\b)?|[A-Za-zμ][A-Za-zΩ]{0,4}|Ω|[%‰]))"
    r"(?:\^?(?P<power>[23]))?(?:/(?P<per>[A-Za-zμ]{1,8})(?:\^?(?P<per_power>[23]))?)?"
    r"(?:\.(?= [a-z]))?(?![\w^])"
)


_OPERATOR = re.compile(r" ?(?:[-+*/=^<>≤≥≠]|(?:plus|minus|times|divided)\b)")


def spell_out(text: str) -> str:
    """`text` with sums, measures and percentages in words. Linear time."""
    if any(sign in text for sign in CURRENCIES if len(sign) == 1):
        text = _BEFORE.sub(_say_money, text)
    text = _AFTER.sub(_say_money, text)
    return _MEASURE.sub(_say_measure, text)


def _say_money(match: re.Match[str]) -> str:
    first, second, scale = match["a"], match["b"], match["scale"]
    said = f"{number(first)} to {number(second)}" if second else number(first)
    if scale:
        sum_of = f"{said} {SCALES[scale.lower()]} {CURRENCIES[match['what']][1]}"
    elif second:
        sum_of = f"{said} {CURRENCIES[match['what']][1]}"
    else:
        sum_of = _sum(first, CURRENCIES[match["what"]])
    per = f" per {_each(match['per'], None)}" if match["per"] else ""
    return f" {'minus ' if match['minus'] else ''}{sum_of}{per}"


def _sum(figures: str, currency: Currency) -> str:
    """1234.56 → … dollars and fifty-six cents; 2.5 → two point five dollars."""
    one, many, cent, cents = currency
    whole, _, hundredths = figures.partition(".")
    if len(hundredths) != 2 or cents is None:
        return f"{number(figures)} {one if is_one(figures) else many}"
    main = f"{number(whole)} {one if is_one(whole) else many}"
    if hundredths == "00":
        return main
    small = f"{cardinal(int(hundredths))} {cent if hundredths == '01' else cents}"
    return small if whole == "0" else f"{main} and {small}"


def _each(unit: str, power: str | None) -> str:
    """What stands after `per`: a unit in the singular, or the word itself."""
    if unit == "s" and power == "2":
        return "second squared"  # of acceleration, never `square second`
    return _named(unit, power, None, singular=True) or unit


def _named(unit: str, power: str | None, square: str | None, singular: bool) -> str | None:
    """A unit by its sign, or None for a word that is none."""
    names = UNITS.get(unit.replace(" ", ""))
    if names is None:
        return None
    raised = {"2": "square ", "3": "cubic ", "s": "square ", "c": "cubic ", "": ""}
    return raised[power or (square or "")[:1]] + names[0 if singular else 1]


def _say_measure(match: re.Match[str]) -> str:
    first, second, unit = match["a"], match["b"], match["unit"]
    if match["gap"] and unit in _ONLY_TOUCHING:
        return match[0]
    if unit == "x" and (match["power"] or _OPERATOR.match(match.string, match.end())):
        return f"{number(first)} x{match[0].partition('x')[2]}"
    singular = match["gap"] == "-" or (is_one(first) and second is None)
    name = _named(unit, match["power"], match["square"], singular)
    if name is None:
        return match[0]
    said = number(first)
    if second:
        between = {"±": "plus or minus", "or": "or"}.get(match["to"], "to")
        said = f"{said} {between} {number(second)}"
    if match["per"]:
        name = f"{name} per {_each(match['per'], match['per_power'])}"
    return f"{said} {name}"
