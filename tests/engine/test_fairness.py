"""First sounds and small parties go first, and nobody starves for it."""

import gc
import weakref

import pytest
from engine.test_generation_loop import job

from chatterbox.engine.fairness import (
    FIRST_AUDIO_SHARE,
    MAX_DEFICIT_S,
    QUOTA_RATIO,
    TENANT_SHARE,
    FairScheduler,
    PrioritySnapshot,
    awaits_first_audio,
    has_buffer,
)
from chatterbox.engine.sequence import LOW_BUFFER_S
from chatterbox.errors import EngineDead

NOW_S = 1000.0


def heard(seconds: float, **kwargs):
    """A job whose listener has so much sound left."""
    one = job(**kwargs)
    one.playback.add(0, seconds, NOW_S)
    return one


def among(jobs, *, shared: bool = True, runnable=None) -> PrioritySnapshot:
    fairness = FairScheduler(shared=shared)
    for one in jobs:
        fairness.add(one)
    return fairness.snapshot(jobs if runnable is None else runnable, NOW_S)


def flood(*jobs):
    """These and more of their party: three times as many as one."""
    return [*jobs, *(heard(9, tenant="flood") for _ in range(QUOTA_RATIO + 1 - len(jobs)))]


def test_who_is_hoped_for_and_who_has_time():
    assert awaits_first_audio(job())
    for other in (job(index=1), job(listening=False), heard(0.5)):
        assert not awaits_first_audio(other)
    patient = [job(listening=False), job(index=1), heard(LOW_BUFFER_S + 1)]
    assert all(has_buffer(one, NOW_S) for one in patient)
    assert not any(has_buffer(one, NOW_S) for one in (job(), heard(LOW_BUFFER_S - 1)))
    assert not has_buffer(heard(LOW_BUFFER_S + 1), NOW_S + 2), "it plays meanwhile"


def test_nobody_stands_aside_for_nobody_nor_where_cores_are_not_shared():
    assert not among([heard(9), job(listening=False)]).awaits_first
    assert not among([job()], shared=False).awaits_first
    assert among([heard(9), job()]).awaits_first
    crowd = flood()
    assert not any(map(among([*crowd, heard(9, tenant="modest")]).must_wait, crowd))
    assert not any(map(among([*crowd, job(tenant="modest")], shared=False).must_wait, crowd))


@pytest.mark.parametrize(
    "modest",
    [job(tenant="modest"), heard(0.1, tenant="modest"), job(tenant="modest", listening=False)],
    ids=["a first sound", "a listener", "a whole answer"],
)
def test_a_party_with_much_in_work_lets_others_have_what_they_need(modest):
    crowd = flood(job(tenant="flood"), heard(0.1, tenant="flood"))
    snapshot = among([modest, *crowd])
    assert all(map(snapshot.must_wait, crowd))
    assert not snapshot.must_wait(modest)
    snapshot = among([modest, *crowd[1:]])
    assert not any(map(snapshot.must_yield, crowd)), "twice as much is not much"
    snapshot = among([modest, *crowd], runnable=crowd)
    assert not any(map(snapshot.must_yield, crowd)), "it can do nothing now"


def test_a_first_sound_of_a_crowd_is_not_hoped_for_meanwhile():
    ahead = heard(9, tenant="modest")
    crowd = flood(job(tenant="flood"))
    assert among([ahead, *crowd]).must_wait(ahead)
    snapshot = among([ahead, heard(0.1, tenant="modest"), *crowd, *crowd])
    assert not snapshot.must_wait(ahead)


def test_without_keys_all_are_one_party():
    jobs = [job(), *(job(listening=False) for _ in range(20)), heard(0.1)]
    assert not any(map(among(jobs).must_yield, jobs))


def test_who_has_left_or_is_done_is_not_in_work():
    crowd, modest = flood(), job(tenant="modest")
    for leave in (lambda one: one.outbox.close(), lambda one: one.outbox.end(EngineDead(""))):
        fairness = FairScheduler(shared=True)
        for one in [*crowd, modest]:
            fairness.add(one)
        assert fairness.snapshot([modest], NOW_S).must_yield(crowd[0])
        leave(crowd[-1])
        assert not fairness.snapshot([modest], NOW_S).must_yield(crowd[0])
        crowd[-1] = heard(9, tenant="flood")


@pytest.mark.parametrize(("alone_s", "all_s"), [(0.002, 0.01), (0.02, 0.08), (0.1, 0.1)])
@pytest.mark.parametrize(
    ("rest", "share"),
    [
        ([heard(9, tenant="own") for _ in range(QUOTA_RATIO + 1)], FIRST_AUDIO_SHARE),
        ([heard(0.1, tenant="flood") for _ in range(QUOTA_RATIO + 1)], TENANT_SHARE),
    ],
    ids=["has_buffer", "a crowd"],
)
def test_the_others_have_their_share_where_somebody_always_goes_first(alone_s, all_s, rest, share):
    together = [job(tenant="own"), *rest]
    fairness, spent = FairScheduler(shared=True), {True: 0.0, False: 0.0}
    for one in together:
        fairness.add(one)
    longest_s = waited_s = 0.0
    for _ in range(20_000):
        snapshot = fairness.snapshot(together, NOW_S)
        stepping = [one for one in together if not snapshot.must_wait(one)]
        alone = len(stepping) == 1
        took_s = alone_s if alone else all_s
        buffered_left_out = alone and not snapshot.must_yield(rest[0])
        fairness.charge_step(snapshot, stepping, took_s, buffered_left_out=buffered_left_out)
        spent[alone] += took_s
        waited_s = waited_s + took_s if alone else 0.0
        longest_s = max(longest_s, waited_s)
    assert longest_s <= MAX_DEFICIT_S + alone_s + 1e-6
    assert spent[True] / sum(spent.values()) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("shared", [True, False])
def test_who_is_done_is_forgotten_where_nobody_asks_for_an_order(shared):
    fairness, first = FairScheduler(shared=shared), job()
    fairness.add(first)
    first.outbox.end(EngineDead(""))
    left = weakref.ref(first.outbox)
    del first
    fairness.add(job())
    gc.collect()
    assert left() is None
