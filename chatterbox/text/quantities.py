"""Measures, fractions of them and percentages in words: `5-10 km`, `1/2 tsp`, `57.9 million km`."""

import re

from chatterbox.text.attributive import is_attributive, names_part
from chatterbox.text.numbers import NUMBER, fraction, is_one, number
from chatterbox.text.slashes import each, raised
from chatterbox.text.unit_meaning import meant
from chatterbox.text.units import UNITS, unit

_START = r"(?<![\w.^])(?<!\d,)"
_VALUE = rf"(?:(?:\d{{1,4}}[ -])?\d{{1,3}}/\d{{1,3}}(?![\d/])|{NUMBER}(?:\^-?\d{{1,3}})?)"
_UNIT = r"(?:°(?: ?[CFKcfk]\b)?|[A-Za-zμΩ][A-Za-zΩ]{0,4}|[%‰])"
_SCALE = r"(?: (?P<scale>hundred|thousand|million|billion|trillion|lakh|crore))?"
_MEASURE = re.compile(
    rf"{_START}(?P<a>{_VALUE})(?: ?(?P<to>[-–—~]|to|±|or|by) ?(?P<b>{_VALUE}))?{_SCALE}"
    rf"(?P<gap>[ -]?)(?P<square>(?:sq|cu)(?:\. ?| )|fl\.? ?(?=oz))?"
    rf"(?P<unit>N[ ·]?m\b|kW h\b|{_UNIT})"
    r"(?:\^?(?P<power>[23]))?"
    r"(?:\.?(?: ?/ ?)(?P<many>10{1,3} ?)?(?P<per>[A-Za-zμ]{1,10})(?:\^?(?P<per_power>[23]))?"
    r"(?:/(?P<per_too>[A-Za-z]{1,6}))?"
    r"(?P<and>[ ·]?K\b)?| ?(?P<inverse>[A-Za-z]{1,3})\^-(?P<inverse_power>[123]))?"
    r"(?:\.(?= [a-z]| \d{1,2} ?(?:in|oz|min|sec)\b))?(?![\w^])"
)
_SAME_UNIT = re.compile(
    rf"{_START}(?P<a>{_VALUE} ?(?P<unit>{_UNIT})(?:/[A-Za-z]{{1,4}})?)(?P<sep> ?[-–—~] ?| ?[x×] ?)"
    rf"(?=-?{_VALUE}[ -]?{_UNIT}(?!\w))"
)
_COUNTED = re.compile(
    r"(?<=\d)(?:mn\b|bn\b|m(?= (?:people|users|views|followers|subscribers|customers|copies"
    r"|downloads|residents|jobs|homes|children|shares|visitors|viewers|listeners|voters)\b))"
)
_BOTH_SIDES = re.compile(r"\d ?[^\s\d]{0,6} ?[-–—~x×] ?-?\d")
_THOUSANDS = re.compile(rf"{_START}({NUMBER})([kKM]) ?[-–—~] ?({NUMBER})\2\b")
_DECIMAL = re.compile("[0-9],[0-9]{1,2}(?![0-9])")
_COMMA = re.compile(
    rf"(?<![\d.,])(\d{{1,4}}),(\d{{1,2}})(?=( ?)((?:degrees|percent|{_UNIT})(?!\w)))"
)
_CLOCKED = re.compile(r"\d ?[hm]")
_DURATION = re.compile(
    r"(?<![\w.])(\d{1,3}) ?h(?:rs?)? ?(\d{1,2}) ?m(?:ins?)?\b(?: ?(\d{1,2}) ?s(?:ecs?)?\b)?"
    r"|(?<![\w.])(\d{1,3}) ?m(?:ins?)? ?(\d{1,2}) ?s(?:ecs?)?\b"
)


def spell_out(text: str) -> str:
    """`text` with measures and percentages in words. Linear time."""
    text = _COUNTED.sub(lambda m: " million" if m[0][0] == "m" else " billion", text)
    if _BOTH_SIDES.search(text):
        text = _SAME_UNIT.sub(_say_between, _THOUSANDS.sub(_say_thousands, text))
    if _DECIMAL.search(text):
        text = _COMMA.sub(_with_point, text)
    if _CLOCKED.search(text):
        text = _DURATION.sub(_say_duration, text)
    return _MEASURE.sub(_say, text)


