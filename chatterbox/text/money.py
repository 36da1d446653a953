"""Sums of money in words: `$5.50`, `$10k-$20k`, `EUR 5`, `a $20 bill`, `₹5 lakh`."""

import re

from chatterbox.text.lexicon import (
    CURRENCIES,
    CURRENCY_SIGNS,
    SCALES,
    UNITS,
    WORDS_FOR_EACH,
    Currency,
    unit,
)
from chatterbox.text.numbers import NUMBER, cardinal, number
from chatterbox.text.rules import is_attributive, left_of, names_price, right_of

_CHARS = f"[{CURRENCY_SIGNS}]"
_LETTERED = r"(?:(?:US|AU|CA|NZ|HK|SG|NT|MX|[ACRS])\$|CN¥)"
_SIGN = rf"(?:{_LETTERED}|{_CHARS})"
_ALL_CODES = [*(code for code in CURRENCIES if re.fullmatch("[A-Z]{3}", code)), "kr", "zł"]
_CODES = "|".join(_ALL_CODES)
_LETTERS = r"(?i:mio|mil|mln|mn|mm|bil|bln|bn|tn|[kmb])"
_WORDS = r"(?:hundred|thousand|million|billion|trillion|lakh|lac|crore)"
_ALONE = r"(?![\w&'])(?!-(?!an?-|per-)[A-Za-z])"
_SCALE = rf"(?:[ -]?{_WORDS}\b| ?{_LETTERS}{_ALONE}|[tT]{_ALONE})"
_BEHIND = (
    rf"(?:(?P<code_after> ?(?:{_CODES})\b)|[ -](?:dollars?|pounds?|euros?|rupees?|yen|bucks)\b)?"
)
_SCALED = rf"(?:{_SCALE}|{_LETTERS}(?=(?:{_CODES})\b))"
_RANGE = (
    rf"(?P<a>{NUMBER})(?P<scale_a>{_SCALED})?"
    rf"(?:(?: ?{_CHARS}(?= ?[-–—~]))? ?[-–—~] ?(?:{_SIGN} ?)?"
    rf"(?P<b>{NUMBER})(?P<scale_b>{_SCALED})?)?"
)
_EACH = (
    r"(?:/(?P<per>(?:sq\.? ?)?[A-Za-z]{1,10}(?:/[A-Za-z]{1,10})?)\b"
    r"| / (?P<per_word>[a-z]{1,10})\b)?"
)
_AMOUNT = rf"(?P<minus>-)?{_RANGE}{_BEHIND}{_EACH}"
_SIGN_BEFORE = re.compile(rf"(?P<what>{_CHARS}(?<![A-Za-z\d]{_CHARS}))(?<!\d [€¢]) ?{_AMOUNT}")
_LETTERED_BEFORE = re.compile(rf"(?<![A-Za-z\d])(?P<what>{_LETTERED}) ?{_AMOUNT}")
_IS_LETTERED = re.compile("[A-Z]\\$|CN¥")
_CODE_BEFORE = re.compile(
    rf"(?<![\w.])(?!TRY|PHP|ETH|kr|zł)(?P<what>{_CODES}) ?(?:{_SIGN} ?)?(?=-?\d){_AMOUNT}"
)
"""`TRY 5 times`, `PHP 8` and `ETH 2.0` are no sums."""
_ANY_SIGN = re.compile(_CHARS)
_AFTER = re.compile(
    rf"(?<![\w.])(?<!\d,)(?P<minus>-)?{_RANGE} ?(?P<what>{_SIGN}(?!\d)|(?:{_CODES})\b){_EACH}"
)
_ROUGHLY = re.compile(
    rf"({_CHARS})(1(?:0{{2,5}}|0{{0,2}},000|,000,000))s\b(?: of (?:dollars|pounds|euros))?"
)
_FOR_MANY = re.compile(rf"({_CHARS}\d[\d.,]*)/(?=1(?:,?000|[KkM]|,?000,?000)\b)")
"""`$5/1M tokens`."""
_ROUNDED = {3: "hundreds", 4: "thousands", 5: "tens of thousands", 6: "hundreds of thousands"}
_IS_CENTS = re.compile(r"[0-9]c\b")
_CENTS = re.compile(
    r"(?:(?<=only )|(?<=just )|(?<=costs )|(?<=for )|(?<=under )|(?<![^\ue000]))(\d{1,2})c\b"
    r"(?! ?[\d=+*/-])"
    r"|(?<![\w.,-])(\d{1,2})c(?= (?:each|per|off|apiece|a piece)\b)"
)
_DECIMAL = re.compile("[0-9],[0-9]{1,2}(?![0-9])")
_COMMA = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3}){1,4}|\d{1,9}),(\d{1,2})(?![\d,]|\.\d)")
_BEHIND_COMMA = re.compile(rf" ?(?:{_CHARS}|(?:{_CODES}|euros?|dollars|pounds|francs)\b)")
_BEFORE_COMMA = re.compile(rf"(?:{_CHARS}|\b(?:{_CODES})) ?$")


