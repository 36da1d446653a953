"""Applies the rules of reading one after the other, so that a rule that fails costs nothing else.

A long text is read in blocks: no rule sees more than BLOCK_CHARS at once, so that not even a slow
pattern can hold the interpreter's lock for long, and time is checked in between.
"""

import functools
import logging
import re
import time
import traceback
from collections.abc import Callable, Iterable

from chatterbox.errors import TextTooLong

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
        text = _applied(rule, text)
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


def _applied(rule: Rule, text: str) -> str:
    """`text` after `rule`; where that fails, the rule is left out for the sentences at fault."""
    try:
        return rule(text)
    except Exception as fault:  # noqa: BLE001 - whatever no rule can read is left as it is written
        report(rule, fault)
    sentences = _SENTENCE_END.split(text)  # sentence, blank, sentence, …
    if len(sentences) == 1:
        return text
    return "".join(_applied(rule, part) if part.strip() else part for part in sentences)


def report(rule: Callable[..., object], fault: Exception) -> None:
    """Warn of a fault, once. Never with the text, which the fault's own message may repeat."""
    line = traceback.extract_tb(fault.__traceback__)[-1].lineno
    _warn(f"{rule.__module__}.{rule.__name__}", type(fault).__name__, str(line))


@functools.cache
def _warn(rule: str, fault: str, line: str) -> None:
    log.warning("The rule %s failed (%s, line %s); text is read without it.", rule, fault, line)
