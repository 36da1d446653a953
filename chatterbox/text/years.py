"""Reads years, decades, and figures with an ending: `1885`, `1914–18`, `the 830s`, `GPT-3's`.

A bare figure from 1100 to 2099 is a year unless its neighbours count with it (`1500 troops`).
"""

import re

from chatterbox.text.numbers import NUMBER, cardinal, decade, number, paired, plural, year
from chatterbox.text.rules import left_of, right_of

# --- decades, plurals, possessives ---------------------------------------------------------------
_WITH_S = re.compile(r"\d'?[sS]\b")
_TENS = r"'?(?:(?:1[1-9]|20)\d0|[1-9]0)'?[sS]"
_RUN = re.compile(
    rf"(?<![\w.,$£€/]){_TENS}(?:(?: ?[-–—/] ?|,? (?:and|or|to|through|&) |, ){_TENS})+(?!\w)"
)
_IN_RUN = re.compile(r"'?(\d+)'?[sS]|[-–—/]")
_DECADE_TO = re.compile(r"(?<=\d0s) ?[–-] ?(?=(?:early|mid|late)[ -])")
_DECADE = re.compile(r"(?<![\w.,])'?((?:1[1-9]|20)\d0)'?[sS]\b|(?<!\w)'([1-9]0)'?s\b")
_OF_TIME = (
    r"(?! (?:timeouts?|delays?|intervals?|clips?|videos?|timers?|pauses?|waits?|limits?|later|ago"
    r"|apart|left|remaining|countdowns?|exposures?|breaks?|rests?|planks?|sprints?|windows?|ads?"
    r"|spots?|audio|recordings?|samples?|long|each|max|maximum|minimum|bursts?|loops?|cooldowns?"
    r"|reads?|steps?|holds?|faster|slower|longer|shorter|earlier|on|off|per|before|after|mark)\b)"
)
_DEFINITE = re.compile(
    r"(?i)\b((?:the|his|her|my|your|our|their|low|high|upper|lower|mid|early|late)[ -](?:(?!last"
    r"|first|next|final|full|entire|whole|other|same|remaining|past|required)[a-z]{3,12}[ -])?)"
    rf"'?(\d{{1,4}})'?s\b{_OF_TIME}"
)
_STYLE = re.compile(
    rf"(?<![\w.,$£€:/-])([2-9]0)s(?= [a-z]{{3}}){_OF_TIME}(?! (?:the|then|and|for|with|when|until"
    r"|while|from|between|into|since|because|without|within|during|instead|more|less|back|next"
    r"|again|now|but|just|only|over|under|at|it|is|was)\b)"
)
_OF_DECADE = re.compile(
    r" (?:styles?|fashions?|music|rock|pop|disco|movies?|films?|kids?|hits?|sitcoms?|era|tv"
    r"|hip|hair|cartoons?|songs?|bands?|clothes|cars?)\b"
)
_SPAN = re.compile(
    r"(?i)\b(?:for|in|after|took|takes?|taking|wait(?:s|ed)?|within|every|about|around|than|lasts?"
    r"|lasted|by|under|only|hold|rest|of|to) $"
)
_COUNTING = re.compile(
    r"(?i)(?:\b(?:two|three|four|five|six|several|these|those|many|some|all|both|double|\d|counts?"
    r" by|counted by|counting by|(?:pair|couple|row|string|bunch|stack|pack|set|lot|column|series"
    r"|sequence|group|multiple|handful)s? of|of all|and|or|in|(?-i:[a-z]{1,3}[A-Z])\w+) "
    r"|[A-Za-z]-)$"
)
_FIGURES_S = re.compile(r"(?<![\w.,$£€:/])(?:(?<=[A-Za-z]-)|(?<!-))(\d{1,4})s\b")
_POSSESSIVE = re.compile(rf"(?<![\d$£€])(?<!\d[.,])({NUMBER})'[sS]\b")
_GOES_ON = re.compile(r" (?!(?:and|or|to|in|on|as|for|from|by|is|are|at|with)\b)[A-Za-z]")
_SHORT_TO = re.compile(r"(?<='\d\d) ?[–-] ?(?='\d\d\b)")
_SHORT_YEAR = re.compile(r"(?<!\w)'(\d\d)\b(?!')")

