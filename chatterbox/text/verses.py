"""Reads chapter and verse: `Romans 8:28-30`, `1 Peter 5:7`."""

import re

from chatterbox.text.lexicon import BOOKS
from chatterbox.text.numbers import cardinal

_BOOKS = "|".join(BOOKS.values()) + (
    "|Ruth|Ezra|Job|Joel|Amos|Obadiah|Jonah|Nahum|Acts|Jude|Maccabees|Tobit|Judith|Sirach|Baruch"
    "|Surah?|Quran|Koran"
)
_VERSE = re.compile(
    rf"(?:(?<![\w.])([123]) )?\b({_BOOKS}) (\d{{1,3}}):(\d{{1,3}})"
    r"(?: ?[-–—] ?(\d{1,3})(?![:\d]))?(?![\w:])"
)

_IS_VERSE = re.compile("[0-9]:[0-9]")


def spell_out(text: str) -> str:
    """Romans 8:28-30, 1 Peter 5:7: must be taken before times of day."""
    return _VERSE.sub(_say_verse, text) if _IS_VERSE.search(text) else text


def _say_verse(match: re.Match[str]) -> str:
    book, book_name, chapter, first, last = match.groups()
    volume = ("First ", "Second ", "Third ")[int(book) - 1] if book else ""
    said = f"{volume}{book_name} {cardinal(int(chapter))} {cardinal(int(first))}"
    return f"{said} to {cardinal(int(last))}" if last else said
