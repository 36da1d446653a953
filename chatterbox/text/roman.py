"""Reads Roman numerals: `Chapter IV`, `Henry VIII`, `Rocky II`, `I, II and III`, `XXI century`.

A numeral is read where a word, a name or its own length says that it is one. `I` is a pronoun far
more often than a numeral, so it needs the clearest sign. Anything else stays as it is written.
"""

import re
from itertools import pairwise

from chatterbox.text.lexicon import BEFORE_FIGURE, STARTERS, listed, words
from chatterbox.text.numbers import cardinal, ordinal, year
from chatterbox.text.rules import left_of, right_of

_RULERS = words("rulers")
_PRONOUN_VERBS = words("pronoun verbs")

_VALUES = {"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}
_TENS = r"(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_SMALL = rf"(?>(?=[IVXL]){_TENS})(?!\w)"
"""A canonical numeral below 100. Atomic and followed by no letter, so it is never empty."""
_LARGE = rf"(?>(?=[IVXLCDM])M{{0,3}}(?:CM|CD|D?C{{0,3}}){_TENS})(?!\w)"
_UP_TO_39 = r"(?>(?=[IVX])X{0,3}(?:IX|IV|V?I{0,3}))(?!\w)"

_CLASSES = listed("type phase stage class grade level tier schedule category division")
_WORDS = _CLASSES | listed(
    "chapter part act scene book volume section article appendix episode title figure table mark "
    "canto annex"
)
_NOTED = {**BEFORE_FIGURE, "pt": "part", "bk": "book", "p": "page", "pp": "pages"}
_PROPER = frozenset({"world war", "super bowl"})
_NOT_NOTED = frozenset({"c", "ca"})

_POSSIBLE = re.compile(r"(?<!\w)(?:[ivx]{1,6}|W?W?[IVXLCDM]{1,9}(?:th|st|nd|rd)?|WW ?\d)(?!\w)")
_WW = re.compile(r"\bWW ?(I{1,3}|[123])\b")
_RUN = re.compile(
    rf"(?<![\w'.-]){_SMALL}(?:(?:, (?:and |or )?| (?:and|or|to|through|&) |[/–-]){_SMALL})+"
    r"(?!['.-]\w)"
)
_NAME_BEFORE = re.compile(r"\b([A-Z][a-z]+) $")
_PLURAL_WORD = re.compile(r"([A-Za-z]{3,8})s $|([Ww]orld [Ww]ar) $")
_RUN_PART = re.compile(r"[IVXL]+|[/–-]")
_NUMBERED = re.compile(
    rf"\b(?P<word>(?i:world |super )?[A-Za-z]{{3,8}}) (?P<numeral>{_LARGE})(?![/&-]\w)"
    r"(?P<tail>'(?:m|ve|ll|d|re)\b|\.(?=\w))?"
)
_LOWER = r"(?>x{0,3}(?:ix|iv|v?i{0,3}))(?!\w|['.]\w)"
_NUMBERED_SMALL = re.compile(
    rf"\b([A-Za-z]{{3,8}}) (?=[ivx]{{2}}|(?<=[Aa]ct )[iv]|(?<=[Ss]cene )[iv])({_LOWER})"
    rf"(?:( to | and |[–-])(?=[ivx])({_LOWER}))?"
)
_NOTED_NUMERAL = re.compile(
    rf"\b([A-Za-z]{{1,6}})\. (?!(?<=[Nn]o\. )I\b|(?<=[Pp]\. )[A-Z])"
    rf"({_SMALL}|(?=[ivx]{{2}}){_LOWER})(?!['.]\w)(?:( to | and |[–-])(?=[ivx])({_LOWER}))?"
)
_TITLED = re.compile(
    r"\b((?:King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser|Sultan|Pharaoh|Shah|Prince|Patriarch)"
    rf" [A-Z]\w{{1,30}}(?: [A-Z]\w{{1,30}})?) ({_UP_TO_39})(?!'(?:m|ve|ll|d)\b)"
)
_RULER = re.compile(rf"\b([A-Z][a-z]{{2,11}}) ({_UP_TO_39})(?!'(?:m|ve|ll|d)\b)")
_HEIR = re.compile(r"\b(([A-Z][a-z]{2,11})(?: [A-Z]\.?)? [A-Z][a-z]{1,30}) (I[IV]|III)(?!\w)")
_OF_LAND = re.compile(rf"\b([A-Z][a-z]{{2,30}}) (?!I )({_UP_TO_39})(?= of [A-Z])")
_BARE = r"(?>(?=[IVX])X{0,3}(?:IX|IV|V?I{0,3}))"
_NTH = re.compile(
    rf"\b(?:({_BARE})(?:th)?( and | or | to |[/–-]))?({_BARE})"
    r"(?:(?:(?<=[VX])th|(?<=[IVX]{2})(?:st|nd|rd|th))(?!\w)|(?!\w)(?= (?:[Cc]entur(?:y|ies)"
    r"|[Dd]ynasty|Olympi|Legion|Corps|Congress|Amendment)))"
)
_SEQUEL = re.compile(
    rf"\b([A-Za-z][\w'-]{{0,30}}) (?:(?P<sure>(?=II\b|[IVX]{{3}}|LI?[IVX]{{3}}|XL[IVX])(?!XXX\b)"
    rf"{_SMALL})"
    r"|(?P<named>(?:VI|IX|XI|XV|XX)\b|IV\b(?! (?:drips?|lines?|bags?|fluids?|antibiotics?|poles?"
    r"|push|access|catheters?|therapy|treatments?|infusions?|needles?|medications?|drugs?|iron)"
    r"\b)))(?!['.]\w\w)"
)
_YEAR = re.compile(r"\b(?>(?=M[MDCLXVI]{3})M{1,3}(?:CM|CD|D?C{0,3})" + _TENS + r")(?!\w)")

_NEXT = re.compile(r" (\w[\w']*)(?: (\w+))?")
_NO_VERB = listed("the a an of in at on by from to for with is has who whose which as")
"""Never stands after the pronoun `I`."""
_VERBS_IN_S = listed("was always perhaps sometimes as thus besides afterwards")
_DETERMINER = re.compile(r"(?i)\b(?:the|a|this|that|every) $")
_SINGULAR = re.compile(
    r"(?:error|trial|study|cancer|fiber|device|recall|evidence|listed|building|railroad|disease"
    r"|tumor|trauma|hospital|supernova|drug|substance|muscle|cell|school|medical|clinical|mode"
    r"|\w+(?:[st]ion|ity|osis|oma|ogen|eron|ive|ical|ial))$"
)
_MONARCH_WAS = re.compile(
    r" was (?:the|an?|also|king|queen|emperor|crowned|born|beheaded|executed|succeeded|married"
    r"|deposed|assassinated|buried|known|murdered|killed|elected|proclaimed|forced)\b"
    r"| was[.,]?(?=\n|$)"
)
_REIGNED = words("reigned")


def spell_out(text: str) -> str:
    """`text` with safe Roman numerals as words. Linear time; single blanks only."""
    numerals = set(_POSSIBLE.findall(text))
    if not numerals:
        return text
    beyond_one = numerals != {"I"}
    if beyond_one:
        text = _WW.sub(lambda m: f"World War {cardinal(_value(m[1]))}", text)
        text = _RUN.sub(_say_run, _NTH.sub(_say_nth, text))
        text = _NUMBERED_SMALL.sub(_say_numbered_small, text)
    text = _NUMBERED.sub(_say_numbered, text)
    if ". " in text:
        text = _NOTED_NUMERAL.sub(_say_noted, text)
    if "II" in text or "IV" in text:
        text = _HEIR.sub(_say_heir, text)
    text = _RULER.sub(_say_ruler, _TITLED.sub(_say_titled, text))
    if beyond_one:
        text = _SEQUEL.sub(_say_sequel, _OF_LAND.sub(_say_ordinal, text))
        text = _YEAR.sub(lambda m: year(_value(m[0])), text)
    return text


def _value(numeral: str) -> int:
    if numeral.isdigit():
        return int(numeral)
    values = [_VALUES[c] for c in numeral]
    following = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, following, strict=True))