# --- years ---------------------------------------------------------------------------------------
_YEARS = re.compile(
    r"(?<![\w.,/$-])((?:1[1-9]|20)\d\d) ?[-–—] ?((?:1[1-9]|20)\d\d)(?![\w/-]|[.,]\d)"
)
_JOINED = re.compile("[-–—/] ?[0-9]")
_FISCAL = re.compile(r"\b([FC]Y)(?=(?:19|20)\d\d)")
_BEFORE_CHRIST = re.compile(r"(?<![\w.,/-])(\d{1,4}) ?[–-] ?(\d{1,4})(?= ?BCE?\b)")
_SHORT_RANGE = re.compile(
    r"(?<![\w.,/$-])((?:1[1-9]|20)\d\d)([/–—-])(\d\d?|(?:19|20)\d\d)(?![\w/%-]|[.,:]\d)"
)
_YEAR = re.compile(
    r"([12](?<![\w.,/$+#=<>*^×÷].)(?<![=<>+*×÷] .)(?:(?<=1)\d|0)\d\d)"
    r"(?![\w/^%]|[.,]\d| ?[=<>+*×÷])"
)
_SURE_YEAR = re.compile(
    r"(?i)(?:\b(?:in|since|until|till|during|circa|year|spring|summer|autumn|fall|winter|january"
    r"|february|march|april|may|june|july|august|september|october|november|december|AD|his|her"
    r"|its|their|my|our),? |'s |[(])$"
)
_LIKELY_YEAR = re.compile(
    r"(?i)\b(?:from|by|before|after|about|around|of|early|late|mid|the)[ -]$"
    r"|\b(?:from|between) \d{3,4} (?:to|and|until|till) $"
)
_OF_EVENT = re.compile(
    r"(?:\b[A-Z]\w+|\b(?:act|law|treaty|war|battle|crisis|crash|panic|fire|flood|earthquake|storm"
    r"|hurricane|revolution|rebellion|revolt|uprising|election|census|summer|winter|spring|autumn"
    r"|fall|class|constitution|convention|agreement|season|vintage|famine|plague|epidemic|strike"
    r"|recession|depression|coup|riots?|siege)) of $"
)
_OF_QUANTITY = re.compile(
    r"(?i)\b(?:than|over|under|nearly|almost|exactly|only|approximately|least|most|all|some|every"
    r"|these|those|another|other|times|plus|minus|equals|number|costs?|weighs?|weighed|totall?ed"
    r"|scored|counted|worth|line|page|room|up to|per|each) $"
)
_ERA = re.compile(r"(?<![\w.,])(\d{3,4})(?= ?(?:AD|BC|CE|BCE)\b)|(?<=\bAD )(\d{3})(?!\w|[.,]\d)")
_NAME_BEFORE = re.compile(r"(?:^|[\w,.!?] |\n)(?:[A-Z][\w'-]+ ){1,3}$")
_VERB = re.compile(r" [a-z]+s (?:it|them|him|us|the|its|their|him|her)\b")
_COUNTED = re.compile(
    r"(?: |-)(?!(?:was|is|has|does|its|his|this|as|us|thus|plus|perhaps|always|sees|saw|onwards"
    r"|towards|afterwards|besides|whereas|across|versus|vs|brings|marks|makes|becomes|remains"
    r"|prohibits|shows|says)\b)"
    r"(?:(?:other|more|new|different|square|cubic|extra|local|young|old|small|large|unique|light"
    r"|armed|daily|metric|dead|wounded|paying|[a-z]{2,12}(?:al|ic|ive|ary|able|ian)) )?"
    r"(?:[a-z]{2,}(?<!s)s(?<!ous)|people|men|women|children|feet|of|times|more|or more|or so"
    r"|and a half|km|kg|percent)\b"
)

_PERSONS = re.compile(r" (?:people|men|women|children|feet|times|more|of)\b")


def decades(text: str) -> str:
    """1990s, the 80s, GPT-3's, two 5s: must be taken before seconds."""
    if _WITH_S.search(text):
        text = _RUN.sub(_say_run, _DECADE_TO.sub(" to ", text))
        text = _DECADE.sub(lambda m: decade(int(m[1] or m[2])), text)
        text = _POSSESSIVE.sub(_say_possessive, text)
        text = _DEFINITE.sub(lambda m: m[1] + _plural(m[2]), text)
        text = _STYLE.sub(_say_style, text)
        text = _FIGURES_S.sub(_say_plural, text)
    if "'" not in text:
        return text
    return _SHORT_YEAR.sub(lambda m: _short_year(m[1]), _SHORT_TO.sub(" to ", text))


def ranges(text: str) -> str:
    """1914-1918, 1914–18, 2023/24: must be taken before other ranges and fractions."""
    text = _FISCAL.sub(r"\1 ", text) if "Y" in text else text
    if not _JOINED.search(text):
        return text
    text = _BEFORE_CHRIST.sub(lambda m: f"{paired(int(m[1]))} to {paired(int(m[2]))}", text)
    text = _YEARS.sub(lambda m: f"{year(int(m[1]))} to {year(int(m[2]))}", text)
    return _SHORT_RANGE.sub(_say_short_range, text)


