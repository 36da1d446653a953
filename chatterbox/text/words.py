"""Abbreviations, initials, streets and verses in words.

Needs single blanks. Runs before figures, so that `No. 5` still has its figure.
"""

import re

from chatterbox.text.lexicon import (
    ABBREVIATIONS,
    BARE_BEFORE_FIGURE,
    BARE_STREETS,
    BARE_TITLES,
    BEFORE_FIGURE,
    BOOKS,
    DIRECTIONS,
    LABELS,
    STARTERS,
    STREETS,
    TITLES,
    any_of,
    listed,
)
from chatterbox.text.neighbours import left_of, right_of
from chatterbox.text.numbers import cardinal

_TITLE_OR_STREET = re.compile(
    rf"\b(?=[A-Z])(?P<word>{any_of({*TITLES, *STREETS})})\b"
    r"(?P<stop>\.?)(?P<gap> ?)(?=(?P<next>[^\W\d_][\w']{0,30})?)"
)
_NAME_BEFORE = re.compile(r"\b([A-Z][\w'-]{0,30}|\d{1,4}(?:st|nd|rd|th)) $")
_ABBREVIATION = re.compile(
    r"(?<![\w.'/])(?:[A-Za-z]{1,6}+(?:(?:[./][A-Za-z]{1,3}(?![A-Za-z])){1,3}+[./]?+|[./])|vs\b)"
)

_FIGURED = re.compile(r"(?<![\w.'/-])(?P<word>[A-Za-z/]{1,7}+)(?P<gap>\. ?| )(?=\d)")
_ROOM = re.compile(r"\b(Apt|Ste|Bldg)\.? (?=[A-Z]\d{0,3}\b)")
_VERSE = re.compile(rf"\b(?:([123]) )?({any_of(BOOKS)})(?:\. ?| )(?=\d{{1,3}}:\d)")
_IS_VERSE = re.compile("[0-9]:[0-9]")
_NAMES = listed("Dan Gal Gen Jn Josh Mal Mic Phil Sam Tim")
"""Books whose abbreviation without a stop is a name or a word."""
_ORDINAL = {"1": "First", "2": "Second", "3": "Third"}
_HALF = re.compile(r"[AaPp]\. ?[Mm]")
_HALF_DAY = re.compile(r"(?<=\d) ?([AaPp])\. ?[Mm]\b\.?")
_STANDARD = re.compile(r"(?<![\w.'])([A-Z])\.(?:(\d)(\d\d)|(\d{1,2}))(?![\w.]\d|\w)")
_CASE = re.compile(
    r"\b(?!Chapter|Part|Section|Act|Book|Article)([A-Z][\w'&-]{1,30}[.,]?) v\.? "
    rf"(?=[A-Z])(?!(?:{'|'.join(STARTERS)})\b)"
)
_DIVISION = re.compile(r"(?i)\b(?:article|section|part|chapter|title|table|book|appendix)s? $")
_WITH = re.compile(r"\bw/(?=[A-Za-z]{2}|\d)")
_TITLE = re.compile(rf"(?:and|or) (?:{any_of(TITLES)})\b")
_FIGURE = re.compile("[0-9]")
_BEFORE_YEAR = {"est": "established", "fl": "flourished"}
_YEAR = re.compile(r"\d{4}\b")
_SAID_TITLES = TITLES.keys() | TITLES.values()
_PLAN = re.compile(r"(?<![\w.,$])(\d)(\d)(\d)(?=\([a-z]\))")
_INITIALS = re.compile(r"[A-Z](?<!\w[A-Z])\.(?:[A-Z]\.)+")
_INITIAL = re.compile(
    r"([A-HJ-Z])\.(?<![\w°]..)(?<!\d ..)(?<!dot ..)(?<!dot [A-Z] ..)(?<!dot [A-Z] [A-Z] ..)"
    r" ?(?=([A-Z][\w']{0,30}))"
)
_WORD_BEFORE = re.compile(r"\b([A-Za-z]{3,10}) $")
_NEXT_WORD = re.compile(r" ([^\W\d_][\w']{0,30})")


def spell_out(text: str) -> str:
    """`text` with abbreviations and initials as words. Linear time; single blanks only."""
    if " v " in text or " v. " in text:
        text = _CASE.sub(r"\1 versus ", text)
    if "w/" in text:
        text = _WITH.sub("with ", text)
    if _FIGURE.search(text):
        text = _VERSE.sub(_say_book, text) if _IS_VERSE.search(text) else text
        text = _PLAN.sub(_say_plan, _STANDARD.sub(_say_standard, text))
        text = _HALF_DAY.sub(_say_half_day, text) if _HALF.search(text) else text
        text = _FIGURED.sub(_say_before_figure, text)
    if "Apt" in text or "Ste" in text or "Bldg" in text:
        text = _ROOM.sub(lambda m: BEFORE_FIGURE[m[1].lower()].capitalize() + " ", text)
    text = _TITLE_OR_STREET.sub(_say_title_or_street, text)
    text = _ABBREVIATION.sub(_say_abbreviation, text)
    if "." not in text:
        return text
    text = _INITIALS.sub(lambda m: m[0].replace(".", "") + _stop(m) + _gap(m), text)
    return _INITIAL.sub(_say_initial, text)


