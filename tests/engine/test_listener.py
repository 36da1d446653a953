"""A listener of a long text, in virtual time: no later segment at an earlier one's expense."""

import pytest
from engine.simulation import Listener, Machine, simulate


@pytest.mark.parametrize("times", [0.5, 0.7, 0.85, 0.95, 1.0, 1.1])
def test_a_long_text_is_heard_without_a_long_silence_where_the_machine_keeps_up(monkeypatch, times):
    machine = Machine().slower(times)
    (alone,) = simulate(monkeypatch, [Listener(1)], machine)
    (long,) = simulate(monkeypatch, [Listener(5)], machine)
    assert long.rtf < 0.85
    assert max(long.gaps_s, default=0.0) <= 0.3
    assert sum(long.gaps_s) <= sum(alone.gaps_s) + 0.1, "all of it in its first segment"
    assert long.first_s == alone.first_s
    assert long.rtf <= alone.rtf, "side by side is worth its throughput"


def test_side_by_side_is_quicker_than_one_after_the_other_and_no_less_continuous(monkeypatch):
    machine = Machine().slower(1.1)
    (after,) = simulate(monkeypatch, [Listener(5, ahead=1)], machine)
    (beside,) = simulate(monkeypatch, [Listener(5, ahead=3)], machine)
    assert beside.rtf < 0.95 * after.rtf
    assert sum(beside.gaps_s) <= sum(after.gaps_s) + 0.1


@pytest.mark.parametrize(("speed", "times"), [(1.5, 0.6), (2.0, 0.45), (0.5, 1.4)])
def test_speed_is_part_of_every_deadline(monkeypatch, speed, times):
    (heard,) = simulate(monkeypatch, [Listener(5, speed=speed)], Machine().slower(times))
    assert heard.rtf < 0.85
    assert max(heard.gaps_s, default=0.0) <= 0.2


def test_a_machine_that_cannot_keep_up_is_silent_no_longer_than_it_must_be(monkeypatch):
    machine = Machine().slower(1.4)
    (alone,) = simulate(monkeypatch, [Listener(1)], machine)
    (long,) = simulate(monkeypatch, [Listener(5)], machine)
    assert alone.rtf > 1
    assert long.rtf < alone.rtf
    assert max(long.gaps_s) <= 1.05 * max(alone.gaps_s)


def test_two_listeners_of_long_texts_share(monkeypatch):
    machine = Machine().slower(0.5)
    for one in simulate(monkeypatch, [Listener(4), Listener(4)], machine):
        assert max(one.gaps_s, default=0.0) <= 0.3


def test_short_segments_follow_each_other_without_a_silence(monkeypatch):
    machine = Machine().slower(0.8)
    (heard,) = simulate(monkeypatch, [Listener(12)], machine, segment_s=1.6)
    assert max(heard.gaps_s, default=0.0) <= 0.3