def _with_point(match: re.Match[str]) -> str:
    """A decimal comma before a unit: `12,5 kg`; `verses 3,4 in Mark` are two figures."""
    is_unit = match[4] in ("degrees", "percent") or unit(match[4])
    if not is_unit or (match[3] and match[4] in ("in", "x", "us", "p")):
        return match[0]
    return f"{match[1]}.{match[2]}"


def _say_thousands(match: re.Match[str]) -> str:
    scale = "million" if match[2] == "M" else "thousand"
    return f"{number(match[1])} to {number(match[3])} {scale}"


def _say_duration(match: re.Match[str]) -> str:
    """Minutes beside hours or seconds: `m` alone is meters."""
    parts = [(match[1], "h"), (match[2] or match[4], "min"), (match[3] or match[5], "s")]
    return " ".join(f"{figure} {sign}" for figure, sign in parts if figure)


def _say_between(match: re.Match[str]) -> str:
    """A unit on both sides: `5km-10km`, `5 cm x 8 cm`."""
    if unit(match["unit"]) is None:
        return match[0]
    return f"{match['a']} {'by' if match['sep'].strip() in 'x×' else 'to'} "


def _say(match: re.Match[str]) -> str:
    sign = meant(match)
    if sign is None:
        return match[0]
    first, second = match["a"], match["b"]
    text, start = match.string, match.start()
    end = match.end() if not match["per"] else len(text)
    singular = (
        match["gap"] == "-"
        or is_attributive(text, start, end)
        or (match["gap"] == "" and names_part(text, end))
    )
    written = match["unit"]
    is_plural = written[-1] == "s" and written[:-1] in UNITS and written != "bps"  # lbs
    singular = singular and not is_plural and sign != "x"
    raise_by = raised(match["power"] or (match["square"] or "")[:1])
    one, many = (raise_by + name for name in UNITS[sign])
    return _amount(first, second, match["to"], match["scale"], (one, many), singular) + _per(match)


def _amount(
    first: str,
    second: str | None,
    to: str | None,
    scale: str | None,
    names: tuple[str, str],
    singular: bool,
) -> str:
    one, many = names
    said = _value(first)
    if second:
        between = {"±": "plus or minus", "or": "or", "by": "by"}.get(to or "", "to")
        said = f"{said} {between} {_value(second)}"
    if scale:
        return f"{said} {scale} {one if singular else many}"
    last = second or first
    if "/" in last and not re.search("[ -]", last) and _is_part(last):
        if singular:
            return f"{said.removeprefix('one ') if not second else said} {one}"
        if second:
            return f"{said} {one}"
        of = "an" if one[0] in "aeio" or one == "hour" else "a"
        return f"half {of} {one}" if last == "1/2" else f"{said} of {of} {one}"
    return f"{said} {one if singular or (is_one(first) and not second) else many}"


def _value(written: str) -> str:
    """A number, a fraction or both: 2 1/2 → two and a half, 120/80 → … over eighty."""
    if "^" in written:
        base, exponent = written.split("^")
        minus = "minus " if exponent[0] == "-" else ""
        return f"{number(base)} to the power of {minus}{number(exponent.lstrip('-'))}"
    if "/" not in written:
        return number(written)
    *before, parts = re.split("[ -]", written)
    whole = before[0] if before else ""
    top, bottom = parts.split("/")
    if not _is_part(parts):
        return f"{number(whole) + ' ' if whole else ''}{number(top)} over {number(bottom)}"
    said = fraction(int(top), int(bottom))
    if not whole:
        return said
    if said in ("one half", "one quarter"):
        said = f"a {said.removeprefix('one ')}"
    return f"{number(whole)} and {said}"


def _is_part(written: str) -> bool:
    top, bottom = written.split("/")
    return 0 < int(top) < int(bottom) and (top == "1" or int(bottom) <= 100)


def _per(match: re.Match[str]) -> str:
    """` per second`, or nothing."""
    if match["inverse"]:
        power = match["inverse_power"]
        return f" per {each(match['inverse'], power if power != '1' else None)}"
    if not match["per"]:
        return ""
    said = each(match["per"], match["per_power"])
    if match["many"]:
        found = unit(match["per"])
        said = f"{number(match['many'].strip())} {UNITS[found][1] if found else match['per']}"
    too = f" per {each(match['per_too'], None)}" if match["per_too"] else ""
    return f" per {said}{' kelvin' if match['and'] else ''}{too}"
