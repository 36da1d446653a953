"""Reads what stands between figures or words: `3 times/day`, `9.5/10`, `3-5`, `16:9`, `9th–12th`.

A hyphen means `to` where the figures rise, `minus` beside other arithmetic, and nothing at all
between the figures of a score.
"""

import re

from chatterbox.text.lexicon import UNITS, WORDS_FOR_EACH, unit
from chatterbox.text.neighbours import left_of, right_of
from chatterbox.text.numbers import ALONE, NUMBER, number

# --- slashes -------------------------------------------------------------------------------------
_PER_WORD = re.compile(
    rf"(?<=[A-Za-z]) ?/ ?({'|'.join(sorted(WORDS_FOR_EACH))}|s|sec|min|h|hr|yr|mo)\b", re.I
)
_COUNTED = re.compile(r"(?:\b(?:once|twice|[a-z]{3,15}s)|\d [a-z]{3,15})$", re.I)
_PER_UNIT = re.compile(
    r"(?<![\w/.])(km|mi|mg|kg|mL|ml|μg|MB|GB|Mbit|kWh|ft|m|L|g|W|J)/"
    r"(h|hr|s|sec|min|L|l|dL|kg|day|m\^?[23])( ?K\b)?(?![\w/])"
)
_ALWAYS = re.compile(r"(?<![\w/])24/7/365(?![\w/])")
_OF = re.compile(r"(?<=\d)/(?=\d{1,3}(?![\w/]|[.,]\d))")
_ITEM = re.compile(
    r"\b(?:step|part|page|slide|chapter|lesson|question|round|level|day|week|phase|episode|item"
    r"|stage|section|attempt|batch|epoch|try|test|file|track|dis[ck]|tweet|post|image|photo"
    r"|task|turn):? \d{1,3}$",
    re.I,
)
_SCORED = re.compile(r"\.\d{1,2}$")
_RATED = re.compile(r"\d{1,3} (?:star|point|rating|mark)")
_ORDINAL_FRACTION = re.compile(r"(?<![\w/.])(\d{1,3}/\d{1,3})(?i:st|nd|rd|th)s?\b")
_QUOTIENT = re.compile(rf"{ALONE}({NUMBER}) / (?={NUMBER}(?![\w/]))")


def slashes(text: str) -> str:
    """`text` with slashes in words, but for those of measures, dates and addresses. Linear time."""
    if "/" not in text:
        return text
    text = _ALWAYS.sub("twenty-four seven, three sixty-five", text)
    text = _OF.sub(_say_of, _ORDINAL_FRACTION.sub(r"\1", text))
    text = _PER_UNIT.sub(_say_per_unit, _PER_WORD.sub(_say_per_word, text))
    return _QUOTIENT.sub(r"\1 divided by ", text) if " / " in text else text


def _say_of(match: re.Match[str]) -> str:
    before = left_of(match, 20)
    if _ITEM.search(before):
        return " of "
    rated = _SCORED.search(before) or _RATED.match(match.string, match.end())
    return " out of " if rated else match[0]


def _say_per_word(match: re.Match[str]) -> str:
    counted = _COUNTED.search(left_of(match, 20))
    return f" per {each(match[1], None)}" if counted else match[0]


def _say_per_unit(match: re.Match[str]) -> str:
    """A unit without a figure: `speed in km/h`."""
    per, power = match[2].rstrip("^23"), match[2][-1] if match[2][-1].isdigit() else None
    if re.fullmatch(r"[0-9] ", left_of(match, 2)):
        return match[0]
    return f"{UNITS[match[1]][1]} per {each(per, power)}{' kelvin' if match[3] else ''}"


def each(sign: str, power: str | None) -> str:
    """What stands after `per`: a unit in the singular, or the word itself."""
    if sign == "s" and power == "2":
        return "second squared"  # of acceleration, never `square second`
    found = unit(sign)
    return raised(power) + UNITS[found][0] if found else sign


def raised(power: str | None) -> str:
    return {"2": "square ", "3": "cubic ", "s": "square ", "c": "cubic "}.get(power or "", "")


