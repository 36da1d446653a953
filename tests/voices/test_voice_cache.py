"""The LRU: never over its bounds, never without the voice last used."""

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.runtime.contract import Voice, VoiceTensors
from chatterbox.voices.cache import VoiceCache
from chatterbox.voices.keyed_lock import KeyedLocks

BASE_BYTES = 4 + 8 + 4 + 8


def voice(key: str, extra: int = 0) -> Voice:
    one = np.zeros(1, np.float32)
    features = np.zeros((1, 1 + extra), np.float32)
    return Voice(key, VoiceTensors(features, np.zeros(1, np.int64), one, np.zeros((2, 1), "f4")))


def test_the_least_recently_used_goes_first():
    cache = VoiceCache(max_voices=2, max_bytes=1000)
    for key in "ab":
        cache.put(key, voice(key))
    cache.get("a")
    cache.put("c", voice("c"))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert len(cache) == 2


def test_bytes_bound_too():
    cache = VoiceCache(max_voices=100, max_bytes=3 * BASE_BYTES)
    for key in "abcd":
        cache.put(key, voice(key))
    assert len(cache) == 3
    assert cache.nbytes == 3 * BASE_BYTES
    cache.put("huge", voice("huge", 1000))
    assert cache.get("huge") is None
    assert len(cache) == 3


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
    cache = VoiceCache(max_voices=max_voices, max_bytes=max_bytes)
    held: dict[str, Voice] = {}
    for action, key, extra in steps:
        if action == "put":
            held[key] = voice(key, extra)
            cache.put(key, held[key])
        elif action == "drop":
            cache.drop(key)
            assert cache.get(key) is None
        else:
            found = cache.get(key)
            assert found is None or found is held[key]
        assert len(cache) <= max_voices
        assert cache.nbytes <= max_bytes
        present = [v for k in "abcdef" if (v := cache._voices.get(k))]
        assert cache.nbytes == sum(v.data.nbytes for v in present)


def test_one_at_a_time_for_a_key_and_no_lock_left():
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