def spell_out(text: str) -> str:
    """`text` with every bare year in words. Linear time."""
    if "AD" in text or "BC" in text or "CE" in text:
        text = _ERA.sub(lambda m: paired(int(m[1] or m[2])), text)
    return _YEAR.sub(_say_year, text)


def _plural(figures: str) -> str:
    """20 → twenties, 830 → eight thirties, 5 → fives."""
    value = int(figures)
    return decade(value) if value >= 100 and value % 10 == 0 else plural(number(figures))


def _say_run(match: re.Match[str]) -> str:
    """1920s-30s, 70s and 80s; not 60s/30s, which are seconds."""
    values = [int(value) for value in re.findall(r"\d+", match[0])]
    before = left_of(match, 10)
    if values[0] < 100 and (values != sorted(values) or _SPAN.search(before)):
        return match[0]
    return _IN_RUN.sub(lambda m: _plural(m[1]) if m[1] else {"/": " "}.get(m[0], " to "), match[0])


def _say_possessive(match: re.Match[str]) -> str:
    """2023's best film, GPT-3's; 90's kids; a pair of 5's."""
    figures, text = match[1], match.string
    blank = " " if left_of(match, 1).isalpha() else ""
    before = left_of(match, 12)
    named = re.search(r"[A-Z]\w*[ -]$", before) and not re.search(r"\b(?:The|A|In|My)[ -]$", before)
    if re.fullmatch("[2-9]0|1[1-9]?[1-9]0", figures) and not named:
        return blank + _plural(figures)
    value = int(figures) if figures.isdigit() else 0
    said = year(value) if 1100 <= value < 2100 else number(figures)
    return blank + (said + "'s" if named or _GOES_ON.match(text, match.end()) else plural(said))


def _say_style(match: re.Match[str]) -> str:
    """60s rock; not `took 30s`."""
    before = left_of(match, 10)
    styled = _OF_DECADE.match(match.string, match.end()) or not _SPAN.search(before)
    return _plural(match[1]) if styled else match[0]


def _say_plural(match: re.Match[str]) -> str:
    """count by 2s, 1s and 0s, two 747s; any other figure with s counts seconds."""
    figures, before, after = match[1], left_of(match, 14), right_of(match, 24)
    counting = _COUNTING.search(before) and re.match(_OF_TIME, after)
    paired_up = re.match(r"(?: and| or) \d{1,3}s\b", after) or re.search(
        r"\b\d{1,3}s(?: and| or) $", before
    )
    several = paired_up and not _SPAN.search(before) and re.match(_OF_TIME, after)
    if not (counting or several or int(figures) == 0):
        return match[0]
    if before.lower().endswith("in ") and len(figures) < 4:
        return match[0]
    if before.endswith((" and ", " or ")) and not several:
        return match[0]
    return _plural(figures)


def _short_year(figures: str) -> str:
    if figures == "00":
        return "two thousand"
    return f"{'oh ' if figures[0] == '0' else ''}{cardinal(int(figures))}"


def _say_short_range(match: re.Match[str]) -> str:
    """1914–18, 1848–9; 2023/24 and 2023-24 are seasons; not 2024-11, where the second is no later
    year."""
    first, sign, written = int(match[1]), match[2], match[3]
    second = int(written)
    if second == first + 1:
        return f"{year(first)} {year(second)}"
    if second == (first + 1) % 100 and len(written) == 2:
        return f"{year(first)} {_short_year(written)}"
    if sign == "/" or second > 99:
        return match[0]
    if len(written) == 1:
        second += first % 100 // 10 * 10
    if second <= first % 100:
        return match[0]
    return f"{year(first)} to {_short_year(f'{second:02}')}"


def _say_year(match: re.Match[str]) -> str:
    """A bare figure from 1100 to 2099 is a year unless it is counted; an earlier one only where
    its neighbours say so."""
    value, before, after = int(match[1]), left_of(match, 30), right_of(match, 40)
    sure = _SURE_YEAR.search(before) or _OF_EVENT.search(before)
    if sure or (before.lower().endswith("the ") and value >= 1900):
        return year(value)
    counted = bool(_COUNTED.match(after)) and not _VERB.match(after)
    if counted and value % 50 and _NAME_BEFORE.search(before):
        counted = bool(_PERSONS.match(after))
    if counted or _OF_QUANTITY.search(before):
        return cardinal(value)
    return year(value) if value >= 1100 or _LIKELY_YEAR.search(before) else cardinal(value)