# --- hyphens and colons --------------------------------------------------------------------------
_TILDE = re.compile(r"(?<=[\d%°CFkKm]) ?~ ?(?=[$£€]?\d)")
_ONE_IN = re.compile(r"(?<=\d)-in-(?=\d|a\b)")
_ORDINALS = re.compile(r"(?<=\d(?:st|nd|rd|th)) ?[-–—] ?(?=\d{1,4}(?:st|nd|rd|th)\b)")
_COLON = re.compile("[0-9] ?:[0-9]")
_HYPHEN = re.compile("[-–—] ?[0-9]")
_RATIO_NAMED = re.compile(
    r"(?i)(\b(?:ratio|scale|odds|split|dilution)(?: of| is| was|:)? )(\d{1,4}):(\d{1,4})\b"
    r"|(?<![\w.:])(\d{1,4}):(\d{1,4})(?= (?:ratio|scale|odds|mix|split|dilution|majority|aspect)\b)"
)
_RATIO = re.compile(rf"{ALONE}(\d{{1,4}}(?:\.\d{{1,2}})?) ?:(\d{{1,4}})(?![\w:]|[.,]\d)")
_RANGE = re.compile(rf"{ALONE}(?<!\d-)(?<!^-)({NUMBER})( - | – |[-–—])({NUMBER})(?![\w-]|[.,]\d)")
_REST_OF_SUM = re.compile(r"[ \d.,()+*/×÷–-]{0,40}=|(?: [+*×÷] | ?[+*×÷])\d")
_START_OF_SUM = re.compile(
    r"(?i)(?:[=+*×÷(] ?|- |\b(?:what is|what's|whats|calculate|compute|solve|evaluate|equals|is) )$"
)
_SPORT = re.compile(
    r"(?i)\b(?:w[io]ns?|winning|lost|loss(?:es)?|lead(?:s|ing)?|led|beat|victory|defeat(?:ed)?"
    r"|scores?"
    r"|scored|tied?|draws?|drew|games?|match|sets?|ahead|trail\w*|final|team|series|season|goals?"
    r"|points?|half-?time|finished|at home|record|upset|rout)\b"
)


def linked(text: str) -> str:
    """20~30, 9th–12th, a ratio of 1:20: must be taken before dates, times and measures."""
    if "~" in text:
        text = _TILDE.sub("–", text)
    if _COLON.search(text):
        text = _RATIO_NAMED.sub(_say_ratio, text)
    return _ONE_IN.sub(" in ", _ORDINALS.sub(" to ", text))


def spell_out(text: str) -> str:
    """`text` with ranges, scores, differences and ratios of plain numbers in words. Linear time."""
    text = _RATIO.sub(_say_ratio, text) if _COLON.search(text) else text
    return _RANGE.sub(_say_range, text) if _HYPHEN.search(text) else text


def _say_ratio(match: re.Match[str]) -> str:
    before, *figures = (group for group in ("", *match.groups()) if group is not None)
    if len(figures) == 3:
        before, *figures = figures
    first, second = figures
    between = " " if first == second and len(first) > 1 else " to "
    return f"{before}{number(first)}{between}{number(second)}"


def _say_range(match: re.Match[str]) -> str:
    """3-5 counts upwards; 5-3 is a score, 5 - 3 a sum."""
    first, sign, second = match.groups()
    size, after = _size(first), _size(second)
    if "-" in sign and _in_sum(match, spaced=sign == " - "):
        return f"{number(first)} minus {number(second)}"
    if size < after:
        return f"{number(first)} to {number(second)}"
    if sign == "-" or sign == "–":
        return f"{number(first)} {number(second)}"
    around = left_of(match, 40), right_of(match, 40)
    if size == after or any(map(_SPORT.search, around)):
        return f"{number(first)} to {number(second)}"
    if sign != " - " or (len(first) == 4 and len(second) < 3):
        return match[0]  # a dash in a sentence
    return f"{number(first)} minus {number(second)}"


def _in_sum(match: re.Match[str], *, spaced: bool) -> bool:
    """Whether the hyphen stands in a calculation."""
    text = match.string
    before = left_of(match, 12)
    if _REST_OF_SUM.match(text, match.end()):
        return True
    start = _START_OF_SUM.search(before)
    if start is None:
        return False
    asked = right_of(match) in ("?", "", ".") or spaced
    return start[0].strip() in ("=", "+", "*", "×", "÷") or (start[0].strip() != "(" and asked)


def _size(figures: str) -> tuple[int, str, str]:
    """Orders figures of any length without computing with them."""
    whole, _, hundredths = figures.replace(",", "").partition(".")
    return len(whole.lstrip("0")), whole.lstrip("0"), hundredths
