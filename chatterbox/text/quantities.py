"""Read measures and percentages as words: `5-10 km`, `1/2 tsp`, `57.9 million km`, `10%`."""

import re
from collections.abc import Callable
from math import gcd

from chatterbox.text import lexicon, numbers, rules
from chatterbox.text.lexicon import UNITS, any_in, any_of, unit
from chatterbox.text.numbers import NUMBER, cardinal, fraction, mixed_number, number, per_unit
from chatterbox.text.rules import Match, Step, text_before, word_before

read = Step(__name__)
"""Read measures and percentages as words: `5-10 km` → `five to ten kilometers`."""

# --- the unit that a symbol means, by its neighbours ---------------------------------------------
_NAMES_WHEN_JOINED = ("A", "N", "T", "K", "J", "ac")
"""Symbols that are part of a name where they touch a number: 4K, 10A."""
_SEAT = re.compile(r"(?i)\b(?:seat|row|room|gate|apt|apartment|unit|suite|block|size|flight|bra) $")
_HEAT = re.compile(
    r"(?i)heat|oven|bak|roast|cook|boil|freez|temp|degree|weather|cold|warm|cool|water|thermo|°"
)
_AMPS = re.compile(
    r"[).,;/]|$| (?:fuse|current|circuit|breaker|supply|charger|max|at|of|rating|load)\b"
)
_MANY = re.compile(
    r" (?:[a-z]+s|people|run|race|runner|screen|display|monitor|TV|video|resolution)\b"
)
_STREET = re.compile(
    r"\.? (?:[NSEW]{1,2}\b\.? )?(?:(?:[A-Z][\w'.]*|\d+(?:st|nd|rd|th)) ){0,3}"
    rf"(?:{any_of({*lexicon.STREETS, *lexicon.STREETS.values(), 'Way'})})\b"
    r"|\.? \d+(?:st|nd|rd|th)\b"
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


def _follows(pattern: re.Pattern[str], match: Match) -> bool:
    return pattern.match(match.string, match.end()) is not None


def _is_joined(match: Match) -> bool:
    return bool(match["gap"] != " ")


def _unit_of(match: Match) -> str | None:
    """Return the unit as a key of UNITS, None where the text behind the number is no unit."""
    written, per = match["unit"], match["per"]
    if match["square"] and match["square"].startswith("fl"):
        return "floz"
    if per and " /" in match[0] and not (unit(per) or per in lexicon.WORDS_FOR_EACH):
        return None
    if written in ("C", "F"):
        return _degrees(match)
    sign = unit("°" + written[-1].upper() if written[0] == "°" and len(written) > 1 else written)
    if sign is None or (match["power"] and sign not in lexicon.LENGTHS):
        return None
    behind = match.end("unit")
    if len(written) == 1 and written.isupper() and _STREET.match(match.string, behind):
        return None
    name = (_is_joined(match) and "." not in match["a"]) or _NAME.match(match.string, behind)
    if sign in _NAMES_WHEN_JOINED and name:
        return None
    return _IN_CONTEXT[sign](match) if sign in _IN_CONTEXT else sign


def _degrees(match: Match) -> str | None:
    """`350 F` and `70F`, but not `Room 12C` or `34C`."""
    value, before, written = match["b"] or match["a"], text_before(match, 60), match["unit"]
    if _SEAT.search(before) or _follows(_NAME, match) or "/" in value or "^" in value:
        return None
    warm = _HEAT.search(before) or _HEAT.search(match.string, match.end(), match.end() + 60)
    likely = len(value) >= 2 and float(value.replace(",", "")) >= (60 if written == "F" else 100)
    return f"°{written}" if warm or likely or before.endswith("minus ") else None


def _times(match: Match) -> str | None:
    variable = match["power"] or _follows(_OPERATOR, match) or not _is_joined(match)
    return None if variable or text_before(match, 60).endswith(("=", "= ")) else "x"


def _inches(match: Match) -> str | None:
    apart = not (_is_joined(match) or match["per"])
    if apart and not _INCHES.match(match.string, match.end("unit")):
        return "in" if _LENGTH_BEFORE.search(text_before(match, 60)) else None
    return "in"


def _meters_or_minutes(match: Match) -> str:
    """Minutes behind `timer`, and behind `in` or `for` where `m` touches its number."""
    if match["power"] or match["per"] or len(match["a"]) > 2:
        return "m"
    timed = _TIMER.search(text_before(match, 60)) and not _follows(_DISTANCE, match)
    if timed and (_is_joined(match) or "timer" in text_before(match, 60).lower()):
        return "min"
    return "min" if _follows(_WAITING, match) else "m"


def _bits_or_basis_points(match: Match) -> str:
    """No modem is slower than 300 bits per second, no rate moves by more."""
    return "bp" if len(match["a"]) < 3 or match["a"] in ("100", "150", "200", "250") else "bps"


def _pence(match: Match) -> str | None:
    """`50p`, but not `720p`, a resolution, or `9p.m.`"""
    half = match.string.startswith(".m", match.end("unit"))
    small = _is_joined(match) and match["a"].isdigit() and len(match["a"]) < 3
    return "p" if small and not half else None


def _kelvin(match: Match) -> str | None:
    """`300 K`, but not `50 K people`, which are thousands, or `Windows 10 K`, which is a name."""
    word, before = word_before(match), text_before(match, 60)
    named = word.istitle() and word not in lexicon.STARTERS and not _HEAT.search(before)
    return None if named or _follows(_MANY, match) else "K"


_IN_CONTEXT: dict[str, Callable[[Match], str | None]] = {
    "A": lambda m: "A" if _follows(_AMPS, m) else None,
    "K": _kelvin,
    "x": _times,
    "in": _inches,
    "m": _meters_or_minutes,
    "pt": lambda m: "pts" if _is_joined(m) or _follows(_TYPE, m) else "pt",
    "bps": _bits_or_basis_points,
    "p": _pence,
    "us": lambda m: "us" if _is_joined(m) else None,
}
"""Symbols of several meanings: which unit a match is, None for no unit."""

# --- measures ------------------------------------------------------------------------------------
_START = r"(?<![\w.^])(?<!\d,)"
_VALUE = rf"(?:(?:\d{{1,4}}[\ -])?\d{{1,3}}/\d{{1,3}}(?![\d/])|{NUMBER}(?:\^-?\d{{1,3}})?)"
_UNIT = r"(?:°(?:\ ?[CFKcfk]\b)?|[A-Za-zμΩ][A-Za-zΩ]{0,4}|[%‰])"
_BOTH_SIDES = r"[0-9] ?[^\s0-9]{0,6} ?[-–—~x×] ?-?[0-9]"
_MEASURE = rf"""(?x)
    {_START}(?P<a>{_VALUE})
    (?:[ ]?(?P<to>[-–—~]|to|±|or|by)[ ]?(?P<b>{_VALUE}))?
    (?:[ ](?P<scale>hundred|thousand|million|billion|trillion|lakh|crore))?
    (?P<gap>[\ -]?)(?P<square>(?:sq|cu)(?:\.[ ]?|[ ])|fl\.?[ ]?(?=oz))?
    (?P<unit>N[ ·]?m\b|kW[ ]h\b|{_UNIT})(?:\^?(?P<power>[23]))?
    (?:
        \.?(?:[ ]?/[ ]?)(?P<many>10{{1,3}}[ ]?)?
        (?P<per>[A-Za-zμ]{{1,10}})(?:\^?(?P<per_power>[23]))?
        (?:/(?P<per_too>[A-Za-z]{{1,6}}))?(?P<and>[ ·]?K\b)?
      | [ ]?(?P<inverse>[A-Za-z]{{1,3}})\^-(?P<inverse_power>[123])
    )?
    (?:\.(?=[ ][a-z]|[ ]\d{{1,2}}[ ]?(?:in|oz|min|sec)\b))?(?![\w^])
"""
read.add(r"(?<=\d)bn\b", " billion", "bn")
read.add(rf"(?<=\d)(?:mn\b|m(?= {any_in('millions')}\b))", " million", "m[n ]")


@read.rule(rf"{_START}({NUMBER})([kKM]) ?[-–—~] ?({NUMBER})\2\b", _BOTH_SIDES)
def _say_thousands(match: Match) -> str:
    """10k-20k"""
    scale = "million" if match[2] == "M" else "thousand"
    return f"{number(match[1])} to {number(match[3])} {scale}"


@read.rule(
    rf"{_START}(?P<a>{_VALUE} ?(?P<unit>{_UNIT})(?:/[A-Za-z]{{1,4}})?)(?P<sep> ?[-–—~] ?| ?[x×] ?)"
    rf"(?=-?{_VALUE}[ -]?{_UNIT}(?!\w))",
    _BOTH_SIDES,
)
def _say_between(match: Match) -> str:
    """A unit on both sides: `5km-10km`, `5 cm x 8 cm`."""
    if unit(match["unit"]) is None:
        return match[0]
    return f"{match['a']} {'by' if match['sep'].strip() in 'x×' else 'to'} "


@read.rule(
    rf"(?<![\d.,])(\d{{1,4}}),(\d{{1,2}})(?=( ?)((?:degrees|percent|{_UNIT})(?!\w)))",
    "[0-9],[0-9]{1,2}(?![0-9])",
)
def _with_point(match: Match) -> str:
    """A decimal comma before a unit: `12,5 kg`, but not `verses 3,4 in Mark`."""
    is_unit = match[4] in ("degrees", "percent") or unit(match[4])
    if not is_unit or (match[3] and match[4] in ("in", "x", "us", "p")):
        return match[0]
    return f"{match[1]}.{match[2]}"


@read.rule(
    r"(?<![\w.])(?:(\d{1,3}) ?h(?:rs?)? ?)?(\d{1,3}) ?m(?:ins?)?(?: ?(\d{1,2}) ?s(?:ecs?)?)?\b",
    "[0-9] ?[hm]",
)
def _say_duration(match: Match) -> str:
    """Minutes beside hours or seconds: `m` alone is meters."""
    if not (match[1] or match[3]) or (match[1] and len(match[2]) > 2):
        return match[0]
    parts = zip(match.groups(), ("h", "min", "s"), strict=True)
    return " ".join(f"{value} {sign}" for value, sign in parts if value)


@read.rule(_MEASURE)
def _say_measure(match: Match) -> str:
    """5-10 km, 9.8 m/s², 1/2 tsp"""
    sign = _unit_of(match)
    if sign is None:
        return match[0]
    text, written = match.string, match["unit"]
    end = len(text) if match["per"] else match.end()
    is_plural = written[-1] == "s" and written[:-1] in UNITS and written != "bps"  # lbs
    singular = (
        match["gap"] == "-"
        or rules.is_attributive(text, match.start(), end)
        or (match["gap"] == "" and rules.part_follows(text, end))
    ) and not (is_plural or sign == "x")
    power = numbers.POWERS.get(match["power"] or (match["square"] or "")[:1], "")
    one, many = (power + name for name in UNITS[sign])
    return _amount(match, one, many, singular) + _per(match)


def _amount(match: Match, one: str, many: str, singular: bool) -> str:
    first, second, scale = match.group("a", "b", "scale")
    said, last = _value(first), second or first
    if second:
        between = {"±": "plus or minus", "or": "or", "by": "by"}.get(match["to"], "to")
        said = f"{said} {between} {_value(second)}"
    if scale:
        return f"{said} {scale} {one if singular else many}"
    if "/" in last and not re.search("[ -]", last) and _is_part(last):
        if second or singular:
            return f"{said if second else said.removeprefix('one ')} {one}"
        of = "an" if one[0] in "aeio" or one == "hour" else "a"
        return f"half {of} {one}" if last == "1/2" else f"{said} of {of} {one}"
    return f"{said} {one if singular or (first == '1' and not second) else many}"


def _value(written: str) -> str:
    """A number, a power or a fraction: 2 1/2 → two and a half, 120/80 → … over eighty."""
    if "^" in written:
        base, exponent = written.split("^")
        return f"{number(base)} to the power of {cardinal(int(exponent))}"
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
    """Whether `written` is a fraction, unlike 50/60 (of Hz)."""
    top, bottom = map(int, written.split("/"))
    small = 0 < top < bottom and (top == 1 or bottom <= 100)
    return small and (top < 10 or gcd(top, bottom) == 1)


def _per(match: Match) -> str:
    """Return ` per second` and the like, "" for a measure without a second unit."""
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
