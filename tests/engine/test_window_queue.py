"""The most urgent windows go first, and only those share a call that can.

Knows no decoder: windows as they are offered to the choice.
"""

import math

from hypothesis import given
from hypothesis import strategies as st

from chatterbox.engine.vocoder_stream import (
    GATHER_S,
    LOW_BUFFER_S,
    PATIENCE_S,
    PendingWindow,
    load,
    select_batch,
)


def due(
    what: str,
    bucket: int = 0,
    *,
    first: bool = False,
    in_work: int = 1,
    slack_s: float = 1.0,
    waited_s: float = 0.0,
) -> PendingWindow[str]:
    return PendingWindow(what, bucket, first, in_work, slack_s, waited_s)


def names(chosen: list[PendingWindow[str]]) -> list[str]:
    return [d.what for d in chosen]


def test_nothing_due_is_nothing_chosen():
    assert select_batch([], 4) == []


def test_first_windows_go_before_urgent_ones():
    offered = [due("late", slack_s=-0.5), due("new", first=True, slack_s=0.0)]
    assert names(select_batch(offered, 1)) == ["new"]


def test_the_longest_waiting_first_window_goes_first():
    offered = [due("b", first=True, waited_s=0.1), due("a", first=True, waited_s=0.4)]
    assert names(select_batch(offered, 2)) == ["a", "b"]


def test_of_first_windows_those_of_the_party_with_the_least_in_work_go_first():
    offered = [due("b", first=True, in_work=9, waited_s=0.4), due("a", first=True)]
    assert names(select_batch(offered, 2)) == ["a", "b"]
    offered = [due("b", in_work=1, slack_s=0.2), due("a", in_work=9, slack_s=0.1)]
    assert names(select_batch(offered, 2)) == ["a", "b"], "of later ones who needs it first"


def test_then_the_listener_whose_audio_ends_first():
    offered = [due("c", slack_s=0.3), due("a", slack_s=0.1), due("b", slack_s=0.2)]
    assert names(select_batch(offered, 3)) == ["a", "b", "c"]


def test_only_windows_of_the_most_urgent_ones_bucket_share_its_call():
    offered = [due("x", 7, slack_s=0.5), due("a", 3, slack_s=0.1), due("b", 3, slack_s=0.9)]
    assert names(select_batch(offered, 4)) == ["a", "b"]


def test_what_nobody_waits_for_is_last_but_not_for_ever():
    busy = due("busy", slack_s=0.4)
    assert names(select_batch([due("idle", slack_s=math.inf), busy], 1)) == ["busy"]
    old = due("idle", slack_s=math.inf, waited_s=PATIENCE_S)
    assert names(select_batch([busy, old], 1)) == ["idle"]


def test_equals_go_in_order_of_arrival():
    assert names(select_batch([due("a"), due("b"), due("c")], 2)) == ["a", "b"]


dues = st.builds(
    PendingWindow,
    what=st.integers(),
    bucket=st.integers(0, 2),
    first=st.booleans(),
    in_work=st.integers(1, 20),
    slack_s=st.floats(-5, 5) | st.just(math.inf),
    waited_s=st.floats(0, 20),
)


@given(st.lists(dues, min_size=1, max_size=30), st.integers(1, 8))
def test_a_choice_is_full_of_one_bucket_and_contains_the_most_urgent(offered, max_rows):
    chosen = select_batch(offered, max_rows)
    assert chosen[0].urgency == min(d.urgency for d in offered)
    assert {d.bucket for d in chosen} == {chosen[0].bucket}
    mates = [d for d in offered if d.bucket == chosen[0].bucket]
    assert len(chosen) == min(len(mates), max_rows)
    left = [d for d in mates if not any(d is c for c in chosen)]
    assert all(chosen[-1].urgency <= d.urgency for d in left)


def test_a_due_window_waits_no_longer_than_costs_nobody_anything():
    assert 0.002 <= GATHER_S <= 0.005


def test_load_counts_listeners_who_need_sound_soon():
    slacks_s = [0.0, 0.5, LOW_BUFFER_S + 1, math.inf]
    assert load(slacks_s, max_rows=1) == 2.0
    assert load(slacks_s, max_rows=16) == 1.0
    assert load([], max_rows=1) == 1.0
