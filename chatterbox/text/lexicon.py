"""Words, symbols and units of English, loaded from `tables/*.txt`.

In a table, `[name]` opens a section and a line that begins with `# ` is a comment. A section holds
either words, or rows: written forms separated by spaces, then ` | ` and their spoken form.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_SECTIONS: dict[str, list[str]] = {}
for _file in Path(__file__).with_name("tables").glob("*.txt"):
    for _line in _file.read_text(encoding="utf-8").splitlines():
        if _line[:1] == "[":
            _lines = _SECTIONS.setdefault(_line[1:-1], [])
        elif _line and not _line.startswith("# "):
            _lines.append(_line)


def word_set(words: str) -> frozenset[str]:
    """Split `words` at spaces into a set."""
    return frozenset(words.split())


def words_in(section: str) -> frozenset[str]:
    return word_set(" ".join(_SECTIONS[section]))


def rows_in(section: str) -> dict[str, list[str]]:
    """Return the rows of a section: each written form → the cells after it."""
    found: dict[str, list[str]] = {}
    for row in _SECTIONS[section]:
        forms, *said = (cell.strip() for cell in row.split(" |"))
        found.update(dict.fromkeys(forms.split(), said))
    return found


def spoken_in(section: str) -> dict[str, str]:
    """Return the rows of a section with one spoken form each: `ch chap | chapter`."""
    return {form: said for form, (said,) in rows_in(section).items()}


def any_of(words: Iterable[str]) -> str:
    """Return a regex that matches any of `words`, the longest first. Wrap it in a group."""
    return "|".join(sorted(words, key=len, reverse=True))


def any_in(section: str) -> str:
    """Return a regex group that matches any word of a section."""
    return f"(?:{any_of(words_in(section))})"


# --- abbreviations -------------------------------------------------------------------------------
TITLES, STREETS, DIRECTIONS = map(spoken_in, ("titles", "streets", "directions"))
BARE_TITLES, BARE_STREETS = words_in("bare titles"), words_in("bare streets")
ABBREVIATIONS, BOOKS = spoken_in("abbreviations"), spoken_in("books")
NUMBER_LABELS, BARE_NUMBER_LABELS = spoken_in("number labels"), words_in("bare number labels")
LABELS, STARTERS = words_in("labels"), words_in("starters")

# --- currencies and units ------------------------------------------------------------------------
SCALES = spoken_in("scales")
"""Written form, in lower case → spoken form."""


class Currency(NamedTuple):
    """Spoken names of a currency and of its hundredth; `cent` is "" if hundredths are not used."""

    one: str
    many: str
    cent: str
    cents: str


def _currency(one: str, many: str = "", cent: str = "", cents: str = "") -> Currency:
    many = one if many == "=" else many or one + "s"
    return Currency(one, many, cent, cents or (cent and cent + "s"))


CURRENCIES = {sign: _currency(*said) for sign, said in rows_in("currencies").items()}
CURRENCY_SIGNS = "".join(sign for sign in CURRENCIES if len(sign) == 1)
"""Currency signs of one character."""

UNITS = {sign: (said[0], [*said, said[0] + "s"][1]) for sign, said in rows_in("units").items()}
"""Symbol → singular, plural."""
LENGTHS, WORDS_FOR_EACH, _ONE_WAY = map(words_in, ("lengths", "words for each", "one way"))
_LOWER_CASE = {sign.lower(): sign for sign in reversed(UNITS) if len(sign) > 1}


def unit(sign: str) -> str | None:
    """Return the key of UNITS for a unit in any case (`gb`, `KM`, `Mph`), None for other text."""
    sign = sign.replace(" ", "")
    if sign in UNITS:
        return sign
    if sign in _ONE_WAY or not (sign.islower() or sign.isupper() or sign.istitle()):
        return None
    return _LOWER_CASE.get(sign.lower())


# --- mathematics ---------------------------------------------------------------------------------
GREEK, SIGNS, RAISED, ACCENTS = map(spoken_in, ("greek", "signs", "raised", "accents"))
BIG, FUNCTIONS, STRUCTURE = map(words_in, ("big", "functions", "structure"))
DROPPED, SILENT = words_in("dropped"), words_in("silent")
_SYMBOLS = spoken_in("symbols")
COMMANDS = {name: said for name, said in _SYMBOLS.items() if name.isascii()} | {
    name: letter
    for letter in set(GREEK.values())
    for name in (letter, letter.capitalize(), "var" + letter)
}
"""LaTeX command without the backslash → spoken form."""
CHARACTERS = {char: said for char, said in _SYMBOLS.items() if not char.isascii()}
"""Character that no step reads → spoken form."""
