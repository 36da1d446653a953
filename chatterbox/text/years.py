"""Read years, decades and numbers with an ending: `1885`, `1914–18`, `the 830s`, `GPT-3's`.

A bare number from 1100 to 2099 is a year unless its neighbours count with it (`1500 troops`).
"""

import re

from chatterbox.text import numbers
from chatterbox.text.lexicon import any_in
from chatterbox.text.numbers import cardinal, decade, in_pairs, number, plural, short_year, year
from chatterbox.text.rules import Match, Step, text_after, text_before

# --- before seconds ------------------------------------------------------------------------------
decades = Step(__name__, "decades", r"[0-9]'?[sS]\b|'")
"""Read decades and other plurals of numbers as words: `the 1990s` → `the nineteen nineties`."""
_S = r"[0-9]'?[sS]\b"
_TENS = r"'?(?:(?:1[1-9]|20)\d0|[1-9]0)'?[sS]"
_OF_TIME = rf"(?! {any_in('after seconds')}\b)"
_OF_DECADE = re.compile(rf" {any_in('after decades')}\b")
_SPAN = re.compile(rf"(?i)\b{any_in('before spans')} $")
_COUNTING = re.compile(
    r"""(?xi)
    (?: \b(?: two|three|four|five|six|several|these|those|many|some|all|both|double|\d
            | counts?[ ]by | counted[ ]by | counting[ ]by
            | (?:pair|couple|row|string|bunch|stack|pack|set|lot|column|series|sequence|group
                |multiple|handful)s?[ ]of
            | of[ ]all | and | or | in | (?-i:[a-z]{1,3}[A-Z])\w+ )[ ]
      | [A-Za-z]- )$"""
)
_GOES_ON = re.compile(r" (?!(?:and|or|to|in|on|as|for|from|by|is|are|at|with)\b)[A-Za-z]")


def _plural(written: str) -> str:
    """20 → twenties, 830 → eight thirties, 5 → fives."""
    value = int(written)
    return decade(value) if value >= 100 and value % 10 == 0 else plural(number(written))


decades.add(r"(?<=\d0s) ?[–-] ?(?=(?:early|mid|late)[ -])", " to ", _S)


@decades.rule(
    rf"(?<![\w.,$£€/]){_TENS}(?:(?: ?[-–—/] ?|,? (?:and|or|to|through|&) |, ){_TENS})+(?!\w)", _S
)
def _say_run(match: Match) -> str:
    """`1920s-30s` and `70s and 80s`, but not `60s/30s`, which are seconds."""
    values = [int(value) for value in re.findall(r"\d+", match[0])]
    if values[0] < 100 and (values != sorted(values) or _SPAN.search(text_before(match, 10))):
        return match[0]
    return re.sub(
        r"'?(\d+)'?[sS]|[-–—/]",
        lambda m: _plural(m[1]) if m[1] else " " if m[0] == "/" else " to ",
        match[0],
    )


decades.add(
    r"(?<![\w.,])'?((?:1[1-9]|20)\d0)'?[sS]\b|(?<!\w)'([1-9]0)'?s\b",
    lambda m: decade(int(m[1] or m[2])),
    _S,
)


@decades.rule(rf"(?<![\d$£€])(?<!\d[.,])({numbers.NUMBER})'[sS]\b", "[0-9]'[sS]")
def _say_possessive(match: Match) -> str:
    """2023's best film, GPT-3's; 90's kids; a pair of 5's."""
    written, before = match[1], text_before(match, 12)
    gap = " " * before[-1:].isalpha()
    named = re.search(r"[A-Z]\w*[ -]$", before) and not re.search(r"\b(?:The|A|In|My)[ -]$", before)
    if re.fullmatch("[2-9]0|1[1-9]?[1-9]0", written) and not named:
        return gap + _plural(written)
    value = int(written) if written.isdigit() else 0
    said = year(value) if 1100 <= value < 2100 else number(written)
    goes_on = named or _GOES_ON.match(match.string, match.end())
    return gap + (said + "'s" if goes_on else plural(said))


decades.add(  # her 30s, the low 40s
    r"(?i)\b((?:the|his|her|my|your|our|their|low|high|upper|lower|mid|early|late)[ -](?:(?!last"
    r"|first|next|final|full|entire|whole|other|same|remaining|past|required)[a-z]{3,12}[ -])?)"
    rf"'?(\d{{1,4}})'?s\b{_OF_TIME}",
    lambda m: m[1] + _plural(m[2]),
    _S,
)


@decades.rule(
    rf"(?<![\w.,$£€:/-])([2-9]0)s(?= [a-z]{{3}}){_OF_TIME}(?! {any_in('after spans')}\b)", _S
)
def _say_style(match: Match) -> str:
    """`60s rock`, but not `took 30s`."""
    styled = _OF_DECADE.match(match.string, match.end()) or not _SPAN.search(text_before(match, 10))
    return _plural(match[1]) if styled else match[0]


@decades.rule(r"(?<![\w.,$£€:/])(?:(?<=[A-Za-z]-)|(?<!-))(\d{1,4})s\b", _S)
def _say_plural(match: Match) -> str:
    """count by 2s, 1s and 0s, two 747s; any other number with `s` counts seconds."""
    written, before, after = match[1], text_before(match, 14), text_after(match, 24)
    no_time = re.match(_OF_TIME, after)
    paired_up = re.match(r"(?: and| or) \d{1,3}s\b", after) or re.search(
        r"\b\d{1,3}s(?: and| or) $", before
    )
    several = paired_up and no_time and not _SPAN.search(before)
    counting = several or (no_time and _COUNTING.search(before)) or int(written) == 0
    within = before.lower().endswith("in ") and len(written) < 4
    if not counting or within or (before.endswith((" and ", " or ")) and not several):
        return match[0]
    return _plural(written)


