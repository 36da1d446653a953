"""Text that arrives letter by letter is read as it is when it comes whole."""

import itertools
import re

import pytest
from text.examples import prepare, written

from chatterbox.dialects.shared.sentence_buffer import SentenceBuffer
from chatterbox.errors import EmptyText
from chatterbox.text import SegmentLimits

LIMITS = SegmentLimits()


def words(text: str) -> list[str]:
    """What is said, without regard to stops and capitals."""
    try:
        said = " ".join(segment.text for segment in prepare(text, LIMITS))
    except EmptyText:
        return []
    return re.findall(r"[^\s.,!?;:—-]+", said.casefold())


def parts(pieces: list[str]) -> list[str]:
    buffer, found = SentenceBuffer(), []
    for piece in pieces:
        buffer.feed(piece)
        if part := buffer.take():
            found.append(part)
    return [*found, buffer.flush()]


def by_letters(text: str) -> list[str]:
    return list(text)


def by_words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def by_tokens(text: str) -> list[str]:
    """As chat models send them: blanks before words, stops apart."""
    return re.findall(r"\s?\w+|\s+|[^\w\s]+", text)


_STARTS_SENTENCE = re.compile("[\\w\"'“‘(<$£€]")
"""Other signs mean something else inside a line than where it begins."""
_ONLY_CLOSED = re.compile(r"^(?s:(?!<think).)*</think")
"""Thoughts are heard where their beginning was never sent."""
AROUND = (
    ("", ""),
    ("We have come so far. ", " Then it is so."),
    ("Look at this:\n", "\n\nSo it is."),
)
WAYS = (by_letters, by_words, by_tokens)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_example_is_read_as_it_is_whole(way):
    """Each in every way and in every place, not in all ways in all places."""
    places = itertools.islice(itertools.cycle(AROUND), WAYS.index(way), None)
    texts = [
        f"{before}{text}{after}"
        for text, (before, after) in zip(written(), places, strict=False)
        if (before[-1:] != " " or _STARTS_SENTENCE.match(text)) and not _ONLY_CLOSED.search(text)
    ]
    wrong = [
        (text, found)
        for text in texts
        if list(itertools.chain.from_iterable(map(words, found := parts(way(text))))) != words(text)
    ]
    assert wrong == []