def _labelled(match: re.Match[str]) -> str:
    """The word before, where a single capital belongs to it: `Figure C`."""
    found = _WORD_BEFORE.search(match.string, max(0, match.start() - 12), match.start())
    return found[1].lower() if found and found[1].lower() in LABELS else ""


def _say_initial(match: re.Match[str]) -> str:
    if _labelled(match):
        return f"{match[1]}. "
    return match[0] if match[2] in STARTERS else match[1] + " "


def _stop(match: re.Match[str]) -> str:
    """The stop of an abbreviation again, where it also ends a sentence: at the end of a line, or
    before a word that is capitalised only because a sentence begins."""
    if _at_end(match):
        return "."
    following = _NEXT_WORD.match(match.string, match.end())
    return "." if following and following[1] in STARTERS else ""


def _at_end(match: re.Match[str]) -> bool:
    return right_of(match) in ("", "\n")


def _say_before_figure(match: re.Match[str]) -> str:
    text, start, end = match.string, match.start(), match.end()
    written, gap = match["word"], match["gap"]
    word = written.lower()
    if word not in (BARE_BEFORE_FIGURE if gap == " " else BEFORE_FIGURE):
        return match[0]
    if len(written) == 1 and written.isupper() and (label := _labelled(match)):
        return f"{written} " if label in ("figure", "table", "section", "appendix") else match[0]
    if word in ("min", "sec") and text[max(0, start - 2) : start - 1].isdigit():
        return match[0]  # 5 min. 30
    if word == "v" and gap == ".":
        return "version " if written == "v" else match[0]  # v.2, Article V.2
    said = BEFORE_FIGURE[word]
    if word in _BEFORE_YEAR and _YEAR.match(text, end):
        said = _BEFORE_YEAR[word]
    return (said.capitalize() if written[0].isupper() else said) + " "


def _say_book(match: re.Match[str]) -> str:
    if match[2] in _NAMES and not match[1] and "." not in match[0]:
        return match[0]  # Tim 9:30
    return f"{_ORDINAL[match[1]]} {BOOKS[match[2]]} " if match[1] else f"{BOOKS[match[2]]} "


def _say_half_day(match: re.Match[str]) -> str:
    return f" {match[1].upper()}M{_stop(match) if match[0][-1] == '.' else ''}"


def _say_standard(match: re.Match[str]) -> str:
    """H.264 → H 2 64, X.25 → X 25, M.2 → M dot 2."""
    letter, hundreds, tens, small = match.groups()
    if _DIVISION.search(left_of(match, 12)):
        return match[0]  # Article V.2
    if hundreds:
        return f"{letter} {hundreds} {'oh ' if tens[0] == '0' else ''}{int(tens)}"
    return f"{letter} {small}" if len(small) > 1 else f"{letter} dot {small}"


def _say_plan(match: re.Match[str]) -> str:
    """401(k) → 4 oh 1, 457(b) → 4 57."""
    first, middle, last = match.groups()
    return f"{first} oh {last}" if middle == "0" else f"{first} {middle}{last}"


def _say_title_or_street(match: re.Match[str]) -> str:
    word, stop, following = match.group("word", "stop", "next")
    name = _NAME_BEFORE.search(left_of(match, 32))
    previous = name[1] if name else ""
    named = previous != "" and previous not in STARTERS and previous not in _SAID_TITLES
    name_follows = following is not None and following[0].isupper()
    if word in STREETS and named and (not name_follows or following in STARTERS):
        if stop or previous[0].isdigit() or word in BARE_STREETS:
            ends = stop and (following in STARTERS or _at_end(match))
            return f"{STREETS[word]}{'.' if ends else ''}{match['gap']}"
        return match[0]
    named_after = name_follows or (
        following in ("and", "or") and _TITLE.match(match.string, match.end())
    )
    if word in TITLES and named_after and (stop or (word in BARE_TITLES and not named)):
        return f"{TITLES[word]} "
    return match[0]


def _say_abbreviation(match: re.Match[str]) -> str:
    written = match[0]
    if written in ABBREVIATIONS:
        return ABBREVIATIONS[written] + (_stop(match) if written[-1] == "." else "") + _gap(match)
    if written[-1] in "./" and written[:-1] in ABBREVIATIONS:
        return ABBREVIATIONS[written[:-1]] + written[-1]
    return written


