"""What stands around a match, and whether that is a noun: a sum or a measure before its noun, as in
`a $20 bill` or `the 50mm lens`, is read in the singular."""

import re

from chatterbox.text.lexicon import words

_NO_ADJECTIVE = words("no adjective")
_ARTICLE = re.compile(
    r"(?i)(?:\b(?P<sure>an?|another|each|every|one)|\b(?:the|this|that|these|those|two|three|four"
    r"|five|several|my|your|his|her|its|our|their)"
    r"|(?<=[a-z])(?<!\bit)(?<!he)(?<!at)(?<!ho)(?<!re)(?<!let)'s)(?: (?P<adjective>[a-z]{2,15}))? $"
)
_NOUN = re.compile(
    r" (?:(?:tall|long|wide|deep|high|thick|old|heavy) (?=[a-z]))?"
    r"([a-z]{3,20}|[A-Z][A-Za-z]{1,19})\b(?!')"
)
_NO_NOUN = words("no noun")
_ENDS_CLAUSE = re.compile(r" (?:[a-z]+(?:ed|ly)|[A-Z][a-z]+)\b")
"""After `the`: `the 5 MB used`, `the 20 kg Bob carried`."""
_PART = re.compile(
    r" (?:RAM|VRAM|L?P?DDR\d|SSDs?|HDDs?|NVMe|LCD|LED|OLED|USB"
    r"|(?:(?:flash|hard|solid|audio|headphone|memory|SD|zoom|prime|water|garden|touch|gaming) )?"
    r"(?:memory|storage|drives?|disks?|jacks?|screens?|displays?|monitors?|lens(?:es)?|cables?"
    r"|batter(?:y|ies)|chargers?|adapters?|cards?|sticks?|bulbs?|motors?|engines?|cameras?"
    r"|sensors?|plugs?|hoses?|pipes?|bolts?|screws?|nails?|drills?|wires?|tapes?|film|tablets?"
    r"|capsules?|pills?|tubing|plywood|panels?|tiles?|spacing|margins?|thread|resistors?"
    r"|capacitors?|modules?|fans?|radiators?|power|suppl(?:y|ies)|races?|dash|relay|sprint))\b(?!')"
)
"""Things that are named by a measure, without an article, too: `with 3.5mm jack`, `8GB RAM`."""
_JOINED = re.compile(r"-(?:long|wide|tall|high|deep|thick|old|heavy)\b")
_SURE_NOUN = re.compile(
    r" (?:bill|note|coin|banknote|ticket|gift card|fee|fine|bonus)s?\b|-(?:an?|per)-"
)


def left_of(match: re.Match[str], chars: int) -> str:
    """At most so many characters before it."""
    return match.string[max(0, match.start() - chars) : match.start()]


def right_of(match: re.Match[str], chars: int = 1) -> str:
    """At most so many characters behind it."""
    return match.string[match.end() : match.end() + chars]


def is_attributive(text: str, start: int, end: int) -> bool:
    """Whether what stands from `start` to `end` belongs to the noun behind it."""
    if _JOINED.match(text, end):
        return True
    if not has_noun(text, end):
        return False
    article = _ARTICLE.search(text, max(0, start - 40), start)
    if article is None or article["adjective"] in _NO_ADJECTIVE:
        return False
    return article["sure"] is not None or _ENDS_CLAUSE.match(text, end) is None


def has_noun(text: str, end: int) -> bool:
    """Whether a noun stands behind `end`, as far as its form tells."""
    noun = _NOUN.match(text, end)
    return noun is not None and noun[1].lower() not in _NO_NOUN


def names_part(text: str, end: int) -> bool:
    """Whether a measure up to `end` names a part or an article of trade: `8GB RAM`."""
    return _PART.match(text, end) is not None


def names_price(text: str, end: int) -> bool:
    """Whether a sum up to `end` names a note or a price: `$20 bills`, `$9-an-hour`."""
    return _SURE_NOUN.match(text, end) is not None
