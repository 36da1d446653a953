"""Measures, fractions of them and percentages in words: `5-10 km`, `1/2 tsp`, `57.9 million km`."""

import re
from collections.abc import Callable
from math import gcd

from chatterbox.text.lexicon import (
    LENGTHS,
    STARTERS,
    STREETS,
    UNITS,
    WORDS_FOR_EACH,
    any_in,
    any_of,
    unit,
)
from chatterbox.text.numbers import NUMBER, fraction, mixed_number, number, per_unit, power_prefix
from chatterbox.text.rules import Step, is_attributive, part_follows, text_before

read = Step(__name__)
"""Measures and percentages."""

# --- which unit a sign means, by its neighbours --------------------------------------------------
_APART = ("A", "N", "T", "K", "J", "ac")
"""Letters that make names where they touch a figure: 4K, 10A."""
_SEAT = re.compile(r"(?i)\b(?:seat|row|room|gate|apt|apartment|unit|suite|block|size|flight|bra) $")
_HEAT = re.compile(
    r"(?i)heat|oven|bak|roast|cook|boil|freez|temp|degree|weather|cold|warm|cool|water|thermo|°"
)
_AMPS = re.compile(
    r"[).,;/]|$| (?:fuse|current|circuit|breaker|supply|charger|max|at|of|rating|load)\b"
)
_NAMED = re.compile(r"\b([A-Z][a-z]+) $")
_MANY = re.compile(
    r" (?:[a-z]+s|people|run|race|runner|screen|display|monitor|TV|video|resolution)\b"
)
_STREET = re.compile(
    r"\.? (?:[NSEW]{1,2}\b\.? )?(?:(?:[A-Z][\w'.]*|\d+(?:st|nd|rd|th)) ){0,3}"
    rf"(?:{any_of({*STREETS, *STREETS.values(), 'Way'})})\b|\.? \d+(?:st|nd|rd|th)\b"
)
_NAME = re.compile(r" [A-Z][a-z]")
_INCHES = re.compile(
    r"\.?(?:$|[\n).,;!?]| ?[x×]| (?:by|long|wide|tall|deep|thick|high|across|square|x"
    r"|in diameter)\b)"
)
_LENGTH_BEFORE = re.compile(r"(?:ft|feet|foot|lb|')\.? $")
_OPERATOR = re.compile(r" ?(?:[-+*/=^<>≤≥≠]|(?:plus|minus|times|divided)\b)")
_TYPE = re.compile(r" (?:font|type|text|size|Times|Arial|Helvetica|Courier|bold)\b")
_TIMER = re.compile(
    rf"(?i)(?:\b{any_in('timed')}\b[^.,\n]{{0,20}}"
    r"|\b(?:in|for|after|every|last|past|next|within)(?: about)?) $"
)
_DISTANCE = re.compile(rf" {any_in('after meters')}\b")
_WAITING = re.compile(r" (?:timer|break|ago|later|left|remaining|countdown|timeout)\b")


def _follows(pattern: re.Pattern[str], match: re.Match[str]) -> bool:
    return pattern.match(match.string, match.end()) is not None


def _meant(match: re.Match[str]) -> str | None:
    """The unit that is meant, by its sign in UNITS; None where what follows the figure is none."""
    written, per = match["unit"], match["per"]
    if match["square"] and match["square"].startswith("fl"):
        return "floz"
    if per and " /" in match[0] and not (unit(per) or per in WORDS_FOR_EACH):
        return None
    if written in ("C", "F"):
        return _degrees(match)
    sign = unit("°" + written[-1].upper() if written[0] == "°" and len(written) > 1 else written)
    if sign is None or (match["power"] and sign not in LENGTHS):
        return None
    behind = match.end("unit")
    if len(written) == 1 and written.isupper() and _STREET.match(match.string, behind):
        return None
    name = (_is_touching(match) and "." not in match["a"]) or _NAME.match(match.string, behind)
    if sign in _APART and name:
        return None
    return _IN_CONTEXT[sign](match) if sign in _IN_CONTEXT else sign


def _is_touching(match: re.Match[str]) -> bool:
    return bool(match["gap"] != " ")


def _before(match: re.Match[str]) -> str:
    return text_before(match, 60)


def _degrees(match: re.Match[str]) -> str | None:
    """`350 F`, `70F`; `Room 12C` and `34C` are none."""
    value, before, written = match["b"] or match["a"], _before(match), match["unit"]
    if _SEAT.search(before) or _follows(_NAME, match) or "/" in value or "^" in value:
        return None
    warm = _HEAT.search(before) or _HEAT.search(match.string, match.end(), match.end() + 60)
    likely = len(value) >= 2 and float(value.replace(",", "")) >= (60 if written == "F" else 100)
    return f"°{written}" if warm or likely or before.endswith("minus ") else None


def _times(match: re.Match[str]) -> str | None:
    variable = match["power"] or _follows(_OPERATOR, match) or not _is_touching(match)
    return None if variable or _before(match).endswith(("=", "= ")) else "x"


