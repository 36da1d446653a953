"""What the steps of reading are made of: rules, and what stands around the place of one.

A sum or a measure before its noun, as in `a $20 bill` or `the 50mm lens`, is read in the singular.
"""

import re
from collections.abc import Callable

from chatterbox.text.lexicon import any_in, words_in

Say = Callable[[re.Match[str]], str]


class Step:
    """Reads one kind of notation: patterns and what is said for what they find, in this order.

    The step and each rule are tried only where the text has what they `need`, which is found
    faster than their patterns.
    """

    def __init__(self, module: str, name: str = "read", needs: str = "") -> None:
        self.__module__, self.__name__ = module, name
        self._needs = re.compile(needs)
        self._rules: list[tuple[re.Pattern[str], re.Pattern[str], str | Say]] = []

    def add(self, pattern: str, said: str | Say, needs: str = "") -> None:
        """Add a rule."""
        self._rules.append((re.compile(needs), re.compile(pattern), said))

    def rule(self, pattern: str, needs: str = "") -> Callable[[Say], Say]:
        """Add a rule that says what the function below it returns."""

        def decorate(say: Say) -> Say:
            self.add(pattern, say, needs)
            return say

        return decorate

    def __call__(self, text: str) -> str:
        """`text` with what the rules find in words. Linear time."""
        if not self._needs.search(text):
            return text
        for needs, pattern, said in self._rules:
            if needs.search(text):
                text = pattern.sub(said, text)
        return text


def text_before(match: re.Match[str], chars: int) -> str:
    """At most so many characters before it."""
    return match.string[max(0, match.start() - chars) : match.start()]


def text_after(match: re.Match[str], chars: int = 1) -> str:
    """At most so many characters behind it."""
    return match.string[match.end() : match.end() + chars]


def space_after(match: re.Match[str]) -> str:
    """A blank where the next word touches: `w/Bob`."""
    return " " * text_after(match).isalnum()


# --- nouns ---------------------------------------------------------------------------------------
_NO_ADJECTIVE = words_in("no adjective")
_ARTICLE = re.compile(
    r"(?i)(?:\b(?P<sure>an?|another|each|every|one)|\b(?:the|this|that|these|those|two|three|four"
    r"|five|several|my|your|his|her|its|our|their)"
    r"|(?<=[a-z])(?<!\bit)(?<!he)(?<!at)(?<!ho)(?<!re)(?<!let)'s)(?: (?P<adjective>[a-z]{2,15}))? $"
)
_NOUN = re.compile(
    r" (?:(?:tall|long|wide|deep|high|thick|old|heavy) (?=[a-z]))?"
    r"([a-z]{3,20}|[A-Z][A-Za-z]{1,19})\b(?!')"
)
_NO_NOUN = words_in("no noun")
_ENDS_CLAUSE = re.compile(r" (?:[a-z]+(?:ed|ly)|[A-Z][a-z]+)\b")
"""After `the`: `the 5 MB used`, `the 20 kg Bob carried`."""
_PART = re.compile(rf" (?:{any_in('materials')} )?{any_in('parts')}\b(?!')")
"""Things that are named by a measure, without an article, too: `with 3.5mm jack`, `8GB RAM`."""
_JOINED = re.compile(r"-(?:long|wide|tall|high|deep|thick|old|heavy)\b")
_SURE_NOUN = re.compile(
    r" (?:bill|note|coin|banknote|ticket|gift card|fee|fine|bonus)s?\b|-(?:an?|per)-"
)


def is_attributive(text: str, start: int, end: int) -> bool:
    """Whether what stands from `start` to `end` belongs to the noun behind it."""
    if _JOINED.match(text, end):
        return True
    if not noun_follows(text, end):
        return False
    article = _ARTICLE.search(text, max(0, start - 40), start)
    if article is None or article["adjective"] in _NO_ADJECTIVE:
        return False
    return article["sure"] is not None or _ENDS_CLAUSE.match(text, end) is None


def noun_follows(text: str, end: int) -> bool:
    """Whether a noun stands behind `end`, as far as its form tells."""
    noun = _NOUN.match(text, end)
    return noun is not None and noun[1].lower() not in _NO_NOUN


def part_follows(text: str, end: int) -> bool:
    """Whether a measure up to `end` names a part or an article of trade: `8GB RAM`."""
    return _PART.match(text, end) is not None


def price_noun_follows(text: str, end: int) -> bool:
    """Whether a sum up to `end` names a note or a price: `$20 bills`, `$9-an-hour`."""
    return _SURE_NOUN.match(text, end) is not None
