"""Split the text of a request into segments, of whole sentences if they fit, and pauses."""

import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from chatterbox.errors import EmptyText, InvalidText
from chatterbox.text.characters import TAG, is_speakable
from chatterbox.text.markup import MAX_PAUSE_S, PAUSE_MARK, CodeBlocks, Tags
from chatterbox.text.normalisation import NO_TAGS, Allowance, normalise, report


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """Limits on the length of segments.

    The first segment is short, so that its sound comes early. A last segment of fewer than
    `tail_words` is joined to the previous segment if both fit, because models speak very short
    texts badly. No segment exceeds `max_chars`: Turbo fails above about 300 characters.
    """

    first_words: int = 40
    next_words: int = 140
    tail_words: int = 12
    max_chars: int = 280


@dataclass(frozen=True, slots=True)
class Segment:
    """Text that the model speaks in one piece, and the pauses that the user's text sets around it.

    A pause between two segments belongs to the later segment; only the last segment of a text can
    have `pause_after_s`.
    """

    text: str
    pause_before_s: float = 0.0
    pause_after_s: float = 0.0


_ENDS = tuple(".!?…,;:-—。！？，、؟।")


def finish(text: str) -> str:
    """Reduce white space, and add a missing stop at the end: without a stop, voices go on speaking.

    The default clean-up, for models whose authors prescribe no other.
    """
    text = " ".join(text.split())
    return text if text.endswith(_ENDS) else text + "."


def prepare(
    text: str,
    limits: SegmentLimits,
    code_blocks: CodeBlocks = "skip",
    *,
    tags: Tags = NO_TAGS,
    english: bool = True,
    clean_up: Callable[[str], str] = finish,
) -> list[Segment]:
    """Check, normalise, split and clean up a text. Returns at least one segment. Linear time.

    `clean_up` should lengthen a text by one character at most. Raises InvalidText for half a
    surrogate pair, EmptyText if the text has no words, TextTooLong if reading takes too long.
    """
    _require_unicode(text)
    segments: list[Segment] = []
    pause_s = 0.0
    allowance = Allowance(len(text))
    for at, part in enumerate(
        PAUSE_MARK.split(normalise(text, allowance, code_blocks, tags, english=english))
    ):
        allowance.check()
        if at % 2:  # the seconds of a pause
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
    """Split `words`; if `split` raises, cut at spaces into pieces of the maximum length."""
    try:
        return split(words, limits, first=first)
    except Exception as fault:  # noqa: BLE001 - the text is still spoken
        report(split, fault)
        return textwrap.wrap(words, limits.max_chars - 2)


