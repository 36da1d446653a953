"""Read Roman numerals as words: `Chapter IV`, `Henry VIII`, `I, II and III`, `XXI century`.

A numeral is read where a word, a name or its own length shows that it is one. `I` is far more often
a pronoun, so its neighbours must leave no doubt. Other letters stay as they are written.
"""

import re
from itertools import pairwise

from chatterbox.text.lexicon import NUMBER_LABELS, STARTERS, any_in, word_set, words_in
from chatterbox.text.numbers import cardinal, ordinal, year
from chatterbox.text.rules import Match, Step, text_after, text_before

read = Step(__name__, needs=r"[IVXLCDMWivx](?<!\w.)[IVXLCDMWivx]{0,9}(?:th|st|nd|rd| ?\d)?(?!\w)")
"""Read Roman numerals as words: `Henry VIII` → `Henry the eighth`. Needs single spaces."""
_RULERS, _PRONOUN_VERBS, _REIGNED = (
    words_in("rulers"),
    words_in("pronoun verbs"),
    words_in("reigned"),
)
_VALUES = {"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}
_TENS = r"(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_SMALL = rf"(?>(?=[IVXL]){_TENS})(?!\w)"
"""Matches a canonical numeral below 100. It is atomic and no letter follows, so it is not empty."""
_BARE = r"(?>(?=[IVX])X{0,3}(?:IX|IV|V?I{0,3}))"
_UP_TO_39 = rf"{_BARE}(?!\w)"
_LOWER = r"(?>x{0,3}(?:ix|iv|v?i{0,3}))(?!\w|['.]\w)"
_LARGE = rf"(?>(?=[IVXLCDM])M{{0,3}}(?:CM|CD|D?C{{0,3}}){_TENS})(?!\w)"
_BEYOND_ONE = "[VXLCDM]|II"

_CLASSES = word_set("type phase stage class grade level tier schedule category division")
_WORDS = _CLASSES | word_set(
    "chapter part act scene book volume section article appendix episode title figure table mark "
    "canto annex"
)
_NOTED = {**NUMBER_LABELS, "pt": "part", "bk": "book", "p": "page", "pp": "pages"}
_PROPER = ("world war", "super bowl")
_NEXT = re.compile(r" (\w[\w']*)(?: (\w+))?")
_NO_VERB = word_set("the a an of in at on by from to for with is has who whose which as")
"""Words that never follow the pronoun `I`."""
_VERBS_IN_S = word_set("was always perhaps sometimes as thus besides afterwards")
_DETERMINER = re.compile(r"(?i)\b(?:the|a|this|that|every) $")
_SINGULAR = re.compile(rf"{any_in('of a type')}$")
_MONARCH_WAS = re.compile(rf" was (?:the|an?|also|{any_in('monarch was')})\b| was[.,]?(?=\n|$)")


def _value(numeral: str) -> int:
    values = [_VALUES[c] for c in numeral.upper()]
    return sum(-v if v < after else v for v, after in pairwise([*values, 0]))


def _cardinal(numeral: str) -> str:
    return cardinal(_value(numeral))


read.add(r"\bWW ?(I{1,3})\b", lambda m: f"World War {_cardinal(m[1])}", "WW")
read.add(r"\bWW ?([123])\b", lambda m: f"World War {cardinal(int(m[1]))}", "WW")


@read.rule(
    rf"\b(?:({_BARE})(?:th)?( and | or | to |[/–-]))?({_BARE})"
    r"(?:(?:(?<=[VX])th|(?<=[IVX]{2})(?:st|nd|rd|th))(?!\w)|(?!\w)(?= (?:[Cc]entur(?:y|ies)"
    r"|[Dd]ynasty|Olympi|Legion|Corps|Congress|Amendment)))",
    "[VX](?:th)?|II",
)
def _say_nth(match: Match) -> str:
    """XXI century, the XIXth, XIX-XX centuries."""
    first, link, last = match.groups()
    if not last or (link and not first):
        return match[0]
    between = " to " if link and link in "/–-" else link
    return (f"{ordinal(_value(first))}{between}" if first else "") + ordinal(_value(last))


@read.rule(
    rf"(?<![\w'.-]){_SMALL}(?:(?:, (?:and |or )?| (?:and|or|to|through|&) |[/–-]){_SMALL})+"
    r"(?!['.-]\w)",
    _BEYOND_ONE,
)
def _say_run(match: Match) -> str:
    """Acts I and II, Phase III/IV; without such a word only rising numerals, one of two letters."""
    values = [_value(numeral) for numeral in re.findall("[IVXL]+", match[0])]
    if not all(a < b for a, b in pairwise(values)):
        return match[0]
    ruler = re.search(r"\b([A-Z][a-z]+) $", text_before(match, 16))
    if ruler and ruler[1] in _RULERS:
        return "the " + re.sub("[IVXL]+", lambda m: ordinal(_value(m[0])), match[0])
    before = re.search(r"([A-Za-z]{3,8})s $|([Ww]orld [Ww]ar) $", text_before(match, 12))
    numbered = before and (before[2] or before[1].lower() in _WORDS | {"clas"})
    if not numbered and not any(v in range(2, 40) and v % 10 and v != 5 for v in values):
        return match[0]
    between = {"/": " ", "–": " to ", "-": " to "}
    return re.sub("[IVXL]+|[/–-]", lambda m: between.get(m[0]) or _cardinal(m[0]), match[0])


def _said_small(match: Match) -> str:
    """iv; ix–xii."""
    _, first, link, last = match.groups()
    if not link:
        return f" {_cardinal(first)}"
    return f" {_cardinal(first)}{' to ' if link in '–-' else link}{_cardinal(last)}"


@read.rule(
    rf"\b([A-Za-z]{{3,8}}) (?=[ivx]{{2}}|(?<=[Aa]ct )[iv]|(?<=[Ss]cene )[iv])({_LOWER})"
    rf"(?:( to | and |[–-])(?=[ivx])({_LOWER}))?",
    " [ivx]{1,5}(?![a-z])",
)
def _say_numbered_small(match: Match) -> str:
    """Act iv"""
    known = match[1].lower().rstrip("s") in _WORDS | {"page", "clas"}
    return match[1] + _said_small(match) if known else match[0]


@read.rule(
    rf"\b(?P<word>(?i:world |super )?[A-Za-z]{{3,8}}) (?P<numeral>{_LARGE})(?![/&-]\w)"
    r"(?P<tail>'(?:m|ve|ll|d|re)\b|\.(?=\w))?",
    " [IVXLCDM]",
)
def _say_numbered(match: Match) -> str:
    """Chapter IV"""
    word, numeral, tail = match.group("word", "numeral", "tail")
    if word.split()[-1].lower() not in _WORDS and word.lower() not in _PROPER:
        return match[0]
    if numeral in ("C", "L", "D", "M") or (len(numeral) == 2 and set(numeral) & set("CDM")):
        return match[0]  # Type C, Class CD
    pronoun = numeral == "I" and (tail or _is_pronoun(word, match))
    if pronoun or (tail and tail[0] == "'"):
        return match[0]
    if not tail:
        return f"{word} {_cardinal(numeral)}"
    following = text_after(match, 2)
    if following[0].isdigit():
        return f"{word} {_value(numeral)}."
    alone = following[0].isupper() and not following[1:].isalnum()
    return f"{word} {_cardinal(numeral)}{' ' if alone else '. '}"


def _is_pronoun(word: str, match: Match) -> bool:
    """Whether `I` is a pronoun, as in `the part I liked`, unlike `Part I describes`."""
    following = _NEXT.match(match.string, match.end("numeral"))
    if following is None or word.lower() in _PROPER:
        return False
    after, named = following[1].lower(), word[0].isupper()
    determined = _DETERMINER.search(text_before(match, 6)) is not None
    in_s = after.endswith("s") and after[-2:] != "ss" and after not in _VERBS_IN_S
    if after in _NO_VERB or in_s:
        return False
    if after == "was" and named:
        return determined
    if after in _PRONOUN_VERBS or after.endswith(("n't", "ly")):
        return True
    if named:
        return determined and after.endswith("ed")
    return not (word in _CLASSES and _SINGULAR.match(after))


@read.rule(
    rf"\b([A-Za-z]{{1,6}})\. (?!(?<=[Nn]o\. )I\b|(?<=[Pp]\. )[A-Z])"
    rf"({_SMALL}|(?=[ivx]{{2}}){_LOWER})(?!['.]\w)(?:( to | and |[–-])(?=[ivx])({_LOWER}))?",
    r"\. ",
)
def _say_noted(match: Match) -> str:
    """Vol. III, pp. ix–xii"""
    said = _NOTED.get(match[1].lower())
    if said is None or match[1].lower() in ("c", "ca"):
        return match[0]
    return (said.capitalize() if match[1][0].isupper() else said) + _said_small(match)


# --- names ---------------------------------------------------------------------------------------
def _say_ordinal(match: Match) -> str:
    if match[1] in STARTERS:
        return match[0]
    return f"{match[1]} the {ordinal(_value(match[2]))}"


read.add(
    r"\b(([A-Z][a-z]{2,11})(?: [A-Z]\.?)? [A-Z][a-z]{1,30}) (I[IV]|III)(?!\w)",
    lambda m: f"{m[1]} the {ordinal(_value(m[3]))}" if m[2] in _RULERS else m[0],
    " I[IV]",
)


@read.rule(
    r"\b((?:King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser|Sultan|Pharaoh|Shah|Prince|Patriarch)"
    rf" [A-Z]\w{{1,30}}(?: [A-Z]\w{{1,30}})?) ({_UP_TO_39})(?!'(?:m|ve|ll|d)\b)",
    " [IVX]",
)
def _say_titled(match: Match) -> str:
    """King George V"""
    following = _NEXT.match(match.string, match.end())
    pronoun = match[2] == "I" and following and following[1] in _PRONOUN_VERBS - {"was", "had"}
    return match[0] if pronoun else _say_ordinal(match)


@read.rule(rf"\b([A-Z][a-z]{{2,11}}) ({_UP_TO_39})(?!'(?:m|ve|ll|d)\b)", " [IVX]")
def _say_ruler(match: Match) -> str:
    """`Henry VIII`, but not `Mary I think`."""
    if match[1] not in _RULERS:
        return match[0]
    if match[2] == "I":
        following = _NEXT.match(match.string, match.end())
        after = following[1].lower() if following else ""
        reigns = after in _REIGNED or after in _NO_VERB or after in ("", "and", "or")
        if not reigns and not _MONARCH_WAS.match(match.string, match.end()):
            return match[0]
    return _say_ordinal(match)


read.add(rf"\b([A-Z][a-z]{{2,30}}) (?!I )({_UP_TO_39})(?= of [A-Z])", _say_ordinal, _BEYOND_ONE)


@read.rule(
    rf"\b([A-Za-z][\w'-]{{0,30}}) (?:((?=II\b|[IVX]{{3}}|LI?[IVX]{{3}}|XL[IVX])(?!XXX\b){_SMALL})"
    rf"|((?:VI|IX|XI|XV|XX)\b|IV\b(?! {any_in('after drips')}\b)))(?!['.]\w\w)",
    _BEYOND_ONE,
)
def _say_sequel(match: Match) -> str:
    """Rocky III; where the numeral could be an abbreviation (IV), only after a name."""
    before, sure, named = match.groups()
    if named and (not before[0].isupper() or before in STARTERS):
        return match[0]
    return f"{before} {_cardinal(sure or named)}"


read.add(
    rf"\b(?>(?=M[MDCLXVI]{{3}})M{{1,3}}(?:CM|CD|D?C{{0,3}}){_TENS})(?!\w)",
    lambda m: year(_value(m[0])),
    "M[MDCLXVI]{3}",
)
