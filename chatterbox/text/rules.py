"""Building blocks of the reading rules: steps, the text around a match, nouns after a number.

A sum or a measure before its noun is read in the singular: `a $20 bill`, `the 50mm lens`.
"""

import re
from collections.abc import Callable

from chatterbox.text.lexicon import any_in, words_in

Match = re.Match[str]
Say = Callable[[Match], str]


class Step:
    """Reads one kind of notation: an ordered list of patterns and the words that replace them.

    `needs` is a cheap pattern. A step or rule is skipped if the text has no match of its `needs`.
    """

    def __init__(self, module: str, name: str = "read", needs: str = "") -> None:
        self.__module__, self.__name__ = module, name
        self._needs = re.compile(needs)
        self._rules: list[tuple[re.Pattern[str], re.Pattern[str], str | Say]] = []

    def add(self, pattern: str, said: str | Say, needs: str = "") -> None:
        """Add a rule that replaces `pattern` with `said`."""
        self._rules.append((re.compile(needs), re.compile(pattern), said))

    def rule(self, pattern: str, needs: str = "") -> Callable[[Say], Say]:
        """Decorate a function that returns the words for a match of `pattern`, or the matched text
        if the rule does not apply."""

        def decorate(say: Say) -> Say:
            self.add(pattern, say, needs)
            return say

        return decorate

    def __call__(self, text: str) -> str:
        """Apply the rules to `text`. Linear time, as every pattern bounds its repetitions."""
        if not self._needs.search(text):
            return text
        for needs, pattern, said in self._rules:
            if needs.search(text):
                text = pattern.sub(said, text)
        return text


def text_before(match: Match, chars: int) -> str:
    """Return up to `chars` characters that precede the match."""
    return match.string[max(0, match.start() - chars) : match.start()]


def text_after(match: Match, chars: int = 1) -> str:
    """Return up to `chars` characters that follow the match."""
    return match.string[match.end() : match.end() + chars]


_LAST_WORD = re.compile(r"(?<!\w)\w[\w'-]*(?= $)")


def word_before(match: Match) -> str:
    """Return the word before the match, or "" unless exactly one space separates the two."""
    found = _LAST_WORD.search(text_before(match, 34))
    return found[0] if found else ""


def space_after(match: Match) -> str:
    """Return a space if the next word touches the match, as in `w/Bob`, else ""."""
    return " " * text_after(match).isalnum()


# --- nouns ---------------------------------------------------------------------------------------
_NO_ADJECTIVE, _NO_NOUN = words_in("no adjective"), words_in("no noun")
_ARTICLE = re.compile(
    rf"""(?xi)
    (?: \b(?P<sure> an? | another | each | every | one )
      | \b{any_in("determiners")}
      | (?<=[a-z]) (?<!\bit)(?<!he)(?<!at)(?<!ho)(?<!re)(?<!let) 's )  # a genitive, not `it's`
    (?: [ ] (?P<adjective>[a-z]{{2,15}}) )? [ ]$"""
)
_NOUN = re.compile(
    r" (?:(?:tall|long|wide|deep|high|thick|old|heavy) (?=[a-z]))?"
    r"([a-z]{3,20}|[A-Z][A-Za-z]{1,19})\b(?!')"
)
_ENDS_CLAUSE = re.compile(r" (?:[a-z]+(?:ed|ly)|[A-Z][a-z]+)\b")
"""Matches a word that is no noun of the measure: `the 5 MB used`, `the 20 kg Bob carried`."""
_PART = re.compile(rf" (?:{any_in('materials')} )?{any_in('parts')}\b(?!')")
_JOINED = re.compile(r"-(?:long|wide|tall|high|deep|thick|old|heavy)\b")
_PRICED = re.compile(
    r" (?:bill|note|coin|banknote|ticket|gift card|fee|fine|bonus)s?\b|-(?:an?|per)-"
)


def is_attributive(text: str, start: int, end: int) -> bool:
    """Whether the sum or measure at `start:end` describes the noun that follows: `a 5 km run`."""
    if _JOINED.match(text, end):
        return True
    if not noun_follows(text, end):
        return False
    article = _ARTICLE.search(text, max(0, start - 40), start)
    if article is None or article["adjective"] in _NO_ADJECTIVE:
        return False
    return article["sure"] is not None or _ENDS_CLAUSE.match(text, end) is None


def noun_follows(text: str, end: int) -> bool:
    """Whether the word at `end` has the form of a noun."""
    noun = _NOUN.match(text, end)
    return noun is not None and noun[1].lower() not in _NO_NOUN


def part_follows(text: str, end: int) -> bool:
    """Whether the measure that ends at `end` names a part without an article: `8GB RAM`."""
    return _PART.match(text, end) is not None


def price_noun_follows(text: str, end: int) -> bool:
    """Whether the sum that ends at `end` describes a note or a price: `$20 bills`, `$9-an-hour`."""
    return _PRICED.match(text, end) is not None
