"""Do first sounds and small parties go first, and does nobody starve for it?"""

import pytest
from engine.test_loop import job

from chatterbox.engine.decode_batch import PRESSING_S
from chatterbox.engine.favour import (
    CROWD,
    MOST_LENT_S,
    TO_FIRST_SOUNDS,
    TO_PARTIES,
    Favour,
    Standing,
    calm,
    hoped_for,
)
from chatterbox.errors import EngineDead

NOW_S = 1000.0


def heard(seconds: float, **kwargs):
    """A job whose listener has so much sound left."""
    one = job(**kwargs)
    one.playback.add(0, seconds, NOW_S)
    return one


def among(jobs, *, shared: bool = True, making=None) -> Standing:
    favour = Favour(shared=shared)
    for one in jobs:
        favour.enter(one)
    return favour.standing(jobs if making is None else making, NOW_S)


def flood(*jobs):
    """These and more of their party: three times as many as one."""
    return [*jobs, *(heard(9, party="flood") for _ in range(CROWD + 1 - len(jobs)))]


def test_who_is_hoped_for_and_who_has_time():
    assert hoped_for(job())
    for other in (job(ordinal=1), job(listening=False), heard(0.5)):
        assert not hoped_for(other)
    patient = [job(listening=False), job(ordinal=1), heard(PRESSING_S + 1)]
    assert all(calm(one, NOW_S) for one in patient)
    assert not any(calm(one, NOW_S) for one in (job(), heard(PRESSING_S - 1)))
    assert not calm(heard(PRESSING_S + 1), NOW_S + 2), "it plays meanwhile"


def test_nobody_stands_aside_for_nobody_nor_where_cores_are_not_shared():
    assert not among([heard(9), job(listening=False)]).hoping
    assert not among([job()], shared=False).hoping
    assert among([heard(9), job()]).hoping
    crowd = flood()
    assert not any(map(among([*crowd, heard(9, party="modest")]).aside, crowd))
    assert not any(map(among([*crowd, job(party="modest")], shared=False).aside, crowd))


@pytest.mark.parametrize(
    "modest",
    [job(party="modest"), heard(0.1, party="modest"), job(party="modest", listening=False)],
    ids=["a first sound", "a listener", "a whole answer"],
)
def test_a_party_with_much_in_work_lets_others_have_what_they_need(modest):
    crowd = flood(job(party="flood"), heard(0.1, party="flood"))
    standing = among([modest, *crowd])
    assert all(map(standing.aside, crowd))
    assert not standing.aside(modest)
    standing = among([modest, *crowd[1:]])
    assert not any(map(standing.gives_way, crowd)), "twice as much is not much"
    standing = among([modest, *crowd], making=crowd)
    assert not any(map(standing.gives_way, crowd)), "it can do nothing now"


def test_a_first_sound_of_a_crowd_is_not_hoped_for_meanwhile():
    ahead = heard(9, party="modest")
    crowd = flood(job(party="flood"))
    assert among([ahead, *crowd]).aside(ahead)
    standing = among([ahead, heard(0.1, party="modest"), *crowd, *crowd])
    assert not standing.aside(ahead)


def test_without_keys_all_are_one_party():
    jobs = [job(), *(job(listening=False) for _ in range(20)), heard(0.1)]
    assert not any(map(among(jobs).gives_way, jobs))


def test_who_has_left_or_is_done_is_not_in_work():
    crowd, modest = flood(), job(party="modest")
    for leave in (lambda one: one.outbox.close(), lambda one: one.outbox.end(EngineDead(""))):
        favour = Favour(shared=True)
        for one in [*crowd, modest]:
            favour.enter(one)
        assert favour.standing([modest], NOW_S).gives_way(crowd[0])
        leave(crowd[-1])
        assert not favour.standing([modest], NOW_S).gives_way(crowd[0])
        crowd[-1] = heard(9, party="flood")


@pytest.mark.parametrize(("alone_s", "all_s"), [(0.002, 0.01), (0.02, 0.08), (0.1, 0.1)])
@pytest.mark.parametrize(
    ("rest", "share"),
    [
        ([heard(9, party="own") for _ in range(CROWD + 1)], TO_FIRST_SOUNDS),
        ([heard(0.1, party="flood") for _ in range(CROWD + 1)], TO_PARTIES),
    ],
    ids=["calm", "a crowd"],
)
def test_the_others_have_their_share_where_somebody_always_goes_first(alone_s, all_s, rest, share):
    together = [job(party="own"), *rest]
    favour, spent = Favour(shared=True), {True: 0.0, False: 0.0}
    for one in together:
        favour.enter(one)
    longest_s = waited_s = 0.0
    for _ in range(20_000):
        standing = favour.standing(together, NOW_S)
        stepping = [one for one in together if not standing.aside(one)]
        alone = len(stepping) == 1
        took_s = alone_s if alone else all_s
        calm_left_out = alone and not standing.gives_way(rest[0])
        favour.stepped(standing, stepping, took_s, calm_left_out=calm_left_out)
        spent[alone] += took_s
        waited_s = waited_s + took_s if alone else 0.0
        longest_s = max(longest_s, waited_s)
    assert longest_s <= MOST_LENT_S + alone_s + 1e-6
    assert spent[True] / sum(spent.values()) == pytest.approx(share, abs=0.02)
