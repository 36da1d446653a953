"""Read abbreviations, initials, streets and verses as words.

The steps need single spaces. They run before numbers are read, so that `No. 5` still has its 5.
"""

import re

from chatterbox.text import lexicon
from chatterbox.text.lexicon import any_in, any_of, word_set
from chatterbox.text.numbers import cardinal
from chatterbox.text.rules import Match, Step, space_after, text_after, text_before, word_before

_NEXT_WORD = re.compile(r" ([^\W\d_][\w']{0,30})")


def _ends_line(match: Match) -> bool:
    return text_after(match) in ("", "\n")


def _stop(match: Match) -> str:
    """Return "." where the stop of an abbreviation also ends a sentence: at the end of a line, or
    before a word that is capitalised only because a sentence begins."""
    following = _NEXT_WORD.match(match.string, match.end())
    begins = following is not None and following[1] in lexicon.STARTERS
    return "." if begins or _ends_line(match) else ""


# --- streets -------------------------------------------------------------------------------------
streets = Step(__name__, "streets", r"[0-9NSEW](?<![A-Za-z].)")
"""Read streets as words: `1500 K St. NW` → `fifteen hundred K Street Northwest`."""
_DIRECTION = rf"(?P<direction>{any_of(lexicon.DIRECTIONS)})\b"
_STREETS, _STREET_NAMES = any_of(lexicon.STREETS), any_of(lexicon.STREETS.values())
_NTH = r"\d{1,3}(?i:st|nd|rd|th)"
_NAME = re.compile(rf"\b(?:{_STREET_NAMES})$")


@streets.rule(
    r"(?<![\w.,$/:-])(?P<house>\d{1,5}[A-Za-z]?) "
    rf"(?P<name>(?:(?:[A-Z][\w'-]{{0,30}}\.?|{_NTH}) ){{1,4}}?)(?P<street>(?i:{_STREETS}))\b"
    r"(?P<stop>\.?)(?= (?P<next>\w+)|\W|$)",
    "[0-9][A-Za-z]? [A-Z0-9]",
)
def _say_street(match: Match) -> str:
    """9 Mill St"""
    following, street = match["next"] or "", match["street"].capitalize()
    is_name = following[:1].isupper() and following not in lexicon.STARTERS | {*lexicon.DIRECTIONS}
    is_title = match["stop"] or street != "St" or match["name"].strip().isupper()
    if is_name and street in lexicon.TITLES and is_title:
        return match[0]  # 7 AM Dr. Smith
    stop = _stop(match) if match["stop"] else ""
    return f"{match['house']} {match['name']}{lexicon.STREETS[street]}{stop}"


@streets.rule(
    rf"\b{_DIRECTION}\.? "
    rf"(?=(?:(?:[A-Z][\w'-]{{0,30}}|{_NTH}) ){{1,3}}(?:{_STREET_NAMES}|{_STREETS})\b)",
    r"\b[NSEW]{1,2}\b",
)
def _say_direction_before(match: Match) -> str:
    """E 5th Ave"""
    previous = word_before(match)
    if previous[:1].isupper() and previous not in lexicon.STARTERS:
        return match[0]  # John W. Smith Road
    return f"{lexicon.DIRECTIONS[match['direction']]} "


@streets.rule(
    rf"(?<=[a-z])(?:,(?= [NS][EW]\b))? {_DIRECTION}(?P<stop>\.?)(?!['&-]\w)", r"\b[NSEW]{1,2}\b"
)
def _say_direction_behind(match: Match) -> str:
    """K Street NW"""
    if not _NAME.search(text_before(match, 12)):
        return match[0]
    return f" {lexicon.DIRECTIONS[match['direction']]}{_stop(match) if match['stop'] else ''}"


streets.add(
    rf"\b([NSEW])\. (?={any_in('lands')})", lambda m: f"{lexicon.DIRECTIONS[m[1]]} ", r"\b[NSEW]\."
)
streets.add(  # I-95 N
    r"\b((?:I|US|SR|Hwy|Highway|Route|Interstate)[- ]\d{1,3}) ([NSEW])\b(?!\.\w)",
    lambda m: f"{m[1]} {lexicon.DIRECTIONS[m[2]]}",
    r" [NSEW]\b",
)

