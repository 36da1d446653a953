"""Streets: `708 N Main St, Apt 4`, `E 5th Ave`, `1200 V St. NW`.

Needs single blanks; leaves the figures of a house for the rules of figures.
"""

import re
from collections.abc import Iterable

from chatterbox.text.lexicon import DIRECTIONS, LANDS, STARTERS, STREETS, TITLES
from chatterbox.text.numbers import cardinal


def any_of(words: Iterable[str]) -> str:
    """A pattern for any of `words`, the longest first."""
    return "|".join(sorted(words, key=len, reverse=True))


_WAY = any_of(DIRECTIONS)
_NAMES = any_of({*STREETS.values()})
_NTH = r"\d{1,3}(?i:st|nd|rd|th)"
_HOUSE = re.compile(
    rf"(?<![\w.,$/:-])(?P<house>\d{{1,5}})(?P<letter>[A-Za-z]?) "
    rf"(?P<name>(?:(?:[A-Z][\w'-]{{0,30}}\.?|{_NTH}) ){{1,4}}?)(?P<street>(?i:{any_of(STREETS)}))\b"
    r"(?P<stop>\.?)(?= (?P<next>\w+)|\W|$)"
)
_BEFORE_NAME = re.compile(
    rf"\b(?P<way>{_WAY})\b\.? "
    rf"(?=(?:(?:[A-Z][\w'-]{{0,30}}|{_NTH}) ){{1,3}}(?:{_NAMES}|{any_of(STREETS)})\b)"
)
_BEHIND_NAME = re.compile(
    rf"(?<=[a-z])(?:,(?= [NS][EW]\b))? (?P<way>{_WAY})\b(?P<stop>\.?)(?!['&-]\w)"
)
_NAME = re.compile(rf"\b(?:{_NAMES})$")
_ANY_WAY = re.compile(r"\b[NSEW]{1,2}\b")
_LAND = re.compile(rf"\b([NSEW])\. (?={LANDS})")
_NEXT = re.compile(r" (\w+)")
_LAST_WORD = re.compile(r"\b([A-Za-z][\w']{0,20}) $")
_DATED = frozenset(("in", "since", "during", "until", "by", "from", "the", "of", "late", "early"))
"""Words before a figure that make it a year, not a house."""
_FIGURE = re.compile("[0-9]")


def spell_out(text: str) -> str:
    """`text` with the abbreviations in addresses as words. Linear time."""
    if _FIGURE.search(text):
        text = _HOUSE.sub(_say_house, text)
    if _ANY_WAY.search(text):
        text = _BEHIND_NAME.sub(_say_behind, _BEFORE_NAME.sub(_say_before, text))
        text = _LAND.sub(lambda m: f"{DIRECTIONS[m[1]]} ", text)
    return text


def _word_before(match: re.Match[str]) -> str:
    found = _LAST_WORD.search(match.string[max(0, match.start() - 24) : match.start()])
    return found[1] if found else ""


def _say_house(match: re.Match[str]) -> str:
    """1428 Elm St → 14 28 Elm Street, so that the number of the house is said in two parts."""
    house, following = match["house"], match["next"]
    street = match["street"].capitalize()
    named = following is not None and following[0].isupper()
    title = named and following not in STARTERS and following not in DIRECTIONS and street in TITLES
    if title and (match["stop"] or street != "St" or match["name"].strip().isupper()):
        return match[0]  # 7 AM Dr. Smith
    if len(house) == 5 and house[2] != "0":
        house = f"{house[:2]} {house[2:]}"
    elif len(house) == 4 and house[1:3] != "00" and _word_before(match).lower() not in _DATED:
        house = f"{house[:2]} {'hundred' if house[2:] == '00' else house[2:]}"
    elif len(match["name"]) == 2:
        house = cardinal(int(house))  # 100 L St are no liters
    return f"{house}{match['letter']} {match['name']}{STREETS[street]}{_stop(match)}"


def _stop(match: re.Match[str]) -> str:
    """The stop of an abbreviation again where it also ends a sentence."""
    if not match["stop"]:
        return ""
    following = _NEXT.match(match.string, match.end())
    ends = match.string[match.end() : match.end() + 1] in ("", "\n")
    return "." if ends or (following and following[1] in STARTERS) else ""


def _say_before(match: re.Match[str]) -> str:
    previous = _word_before(match)
    if previous[:1].isupper() and previous not in STARTERS:
        return match[0]  # John W. Smith Road
    return f"{DIRECTIONS[match['way']]} "


def _say_behind(match: re.Match[str]) -> str:
    if not _NAME.search(match.string[max(0, match.start() - 12) : match.start()]):
        return match[0]
    return f" {DIRECTIONS[match['way']]}{_stop(match)}"
