"""Which unit a sign means where it means several things: its neighbours decide."""

import re
from collections.abc import Callable

from chatterbox.text.lexicon import STARTERS, listed
from chatterbox.text.units import LENGTHS, WORDS_FOR_EACH, unit

_ONLY_TOUCHING = listed("us")
"""Units that are also words: read as units only where nothing stands between figure and unit."""
_ONLY_APART = listed("A N T K J ac")
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
    r"(?:St|Ave|Rd|Blvd|Dr|Ln|Pl|Ct|Hwy|Pkwy|Sq|Street|Avenue|Road|Boulevard|Drive|Lane|Place|Court"
    r"|Highway|Square|Way|Terrace|Parkway)\b|\.? \d+(?:st|nd|rd|th)\b"
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
    r"(?i)(?:\b(?:timer|alarm|countdown|snooze|wait|pause|sleep|timeout|break|prep|cook|bake|simmer|total|took|takes?)\b[^.,\n]{0,20}"
    r"|\b(?:in|for|after|every|last|past|next|within)(?: about)?) $"
)
_DISTANCE = re.compile(
    r" (?:deep|of|high|long|wide|away|tall|thick|sprint|dash|race|pool|run|cable|x|by|in|from|up"
    r"|down|freestyle|breaststroke|hurdles)\b"
)
_WAITING = re.compile(r" (?:timer|break|ago|later|left|remaining|countdown|timeout)\b")


def meant(match: re.Match[str]) -> str | None:
    """The unit that is meant, by its sign in UNITS; None where what follows the figure is none."""
    written, text = match["unit"], match.string
    if match["square"] and match["square"].startswith("fl"):
        return "floz"
    per = match["per"]
    if per and " /" in match[0] and not (unit(per) or per in WORDS_FOR_EACH):
        return None
    if written in ("C", "F"):
        return _degrees(match)
    sign = unit("°" + written[-1].upper() if written[0] == "°" and len(written) > 1 else written)
    if sign is None or (match["power"] and sign not in LENGTHS):
        return None
    behind = match.end("unit")
    if len(written) == 1 and written.isupper() and _STREET.match(text, behind):
        return None
    if sign in _ONLY_APART and (
        (_is_touching(match) and "." not in match["a"]) or _NAME.match(text, behind)
    ):
        return None
    if sign in _IN_CONTEXT:
        return _IN_CONTEXT[sign](match)
    return None if sign in _ONLY_TOUCHING and not _is_touching(match) else sign


def _is_touching(match: re.Match[str]) -> bool:
    return bool(match["gap"] != " ")


def _before(match: re.Match[str]) -> str:
    return match.string[max(0, match.start() - 60) : match.start()]


def _degrees(match: re.Match[str]) -> str | None:
    """`350 F`, `70F`; `Room 12C` and `34C` are none."""
    text, value, before = match.string, match["b"] or match["a"], _before(match)
    written = match["unit"]
    if _SEAT.search(before) or _NAME.match(text, match.end()) or "/" in value or "^" in value:
        return None
    warm = _HEAT.search(before) or _HEAT.search(text, match.end(), match.end() + 60)
    likely = len(value) >= 2 and float(value.replace(",", "")) >= (60 if written == "F" else 100)
    return f"°{written}" if warm or likely or before.endswith("minus ") else None


def _times(match: re.Match[str]) -> str | None:
    variable = match["power"] or _OPERATOR.match(match.string, match.end())
    return (
        None if variable or not _is_touching(match) or _before(match).endswith(("=", "= ")) else "x"
    )


def _inches(match: re.Match[str]) -> str | None:
    behind = _INCHES.match(match.string, match.end("unit"))
    return (
        "in"
        if _is_touching(match) or match["per"] or behind or _LENGTH_BEFORE.search(_before(match))
        else None
    )


def _minutes(match: re.Match[str]) -> str:
    """`m` after `timer` or touching its figure after `in`, `for`: minutes."""
    if match["power"] or match["per"] or len(match["a"]) > 2:
        return "m"
    timed = _TIMER.search(_before(match)) and not _DISTANCE.match(match.string, match.end())
    if timed and (_is_touching(match) or "timer" in _before(match).lower()):
        return "min"
    return "min" if _WAITING.match(match.string, match.end()) else "m"


def _points(match: re.Match[str]) -> str:
    return "pts" if _is_touching(match) or _TYPE.match(match.string, match.end()) else "pt"


def _basis_points(match: re.Match[str]) -> str:
    """No modem is slower than 300 bits per second, no rate moves by more."""
    return "bp" if len(match["a"]) < 3 or match["a"] in ("100", "150", "200", "250") else "bps"


def _pence(match: re.Match[str]) -> str | None:
    """`50p`; 720p is a picture, `9p.m.` a time."""
    half = match.string.startswith(".m", match.end("unit"))
    small = _is_touching(match) and match["a"].isdigit() and len(match["a"]) < 3
    return "p" if small and not half else None


def _amps(match: re.Match[str]) -> str | None:
    return "A" if _AMPS.match(match.string, match.end()) else None


def _kelvin(match: re.Match[str]) -> str | None:
    """`300 K`; 50 K people are thousands, Windows 10 K is a name."""
    named = _NAMED.search(_before(match))
    is_name = named is not None and named[1] not in STARTERS and not _HEAT.search(_before(match))
    return None if is_name or _MANY.match(match.string, match.end()) else "K"


_IN_CONTEXT: dict[str, Callable[[re.Match[str]], str | None]] = {
    "A": _amps,
    "K": _kelvin,
    "x": _times,
    "in": _inches,
    "m": _minutes,
    "pt": _points,
    "bps": _basis_points,
    "p": _pence,
}
"""Signs of several meanings: which one, by the neighbours."""
