"""Turn written English into words, without digits or symbols, for the model to speak.

Each step reads one kind of notation and leaves the rest to later steps. A long text is read in
blocks, so that no pattern holds the interpreter's lock for long; time is checked between blocks.
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
"""Maximum length of a block."""
LEAST_TEXT_S = 5.0
CHAR_S = 50e-6
"""Processor time allowed for a text, in seconds: LEAST_TEXT_S plus CHAR_S for each character;
TextTooLong above it. Ordinary text takes about 8 µs a character."""

_SENTENCE_END = re.compile(r"((?<=[.!?]) |\n)")
_BLOCK_ENDS = tuple(
    re.compile(pattern)
    for pattern in (r"\n", r"(?<=[a-z]{4}[.!?]) (?=[A-Z])", r" (?![^\[\]\s]{1,32}\])")
)
"""Places where a block may end, best first: after a line, a clear sentence end, a word."""


class Allowance:
    """Limits the processor time that a text may take on the calling thread."""

    def __init__(self, chars: int) -> None:
        self._until_s = time.thread_time() + LEAST_TEXT_S + CHAR_S * chars

    def check(self) -> None:
        """Raises TextTooLong if the time is used up."""
        if time.thread_time() > self._until_s:
            raise TextTooLong(
                "The text takes too long to read. Send it in smaller parts.", param="text"
            )


def apply(
    rules: Iterable[Rule], text: str, allowance: Allowance, needs: re.Pattern[str] | None = None
) -> str:
    """Apply `rules` to `text` in order, while the text has a match of `needs`. Raises only
    TextTooLong."""
    allowance.check()
    for rule in rules:
        if needs and not needs.search(text):
            break
        try:
            text = rule(text)
        except Exception as fault:  # noqa: BLE001 - text that a rule cannot read stays as it is
            report(rule, fault)
            text = _by_sentences(rule, text, allowance)
    return text


def by_blocks(read: Rule, text: str) -> str:
    """Apply `read` to `text` in blocks: whole lines if they fit, else sentences, else words."""
    said, start = [], 0
    while start < len(text):
        end, after = _block(text, start)
        if block := read(text[start:end]):
            said += [block, "\n" if text[end:after] == "\n" else " "]
        start = after
    return "".join(said[:-1])


def _block(text: str, start: int) -> tuple[int, int]:
    """Return the end of the block that begins at `start`, and the start of the next block."""
    limit = start + BLOCK_CHARS
    if len(text) <= limit:
        return len(text), len(text)
    for pattern in _BLOCK_ENDS:
        places = [match.span() for match in pattern.finditer(text, start + 1, limit)]
        if places:
            return places[-1]
    return limit, limit


def _by_sentences(rule: Rule, text: str, allowance: Allowance) -> str:
    """Apply `rule` to each sentence separately. A sentence on which it raises stays as it is."""
    sentences = _SENTENCE_END.split(text)  # sentence, space, sentence, …
    if len(sentences) == 1:
        return text
    return "".join(apply([rule], part, allowance) if part.strip() else part for part in sentences)


def report(rule: Callable[..., object], fault: Exception) -> None:
    """Log each fault of a rule once, without the exception's message, which may quote the text."""
    line = traceback.extract_tb(fault.__traceback__)[-1].lineno
    _warn(f"{rule.__module__}.{rule.__name__}", type(fault).__name__, str(line))


@functools.cache
def _warn(*what: str) -> None:
    log.warning("The rule %s failed (%s, line %s); text is read without it.", *what)


# --- the rules of reading ------------------------------------------------------------------------
NO_TAGS = markup.Tags()
_DIGIT = re.compile("[0-9]")
_CAPITAL = "\ue000"
"""Marks a number that opens a sentence, so that its first word is capitalised. A private character,
which `normalise_characters` removes from texts."""

_mark_openings = Step(__name__, "mark_openings")
"""Mark numbers that open a sentence, while they are digits: `5 cats` → `Five cats`."""
_mark_openings.add(
    rf"(?m)(?:^|(?<=[.!?] )(?<!\d (?:ft|lb|hr)\. ))(?=[{CURRENCY_SIGNS}.-]{{0,2}}\d)", _CAPITAL
)
_capitalise = Step(__name__, "capitalise", _CAPITAL)
"""Capitalise the words of marked numbers: `5 cats` → `Five cats`."""
_capitalise.add(_CAPITAL + r" *(\w?)", lambda m: m[1].upper())

_wide_stops = Step(__name__, "wide_stops")
"""Put a space between sentences of scripts that have none: `你好。再见` → `你好. 再见`."""
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
    words.number_labels,
    words.read,
    roman.read,
)
_NUMBERS = (
    _mark_openings,
    words.verses,
    numbers.ratios,
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
    numbers.remaining,
)
_SIGNS = (_capitalise, signs.read, characters.tidy)
"""All rules in order, except those that need the model's tags. Rules up to `_LINES` see the whole
text, the others one block; rules of `_NUMBERS` only lines with digits, until no digits are left."""


def normalise(
    text: str,
    allowance: Allowance | None = None,
    fenced_code: CodeBlocks = "skip",
    tags: markup.Tags = NO_TAGS,
    *,
    english: bool = True,
) -> str:
    """Return `text` as words: letters, spaces, `' , . ! ? ; : -` and the em dash, one paragraph per
    line, the model's tags in brackets, and pauses as `markup.PAUSE_MARK` on lines of their own.

    Linear time. Normalised text does not change when it is normalised again, except that an
    abbreviation at the end of a line (`in Nov`) gets a stop first and is read the next time.
    Text that is not `english` only loses its markup; the model reads its numbers and symbols.

    A rule that raises is skipped for that sentence. Raises only TextTooLong, when the `allowance`
    of processor time is used up.
    """
    allowance = allowance or Allowance(len(text))
    first: tuple[Rule, ...] = (markup.skip_code_blocks,) if fenced_code == "skip" else ()
    first += (tags.to_brackets,)
    if not english:
        first += (markup.elements, tags.remove_citations, tags.strip_markdown)
        return apply((*first, *_LINES, _wide_stops), text, allowance)
    rules: tuple[Rule, ...]
    rules = (*first, *_MARKUP, tags.remove_citations, *_CHARACTERS, tags.strip_markdown)
    parts = markup.PAUSE_MARK.split(apply(rules, text, allowance))
    said = [  # parts: words, seconds, words, seconds, … words
        markup.pause_mark(float(part)) if at % 2 else _in_words(part, allowance)
        for at, part in enumerate(parts)
    ]
    return "\n".join(part for part in said if part)


def _in_words(text: str, allowance: Allowance) -> str:
    def read(block: str) -> str:
        block = apply(_WORDS, block, allowance)
        if _DIGIT.search(block):
            lines = groupby(block.split("\n"), lambda line: _DIGIT.search(line) is not None)
            block = "\n".join(
                apply(_NUMBERS, "\n".join(some), allowance, needs=_DIGIT) for _, some in lines
            )
        return apply(_SIGNS, block, allowance)

    return by_blocks(read, apply(_LINES, text, allowance))