def _gap(match: re.Match[str]) -> str:
    """A blank where the next word touches: `w/Bob`."""
    return " " if right_of(match).isalnum() else ""


# --- streets: `708 N Main St, Apt 4`, `E 5th Ave` ------------------------------------------------
_WAY = any_of(DIRECTIONS)
_STREET_NAMES = any_of({*STREETS.values()})
_NTH = r"\d{1,3}(?i:st|nd|rd|th)"
_HOUSE = re.compile(
    rf"(?<![\w.,$/:-])(?P<house>\d{{1,5}})(?P<letter>[A-Za-z]?) "
    rf"(?P<name>(?:(?:[A-Z][\w'-]{{0,30}}\.?|{_NTH}) ){{1,4}}?)(?P<street>(?i:{any_of(STREETS)}))\b"
    r"(?P<stop>\.?)(?= (?P<next>\w+)|\W|$)"
)
_BEFORE_NAME = re.compile(
    rf"\b(?P<way>{_WAY})\b\.? "
    rf"(?=(?:(?:[A-Z][\w'-]{{0,30}}|{_NTH}) ){{1,3}}(?:{_STREET_NAMES}|{any_of(STREETS)})\b)"
)
_BEHIND_NAME = re.compile(
    rf"(?<=[a-z])(?:,(?= [NS][EW]\b))? (?P<way>{_WAY})\b(?P<stop>\.?)(?!['&-]\w)"
)
_NAME = re.compile(rf"\b(?:{_STREET_NAMES})$")
_ANY_WAY = re.compile(r"\b[NSEW]{1,2}\b")
_LAND = re.compile(
    r"\b([NSEW])\. (?=Korea|Africa|America|Virginia|Carolina|Dakota|Ireland|Sudan|Macedonia|Coast"
    r"|Side|Bank)"
)
_NEXT = re.compile(r" (\w+)")
_LAST_WORD = re.compile(r"\b([A-Za-z][\w']{0,20}) $")
_DATED = frozenset(("in", "since", "during", "until", "by", "from", "the", "of", "late", "early"))
"""Words before a figure that make it a year, not a house."""


def streets(text: str) -> str:
    """`text` with the abbreviations in addresses as words. Linear time."""
    if _FIGURE.search(text):
        text = _HOUSE.sub(_say_house, text)
    if _ANY_WAY.search(text):
        text = _BEHIND_NAME.sub(_say_behind, _BEFORE_NAME.sub(_say_before, text))
        text = _LAND.sub(lambda m: f"{DIRECTIONS[m[1]]} ", text)
    return text


def _word_before(match: re.Match[str]) -> str:
    found = _LAST_WORD.search(left_of(match, 24))
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
    return f"{house}{match['letter']} {match['name']}{STREETS[street]}{_street_stop(match)}"


def _street_stop(match: re.Match[str]) -> str:
    """The stop of an abbreviation again where it also ends a sentence."""
    if not match["stop"]:
        return ""
    following = _NEXT.match(match.string, match.end())
    ends = right_of(match) in ("", "\n")
    return "." if ends or (following and following[1] in STARTERS) else ""


def _say_before(match: re.Match[str]) -> str:
    previous = _word_before(match)
    if previous[:1].isupper() and previous not in STARTERS:
        return match[0]  # John W. Smith Road
    return f"{DIRECTIONS[match['way']]} "


def _say_behind(match: re.Match[str]) -> str:
    if not _NAME.search(left_of(match, 12)):
        return match[0]
    return f" {DIRECTIONS[match['way']]}{_street_stop(match)}"


# --- chapter and verse: `Romans 8:28-30` ---------------------------------------------------------
_BOOKS = "|".join(BOOKS.values()) + (
    "|Ruth|Ezra|Job|Joel|Amos|Obadiah|Jonah|Nahum|Acts|Jude|Maccabees|Tobit|Judith|Sirach|Baruch"
    "|Surah?|Quran|Koran"
)
_CHAPTER_VERSE = re.compile(
    rf"(?:(?<![\w.])([123]) )?\b({_BOOKS}) (\d{{1,3}}):(\d{{1,3}})"
    r"(?: ?[-–—] ?(\d{1,3})(?![:\d]))?(?![\w:])"
)


def verses(text: str) -> str:
    """Romans 8:28-30, 1 Peter 5:7: must be taken before times of day."""
    return _CHAPTER_VERSE.sub(_say_verse, text) if _IS_VERSE.search(text) else text


def _say_verse(match: re.Match[str]) -> str:
    book, book_name, chapter, first, last = match.groups()
    volume = ("First ", "Second ", "Third ")[int(book) - 1] if book else ""
    said = f"{volume}{book_name} {cardinal(int(chapter))} {cardinal(int(first))}"
    return f"{said} to {cardinal(int(last))}" if last else said
