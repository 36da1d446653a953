"""The texts that are spoken where none are given."""

from chatterbox.bench.client import DEFAULT_TEXTS, LONG_TEXT, SHORT_TEXTS, Workload
from chatterbox.text import SegmentLimits, prepare


def test_the_long_text_is_several_segments_and_the_others_are_one() -> None:
    assert len(prepare(LONG_TEXT, SegmentLimits())) == 3
    assert all(len(prepare(text, SegmentLimits())) == 1 for text in SHORT_TEXTS)


def test_the_long_text_is_among_the_first_ten_requests() -> None:
    workload = Workload(DEFAULT_TEXTS, voice_id=None, seed=0, stream=True)
    assert [workload.form(n)["text"] for n in range(10)].count(LONG_TEXT) == 1
