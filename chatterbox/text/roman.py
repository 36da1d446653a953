"""Which Roman numerals are safe to read as numbers?

Knows the words and names they follow; a numeral after anything else stays as it is written.
"""

import re

from chatterbox.text.lexicon import STARTERS
from chatterbox.text.numbers import cardinal, ordinal

_ROMAN = r"(?=[IVXLC]+\b)C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_VALUES = {"C": 100, "L": 50, "X": 10, "V": 5, "I": 1}

_NUMBERED = re.compile(
    r"\b((?i:chapter|part|act|scene|book|volume|section|phase|article|appendix|level|type|class"
    r"|episode|stage|grade|title|figure|table|world war|super bowl|mark|tier)"
    rf") ({_ROMAN})\b(?!['.]\w)"
)
_RULER = re.compile(
    r"\b(Henry|Elizabeth|Louis|George|Charles|William|Edward|James|Richard|Philip|Frederick|Francis"
    r"|Napoleon|Nicholas|Catherine|Peter|Alexander|Benedict|Pius|Leo|Ivan|Ferdinand|Gustav|Mary"
    r"|Ramesses|Ptolemy|Paul|Gregory|Innocent|Clement|Urban|Wilhelm|Friedrich|Otto|Rudolf|Joseph"
    rf"|Leopold|Constantine|Darius|Xerxes) ({_ROMAN})\b(?!['.]\w\w)(?P<after> (?:of|was)\b|[,.]|$)?"
)
_SEQUEL = re.compile(
    r"\b([A-Za-z][\w'-]{0,30}) (?:(?P<sure>II|III|VII|VIII|IX|XII|XIII|XIV|XVI|XVII|XVIII|XIX)\b"
    r"|(?P<named>(?:VI|XI|XV|XX)\b|IV\b(?! \w)))"
)


def spell_out(text: str) -> str:
    """`text` with safe Roman numerals as words. Linear time; single blanks only."""
    text = _NUMBERED.sub(lambda m: f"{m[1]} {cardinal(_value(m[2]))}", text)
    return _SEQUEL.sub(_say_sequel, _RULER.sub(_say_ruler, text))


def _value(numeral: str) -> int:
    values = [_VALUES[c] for c in numeral]
    following = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, following, strict=True))


def _say_ruler(match: re.Match[str]) -> str:
    """Henry VIII; `Mary I think` is no queen."""
    if match[2] == "I" and match["after"] is None:
        return match[0]
    return f"{match[1]} the {ordinal(_value(match[2]))}{match['after'] or ''}"


def _say_sequel(match: re.Match[str]) -> str:
    """Rocky III; where the numeral could be an abbreviation (IV), only after a name."""
    before, numeral = match[1], match["sure"] or match["named"]
    if match["named"] and (not before[0].isupper() or before in STARTERS):
        return match[0]
    return f"{before} {cardinal(_value(numeral))}"
