"""Texts of other languages keep their figures and signs; markup goes, sentences are found."""

import pytest

from chatterbox.text import SegmentLimits, Tags, normalise, prepare

TAGS = Tags(frozenset({"laugh", "한숨", "작은 웃음"}))
FOREIGN = [
    ("Am 3. Mai kostet das **5,50 €**.", "Am 3. Mai kostet das 5,50 €."),
    ("Ja <laugh> [laugh] <b>nein</b>", "Ja [laugh] [laugh] nein"),
    ("오늘은 5월 3일 <한숨> <작은 웃음>.", "오늘은 5월 3일 [한숨] [작은 웃음] ."),
    ("你好。我很好！", "你好。 我很好！"),
    ("¿Qué tal? Son 3,5 km.", "¿Qué tal? Son 3,5 km."),
    ("आज 3 मई है। हाँ।", "आज 3 मई है। हाँ।"),
]


@pytest.mark.parametrize(("written", "kept"), FOREIGN)
def test_is_left_as_it_is_written(written: str, kept: str) -> None:
    assert " ".join(normalise(written, tags=TAGS, english=False).split()) == kept


@pytest.mark.parametrize("text", ["你好。" * 40, "हाँ। " * 60, "Ja, gut. " * 40])
def test_is_cut_between_sentences(text: str) -> None:
    limits = SegmentLimits(first_words=5, next_words=20, tail_words=0, max_chars=40)
    segments = [segment.text for segment in prepare(text, limits, english=False)]
    assert len(segments) > 2
    assert all(segment[-1] in "。।." for segment in segments)


def test_a_pause_stays_one() -> None:
    first, second = prepare("Ja. [pause:1s] Nein", SegmentLimits(), english=False)
    assert (first.text, second.text, second.pause_before_s) == ("Ja.", "Nein.", 1.0)
