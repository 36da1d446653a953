"""Decide whether a sentence ends at a stop while text is still arriving.

The result is the same as for the whole text: the decision on a stop that may belong to an
abbreviation waits for the next word; a stop after an ordinary word is decided at once.
"""

import re

from chatterbox.text import lexicon
from chatterbox.text.dates import MONTHS, WEEKDAYS
from chatterbox.text.rules import Match

STOP = re.compile(r"""(?<![.!?…])[.!?…]+["'”’)\]*_]*(?=\s)|[。！？]""")
"""Matches a stop at which a sentence may end."""

_LAST_WORD = re.compile(r"[^\s(\[{\"'“‘*_/|—–]*$")
_LEADING_FIGURES = re.compile(r"^[$£€#~]?[\d.,:½¼¾-]*(?=[^\W\d]|$)")
_AFTER_FIGURE = re.compile(r"[\d½¼¾][ -]?[A-Za-z]+$")
_INITIALS = re.compile(r"[^\W\d_]|[^\W\d_](?:\.[^\W\d_]{1,2})+")
_FOLLOWING = re.compile(r"(?P<gap>\s{0,64})(?P<opening>[\"'“”‘’(\[{*_]*)(?P<word>[^\W_]*)")
_LINE_MARK = re.compile(r"(?:[-*+•–—>#|]+|\d{1,3}[.)])(?:\s|$)|[-*+•–—>#|]+$|\d{1,3}$")
"""Matches the mark of a list item, a heading, a quotation or a table row at the start of a line."""
_NAMED = re.compile(rf"(?:^|\s)(?!{lexicon.any_in('starters')}\s)(?:[A-Z][\w'-]*|\d+\w\w) \w+$")
"""Matches a name before the last word: `St` then means street, and `Dr` drive."""
_LABEL = re.compile(r"\b([A-Za-z]{3,10}) \w$")
_NUMERAL = re.compile(r"[IVXLC]+")
_LONGEST_STARTER = max(map(len, lexicon.STARTERS))

_CALENDAR = {
    form
    for name in (*(name[:3] for name in (*MONTHS, *WEEKDAYS)), "Sept", "Tues", "Thur", "Thurs")
    for form in (name, name.upper(), name.lower())
} - {"may", "mar", "sat", "sun", "wed"}
_BEFORE_DAY = (_CALENDAR | {*lexicon.BOOKS, "b", "d", "fl", "r"}) - {*lexicon.TITLES}
"""Months, books of the Bible and similar words: a stop belongs to them only before a number."""
_ABBREVIATED = {word.rstrip(".").lower() for word in lexicon.ABBREVIATIONS}
_SHORT = _ABBREVIATED | {
    word.lower() for word in (*lexicon.TITLES, *lexicon.STREETS, *lexicon.NUMBER_LABELS)
}
"""Words that a stop may belong to, besides units after a number."""


def ends_sentence(text: str, stop: Match) -> bool | None:
    """Whether a sentence ends at `stop`, a match of STOP in `text`; None if more text is needed."""
    following = _FOLLOWING.match(text, stop.end())
    assert following is not None, "every part may be empty"
    if stop[0] in "。！？" or "\n" in following["gap"] or len(following["gap"]) == 64:
        return True
    first = text[following.end("gap") : following.end("gap") + 1]
    word = _word_before(text, stop)
    if not first:
        return None if _may_go_on(word, text, stop) else True
    if following["word"][:1].islower():
        return False
    mark = _LINE_MARK.match(text, following.end("gap"))
    if mark:  # at the start of the next text, it would be read as a line mark
        return None if mark.end() == len(text) else False
    if not _may_go_on(word, text, stop):
        return True
    if not following["word"] and following.end() == len(text):
        return None
    before = text[max(0, stop.start() - 64) : stop.start()]
    return _after_abbreviation(word, before, following, len(text))


def _word_before(text: str, stop: Match) -> str:
    """Return the word before the stop, without a number attached to it: `5km` → `km`."""
    found = _LAST_WORD.search(text[max(0, stop.start() - 32) : stop.start()])
    return _LEADING_FIGURES.sub("", found[0] if found else "")


def _label_before(before: str) -> bool:
    found = _LABEL.search(before)
    return found is not None and found[1].lower() in lexicon.LABELS


def _may_go_on(word: str, text: str, stop: Match) -> bool:
    """Whether the stop may belong to the word before it, rather than end a sentence."""
    if stop[0][0] not in ".…":
        return False
    if stop[0][0] == "…" or stop[0].startswith(".."):
        return True
    if not word:  # a number: `1.` opens a list item at the start of a line
        line = text.rfind("\n", 0, stop.start()) + 1
        return stop.start() - line <= 4
    if word in lexicon.UNITS and _AFTER_FIGURE.search(
        text[max(0, stop.start() - 16) : stop.start()]
    ):
        return True
    return word.lower() in _SHORT or word in _BEFORE_DAY or _INITIALS.fullmatch(word) is not None


def _after_abbreviation(word: str, before: str, following: Match, end: int) -> bool | None:
    """Decide on a stop after an abbreviation by the next word, as the rules of `words` do."""
    next_word = following["word"]
    if not word:
        return next_word == "" or not next_word[0].isalnum()
    abbreviated = word.lower() in _ABBREVIATED
    versus = word == "v" and next_word[:1].isupper()
    one_letter = len(word) == 1 and word.islower() and not versus
    if one_letter or word in _BEFORE_DAY:
        return not next_word[:1].isdigit()
    if word.lower() in lexicon.NUMBER_LABELS and not (
        word in lexicon.TITLES or abbreviated or versus
    ):
        if next_word == "I" and following.end() == end:
            return None
        return not (next_word[:1].isdigit() or _NUMERAL.fullmatch(next_word))
    if len(word) == 1 and _label_before(before):
        return not next_word[:1].isdigit()
    street, title = word in lexicon.STREETS, word in lexicon.TITLES or word in lexicon.BARE_TITLES
    initials = _INITIALS.fullmatch(word) is not None and word != "I"
    if not (street or title or initials or abbreviated):
        return True  # a unit, an ellipsis
    if next_word[:1].isdigit() or not next_word:
        return len(word) == 1 and word not in lexicon.DIRECTIONS
    if following.end() == end and len(next_word) <= _LONGEST_STARTER:
        return None
    if title:  # `Main St. The`, but `St. John` and `Dr. Who`
        return street and next_word in lexicon.STARTERS and _NAMED.search(before) is not None
    return next_word in lexicon.STARTERS or street