def spell_out(text: str) -> str:
    """`text` with sums of money in words. Linear time."""
    text = _FOR_MANY.sub(r"\1 per ", _ROUGHLY.sub(_say_roughly, text))
    text = _CENTS.sub(lambda m: f"{m[1] or m[2]}¢", text) if _IS_CENTS.search(text) else text
    if _DECIMAL.search(text):
        text = _COMMA.sub(_with_point, text)
    has_code = any(code in text for code in _ALL_CODES)
    if has_code:
        text = _CODE_BEFORE.sub(_say, text)
    if _IS_LETTERED.search(text):
        text = _LETTERED_BEFORE.sub(_say, text)
    text = _SIGN_BEFORE.sub(_say, text)
    return _AFTER.sub(_say, text) if has_code or _ANY_SIGN.search(text) else text


def _say_roughly(match: re.Match[str]) -> str:
    """$1,000s → thousands of dollars."""
    size = len(match[2].replace(",", ""))
    return f"{_ROUNDED.get(size, 'millions')} of {CURRENCIES[match[1]][1]}"


def _with_point(match: re.Match[str]) -> str:
    """A decimal comma, where a currency stands before or behind: €1.234,50."""
    text, start = match.string, match.start()
    if _BEFORE_COMMA.search(text, max(0, start - 5), start) or _BEHIND_COMMA.match(
        text, match.end()
    ):
        return f"{match[1].replace('.', '')}.{match[2]}"
    return match[0]


def _say(match: re.Match[str]) -> str:
    found = match.groupdict()
    per, each = found["per"] or found["per_word"], ""
    if per:
        if found["per_word"] and not _each(per):
            return match[0]
        each = "".join(f" per {_each(part) or part}" for part in per.split("/"))
    code = (found.get("code_after") or found["what"]).strip()
    currency = CURRENCIES[code]
    end = match.end() if not per else len(match.string)
    if is_attributive(match.string, match.start(), end) or names_price(match.string, end):
        one, _, cent, _ = currency
        currency = one, one, cent, cent
    minus = "minus " if found["minus"] else ""
    after = " " if right_of(match).isalnum() else ""
    before = " " * left_of(match, 1).isalnum()
    return f"{before}{minus}{_amount(match, currency)}{each}{after}"


def _amount(match: re.Match[str], currency: Currency) -> str:
    """One sum or two: the currency is said once, but for sums with cents."""
    first, second = match["a"], match["b"]
    scale_a, scale_b = _scale(match["scale_a"]), _scale(match["scale_b"])
    if second is None:
        return _sum(first, scale_a, currency)
    if not (scale_a or scale_b) and (_has_cents(first) or _has_cents(second)):
        return f"{_sum(first, '', currency)} to {_sum(second, '', currency)}"
    scale_a = "" if scale_a == scale_b else scale_a
    return f"{_number(first)}{scale_a} to {_sum(second, scale_b, currency, plural=True)}"


def _scale(written: str | None) -> str:
    return f" {SCALES[written.strip(' -').lower()]}" if written else ""


def _has_cents(figures: str) -> bool:
    return re.search(r"\.(?!00$)\d\d$", figures) is not None


def _number(figures: str) -> str:
    return number(figures.removesuffix(".00"))


def _sum(figures: str, scale: str, currency: Currency, plural: bool = False) -> str:
    """1234.56 → … dollars and fifty-six cents; 2.5 → two point five dollars."""
    one, many, cent, cents = currency
    if scale:
        return f"{number(figures)}{scale} {many}"
    whole, _, hundredths = figures.partition(".")
    if len(hundredths) != 2 or cents is None:
        return f"{number(figures)} {one if figures == '1' and not plural else many}"
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