# --- abbreviations in front of a number ----------------------------------------------------------
number_labels = Step(__name__, "number_labels", "[0-9]")
"""Read abbreviations in front of numbers as words: `pp. 3-5` → `pages three to five`."""
_NAMES = word_set("Dan Gal Gen Jn Josh Mal Mic Phil Sam Tim")
"""Books whose abbreviation without a stop is a name or a word."""
_NTH_BOOK = {"1": "First ", "2": "Second ", "3": "Third ", None: ""}
_LIVES = {"b": "born ", "d": "died ", "fl": "flourished ", "r": "reigned ", "m": "married "}
_BEFORE_YEAR = {"est": "established", "fl": "flourished"}
_DIVISION = re.compile(r"(?i)\b(?:article|section|part|chapter|title|table|book|appendix)s? $")
number_labels.add(  # (b. 1945)
    r"(?:(?<=\()|(?<=[,;] ))(b|d|fl|r|m)\. ?(?=(?:c\. ?|ca\. ?)?\d{3,4}\b)",
    lambda m: _LIVES[m[1]],
    "[0-9]{3}",
)


@number_labels.rule(
    rf"\b(?:([123]) )?({any_of(lexicon.BOOKS)})(?:\. ?| )(?=\d{{1,3}}:\d)", "[0-9]:[0-9]"
)
def _say_book(match: Match) -> str:
    """1 Cor. 9:4"""
    if match[2] in _NAMES and not match[1] and "." not in match[0]:
        return match[0]  # Tim 9:30
    return f"{_NTH_BOOK[match[1]]}{lexicon.BOOKS[match[2]]} "


number_labels.add(r"(?<=\dth )c\.(?= [a-z])", "century", r"th c\.")


@number_labels.rule(r"(?<![\w.'])([A-Z])\.(?:(\d)(\d\d)|(\d{1,2}))(?![\w.]\d|\w)", r"[A-Z]\.[0-9]")
def _say_standard(match: Match) -> str:
    """H.264 → H 2 64, X.25 → X 25, M.2 → M dot 2."""
    letter, hundreds, tens, small = match.groups()
    if _DIVISION.search(text_before(match, 12)):
        return match[0]  # Article V.2
    if hundreds:
        return f"{letter} {hundreds} {'oh ' if tens[0] == '0' else ''}{int(tens)}"
    return f"{letter} {small}" if len(small) > 1 else f"{letter} dot {small}"


number_labels.add(r"(?<![\w.,$])(\d)0(\d)(?=\([a-z]\))", r"\1 oh \2", r"[0-9]\(")  # 401(k)
number_labels.add(r"(?<![\w.,$])(\d)(\d\d)(?=\([a-z]\))", r"\1 \2", r"[0-9]\(")
number_labels.add(
    r"(?<=\d) ?([AaPp])\. ?[Mm]\b\.?",
    lambda m: f" {m[1].upper()}M{_stop(m) if m[0][-1] == '.' else ''}",
    r"[AaPp]\. ?[Mm]",
)


def _label_before(match: Match) -> str:
    """Return the word that the single capital of the match belongs to: `Figure C`."""
    label = word_before(match).lower()
    return label if label in lexicon.LABELS else ""


@number_labels.rule(r"(?<![\w.'/-])(?P<word>[A-Za-z/]{1,7}+)(?P<gap>\. ?| )(?=\d)", "[. ][0-9]")
def _say_number_label(match: Match) -> str:
    """No. 5"""
    written, gap = match["word"], match["gap"]
    word = written.lower()
    if word not in (lexicon.BARE_NUMBER_LABELS if gap == " " else lexicon.NUMBER_LABELS):
        return match[0]
    if len(written) == 1 and written.isupper() and (label := _label_before(match)):
        return f"{written} " if label in ("figure", "table", "section", "appendix") else match[0]
    if word in ("min", "sec") and text_before(match, 2)[:-1].isdigit():
        return match[0]  # 5 min. 30
    if word == "v" and gap == ".":
        return "version " if written == "v" else match[0]  # v.2, Article V.2
    said = lexicon.NUMBER_LABELS[word]
    if word in _BEFORE_YEAR and re.match(r"\d{4}\b", text_after(match, 5)):
        said = _BEFORE_YEAR[word]
    return (said.capitalize() if written[0].isupper() else said) + " "


