"""Which abbreviations and initials are said as which words?

Knows no figures and no signs; runs before figures, so that `No. 5` still has its figure.
"""

import re

from chatterbox.text.lexicon import (
    ABBREVIATIONS,
    BARE_STREETS,
    BARE_TITLES,
    BEFORE_FIGURE,
    SAID_TITLES,
    STARTERS,
    STREETS,
    TITLES,
)

_TITLE_OR_STREET = re.compile(
    r"(?:\b(?P<prev>[A-Z][\w'-]{0,30}|\d{1,4}(?:st|nd|rd|th)) )?"
    rf"\b(?P<word>{'|'.join(sorted({*TITLES, *STREETS}, key=len, reverse=True))})\b"
    r"(?P<stop>\.?)(?P<gap> ?)(?=(?P<next>[^\W\d_][\w']{0,30})?)"
)
_ABBREVIATION = re.compile(
    r"(?<![\w.'/])(?:[A-Za-z]{1,6}+(?:[./][A-Za-z]{1,3}(?![A-Za-z])){0,3}+[./]?+|vs\b)"
)
_FIGURED = re.compile(
    rf"(?i)\b({'|'.join(sorted(BEFORE_FIGURE, key=len, reverse=True))})\. ?(?=\d)"
)
_INITIALS = re.compile(r"\b(?:[A-Z]\.){2,}")
_INITIAL = re.compile(r"(?<![°\d])(?<!\d )\b([A-HJ-Z])\. ?(?=([A-Z][\w']{0,30}))")
_NEXT_WORD = re.compile(r" ([^\W\d_][\w']{0,30})")


def spell_out(text: str) -> str:
    """`text` with abbreviations and initials as words. Linear time; single blanks only."""
    text = _FIGURED.sub(_say_before_figure, text)
    text = _TITLE_OR_STREET.sub(_say_title_or_street, text)
    text = _ABBREVIATION.sub(_say_abbreviation, text)
    text = _INITIALS.sub(lambda m: m[0].replace(".", "") + _stop(m), text)
    return _INITIAL.sub(lambda m: m[0] if m[2] in STARTERS else m[1] + " ", text)


def _stop(match: re.Match[str]) -> str:
    """The stop of an abbreviation again, where it also ends a sentence: at the end of a line, or
    before a word that is capitalised only because a sentence begins."""
    if _at_end(match):
        return "."
    following = _NEXT_WORD.match(match.string, match.end())
    return "." if following and following[1] in STARTERS else ""


def _at_end(match: re.Match[str]) -> bool:
    return match.string[match.end() : match.end() + 1] in ("", "\n")


def _say_before_figure(match: re.Match[str]) -> str:
    said = BEFORE_FIGURE[match[1].lower()]
    return (said.capitalize() if match[1][0].isupper() else said) + " "


def _say_title_or_street(match: re.Match[str]) -> str:
    previous, word, stop, following = match.group("prev", "word", "stop", "next")
    before = f"{previous} " if previous else ""
    named = previous is not None and previous not in STARTERS and previous not in SAID_TITLES
    numbered = previous is not None and previous[0].isdigit()
    name_follows = following is not None and following[0].isupper()
    if word in STREETS and named and (not name_follows or following in STARTERS):
        if stop or numbered or word in BARE_STREETS:
            ends = stop and (following in STARTERS or _at_end(match))
            return f"{before}{STREETS[word]}{'.' if ends else ''}{match['gap']}"
        return match[0]
    if word in TITLES and name_follows and (stop or (word in BARE_TITLES and not named)):
        return f"{before}{TITLES[word]} "
    return match[0]


def _say_abbreviation(match: re.Match[str]) -> str:
    written = match[0]
    if written in ABBREVIATIONS:
        return ABBREVIATIONS[written] + (_stop(match) if written[-1] == "." else "") + _gap(match)
    if written[:-1] in ABBREVIATIONS:
        return ABBREVIATIONS[written[:-1]] + written[-1]
    return written


def _gap(match: re.Match[str]) -> str:
    """A blank where the next word touches: `w/Bob`."""
    return " " if match.string[match.end() : match.end() + 1].isalnum() else ""
