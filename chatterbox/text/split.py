"""Cuts a normalised text where the model speaks the pieces well."""

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from chatterbox.text.characters import is_speakable
from chatterbox.text.markup import TAG


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """How long segments may be. The first is short so that its sound comes early; a last one of
    fewer than `tail_words` joins the one before, because very short text misbehaves.

    `max_chars` is a ceiling over all: the model breaks down past about 300 characters.
    """

    first_words: int = 40
    next_words: int = 140
    tail_words: int = 12
    max_chars: int = 280


_Span = tuple[int, int]

_STOPS = ".!?。！？।؟"
_SENTENCE_END = re.compile(rf"[ \n](?:(?<=\n)|(?<=[{_STOPS}] ))")
_WORD = re.compile(rf"(?:{TAG.pattern}|[^\s—])+")
_CUTS = tuple(
    re.compile(pattern)
    for pattern in (
        r" (?<=[.!?] )",  # a stop before a small letter
        r" (?:(?<=; )|— )",
        r" (?<=[,:] )",
        r" (?=(?:and|or|but|nor|yet|so|because|although|though|while|when|where|which|who|that|if"
        r"|unless|until|since|after|before) )",
        r" (?![^\[\]\s]{1,32}\])",
    )
)
"""Where a sentence that is too long alone is cut, the best kind of place first; not within a tag,
which has two words at most."""
_LOOK_AHEAD_CHARS = 12
"""What the longest of `_CUTS` needs to see: ` although `."""
_LEAST_FILL = 0.4
"""A place is passed over for a less good one where the piece before it would fill less of what
fits than this: `Oh,` alone is too short to speak well."""


def split(text: str, limits: SegmentLimits, *, first: bool = True) -> list[str]:
    """`text` (from `normalise`, without pauses) in pieces whose cleaned-up form keeps `limits`.
    Together they hold every word once, in order. Only the `first` keeps `first_words`.
    Linear time."""
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
    """Spans of sentences; tags alone belong to the sentence after them, at the end before them."""
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
    start = 0
    for match in _SENTENCE_END.finditer(text):
        after = match.end()
        if match[0] == "\n" or not text[after : after + 1].islower():
            yield start, match.start()
            start = after
    if start < len(text):
        yield start, len(text)


def _length(text: str, start: int, end: int) -> int:
    """Characters of the cleaned-up form: its first letter may grow, a stop may be added."""
    return end - start + len(text[start].upper()) - 1 + (text[end - 1] not in _STOPS)


def _words(text: str, start: int, end: int, limits: SegmentLimits) -> int:
    """Words from `start` to `end`; more than any limit where these are too many characters, so
    that a long sentence is not counted again after each cut."""
    if _length(text, start, end) > limits.max_chars:
        return sys.maxsize
    return sum(1 for _ in _WORD.finditer(text, start, end))


def _cut(text: str, start: int, end: int, room: int, limits: SegmentLimits) -> _Span:
    """Where the piece that begins at `start` ends, and where the one after it begins: the best
    kind of place, and of these the one nearest to making pieces of like length."""
    window = min(end, start + limits.max_chars - len(text[start].upper()))
    if window - start >= 2 * room:  # a word and its blank are two characters at least
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
    """The piece, empty where it is only dashes; one that ends inside a sentence ends in a comma, so
    that the voice stays up."""
    piece = text[start:end].replace("\n", " ").lstrip("— ")
    if end == len(text) or piece.endswith((*_STOPS, "]")) or not piece:
        return piece
    return piece.rstrip(",;:—- ") + ","


_ENDS = tuple(".!?…,;:-—。！？，、؟।")


def finish(text: str) -> str:
    """For a model whose authors say no more. A voice without a stop at the end goes on speaking."""
    text = " ".join(text.split())
    return text if text.endswith(_ENDS) else text + "."
