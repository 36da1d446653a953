"""Sums of money in words: `$5.50`, `$10k-$20k`, `EUR 5`, `a $20 bill`, `₹5 lakh`."""

import re

from chatterbox.text.lexicon import CURRENCIES, CURRENCY_SIGNS, SCALES, UNITS, WORDS_FOR_EACH, unit
from chatterbox.text.numbers import NUMBER, cardinal, number
from chatterbox.text.rules import Step, is_attributive, price_noun_follows, space_after, text_before

read = Step(__name__)
"""Sums of money."""
_CHARS = f"[{CURRENCY_SIGNS}]"
_LETTERED = r"(?:(?:US|AU|CA|NZ|HK|SG|NT|MX|[ACRS])\$|CN¥)"
_SIGN = rf"(?:{_LETTERED}|{_CHARS})"
_CODES = "|".join([*(code for code in CURRENCIES if re.fullmatch("[A-Z]{3}", code)), "kr", "zł"])
_ANY_CODE = "[A-Zkz](?:[A-Z]{2}|[rł])"
_LETTERS = r"(?i:mio|mil|mln|mn|mm|bil|bln|bn|tn|[kmb])"
_WORDS = r"(?:hundred|thousand|million|billion|trillion|lakh|lac|crore)"
_ALONE = r"(?![\w&'])(?!-(?!an?-|per-)[A-Za-z])"
_SCALED = rf"(?:[ -]?{_WORDS}\b| ?{_LETTERS}{_ALONE}|[tT]{_ALONE}|{_LETTERS}(?=(?:{_CODES})\b))"
_RANGE = (
    rf"(?P<a>{NUMBER})(?P<scale_a>{_SCALED})?"
    rf"(?:(?: ?{_CHARS}(?= ?[-–—~]))? ?[-–—~] ?(?:{_SIGN} ?)?"
    rf"(?P<b>{NUMBER})(?P<scale_b>{_SCALED})?)?"
)
_EACH = (
    r"(?:/(?P<per>(?:sq\.? ?)?[A-Za-z]{1,10}(?:/[A-Za-z]{1,10})?)\b"
    r"| / (?P<per_word>[a-z]{1,10})\b)?"
)
_AMOUNT = (
    rf"(?P<minus>-)?{_RANGE}(?:(?P<code_after> ?(?:{_CODES})\b)"
    rf"|[ -](?:dollars?|pounds?|euros?|rupees?|yen|bucks)\b)?{_EACH}"
)
_ROUNDED = {3: "hundreds", 4: "thousands", 5: "tens of thousands", 6: "hundreds of thousands"}
_BEHIND_COMMA = re.compile(rf" ?(?:{_CHARS}|(?:{_CODES}|euros?|dollars|pounds|francs)\b)")
_BEFORE_COMMA = re.compile(rf"(?:{_CHARS}|\b(?:{_CODES})) ?$")


@read.rule(
    rf"({_CHARS})(1(?:0{{2,5}}|0{{0,2}},000|,000,000))s\b(?: of (?:dollars|pounds|euros))?", "00s"
)
def _say_roughly(match: re.Match[str]) -> str:
    """$1,000s → thousands of dollars."""
    size = len(match[2].replace(",", ""))
    return f"{_ROUNDED.get(size, 'millions')} of {CURRENCIES[match[1]][1]}"


read.add(rf"({_CHARS}\d[\d.,]*)/(?=1(?:,?000|[KkM]|,?000,?000)\b)", r"\1 per ", "/1")
read.add(r"(?<![\w.,-])(\d{1,2})c(?= (?:each|per|off|apiece|a piece)\b)", r"\1¢", "[0-9]c ")
read.add(
    r"(?:(?<=only )|(?<=just )|(?<=costs )|(?<=for )|(?<=under )|(?<![^\ue000]))(\d{1,2})c\b"
    r"(?! ?[\d=+*/-])",
    r"\1¢",
    r"[0-9]c\b",
)


