"""The LRU cache and the locks by key."""

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.families.base import Voice
from chatterbox.families.turbo.voice import VoiceTensors
from chatterbox.runtime.lru import ByteLru, KeyedLocks

BASE_BYTES = 4 + 8 + 4 + 8


def voice(key: str, extra: int = 0) -> Voice:
    one = np.zeros(1, np.float32)
    features = np.zeros((1, 1 + extra), np.float32)
    return Voice(key, VoiceTensors(features, np.zeros(1, np.int64), one, np.zeros((2, 1), "f4")))


def put(cache: ByteLru[Voice], key: str, one: Voice) -> None:
    cache.put(key, one, one.data.nbytes)


def test_the_least_recently_used_goes_first():
    cache = ByteLru(1000, 2)
    for key in "ab":
        put(cache, key, voice(key))
    cache.get("a")
    put(cache, "c", voice("c"))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert len(cache) == 2


def test_bytes_are_limited_too():
    cache = ByteLru(3 * BASE_BYTES, 100)
    for key in "abcd":
        put(cache, key, voice(key))
    assert len(cache) == 3
    assert cache.nbytes == 3 * BASE_BYTES
    put(cache, "huge", voice("huge", 1000))
    assert cache.get("huge") is None
    assert len(cache) == 3


def test_has_room_for_an_entry_of_mean_size():
    cache = ByteLru(10, 3)
    assert cache.has_room()
    cache.put("a", 1, 4)
    assert cache.has_room()
    cache.put("b", 1, 4)
    assert not cache.has_room(), "10 bytes are too few for three"
    assert cache.has_room(2)
    cache.put("c", 1, 1)
    assert not cache.has_room(0), "three entries are as many as there may be"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "drop"]), st.sampled_from("abcdef"), st.integers(0, 20)
        )
    ),
    st.integers(1, 4),
    st.integers(1, 300),
)
def test_bounds_and_accounts_hold(steps, max_voices, max_bytes):
    cache = ByteLru(max_bytes, max_voices)
    held: dict[str, Voice] = {}
    for action, key, extra in steps:
        if action == "put":
            held[key] = voice(key, extra)
            put(cache, key, held[key])
        elif action == "drop":
            cache.drop(key)
            assert cache.get(key) is None
        else:
            found = cache.get(key)
            assert found is None or found is held[key]
        assert len(cache) <= max_voices
        assert cache.nbytes <= max_bytes
        present = [v for k in "abcdef" if (v := cache.get(k))]
        assert cache.nbytes == sum(v.data.nbytes for v in present)


def test_locks_of_one_key_exclude_each_other_and_are_dropped():
    locks = KeyedLocks()
    inside: dict[str, int] = {"a": 0, "b": 0}
    most: dict[str, int] = {"a": 0, "b": 0}

    def work(key: str) -> None:
        for _ in range(50):
            with locks.holding(key):
                inside[key] += 1
                most[key] = max(most[key], inside[key])
                inside[key] -= 1

    threads = [threading.Thread(target=work, args=("ab"[i % 2],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == {"a": 1, "b": 1}
    assert len(locks) == 0