# --- titles, streets, other abbreviations, initials ----------------------------------------------
read = Step(__name__)
"""Read titles, initials and other abbreviations as words: `Dr. Day` → `Doctor Day`."""
_SAID_TITLES = lexicon.TITLES.keys() | lexicon.TITLES.values()
_NAME_OR_NTH = re.compile(r"[A-Z][\w'-]*|\d{1,4}(?:st|nd|rd|th)")
_TITLE = re.compile(rf"(?:and|or) (?:{any_of(lexicon.TITLES)})\b")
read.add(
    r"\b(?!Chapter|Part|Section|Act|Book|Article)([A-Z][\w'&-]{1,30}[.,]?) v\.? "
    rf"(?=[A-Z])(?!(?:{any_of(lexicon.STARTERS)})\b)",
    r"\1 versus ",
    r" v\.? ",
)
read.add(r"\bw/(?=[A-Za-z]{2}|\d)", "with ", "w/")
read.add(
    r"(?i)\b(s?he/s?he|him/her|her/him|his/her)/(?=the(?:y|m|irs?)\b)",
    lambda m: m[1].replace("/", ", ") + " or ",
    "/the",
)
read.add(
    r"\b(Apt|Ste|Bldg)\.? (?=[A-Z]\d{0,3}\b)",
    lambda m: lexicon.NUMBER_LABELS[m[1].lower()].capitalize() + " ",
    "Apt|Ste|Bldg",
)


@read.rule(
    rf"\b(?=[A-Z])(?P<word>{any_of({*lexicon.TITLES, *lexicon.STREETS})})\b"
    r"(?P<stop>\.?)(?P<gap> ?)(?=(?P<next>[^\W\d_][\w']{0,30})?)"
)
def _say_title_or_street(match: Match) -> str:
    """Dr. Smith, Oak Dr."""
    word, stop, following = match["word"], match["stop"], match["next"] or ""
    previous = word_before(match)
    named = _NAME_OR_NTH.fullmatch(previous) and not (
        previous in lexicon.STARTERS or previous in _SAID_TITLES
    )
    name_follows, starts = following[:1].isupper(), following in lexicon.STARTERS
    if word in lexicon.STREETS and named and (not name_follows or starts):
        if stop or previous[0].isdigit() or word in lexicon.BARE_STREETS:
            ends = stop and (starts or _ends_line(match))
            return f"{lexicon.STREETS[word]}{'.' if ends else ''}{match['gap']}"
        return match[0]
    title_follows = following in ("and", "or") and _TITLE.match(match.string, match.end())
    is_title = word in lexicon.TITLES and (name_follows or title_follows)
    if is_title and (stop or (word in lexicon.BARE_TITLES and not named)):
        return f"{lexicon.TITLES[word]} "
    return match[0]


@read.rule(
    r"(?<![\w.'/])(?:[A-Za-z]{1,6}+(?:(?:[./][A-Za-z]{1,3}(?![A-Za-z])){1,3}+[./]?+|[./])|vs\b)",
    r"[./]|vs\b",
)
def _say_abbreviation(match: Match) -> str:
    """e.g. apples, etc."""
    written = match[0]
    if written in lexicon.ABBREVIATIONS:
        stop = _stop(match) if written[-1] == "." else ""
        return lexicon.ABBREVIATIONS[written] + stop + space_after(match)
    if written[-1] in "./" and written[:-1] in lexicon.ABBREVIATIONS:
        return lexicon.ABBREVIATIONS[written[:-1]] + written[-1]
    return written


read.add(  # U.S.
    r"[A-Z](?<!\w[A-Z])\.(?:[A-Z]\.)+",
    lambda m: m[0].replace(".", "") + _stop(m) + space_after(m),
    r"\.",
)


@read.rule(
    r"([A-HJ-Z])\.(?<![\w°]..)(?<!\d ..)(?<!dot ..)(?<!dot [A-Z] ..)(?<!dot [A-Z] [A-Z] ..)"
    r" ?(?=([A-Z][\w']{0,30}))",
    r"\.",
)
def _say_initial(match: Match) -> str:
    """J. Smith"""
    if _label_before(match):
        return f"{match[1]}. "
    return match[0] if match[2] in lexicon.STARTERS else match[1] + " "


# --- chapter and verse, before times of day ------------------------------------------------------
verses = Step(__name__, "verses", "[0-9]:[0-9]")
"""Read chapter and verse as words: `Romans 8:28-30` → `Romans eight twenty-eight to thirty`."""


@verses.rule(
    rf"(?:(?<![\w.])([123]) )?\b({any_of(lexicon.BOOKS.values())}|{any_in('more books')}) "
    r"(\d{1,3}):(\d{1,3})(?: ?[-–—] ?(\d{1,3})(?![:\d]))?(?![\w:])"
)
def _say_verse(match: Match) -> str:
    book, name, chapter, first, last = match.groups()
    said = f"{_NTH_BOOK[book]}{name} {cardinal(int(chapter))} {cardinal(int(first))}"
    return f"{said} to {cardinal(int(last))}" if last else said
