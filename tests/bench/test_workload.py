"""Tests of the default texts."""

from chatterbox.bench.client import Workload
from chatterbox.bench.flags import parser, texts
from chatterbox.text import SegmentLimits, prepare

TEXTS = texts(parser().parse_args([]))
*SHORT_TEXTS, LONG_TEXT = TEXTS


def test_the_long_text_is_several_segments_and_the_others_are_one() -> None:
    assert len(prepare(LONG_TEXT, SegmentLimits())) == 3
    assert all(len(prepare(text, SegmentLimits())) == 1 for text in SHORT_TEXTS)


def test_the_long_text_is_among_the_first_ten_requests() -> None:
    workload = Workload(TEXTS, voice_id=None, seed=0, stream=True)
    assert [workload.form(n)["text"] for n in range(10)].count(LONG_TEXT) == 1
