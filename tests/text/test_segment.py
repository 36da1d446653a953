"""Good text gives segments, bad text a clear error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text.examples import prepare

from chatterbox.errors import EmptyText, InvalidText
from chatterbox.text import Segment, SegmentLimits

LIMITS = SegmentLimits()


def test_a_text_becomes_a_clean_segment() -> None:
    assert prepare('she said: "I\'m 5 years old"', LIMITS) == [
        Segment("She said, I'm five years old.")
    ]


def test_pauses_stand_before_and_after_segments() -> None:
    text = "[pause:1s]One.[pause:300ms][pause:200ms] Two. [break] Three.[pause:2s]"
    assert prepare(text, LIMITS) == [
        Segment("One.", pause_before_s=1.0),
        Segment("Two. break Three.", pause_before_s=0.5, pause_after_s=2.0),
    ]


def test_pauses_in_one_place_are_bounded_together() -> None:
    segments = prepare("[pause:9s][pause:9s]one[pause:8s][pause:8s]", LIMITS)
    assert segments == [Segment("One.", pause_before_s=10.0, pause_after_s=10.0)]


def test_a_pause_hidden_in_brackets_is_bounded_too() -> None:
    assert prepare("[pause:9999999[.]0s]one", LIMITS)[0].pause_before_s <= 10.0


def test_only_the_first_segment_of_all_is_a_short_one() -> None:
    text = "One. " + "[pause] " + " ".join(["Word word word word word word."] * 9)
    limits = SegmentLimits(first_words=6, next_words=60, tail_words=0)
    assert [len(s.text.split()) for s in prepare(text, limits)] == [1, 54]


def test_a_tag_alone_is_speakable() -> None:
    assert prepare("[laugh]", LIMITS) == [Segment("[laugh].")]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "\n\t ",
            "...",
            "?!",
            "- - -",
            "😀👍🏽",
            "👨\u200d👩\u200d👧",
            "\u200d",
            "\ufeff",
        ),
        *("()[]{}", "<p></p>", "**", "[pause:1s]", "\u0301\u0316", "\x00\x1b", "''", "“”", "___"),
        *("." * 100_000, "(" * 100_000, "\u0316\u0301" * 50_000, "[" * 100_000),
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_nothing_speakable_is_an_empty_text(text: str) -> None:
    with pytest.raises(EmptyText) as caught:
        prepare(text, LIMITS)
    assert caught.value.param == "text"


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "ok \ud83d\ud800"])
def test_half_a_surrogate_pair_is_invalid(text: str) -> None:
    with pytest.raises(InvalidText) as caught:
        prepare(text, LIMITS)
    assert caught.value.param == "text"
    caught.value.message.encode("utf-8")


@pytest.mark.parametrize(
    "unit",
    [
        *("7", "a", "A.", "A'", "a.b", "1,", "1.", "1 ", "1-", "1/", "+1", "$1 ", "1:11 ", "5 km "),
        *(
            "a@",
            "a@b.c ",
            "http://a",
            "www.a.",
            "#a",
            "<a b=c ",
            "<!--",
            "&amp;",
            "[a](",
            "[pause:",
        ),
        *(
            "H\u0337\u0310\u0316\u0321",
            "a\u0301\u0316",
            " ",
            "a\n",
            "| a ",
            "- a\n",
            "—",
            "'",
            "😀a",
        ),
        *("Dr. A ", "St. ", "Henry VIII ", "[laugh] ", "A b. ", "so and ", "word, ", "x^2", "a-"),
        "the quick brown fox jumps over the lazy dog and ",
    ],
)
def test_long_runs_of_anything_end_soon(unit: str) -> None:
    """Takes minutes where a step is quadratic; docs/use/text.md has the measured times."""
    text = (unit * (20_000 // len(unit) + 1)) + " end"
    segments = prepare(text, LIMITS)
    assert all(len(s.text) <= LIMITS.max_chars for s in segments)


@given(st.text(max_size=400))
def test_any_text_gives_segments_or_a_known_error(text: str) -> None:
    try:
        segments = prepare(text, LIMITS)
    except (EmptyText, InvalidText):
        return
    assert segments
    for segment in segments:
        assert any(c.isalpha() for c in segment.text)
        assert len(segment.text) <= LIMITS.max_chars
        assert segment.text[-1] in ".!?,-"
        assert not set('"<>|\x00\n') & set(segment.text)
        assert 0 <= segment.pause_before_s <= 10
