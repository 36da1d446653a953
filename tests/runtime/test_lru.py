"""Least recently used out, never above the bound."""

from hypothesis import given
from hypothesis import strategies as st

from chatterbox.runtime.lru import ByteLru

BOUND = 10


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 14)), max_size=40))
def test_it_holds_the_most_recently_used_that_fit(script):
    """Size 0 reads, any other size writes an entry of so many bytes."""
    cache = ByteLru(BOUND)
    model = {}  # in order of use
    for key, size in script:
        if not size:
            held = model.pop(key, None)
            assert cache.get(key) == held
            if held is not None:
                model[key] = held
            continue
        cache.put(key, size, size)
        model.pop(key, None)
        if size <= BOUND:
            model[key] = size
            while sum(model.values()) > BOUND:
                del model[next(iter(model))]
        assert cache.nbytes == sum(model.values()) <= BOUND