decades.add(r"(?<=[A-Z])(\d{1,3})s\b", lambda m: f" {_plural(m[1])}", "[A-Z][0-9]")  # MP3s
decades.add(r"(?<='\d\d) ?[–-] ?(?='\d\d\b)", " to ", "'")
decades.add(r"(?<!\w)'(\d\d)\b(?!')", lambda m: short_year(m[1]), "'")

# --- before other ranges and fractions -----------------------------------------------------------
ranges = Step(__name__, "ranges")
"""Read ranges of years as words: `1914–18` → `nineteen fourteen to eighteen`."""
ranges.add(r"\b([FC]Y)(?=(?:19|20)\d\d)", r"\1 ", "Y[0-9]")
ranges.add(
    r"(?<![\w.,/-])(\d{1,4}) ?[–-] ?(\d{1,4})(?= ?BCE?\b)",
    lambda m: f"{in_pairs(int(m[1]))} to {in_pairs(int(m[2]))}",
    "BC",
)
ranges.add(
    r"(?<![\w.,/$-])((?:1[1-9]|20)\d\d) ?[-–—] ?((?:1[1-9]|20)\d\d)(?![\w/-]|[.,]\d)",
    lambda m: f"{year(int(m[1]))} to {year(int(m[2]))}",
    "[-–—] ?[0-9]",
)


@ranges.rule(
    r"(?<![\w.,/$-])((?:1[1-9]|20)\d\d)([/–—-])(\d\d?|(?:19|20)\d\d)(?![\w/%-]|[.,:]\d)",
    "[-–—/][0-9]",
)
def _say_short_range(match: Match) -> str:
    """1914–18, 1848–9, and the seasons 2023/24 and 2023-24. Not 2024-11: 11 is no later year."""
    first, sign, written = int(match[1]), match[2], match[3]
    second = int(written)
    if second == first + 1:
        return f"{year(first)} {year(second)}"
    if second == (first + 1) % 100 and len(written) == 2:
        return f"{year(first)} {short_year(written)}"
    if len(written) == 1:
        second += first % 100 // 10 * 10
    if sign == "/" or not first % 100 < second < 100:
        return match[0]
    return f"{year(first)} to {short_year(f'{second:02}')}"


# --- years ---------------------------------------------------------------------------------------
read = Step(__name__)
"""Read bare years as words: `in 1999` → `in nineteen ninety-nine`."""
_SURE_YEAR = re.compile(rf"(?i)(?:\b{any_in('before years')},? |'s |[(])$")
_LIKELY_YEAR = re.compile(
    r"(?i)\b(?:from|by|before|after|about|around|of|early|late|mid|the)[ -]$"
    r"|\b(?:from|between) \d{3,4} (?:to|and|until|till) $"
)
_OF_EVENT = re.compile(rf"(?:\b[A-Z]\w+|\b{any_in('events')}) of $")
_OF_QUANTITY = re.compile(rf"(?i)\b{any_in('before quantities')} $")
_NAME_BEFORE = re.compile(r"(?:^|[\w,.!?] |\n)(?:[A-Z][\w'-]+ ){1,3}$")
_VERB = re.compile(r" [a-z]+s (?:it|them|him|us|the|its|their|him|her)\b")
_COUNTED = re.compile(
    rf"""(?x)
    (?:[ ]|-) (?!{any_in("no plurals")}\b)
    (?: (?:{any_in("adjectives")} | [a-z]{{2,12}}(?:al|ic|ive|ary|able|ian))[ ] )?
    (?: [a-z]{{2,}}(?<!s)s(?<!ous) | people | men | women | children | feet | of | times | more
      | or[ ]more | or[ ]so | and[ ]a[ ]half | km | kg | percent )\b"""
)
_PERSONS = re.compile(r" (?:people|men|women|children|feet|times|more|of)\b")
read.add(
    r"(?<![\w.,])(\d{3,4})(?= ?(?:AD|BC|CE|BCE)\b)|(?<=\bAD )(\d{3})(?!\w|[.,]\d)",
    lambda m: in_pairs(int(m[1] or m[2])),
    "AD|BC|CE",
)


@read.rule(
    r"([12](?<![\w.,/$+#=<>*^×÷].)(?<![=<>+*×÷] .)(?:(?<=1)\d|0)\d\d)"
    r"(?![\w/^%]|[.,]\d| ?[=<>+*×÷])"
)
def _say_year(match: Match) -> str:
    """1100 to 2099 are years unless they count something; 1000 to 1099 only after words that say
    so."""
    value, before, after = int(match[1]), text_before(match, 30), text_after(match, 40)
    sure = _SURE_YEAR.search(before) or _OF_EVENT.search(before)
    if sure or (before.lower().endswith("the ") and value >= 1900):
        return year(value)
    counted = bool(_COUNTED.match(after)) and not _VERB.match(after)
    if counted and value % 50 and _NAME_BEFORE.search(before):
        counted = bool(_PERSONS.match(after))
    if counted or _OF_QUANTITY.search(before):
        return cardinal(value)
    return year(value) if value >= 1100 or _LIKELY_YEAR.search(before) else cardinal(value)