def _inches(match: re.Match[str]) -> str | None:
    apart = not (_is_touching(match) or match["per"])
    if apart and not _INCHES.match(match.string, match.end("unit")):
        return "in" if _LENGTH_BEFORE.search(_before(match)) else None
    return "in"


def _minutes(match: re.Match[str]) -> str:
    """`m` after `timer` or touching its figure after `in`, `for`: minutes."""
    if match["power"] or match["per"] or len(match["a"]) > 2:
        return "m"
    timed = _TIMER.search(_before(match)) and not _follows(_DISTANCE, match)
    if timed and (_is_touching(match) or "timer" in _before(match).lower()):
        return "min"
    return "min" if _follows(_WAITING, match) else "m"


def _points(match: re.Match[str]) -> str:
    return "pts" if _is_touching(match) or _follows(_TYPE, match) else "pt"


def _basis_points(match: re.Match[str]) -> str:
    """No modem is slower than 300 bits per second, no rate moves by more."""
    return "bp" if len(match["a"]) < 3 or match["a"] in ("100", "150", "200", "250") else "bps"


def _pence(match: re.Match[str]) -> str | None:
    """`50p`; 720p is a picture, `9p.m.` a time."""
    half = match.string.startswith(".m", match.end("unit"))
    small = _is_touching(match) and match["a"].isdigit() and len(match["a"]) < 3
    return "p" if small and not half else None


def _amps(match: re.Match[str]) -> str | None:
    return "A" if _follows(_AMPS, match) else None


def _kelvin(match: re.Match[str]) -> str | None:
    """`300 K`; 50 K people are thousands, Windows 10 K is a name."""
    named = _NAMED.search(_before(match))
    is_name = named is not None and named[1] not in STARTERS and not _HEAT.search(_before(match))
    return None if is_name or _follows(_MANY, match) else "K"


def _us(match: re.Match[str]) -> str | None:
    """Microseconds only where they touch their figure."""
    return "us" if _is_touching(match) else None


_IN_CONTEXT: dict[str, Callable[[re.Match[str]], str | None]] = {
    "A": _amps,
    "K": _kelvin,
    "x": _times,
    "in": _inches,
    "m": _minutes,
    "pt": _points,
    "bps": _basis_points,
    "p": _pence,
    "us": _us,
}
"""Signs of several meanings: which one, by the neighbours."""

# --- measures ------------------------------------------------------------------------------------
_START = r"(?<![\w.^])(?<!\d,)"
_VALUE = rf"(?:(?:\d{{1,4}}[ -])?\d{{1,3}}/\d{{1,3}}(?![\d/])|{NUMBER}(?:\^-?\d{{1,3}})?)"
_UNIT = r"(?:°(?: ?[CFKcfk]\b)?|[A-Za-zμΩ][A-Za-zΩ]{0,4}|[%‰])"
_SCALE = r"(?: (?P<scale>hundred|thousand|million|billion|trillion|lakh|crore))?"
_BOTH_SIDES = r"[0-9] ?[^\s0-9]{0,6} ?[-–—~x×] ?-?[0-9]"
read.add(r"(?<=\d)bn\b", " billion", "bn")
read.add(rf"(?<=\d)(?:mn\b|m(?= {any_in('millions')}\b))", " million", "m[n ]")


@read.rule(rf"{_START}({NUMBER})([kKM]) ?[-–—~] ?({NUMBER})\2\b", _BOTH_SIDES)
def _say_thousands(match: re.Match[str]) -> str:
    scale = "million" if match[2] == "M" else "thousand"
    return f"{number(match[1])} to {number(match[3])} {scale}"


@read.rule(
    rf"{_START}(?P<a>{_VALUE} ?(?P<unit>{_UNIT})(?:/[A-Za-z]{{1,4}})?)(?P<sep> ?[-–—~] ?| ?[x×] ?)"
    rf"(?=-?{_VALUE}[ -]?{_UNIT}(?!\w))",
    _BOTH_SIDES,
)
def _say_between(match: re.Match[str]) -> str:
    """A unit on both sides: `5km-10km`, `5 cm x 8 cm`."""
    if unit(match["unit"]) is None:
        return match[0]
    return f"{match['a']} {'by' if match['sep'].strip() in 'x×' else 'to'} "


@read.rule(
    rf"(?<![\d.,])(\d{{1,4}}),(\d{{1,2}})(?=( ?)((?:degrees|percent|{_UNIT})(?!\w)))",
    "[0-9],[0-9]{1,2}(?![0-9])",
)
def _with_point(match: re.Match[str]) -> str:
    """A decimal comma before a unit: `12,5 kg`; `verses 3,4 in Mark` are two figures."""
    is_unit = match[4] in ("degrees", "percent") or unit(match[4])
    if not is_unit or (match[3] and match[4] in ("in", "x", "us", "p")):
        return match[0]
    return f"{match[1]}.{match[2]}"