def _say_run(match: re.Match[str]) -> str:
    """Acts I and II, Phase III/IV; without such a word only upwards and with two letters."""
    values = [_value(part) for part in _RUN_PART.findall(match[0]) if part.isalpha()]
    upwards = all(a < b for a, b in pairwise(values))
    before = _PLURAL_WORD.search(left_of(match, 12))
    ruler = _NAME_BEFORE.search(left_of(match, 16))
    if upwards and ruler and ruler[1] in _RULERS:
        return "the " + re.sub("[IVXL]+", lambda m: ordinal(_value(m[0])), match[0])
    numbered = before and (before[2] or before[1].lower() in _WORDS | {"clas"})
    if not upwards or not (
        numbered or any(v in range(2, 40) and v % 10 and v != 5 for v in values)
    ):
        return match[0]
    return _RUN_PART.sub(_say_run_part, match[0])


def _say_run_part(match: re.Match[str]) -> str:
    if match[0].isalpha():
        return cardinal(_value(match[0]))
    return " " if match[0] == "/" else " to "


def _say_nth(match: re.Match[str]) -> str:
    """XXI century, the XIXth, XIX-XX centuries."""
    if not match[3] or (match[2] and not match[1]):
        return match[0]
    said = ordinal(_value(match[3]))
    if not match[1]:
        return said
    between = " to " if match[2] in "/–-" else match[2]
    return f"{ordinal(_value(match[1]))}{between}{said}"


