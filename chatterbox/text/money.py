"""Read sums of money as words: `$5.50`, `$10k-$20k`, `EUR 5`, `a $20 bill`, `₹5 lakh`."""

import re

from chatterbox.text import lexicon, rules
from chatterbox.text.lexicon import CURRENCIES, CURRENCY_SIGNS, UNITS, Currency, unit
from chatterbox.text.numbers import NO_NUMBER_BEFORE, NUMBER, cardinal, number
from chatterbox.text.rules import Match, Step, space_after, text_before

read = Step(__name__)
"""Read sums of money as words: `$5.50` → `five dollars and fifty cents`."""
_CHARS = f"[{CURRENCY_SIGNS}]"
_LETTERED = r"(?:(?:US|AU|CA|NZ|HK|SG|NT|MX|[ACRS])\$|CN¥)"
_SIGN = rf"(?:{_LETTERED}|{_CHARS})"
_CODES = "|".join([*(code for code in CURRENCIES if re.fullmatch("[A-Z]{3}", code)), "kr", "zł"])
_LETTERS = r"(?i:mio|mil|mln|mn|mm|bil|bln|bn|tn|[kmb])"
_WORDS = r"(?:hundred|thousand|million|billion|trillion|lakh|lac|crore)"
_ALONE = r"(?![\w&'])(?!-(?!an?-|per-)[A-Za-z])"
_SCALED = rf"(?:[ -]?{_WORDS}\b| ?{_LETTERS}{_ALONE}|[tT]{_ALONE}|{_LETTERS}(?=(?:{_CODES})\b))"
_SECOND = (
    rf"(?: ?{_CHARS}(?= ?[-–—~]))? ?[-–—~] ?(?:{_SIGN} ?)?(?P<b>{NUMBER})(?P<scale_b>{_SCALED})?"
)
_RANGE = rf"(?P<a>{NUMBER})(?P<scale_a>{_SCALED})?(?:{_SECOND})?"
_EACH = (
    r"(?:/(?P<per>(?:sq\.? ?)?[A-Za-z]{1,10}(?:/[A-Za-z]{1,10})?)\b"
    r"| / (?P<per_word>[a-z]{1,10})\b)?"
)
_NAME = r"[ -](?:dollars?|pounds?|euros?|rupees?|yen|bucks)\b"
_AMOUNT = rf"(?P<minus>-)?{_RANGE}(?:(?P<code_after> ?(?:{_CODES})\b)|{_NAME})?{_EACH}"
_ROUNDED = {3: "hundreds", 4: "thousands", 5: "tens of thousands", 6: "hundreds of thousands"}
_COMMA_BEFORE = re.compile(rf" ?(?:{_CHARS}|(?:{_CODES}|euros?|dollars|pounds|francs)\b)")
_COMMA_AFTER = re.compile(rf"(?:{_CHARS}|\b(?:{_CODES})) ?$")


@read.rule(
    rf"({_CHARS})(1(?:0{{2,5}}|0{{0,2}},000|,000,000))s\b(?: of (?:dollars|pounds|euros))?", "00s"
)
def _say_roughly(match: Match) -> str:
    """$1,000s → thousands of dollars."""
    size = len(match[2].replace(",", ""))
    return f"{_ROUNDED.get(size, 'millions')} of {CURRENCIES[match[1]].many}"


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
def _with_point(match: Match) -> str:
    """A decimal comma, where a currency stands beside the number: €1.234,50."""
    if _COMMA_AFTER.search(text_before(match, 5)) or _COMMA_BEFORE.match(match.string, match.end()):
        return f"{match[1].replace('.', '')}.{match[2]}"
    return match[0]


def _say(match: Match) -> str:
    found = match.groupdict()
    per, each, end = found["per"] or found["per_word"], "", match.end()
    if found["per_word"] and not _each(per):
        return match[0]
    if per:
        each = "".join(f" per {_each(part) or part}" for part in per.split("/"))
        end = len(match.string)
    currency = CURRENCIES[(found.get("code_after") or found["what"]).strip()]
    text, start = match.string, match.start()
    if rules.is_attributive(text, start, end) or rules.price_noun_follows(text, end):
        currency = currency._replace(many=currency.one, cents=currency.cent)
    before = " " * text_before(match, 1).isalnum() + "minus " * bool(found["minus"])
    return f"{before}{_amount(match, currency)}{each}{space_after(match)}"


def _amount(match: Match, currency: Currency) -> str:
    """One sum, or two: the currency is named once, unless one of them has cents."""
    first, second = match["a"], match["b"]
    scale_a, scale_b = _scale(match["scale_a"]), _scale(match["scale_b"])
    if second is None:
        return _sum(first, scale_a, currency)
    if not (scale_a or scale_b) and any(re.search(r"\.(?!00$)\d\d$", s) for s in (first, second)):
        return f"{_sum(first, '', currency)} to {_sum(second, '', currency)}"
    scale_a = "" if scale_a == scale_b else scale_a
    last = _sum(second, scale_b, currency._replace(one=currency.many))
    return f"{number(first.removesuffix('.00'))}{scale_a} to {last}"


def _scale(written: str | None) -> str:
    return f" {lexicon.SCALES[written.strip(' -').lower()]}" if written else ""


def _sum(written: str, scale: str, currency: Currency) -> str:
    """1234.56 → … dollars and fifty-six cents; 2.5 → two point five dollars."""
    if scale:
        return f"{number(written)}{scale} {currency.many}"
    whole, _, hundredths = written.partition(".")
    if len(hundredths) != 2 or not currency.cents:
        return f"{number(written)} {currency.one if written == '1' else currency.many}"
    main = f"{number(whole)} {currency.one if whole == '1' else currency.many}"
    if hundredths == "00":
        return main
    cents = currency.cent if hundredths == "01" else currency.cents
    small = f"{cardinal(int(hundredths))} {cents}"
    return small if whole == "0" else f"{main} and {small}"


def _each(per: str) -> str:
    """Return the unit that is paid for, in the singular, "" for what is no unit."""
    square = "square " if per.startswith("sq") and per[2:3] in (".", " ") else ""
    sign = unit(per.removeprefix("sq").lstrip(". ") if square else per)
    return square + UNITS[sign][0] if sign else per * (per in lexicon.WORDS_FOR_EACH)


read.add(
    rf"(?<![\w.])(?!TRY|PHP|ETH|kr|zł)(?P<what>{_CODES}) ?(?:{_SIGN} ?)?(?=-?\d){_AMOUNT}",
    _say,
    "[A-Zkz](?:[A-Z]{2}|[rł])",
)  # `TRY 5 times`, `PHP 8` and `ETH 2.0` are no sums
read.add(rf"(?<![A-Za-z\d])(?P<what>{_LETTERED}) ?{_AMOUNT}", _say, "[A-Z]\\$|CN¥")
read.add(rf"(?P<what>{_CHARS}(?<![A-Za-z\d]{_CHARS}))(?<!\d [€¢]) ?{_AMOUNT}", _say, _CHARS)
read.add(
    rf"{NO_NUMBER_BEFORE}(?P<minus>-)?{_RANGE} ?(?P<what>{_SIGN}(?!\d)|(?:{_CODES})\b){_EACH}",
    _say,
    f"[A-Zkz{CURRENCY_SIGNS}](?:(?<![A-Zkz])|[A-Z]{{2}}|[rł])",
)
