"""Alignment: every character has a time, once, in order, within its segment."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatterbox.dialects.shared.alignment import original_pieces, spread
from chatterbox.text import SegmentLimits, prepare

LIMITS = SegmentLimits(first_words=6, next_words=8, tail_words=1, max_chars=80)


@pytest.mark.parametrize(
    "pairs",
    [
        [("Hello there.", "Hello there.")],
        [("The first one.", "The first one."), (" And the second.", "And the second.")],
        [
            (" Call me at 9:30.", "Call me at nine thirty."),
            (" Then wait for Mr. Smith — he is late!", "Then wait for Mister Smith - he is late!"),
            (" Do not go away.\n", "Do not go away."),
        ],
        [("One day.", "One day."), ("\n\nAnother day came.", "Another day came.")],
        [("One. [pause:1s]", "One."), (" Two. [laugh] Three.", "Two. [laugh] Three.")],
        [
            ("He came on 5/6/2001.", "He came on May sixth, two thousand and one."),
            (" Dr. No was his name.", "Doctor No was his name."),
        ],
    ],
)
def test_cuts_are_at_the_starts_of_segments(pairs: list[tuple[str, str]]) -> None:
    written = [piece for piece, _ in pairs]
    assert original_pieces("".join(written), [segment for _, segment in pairs]) == written


def test_pieces_of_real_segments_begin_with_the_same_words() -> None:
    text = "One sentence is here. " + "Then Dr. Smith paid $3.50 at 9:30, or so he said. " * 9
    segments = [segment.text for segment in prepare(text, LIMITS)]
    first = [segment.split()[0] for segment in segments]
    pieces = original_pieces(text, segments)
    assert first.count("Then") == 9
    assert [piece.split()[0] == "Then" for piece in pieces] == [word == "Then" for word in first]


def test_a_cut_between_figures_is_placed_by_proportion() -> None:
    text = "12 13 14 15 16 17 18 19 20 21 22 23"
    segments = ["Twelve thirteen fourteen fifteen.", "Sixteen seventeen eighteen nineteen."]
    segments.append("Twenty twenty-one twenty-two twenty-three.")
    sizes = [len(piece.split()) for piece in original_pieces(text, segments)]
    assert sum(sizes) == 12
    assert all(3 <= size <= 5 for size in sizes)


WORDS = st.sampled_from(
    ["the", "cat", "Sat.", "12", "$3.50", "a", "—", "No!", "e.g.", "9:30", "\n", "https://a.b/c"]
)


@settings(max_examples=200, deadline=None)
@given(words=st.lists(WORDS, max_size=60), others=st.lists(st.lists(WORDS), min_size=1, max_size=6))
@example(words=[], others=[[], []])
@example(words=["a"] * 40, others=[["a"] * 9, ["a"] * 9])
def test_joined_pieces_are_the_text_whatever_was_spoken(words, others) -> None:
    text = " ".join(words)
    pieces = original_pieces(text, [" ".join(other) for other in others])
    assert "".join(pieces) == text
    assert len(pieces) == len(others)


def test_long_and_repetitive_text_is_quick() -> None:
    text = "1 " * 20_000
    segments = ["one " * 50] * 400
    assert "".join(original_pieces(text, segments)) == text


@pytest.mark.parametrize("text", [" Two words", "word", "  ", ""])
def test_times_fill_the_segment(text: str) -> None:
    found = spread(text, 1.0, 1.2, 2.0)
    assert found.text == text
    bounds = found.bounds_s
    assert len(bounds) == len(found.text) + 1
    assert bounds == sorted(bounds)
    if text.strip():
        assert bounds[0] == (1.0 if text.startswith(" ") else 1.2)
        assert bounds[-1] == 2.0
        assert bounds[len(text) - len(text.lstrip())] == 1.2


def test_no_time_is_past_the_end() -> None:
    found = spread("abc", 0.0, 0.0, 1.23456)
    assert found.bounds_s[-1] == 1.234
    found.end_at(1.5)
    assert found.bounds_s[-1] == 1.5
