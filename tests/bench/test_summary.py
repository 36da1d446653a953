"""Tests of a level's figures against values computed by hand."""

import pytest

from chatterbox.bench.report import Level, Outcome


def test_a_level() -> None:
    outcomes = [
        Outcome(0.0, 1.0, audio_s=2.0, first_audible_s=0.2, silences_s=(0.1, 0.2)),
        Outcome(0.5, 2.0, audio_s=2.0, first_audible_s=0.4, server_rtf=0.5),
        Outcome(1.0, 4.0, error="overloaded"),
        Outcome(3.5, 4.0, audio_s=1.0),
    ]
    level = Level(outcomes, concurrency=2)
    assert (level.requests, level.succeeded, level.errors) == (4, 3, {"overloaded": 1})
    assert level.wall_s == 4.0
    assert level.throughput_hz == 0.75
    assert level.audio_per_s == 1.25
    assert level.rtf is not None
    assert level.rtf.mean == pytest.approx((0.5 + 0.75 + 0.5) / 3)
    assert level.first_audible_s is not None
    assert level.first_audible_s.p50 == pytest.approx(0.3)
    assert level.silent_replies == 1
    assert (level.underruns, level.replies_with_underruns) == (2, 1)
    assert (level.underrun_s, level.longest_underrun_s) == (pytest.approx(0.3), 0.2)
    assert level.server_rtf_mean == 0.5
    assert level.in_flight_max == 2  # one leaves at the very moment the next one comes
    assert level.load == 2
    assert level.realtime_mean
    assert not level.realtime_p95  # for its error


def test_a_level_where_nothing_succeeded() -> None:
    level = Level([Outcome(0.0, 1.0, error="timeout")], rate_hz=0.5)
    assert level.rtf is level.first_audible_s is level.server_rtf_mean is None
    assert level.throughput_hz == level.audio_per_s == 0.0
    assert level.load == 0.5
    assert not level.realtime_mean
    assert not level.realtime_p95
