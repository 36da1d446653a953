"""Fixed words, signs and units that reading English needs, from the tables in `tables/*.txt`.

There, `[name]` opens a section and `#` says what it is for. A section holds words, or rows of what
is written (several forms with blanks between them) and, after ` | `, what is said.
"""

from collections.abc import Iterable
from pathlib import Path

_SECTIONS: dict[str, list[str]] = {}
for _file in Path(__file__).with_name("tables").glob("*.txt"):
    for _line in _file.read_text(encoding="utf-8").splitlines():
        if _line[:1] == "[":
            _lines = _SECTIONS.setdefault(_line[1:-1], [])
        elif _line and not _line.startswith("# "):
            _lines.append(_line)


def word_set(words: str) -> frozenset[str]:
    """Words with blanks between them, as a set."""
    return frozenset(words.split())


def words_in(section: str) -> frozenset[str]:
    """A section of words."""
    return word_set(" ".join(_SECTIONS[section]))


def rows_in(section: str) -> dict[str, list[str]]:
    """A section of rows: each form of the first cell with the other cells."""
    found: dict[str, list[str]] = {}
    for row in _SECTIONS[section]:
        forms, *said = (cell.strip() for cell in row.split(" |"))
        found.update(dict.fromkeys(forms.split(), said))
    return found


def spoken_in(section: str) -> dict[str, str]:
    """A section of rows with one thing to say: `ch chap | chapter`."""
    return {form: said for form, (said,) in rows_in(section).items()}


def any_of(words: Iterable[str]) -> str:
    """A pattern for any of `words`, the longest first."""
    return "|".join(sorted(words, key=len, reverse=True))


def any_in(section: str) -> str:
    """A pattern for any word of a section."""
    return f"(?:{any_of(words_in(section))})"


# --- abbreviations -------------------------------------------------------------------------------
TITLES, STREETS, DIRECTIONS = spoken_in("titles"), spoken_in("streets"), spoken_in("directions")
BARE_TITLES, BARE_STREETS = words_in("bare titles"), words_in("bare streets")
ABBREVIATIONS, BOOKS = spoken_in("abbreviations"), spoken_in("books")
BEFORE_FIGURE, BARE_BEFORE_FIGURE = spoken_in("before figure"), words_in("bare before figure")
LABELS, STARTERS = words_in("labels"), words_in("starters")

# --- currencies and units ------------------------------------------------------------------------
SCALES = spoken_in("scales")
"""In small letters."""


def _currency(
    one: str, many: str = "", cent: str = "", cents: str = ""
) -> tuple[str, str, str | None, str | None]:
    """One, many, one hundredth, many hundredths; None: hundredths are not in use."""
    many = one if many == "=" else many or one + "s"
    return one, many, cent or None, cents or (cent + "s" if cent else None)


CURRENCIES = {sign: _currency(*said) for sign, said in rows_in("currencies").items()}
CURRENCY_SIGNS = "".join(sign for sign in CURRENCIES if len(sign) == 1)
"""The currencies with a character of their own."""

UNITS = {sign: (said[0], [*said, said[0] + "s"][1]) for sign, said in rows_in("units").items()}
"""One, many."""
LENGTHS, WORDS_FOR_EACH, _ONE_WAY = (
    words_in("lengths"),
    words_in("words for each"),
    words_in("one way"),
)
_IN_SMALL = {sign.lower(): sign for sign in reversed(UNITS) if len(sign) > 1}


def unit(sign: str) -> str | None:
    """The sign under which UNITS has a unit, which may be written in small letters, in capitals or
    with one capital (`gb`, `KM`, `Mph`); None for what is no unit."""
    sign = sign.replace(" ", "")
    if sign in UNITS:
        return sign
    if sign in _ONE_WAY or not (sign.islower() or sign.isupper() or sign.istitle()):
        return None
    return _IN_SMALL.get(sign.lower())


# --- mathematics ---------------------------------------------------------------------------------
GREEK, SIGNS, RAISED, ACCENTS = (
    spoken_in("greek"),
    spoken_in("signs"),
    spoken_in("raised"),
    spoken_in("accents"),
)
BIG, FUNCTIONS, STRUCTURE = words_in("big"), words_in("functions"), words_in("structure")
DROPPED, SILENT = words_in("dropped"), words_in("silent")
_SYMBOLS = spoken_in("symbols")
COMMANDS = {name: said for name, said in _SYMBOLS.items() if name.isascii()} | {
    name: letter
    for letter in set(GREEK.values())
    for name in (letter, letter.capitalize(), "var" + letter)
}
"""By LaTeX command, without its backslash."""
CHARACTERS = {char: said for char, said in _SYMBOLS.items() if not char.isascii()}
"""By character, for those that no other step reads."""
