"""Cuts a request's text into the segments and pauses that it is spoken in."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace

from chatterbox.errors import EmptyText, InvalidText
from chatterbox.text.markup import MAX_PAUSE_S, PAUSE_MARK, CodeBlocks, Tags
from chatterbox.text.normalisation import NO_TAGS, normalise
from chatterbox.text.rules import Allowance, report
from chatterbox.text.split import SegmentLimits, finish, split


@dataclass(frozen=True, slots=True)
class Segment:
    """What the model is given at once, and the silence that the text asks for around it.

    A pause between two segments belongs to the later one; only the last segment of a text has one
    after it. 0: none was asked for.
    """

    text: str
    pause_before_s: float = 0.0
    pause_after_s: float = 0.0


def prepare(
    text: str,
    limits: SegmentLimits,
    code_blocks: CodeBlocks = "skip",
    *,
    tags: Tags = NO_TAGS,
    english: bool = True,
    clean_up: Callable[[str], str] = finish,
) -> list[Segment]:
    """The whole way: check, normalise, split, clean up. At least one segment. Linear time.
    `clean_up` makes a text at most one character longer, as a rule.

    Raises InvalidText for a lone surrogate, EmptyText where nothing can be spoken, TextTooLong
    where reading it takes too long.
    """
    _require_unicode(text)
    segments: list[Segment] = []
    pause_s = 0.0
    allowance = Allowance(len(text))
    for at, part in enumerate(
        PAUSE_MARK.split(normalise(text, allowance, code_blocks, tags, english=english))
    ):
        allowance.check()
        if at % 2:  # the seconds between two stretches of words
            pause_s = min(pause_s + float(part), MAX_PAUSE_S)
        elif words := part.strip():
            for piece in _pieces(words, limits, first=not segments):
                segments.append(Segment(clean_up(piece), pause_before_s=pause_s))
                pause_s = 0.0
    if not segments:
        raise EmptyText(
            "Nothing in the text can be spoken: it needs at least one word.", param="text"
        )
    segments[-1] = replace(segments[-1], pause_after_s=pause_s)
    return segments


def _pieces(words: str, limits: SegmentLimits, *, first: bool) -> list[str]:
    """As `split`; where that fails, pieces of the longest length, cut at blanks."""
    try:
        return split(words, limits, first=first)
    except Exception as fault:  # noqa: BLE001 - the text is to be spoken all the same
        report(split, fault)
        return textwrap.wrap(words, limits.max_chars - 2)


def _require_unicode(text: str) -> None:
    """Raise InvalidText where a surrogate stands alone: no encoder downstream would take it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as failure:
        raise InvalidText(
            f"The text holds half of a surrogate pair at character {failure.start}; send whole "
            "Unicode characters.",
            param="text",
        ) from None
