"""Do first sounds go first, and does nobody starve for it?"""

import pytest
from engine.test_loop import job

from chatterbox.engine.decode_batch import PRESSING_S
from chatterbox.engine.favour import MOST_LENT_S, SHARE, Favour, calm, hoped_for
from chatterbox.model.contract import SAMPLE_RATE_HZ

NOW_S = 1000.0


def heard(seconds: float, **kwargs):
    """A job whose listener has so much sound left."""
    one = job(**kwargs)
    one.playback.sent(round(seconds * SAMPLE_RATE_HZ), NOW_S)
    return one


def test_who_is_hoped_for_and_who_has_time():
    assert hoped_for(job())
    for other in (job(ordinal=1), job(listening=False), heard(0.5)):
        assert not hoped_for(other)
    patient = [job(listening=False), job(ordinal=1), heard(PRESSING_S + 1)]
    assert all(calm(one, NOW_S) for one in patient)
    assert not any(calm(one, NOW_S) for one in (job(), heard(PRESSING_S - 1)))
    assert not calm(heard(PRESSING_S + 1), NOW_S + 2), "it plays meanwhile"


def test_nobody_stands_aside_for_nobody_nor_where_cores_are_not_shared():
    assert not Favour(shared=True).due([heard(9), job(listening=False)])
    assert not Favour(shared=False).due([job()])
    assert Favour(shared=True).due([heard(9), job()])


@pytest.mark.parametrize(("alone_s", "all_s"), [(0.002, 0.01), (0.02, 0.08), (0.1, 0.1)])
def test_the_others_have_their_share_where_there_is_always_a_first_sound(alone_s, all_s):
    favour, spent = Favour(shared=True), {True: 0.0, False: 0.0}
    longest_s = waited_s = 0.0
    for _ in range(20_000):
        favoured = favour.due([job()])
        took_s = alone_s if favoured else all_s
        (favour.lend if favoured else favour.pay_back)(took_s)
        spent[favoured] += took_s
        waited_s = waited_s + took_s if favoured else 0.0
        longest_s = max(longest_s, waited_s)
    assert longest_s <= MOST_LENT_S + alone_s
    assert spent[True] / sum(spent.values()) == pytest.approx(SHARE, abs=0.02)