def _say_numbered(match: re.Match[str]) -> str:
    word, numeral, tail = match.group("word", "numeral", "tail")
    if word.split()[-1].lower() not in _WORDS and word.lower() not in _PROPER:
        return match[0]
    if numeral in ("C", "L", "D", "M") or (len(numeral) == 2 and set(numeral) & set("CDM")):
        return match[0]  # Type C, Class CD
    pronoun = numeral == "I" and (tail or _is_pronoun(word, match))
    if pronoun or (tail and tail[0] == "'"):
        return match[0]
    if not tail:
        return f"{word} {cardinal(_value(numeral))}"
    following = right_of(match, 2)
    if following[0].isdigit():
        return f"{word} {_value(numeral)}."
    alone = following[0].isupper() and not following[1:].isalnum()
    return f"{word} {cardinal(_value(numeral))}{' ' if alone else '. '}"


def _is_pronoun(word: str, match: re.Match[str]) -> bool:
    """Whether `I` after `word` is who speaks: `the part I liked`, but `Part I describes`."""
    following = _NEXT.match(match.string, match.end("numeral"))
    if following is None or word.lower() in _PROPER:
        return False
    after = following[1].lower()
    if after in _NO_VERB or (
        after.endswith("s") and after[-2:] != "ss" and after not in _VERBS_IN_S
    ):
        return False
    if after == "was" and word[0].isupper():
        return bool(_DETERMINER.search(left_of(match, 6)))
    if after in _PRONOUN_VERBS or after.endswith(("n't", "ly")):
        return True
    if word[0].isupper():
        before = left_of(match, 6)
        return bool(_DETERMINER.search(before)) and after.endswith("ed")
    return not (word in _CLASSES and _SINGULAR.match(after))


def _say_noted(match: re.Match[str]) -> str:
    said = _NOTED.get(match[1].lower())
    if said is None or match[1].lower() in _NOT_NOTED:
        return match[0]
    return (said.capitalize() if match[1][0].isupper() else said) + _said_small(match)


def _say_numbered_small(match: re.Match[str]) -> str:
    known = match[1].lower().rstrip("s") in _WORDS | {"page", "clas"}
    return match[1] + _said_small(match) if known else match[0]


def _said_small(match: re.Match[str]) -> str:
    """iv; ix–xii."""
    first = f" {cardinal(_value(match[2].upper()))}"
    if not match[3]:
        return first
    between = " to " if match[3] in "–-" else match[3]
    return f"{first}{between}{cardinal(_value(match[4].upper()))}"


def _say_ordinal(match: re.Match[str]) -> str:
    if match[1] in STARTERS:
        return match[0]
    return f"{match[1]} the {ordinal(_value(match[2]))}"


def _say_heir(match: re.Match[str]) -> str:
    return f"{match[1]} the {ordinal(_value(match[3]))}" if match[2] in _RULERS else match[0]


def _say_titled(match: re.Match[str]) -> str:
    following = _NEXT.match(match.string, match.end())
    pronoun = match[2] == "I" and following and following[1] in _PRONOUN_VERBS - {"was", "had"}
    return match[0] if pronoun else _say_ordinal(match)


def _say_ruler(match: re.Match[str]) -> str:
    """Henry VIII; `Mary I think` is no queen."""
    if match[1] not in _RULERS:
        return match[0]
    if match[2] == "I":
        following = _NEXT.match(match.string, match.end())
        after = following[1].lower() if following else ""
        reigns = after in _REIGNED or after in _NO_VERB or after in ("", "and", "or")
        if not reigns and not _MONARCH_WAS.match(match.string, match.end()):
            return match[0]
    return _say_ordinal(match)


def _say_sequel(match: re.Match[str]) -> str:
    """Rocky III; where the numeral could be an abbreviation (IV), only after a name."""
    before, numeral = match[1], match["sure"] or match["named"]
    if match["named"] and (not before[0].isupper() or before in STARTERS):
        return match[0]
    return f"{before} {cardinal(_value(numeral))}"