@read.rule(
    r"(?<![\w.])(?:(\d{1,3}) ?h(?:rs?)? ?)?(\d{1,3}) ?m(?:ins?)?(?: ?(\d{1,2}) ?s(?:ecs?)?)?\b",
    "[0-9] ?[hm]",
)
def _say_duration(match: re.Match[str]) -> str:
    """Minutes beside hours or seconds: `m` alone is meters."""
    if not (match[1] or match[3]) or (match[1] and len(match[2]) > 2):
        return match[0]
    parts = zip(match.groups(), ("h", "min", "s"), strict=True)
    return " ".join(f"{figure} {sign}" for figure, sign in parts if figure)


@read.rule(
    rf"{_START}(?P<a>{_VALUE})(?: ?(?P<to>[-–—~]|to|±|or|by) ?(?P<b>{_VALUE}))?{_SCALE}"
    rf"(?P<gap>[ -]?)(?P<square>(?:sq|cu)(?:\. ?| )|fl\.? ?(?=oz))?"
    rf"(?P<unit>N[ ·]?m\b|kW h\b|{_UNIT})"
    r"(?:\^?(?P<power>[23]))?"
    r"(?:\.?(?: ?/ ?)(?P<many>10{1,3} ?)?(?P<per>[A-Za-zμ]{1,10})(?:\^?(?P<per_power>[23]))?"
    r"(?:/(?P<per_too>[A-Za-z]{1,6}))?"
    r"(?P<and>[ ·]?K\b)?| ?(?P<inverse>[A-Za-z]{1,3})\^-(?P<inverse_power>[123]))?"
    r"(?:\.(?= [a-z]| \d{1,2} ?(?:in|oz|min|sec)\b))?(?![\w^])"
)
def _say(match: re.Match[str]) -> str:
    sign = _meant(match)
    if sign is None:
        return match[0]
    text, written = match.string, match["unit"]
    end = len(text) if match["per"] else match.end()
    is_plural = written[-1] == "s" and written[:-1] in UNITS and written != "bps"  # lbs
    singular = (
        match["gap"] == "-"
        or is_attributive(text, match.start(), end)
        or (match["gap"] == "" and part_follows(text, end))
    ) and not (is_plural or sign == "x")
    raise_by = power_prefix(match["power"] or (match["square"] or "")[:1])
    one, many = (raise_by + name for name in UNITS[sign])
    return _amount(match, one, many, singular) + _per(match)


def _amount(match: re.Match[str], one: str, many: str, singular: bool) -> str:
    first, second, scale = match.group("a", "b", "scale")
    said, last = _value(first), second or first
    if second:
        between = {"±": "plus or minus", "or": "or", "by": "by"}.get(match["to"], "to")
        said = f"{said} {between} {_value(second)}"
    if scale:
        return f"{said} {scale} {one if singular else many}"
    if "/" in last and not re.search("[ -]", last) and _is_part(last):
        if second:
            return f"{said} {one}"
        if singular:
            return f"{said.removeprefix('one ')} {one}"
        of = "an" if one[0] in "aeio" or one == "hour" else "a"
        return f"half {of} {one}" if last == "1/2" else f"{said} of {of} {one}"
    return f"{said} {one if singular or (first == '1' and not second) else many}"


def _value(written: str) -> str:
    """A number, a fraction or both: 2 1/2 → two and a half, 120/80 → … over eighty."""
    if "^" in written:
        base, exponent = written.split("^")
        minus = "minus " if exponent[0] == "-" else ""
        return f"{number(base)} to the power of {minus}{number(exponent.lstrip('-'))}"
    if "/" not in written:
        return number(written)
    *whole, part = re.split("[ -]", written)
    top, bottom = part.split("/")
    if not _is_part(part):
        link = " over " if int(top) > int(bottom) else ", "
        return f"{number(whole[0]) + ' ' if whole else ''}{number(top)}{link}{number(bottom)}"
    if whole:
        return mixed_number(whole[0], int(top), int(bottom))
    return fraction(int(top), int(bottom))


def _is_part(written: str) -> bool:
    top, bottom = written.split("/")
    part = 0 < int(top) < int(bottom) and (top == "1" or int(bottom) <= 100)
    return part and (int(top) < 10 or gcd(int(top), int(bottom)) == 1)  # 50/60 Hz


def _per(match: re.Match[str]) -> str:
    """` per second`, or nothing."""
    per, many, too = match.group("per", "many", "per_too")
    if match["inverse"]:
        return f" per {per_unit(match['inverse'], match['inverse_power'])}"
    if not per:
        return ""
    said = per_unit(per, match["per_power"])
    if many:
        found = unit(per)
        said = f"{number(many.strip())} {UNITS[found][1] if found else per}"
    return f" per {said}{' kelvin' if match['and'] else ''}{f' per {per_unit(too)}' if too else ''}"
