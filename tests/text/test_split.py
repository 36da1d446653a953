"""Pieces keep their limits, are cut in good places, and together are the whole text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text.examples import TAGS, clean_up, normalise

from chatterbox.text import SegmentLimits
from chatterbox.text.segment import split

LIMITS = SegmentLimits()
WORD = re.compile(r"(?:\[clear throat\]|[^\s—])+")
CLAUSE = "the old ship went slowly down the wide river towards the town"  # 12 words, 61 characters


def words(text: str) -> int:
    return len(WORD.findall(text))


def letters(text: str) -> str:
    """All that is spoken, without blanks and stops: a cut may change only those."""
    return re.sub(r"[^\w'\[\]]", "", text)


def test_short_text_is_one_piece() -> None:
    assert split("One. Two! Three?", LIMITS) == ["One. Two! Three?"]


def test_the_first_piece_is_shorter_than_the_next() -> None:
    text = " ".join(["He ate a big pie again."] * 20)
    pieces = split(text, SegmentLimits(first_words=12, next_words=40, tail_words=0))
    assert [words(p) for p in pieces] == [12, 36, 36, 36]
    later = split(text, SegmentLimits(first_words=12, next_words=40, tail_words=0), first=False)
    assert [words(p) for p in later] == [36, 36, 36, 12]


def test_sentences_are_never_cut_while_they_fit() -> None:
    sentences = [f"Sentence {'very ' * (n % 30)}long." for n in range(200)]
    ends = {"."}
    for piece in split(" ".join(sentences), LIMITS):
        assert piece[-1] in ends
        assert piece.startswith("Sentence")


def test_paragraphs_end_sentences() -> None:
    limits = SegmentLimits(first_words=2, next_words=2, tail_words=0)
    assert split("one.\ntwo two.\nThree.", limits) == ["one.", "two two.", "Three."]


def test_a_stop_before_a_small_letter_does_not_end_a_sentence() -> None:
    limits = SegmentLimits(first_words=5, next_words=5, tail_words=0)
    assert split("Wait... what now? Go on then.", limits) == ["Wait... what now?", "Go on then."]


@pytest.mark.parametrize(
    ("between", "ends"),
    [("; ", ","), (", ", ","), (" — ", ","), (" and ", ","), (". ", "."), ("! ", "!")],
)
def test_a_long_sentence_is_cut_at_its_clauses(between: str, ends: str) -> None:
    text = between.join([CLAUSE] * 8) + "."
    pieces = split(text, LIMITS)
    assert len(pieces) > 1
    for piece in pieces[:-1]:
        assert piece.endswith("town" + ends)
    assert letters("".join(pieces)) == letters(text)


def test_better_places_win_over_nearer_ones() -> None:
    text = f"{CLAUSE}, {CLAUSE}; {CLAUSE}, {CLAUSE}, {CLAUSE}."
    assert split(text, LIMITS)[0] == f"{CLAUSE}, {CLAUSE},"


def test_pieces_of_a_long_sentence_are_of_like_length() -> None:
    text = " ".join(["word"] * 70) + "."  # 350 characters: two pieces, not 280 and 70
    assert [words(p) for p in split(text, SegmentLimits(first_words=140))] == [35, 35]


def test_a_giant_word_is_cut_hard() -> None:
    pieces = split("a" * 1000 + ".", LIMITS)
    assert letters("".join(pieces)) == "a" * 1000
    assert all(len(clean_up(p)) <= 280 for p in pieces)


def test_a_short_tail_joins_the_piece_before() -> None:
    limits = SegmentLimits(first_words=5, next_words=5, tail_words=3)
    assert split("One two three four five. Six seven.", limits) == [
        "One two three four five. Six seven."
    ]
    assert len(split("One two three four five. Six seven eight.", limits)) == 2
    tight = SegmentLimits(first_words=5, next_words=5, tail_words=3, max_chars=30)
    assert len(split("One two three four five. Six seven.", tight)) == 2


def test_tags_alone_join_a_neighbour() -> None:
    limits = SegmentLimits(first_words=2, next_words=2, tail_words=0)
    assert split("One. [laugh] Two. [sigh]", limits) == ["One.", "[laugh] Two.", "[sigh]"]
    wide = SegmentLimits(first_words=3, next_words=3, tail_words=0)
    assert split("One one. [laugh] Two. [sigh]", wide) == ["One one.", "[laugh] Two. [sigh]"]
    assert split("[laugh] [clear throat]", wide) == ["[laugh] [clear throat]"]


LIMIT = st.builds(
    SegmentLimits,
    first_words=st.integers(1, 30),
    next_words=st.integers(1, 60),
    tail_words=st.integers(0, 12),
    max_chars=st.integers(40, 200),
)
TEXT = st.lists(
    st.sampled_from(["one", "Two", "three,", "four.", "Five!", "and", "[laugh]", "[clear throat]"])
    | st.sampled_from(
        ["why?", "— ", "so;", "that:", "\n", "Antidisestablishmentarianism", "x" * 90]
    )
    | st.text(max_size=12),
    min_size=1,
    max_size=120,
).map(" ".join)


@given(TEXT, LIMIT)
def test_every_word_once_in_order_within_the_limits(text: str, limits: SegmentLimits) -> None:
    said = re.sub(r"\[pause[^]]*\]", "", normalise(text)).strip()
    pieces = split(said, limits)
    assert letters("".join(pieces)) == letters(said)
    for at, piece in enumerate(pieces):
        assert 0 < len(clean_up(piece)) <= limits.max_chars
        room = limits.first_words if at == 0 else limits.next_words
        last = at == len(pieces) - 1
        assert words(piece) <= room + (limits.tail_words if last else 0)
        assert not re.search(r"\[clear$|^throat\]", piece)
    whole = [p for p in pieces if not any(f"[{t}]" in p for t in TAGS)]
    assert all(any(c.isalpha() for c in p) for p in whole)