@read.rule(
    r"(?<![\d.,])(\d{1,3}(?:\.\d{3}){1,4}|\d{1,9}),(\d{1,2})(?![\d,]|\.\d)",
    "[0-9],[0-9]{1,2}(?![0-9])",
)
def _with_point(match: re.Match[str]) -> str:
    """A decimal comma, where a currency stands before or behind: €1.234,50."""
    if _BEFORE_COMMA.search(text_before(match, 5)) or _BEHIND_COMMA.match(
        match.string, match.end()
    ):
        return f"{match[1].replace('.', '')}.{match[2]}"
    return match[0]


def _say(match: re.Match[str]) -> str:
    found = match.groupdict()
    per, each, end = found["per"] or found["per_word"], "", match.end()
    if per:
        if found["per_word"] and not _each(per):
            return match[0]
        each, end = (
            "".join(f" per {_each(part) or part}" for part in per.split("/")),
            len(match.string),
        )
    one, many, cent, cents = CURRENCIES[(found.get("code_after") or found["what"]).strip()]
    if is_attributive(match.string, match.start(), end) or price_noun_follows(match.string, end):
        many, cents = one, cent
    minus = "minus " if found["minus"] else ""
    before = " " * text_before(match, 1).isalnum()
    return f"{before}{minus}{_amount(match, (one, many, cent, cents))}{each}{space_after(match)}"


def _amount(match: re.Match[str], names: tuple[str, str, str | None, str | None]) -> str:
    """One sum or two: the currency is said once, but for sums with cents."""
    first, second = match["a"], match["b"]
    scale_a, scale_b = _scale(match["scale_a"]), _scale(match["scale_b"])
    if second is None:
        return _sum(first, scale_a, *names)
    if not (scale_a or scale_b) and any(re.search(r"\.(?!00$)\d\d$", s) for s in (first, second)):
        return f"{_sum(first, '', *names)} to {_sum(second, '', *names)}"
    scale_a = "" if scale_a == scale_b else scale_a
    many = names[1]
    return (
        f"{number(first.removesuffix('.00'))}{scale_a} to {_sum(second, scale_b, many, *names[1:])}"
    )


def _scale(written: str | None) -> str:
    return f" {SCALES[written.strip(' -').lower()]}" if written else ""


def _sum(figures: str, scale: str, one: str, many: str, cent: str | None, cents: str | None) -> str:
    """1234.56 → … dollars and fifty-six cents; 2.5 → two point five dollars."""
    if scale:
        return f"{number(figures)}{scale} {many}"
    whole, _, hundredths = figures.partition(".")
    if len(hundredths) != 2 or cents is None:
        return f"{number(figures)} {one if figures == '1' else many}"
    main = f"{number(whole)} {one if whole == '1' else many}"
    if hundredths == "00":
        return main
    small = f"{cardinal(int(hundredths))} {cent if hundredths == '01' else cents}"
    return small if whole == "0" else f"{main} and {small}"


def _each(per: str) -> str:
    """What one pays for, in the singular, or "" for what is no unit."""
    square = "square " if per.startswith("sq") and per[2:3] in (".", " ") else ""
    sign = unit(per.removeprefix("sq").lstrip(". ") if square else per)
    return square + UNITS[sign][0] if sign else per * (per in WORDS_FOR_EACH)


read.add(
    rf"(?<![\w.])(?!TRY|PHP|ETH|kr|zł)(?P<what>{_CODES}) ?(?:{_SIGN} ?)?(?=-?\d){_AMOUNT}",
    _say,
    _ANY_CODE,
)  # `TRY 5 times`, `PHP 8` and `ETH 2.0` are no sums
read.add(rf"(?<![A-Za-z\d])(?P<what>{_LETTERED}) ?{_AMOUNT}", _say, "[A-Z]\\$|CN¥")
read.add(rf"(?P<what>{_CHARS}(?<![A-Za-z\d]{_CHARS}))(?<!\d [€¢]) ?{_AMOUNT}", _say, _CHARS)
read.add(
    rf"(?<![\w.])(?<!\d,)(?P<minus>-)?{_RANGE} ?(?P<what>{_SIGN}(?!\d)|(?:{_CODES})\b){_EACH}",
    _say,
    f"[A-Zkz{CURRENCY_SIGNS}](?:(?<![A-Zkz])|[A-Z]{{2}}|[rł])",
)
