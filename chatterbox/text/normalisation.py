"""How does written English become words that can be read out as they stand?

Knows the order of the steps, not their content. Each step takes away one kind of notation and
leaves only what the steps after it know.
"""

import re

from chatterbox.text import (
    addresses,
    dates,
    figures,
    markup,
    punctuation,
    quantities,
    roman,
    signs,
    words,
)
from chatterbox.text.characters import readable

_FIGURE = re.compile(r"\d")
_OPENS_SENTENCE = re.compile(r"(?m)(?:^|(?<=[.!?] ))(?=[$£€¥.-]{0,2}\d)")
_CAPITAL = "\ue000"
"""Stands before a figure that opens a sentence, whose first word is to be capitalised; a private
character, which `readable` lets through from nobody."""
_TO_CAPITALISE = re.compile(_CAPITAL + r" *(\w?)")


def normalise(text: str) -> str:
    """`text` as words: letters, blanks, `' , . ! ? ; : -` and the em dash, a paragraph per line,
    the model's tags in brackets, and pauses as `markup.PAUSE_MARK` on lines of their own.

    Linear time. What it gives stays as it is when given again, but for an abbreviation without
    its stop at the end of a line (`in Nov`), which gets the stop that makes it one.
    """
    text = markup.plain(readable(markup.without_elements(text)))
    parts = markup.PAUSE_MARK.split(text)  # words, seconds, words, seconds, … words
    said = [
        markup.pause_mark(float(part)) if at % 2 else _in_words(part)
        for at, part in enumerate(parts)
    ]
    return "\n".join(part for part in said if part)


def _in_words(text: str) -> str:
    text = signs.without_quotes(punctuation.unwrapped(text))
    text = words.spell_out(punctuation.squeezed(addresses.spell_out(text)))
    text = roman.spell_out(text)
    if _FIGURE.search(text):
        text = _OPENS_SENTENCE.sub(_CAPITAL, text)
        text = figures.identifiers(dates.spell_out(text))
        text = figures.decades(figures.powers(text))
        text = figures.rest(quantities.spell_out(text))
        text = _TO_CAPITALISE.sub(lambda m: m[1].upper(), text)
    return punctuation.tidy(signs.spell_out(text))