def _require_unicode(text: str) -> None:
    """Raises InvalidText for half a surrogate pair, which no encoder accepts."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as failure:
        raise InvalidText(
            f"The text holds half of a surrogate pair at character {failure.start}; send whole "
            "Unicode characters.",
            param="text",
        ) from None


# --- where a normalised text is cut ------------------------------------------------------------
_Span = tuple[int, int]

_STOPS = ".!?。！？।؟"
_SENTENCE_END = re.compile(rf"[ \n](?:(?<=\n)|(?<=[{_STOPS}] ))")
_WORD = re.compile(rf"(?:{TAG.pattern}|[^\s—])+")
_CUTS = tuple(
    re.compile(pattern)
    for pattern in (
        r" (?<=[.!?] )",  # after a stop, before a small letter
        r" (?:(?<=; )|— )",
        r" (?<=[,:] )",
        r" (?=(?:and|or|but|nor|yet|so|because|although|though|while|when|where|which|who|that|if"
        r"|unless|until|since|after|before) )",
        r" (?![^\[\]\s]{1,32}\])",
    )
)
"""Places where a sentence that exceeds the limits is cut, the best kind first. Tags have at most
two words and are never cut."""
_LOOK_AHEAD_CHARS = 12
"""Characters after a place that the longest pattern of `_CUTS` needs: ` although `."""
_LEAST_FILL = 0.4
"""Smallest share of the allowed length that a piece may fill. Places that leave less are skipped in
favour of a worse kind of place: `Oh,` alone is too short to speak well."""


def split(text: str, limits: SegmentLimits, *, first: bool = True) -> list[str]:
    """Cut `text` into pieces that are within `limits` after clean-up. Linear time.

    `text` comes from `normalise` and contains no pauses. The pieces contain every word once, in
    order. `first_words` applies to the first piece, and only if `first` is true.
    """
    pieces: list[_Span] = []
    room = limits.first_words if first else limits.next_words
    start, end, words = 0, 0, 0  # the piece that is being packed
    for left, right in _sentences(text):
        count = _words(text, left, right, limits)
        if words and words + count <= room and _length(text, start, right) <= limits.max_chars:
            end, words = right, words + count
            continue
        if words:
            pieces.append((start, end))
            room = limits.next_words
        begin = left
        while count > room:
            cut, after = _cut(text, begin, right, room, limits)
            pieces.append((begin, cut))
            begin, room = after, limits.next_words
            count = _words(text, begin, right, limits)
        start, end, words = begin, right, count
    if words:
        pieces.append((start, end))
    if len(pieces) > 1 and _words(text, *pieces[-1], limits) < limits.tail_words:
        joined = pieces[-2][0], pieces[-1][1]
        if _length(text, *joined) <= limits.max_chars:
            pieces[-2:] = [joined]
    return [written for piece in pieces if (written := _written(text, *piece))]


def _sentences(text: str) -> Iterator[_Span]:
    """Yield the spans of sentences. Tags that stand alone join the next sentence, or at the end of
    the text the previous sentence."""
    whole: _Span | None = None
    tags_at: int | None = None
    for start, end in _stretches(text):
        begin, tags_at = start if tags_at is None else tags_at, None
        if text[start] == "[" and not is_speakable(TAG.sub("", text[start:end])):
            tags_at = begin
            continue
        if whole:
            yield whole
        whole = begin, end
    if tags_at is not None:
        whole = whole[0] if whole else tags_at, len(text)
    if whole:
        yield whole


def _stretches(text: str) -> Iterator[_Span]:
    """Yield the spans between line breaks and stops; a small letter continues a sentence."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        after = match.end()
        if match[0] == "\n" or not text[after : after + 1].islower():
            yield start, match.start()
            start = after
    if start < len(text):
        yield start, len(text)


def _length(text: str, start: int, end: int) -> int:
    """Return the length after clean-up, which may add a stop and capitalise `ß` to `SS`."""
    return end - start + len(text[start].upper()) - 1 + (text[end - 1] not in _STOPS)


def _words(text: str, start: int, end: int, limits: SegmentLimits) -> int:
    """Count the words from `start` to `end`; `sys.maxsize` if they exceed `max_chars`, so that a
    long sentence is not counted again after each cut."""
    if _length(text, start, end) > limits.max_chars:
        return sys.maxsize
    return sum(1 for _ in _WORD.finditer(text, start, end))


def _cut(text: str, start: int, end: int, room: int, limits: SegmentLimits) -> _Span:
    """Return the end of the piece from `start` and the start of the next piece. The cut is at the
    best kind of place, where the pieces become most equal in length."""
    window = min(end, start + limits.max_chars - len(text[start].upper()))
    if window - start >= 2 * room:  # a word and its space have two characters at least
        words = itertools.islice(_WORD.finditer(text, start, window), room - 1, room)
        window = next((word.end() for word in words), window)
    size = window - start
    target = start + (end - start) // max(2, -(-(end - start) // size))
    least = min(target, start + int(size * _LEAST_FILL))
    for pattern in _CUTS:
        found = pattern.finditer(text, max(least, start + 1), window + _LOOK_AHEAD_CHARS)
        places = [match.span() for match in found if match.start() <= window]
        if places:
            return min(places, key=lambda place: abs(place[0] - target))
    return window, window


def _written(text: str, start: int, end: int) -> str:
    """Return the piece's text, "" if the piece is only dashes. A piece that ends inside a sentence
    gets a comma, so that the voice does not fall."""
    piece = text[start:end].replace("\n", " ").lstrip("— ")
    if end == len(text) or piece.endswith((*_STOPS, "]")) or not piece:
        return piece
    return piece.rstrip(",;:—- ") + ","
