"""Turns written English into words that can be read out as they stand.

Each step takes away one kind of notation and leaves only what the steps after it know.
"""

import re
from itertools import groupby

from chatterbox.text import (
    addresses,
    clock,
    dates,
    elements,
    identifiers,
    markup,
    mathematics,
    money,
    numbers,
    punctuation,
    quantities,
    ranges,
    roman,
    signs,
    words,
    years,
)
from chatterbox.text.characters import readable
from chatterbox.text.lexicon import CURRENCY_SIGNS
from chatterbox.text.markup import CodeBlocks
from chatterbox.text.rules import Allowance, apply, by_blocks

NO_TAGS = markup.Tags()
_FIGURE = re.compile("[0-9]")
_WIDE_STOP = re.compile(r"[。！？](?=[^\s。！？」』”’）])")
_OPENS_SENTENCE = re.compile(
    rf"(?m)(?:^|(?<=[.!?] )(?<!\d (?:ft|lb|hr)\. ))(?=[{CURRENCY_SIGNS}.-]{{0,2}}\d)"
)
_CAPITAL = "\ue000"
"""Stands before a figure that opens a sentence, whose first word is to be capitalised; a private
character, which `readable` lets through from nobody."""
_TO_CAPITALISE = re.compile(_CAPITAL + r" *(\w?)")


def _opened(text: str) -> str:
    """Figures that open a sentence, marked."""
    return _OPENS_SENTENCE.sub(_CAPITAL, text)


def _capitalised(text: str) -> str:
    """The words of these figures, capitalised."""
    return _TO_CAPITALISE.sub(lambda m: m[1].upper(), text) if _CAPITAL in text else text


def _blank_after_stops(text: str) -> str:
    """Where no blank parts sentences, one is put: they are cut at blanks."""
    return _WIDE_STOP.sub(r"\g<0> ", text)


_MARKUP = (elements.without_elements, mathematics.formulas)
_CHARACTERS = (readable, mathematics.spell_out)
_LINES = (punctuation.unwrapped,)
_WORDS = (
    signs.marks,
    signs.without_quotes,
    signs.arrows,
    addresses.spell_out,
    punctuation.squeezed,
    dates.names,
    words.streets,
    ranges.slashes,
    words.spell_out,
    roman.spell_out,
)
_FIGURES = (
    _opened,
    words.verses,
    numbers.pressure,
    ranges.linked,
    dates.spell_out,
    clock.spell_out,
    identifiers.spell_out,
    numbers.powers,
    years.decades,
    money.spell_out,
    quantities.spell_out,
    years.ranges,
    numbers.fractions,
    ranges.spell_out,
    years.spell_out,
    numbers.rest,
)
_SIGNS = (_capitalised, signs.spell_out, punctuation.tidy)
"""All the rules, in their order, but for those that know the tags. Those up to `_LINES` see the
whole text, the others a block; those of `_FIGURES` only lines with figures, as long as there are
any left."""


def normalise(
    text: str,
    allowance: Allowance | None = None,
    fenced_code: CodeBlocks = "skip",
    tags: markup.Tags = NO_TAGS,
    *,
    english: bool = True,
) -> str:
    """`text` as words: letters, blanks, `' , . ! ? ; : -` and the em dash, a paragraph per line,
    the model's tags in brackets, and pauses as `markup.PAUSE_MARK` on lines of their own.

    Linear time. What it gives stays as it is when given again, but for an abbreviation without
    its stop at the end of a line (`in Nov`), which gets the stop that makes it one.

    Of a text that is not `english` only markup is taken away: its figures and signs are the
    model's to read.

    A rule that fails is left out for the sentence at fault. Raises TextTooLong where the
    `allowance` of time is used up, and nothing else.
    """
    allowance = allowance or Allowance(len(text))
    first = (markup.skipped,) if fenced_code == "skip" else ()
    cited = markup.but_for(tags)
    if not english:
        foreign = (*first, tags.bracketed, elements.without_elements, cited, tags.plain)
        return apply((*foreign, *_LINES, _blank_after_stops), text, allowance)
    rules = (*first, tags.bracketed, *_MARKUP, cited, *_CHARACTERS, tags.plain)
    parts = markup.PAUSE_MARK.split(apply(rules, text, allowance))
    said = [  # parts: words, seconds, words, seconds, … words
        markup.pause_mark(float(part)) if at % 2 else _in_words(part, allowance)
        for at, part in enumerate(parts)
    ]
    return "\n".join(part for part in said if part)


def _in_words(text: str, allowance: Allowance) -> str:
    def read(block: str) -> str:
        block = apply(_WORDS, block, allowance)
        if _FIGURE.search(block):
            lines = groupby(block.split("\n"), lambda line: _FIGURE.search(line) is not None)
            block = "\n".join(
                apply(_FIGURES, "\n".join(some), allowance, needs=_FIGURE) for _, some in lines
            )
        return apply(_SIGNS, block, allowance)

    return by_blocks(read, apply(_LINES, text, allowance))
