"""Turns written English into words that can be read out as they stand.

Each step takes away one kind of notation and leaves only what the steps after it know.

A long text is read in blocks: no rule sees more than BLOCK_CHARS at once, so that not even a slow
pattern can hold the interpreter's lock for long, and time is checked in between.
"""

import functools
import logging
import re
import time
import traceback
from collections.abc import Callable, Iterable
from itertools import groupby

from chatterbox.errors import TextTooLong
from chatterbox.text import (
    addresses,
    characters,
    dates,
    identifiers,
    markup,
    mathematics,
    money,
    numbers,
    quantities,
    roman,
    signs,
    words,
    years,
)
from chatterbox.text.lexicon import CURRENCY_SIGNS
from chatterbox.text.markup import CodeBlocks
from chatterbox.text.rules import Step

# --- applying rules ------------------------------------------------------------------------------
log = logging.getLogger("chatterbox.text")

Rule = Callable[[str], str]

BLOCK_CHARS = 2000
LEAST_TEXT_S = 5.0
CHAR_S = 50e-6
"""Processor time for reading one text, whatever its length, and more for each character. Ordinary
text takes about 8 µs a character."""

_SENTENCE_END = re.compile(r"((?<=[.!?]) |\n)")
_BLOCK_ENDS = tuple(
    re.compile(pattern)
    for pattern in (r"\n", r"(?<=[a-z]{4}[.!?]) (?=[A-Z])", r" (?![^\[\]\s]{1,32}\])")
)
"""Where a block ends, the best kind of place first: a line, a sure sentence, a word."""


class Allowance:
    """The processor time that one text may take, on the thread that reads it."""

    def __init__(self, chars: int) -> None:
        self._until_s = time.thread_time() + LEAST_TEXT_S + CHAR_S * chars

    def check(self) -> None:
        """Raise TextTooLong where the time is used up."""
        if time.thread_time() > self._until_s:
            raise TextTooLong(
                "The text takes too long to read. Send it in smaller parts.", param="text"
            )


def apply(
    rules: Iterable[Rule], text: str, allowance: Allowance, needs: re.Pattern[str] | None = None
) -> str:
    """`text` after all `rules`, or after those up to which it holds what they need. Raises
    TextTooLong, and nothing else."""
    allowance.check()
    for rule in rules:
        if needs and not needs.search(text):
            break
        try:
            text = rule(text)
        except Exception as fault:  # noqa: BLE001 - whatever no rule can read is left as it is
            report(rule, fault)
            text = _by_sentences(rule, text, allowance)
    return text


def by_blocks(read: Rule, text: str) -> str:
    """`text` after `read`, in blocks: whole lines where they fit, else sentences, else words."""
    said, start = [], 0
    while start < len(text):
        end, after = _block(text, start)
        if block := read(text[start:end]):
            said += [block, "\n" if text[end:after] == "\n" else " "]
        start = after
    return "".join(said[:-1])


def _block(text: str, start: int) -> tuple[int, int]:
    """Where the block that begins at `start` ends, and where the next one begins."""
    limit = start + BLOCK_CHARS
    if len(text) <= limit:
        return len(text), len(text)
    for pattern in _BLOCK_ENDS:
        places = [match.span() for match in pattern.finditer(text, start + 1, limit)]
        if places:
            return places[-1]
    return limit, limit


def _by_sentences(rule: Rule, text: str, allowance: Allowance) -> str:
    """`text` after `rule`, which is left out for the sentences at fault."""
    sentences = _SENTENCE_END.split(text)  # sentence, blank, sentence, …
    if len(sentences) == 1:
        return text
    return "".join(apply([rule], part, allowance) if part.strip() else part for part in sentences)


def report(rule: Callable[..., object], fault: Exception) -> None:
    """Warn of a fault, once. Never with the text, which the fault's own message may repeat."""
    line = traceback.extract_tb(fault.__traceback__)[-1].lineno
    _warn(f"{rule.__module__}.{rule.__name__}", type(fault).__name__, str(line))


@functools.cache
def _warn(*what: str) -> None:
    log.warning("The rule %s failed (%s, line %s); text is read without it.", *what)


# --- the rules of reading ------------------------------------------------------------------------
NO_TAGS = markup.Tags()
_FIGURE = re.compile("[0-9]")
_CAPITAL = "\ue000"
"""Stands before a figure that opens a sentence, whose first word is to be capitalised; a private
character, which `readable` lets through from nobody."""

_opened, _capitalised = Step(__name__, "opened"), Step(__name__, "capitalised", _CAPITAL)
_opened.add(
    rf"(?m)(?:^|(?<=[.!?] )(?<!\d (?:ft|lb|hr)\. ))(?=[{CURRENCY_SIGNS}.-]{{0,2}}\d)", _CAPITAL
)
_capitalised.add(_CAPITAL + r" *(\w?)", lambda m: m[1].upper())

_wide_stops = Step(__name__, "wide_stops")
"""Where no blank parts sentences, one is put: they are cut at blanks."""
_wide_stops.add(r"[。！？](?=[^\s。！？」』”’）])", r"\g<0> ")

_MARKUP = (markup.elements, mathematics.formulas)
_CHARACTERS = (characters.normalise_characters, mathematics.read)
_LINES = (characters.unwrap_lines,)
_WORDS = (
    signs.marks,
    signs.quotes,
    signs.arrows,
    addresses.read,
    characters.squeeze_spaces,
    dates.names,
    words.streets,
    numbers.slashes,
    words.figured,
    words.read,
    roman.read,
)
_FIGURES = (
    _opened,
    words.verses,
    numbers.linked,
    dates.read,
    dates.clock,
    identifiers.read,
    numbers.powers,
    years.decades,
    money.read,
    quantities.read,
    years.ranges,
    numbers.fractions,
    numbers.ranges,
    years.read,
    numbers.rest,
)
_SIGNS = (_capitalised, signs.read, characters.tidy)
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
    first = (markup.skip_code_blocks,) if fenced_code == "skip" else ()
    cited = markup.but_for(tags)
    if not english:
        foreign = (*first, tags.bracketed, markup.elements, cited, tags.plain)
        return apply((*foreign, *_LINES, _wide_stops), text, allowance)
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
