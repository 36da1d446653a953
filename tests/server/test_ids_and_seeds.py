"""Request ids and seeds are random, but not drawn from the system's generator."""

import random
import secrets

import pytest

from chatterbox.server.request_log import request_id
from chatterbox.server.schemas import SEED_LIMIT, random_seed


@pytest.fixture
def a_system_without_numbers(monkeypatch):
    """Fail on calls of the system's generator: they release the interpreter's lock."""

    def asked(*_):
        raise AssertionError("the system was asked for random numbers")

    monkeypatch.setattr(random, "_urandom", asked)
    with pytest.raises(AssertionError):
        secrets.token_hex(8)


def test_ids_and_seeds_differ_without_the_system_generator(a_system_without_numbers):
    ids = [request_id(None) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {len(name) for name in ids} == {len("req-0123456789abcdef")}
    seeds = [random_seed() for _ in range(1000)]
    assert len(set(seeds)) > 990
    assert 0 <= min(seeds) < SEED_LIMIT / 10
    assert SEED_LIMIT * 0.9 < max(seeds) < SEED_LIMIT


def test_client_s_request_id_is_used(a_system_without_numbers):
    assert request_id("my-call-7") == "my-call-7"
    assert request_id(None).startswith("req-")
