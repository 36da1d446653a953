"""Tests of the table of tools/bench_stream.py."""

import pytest

from tools.bench_stream import Heard, Result, peer_rounds


def test_segments_made_slower_than_they_play_are_heard_with_silences() -> None:
    result = Result("peer", "", "", clients=1, segments=3)
    peer_rounds(lambda: Heard(first_s=3.0, total_s=3.0, audio_s=2.0), result)(0)
    result.close()
    assert result.first_audio_ms_p50 == 3000
    assert (result.rtf, result.utterances, result.silences) == (1.5, 1, 2)
    assert result.silent_s_p50 == pytest.approx(2.0, abs=0.02)
    assert result.longest_s_max == pytest.approx(1.0, abs=0.01)
