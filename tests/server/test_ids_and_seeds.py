"""Ids and seeds differ, and the system is not asked for them."""

import random
import secrets

import pytest

from chatterbox.server.request_log import request_id
from chatterbox.server.schemas import SEED_LIMIT, random_seed


@pytest.fixture
def a_system_without_numbers(monkeypatch):
    """Whoever asks it gives the interpreter's lock away."""

    def asked(*_):
        raise AssertionError("the system was asked for random numbers")

    monkeypatch.setattr(random, "_urandom", asked)
    with pytest.raises(AssertionError):
        secrets.token_hex(8)


def test_ids_and_seeds(a_system_without_numbers):
    ids = [request_id(None) for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {len(name) for name in ids} == {len("req-0123456789abcdef")}
    seeds = [random_seed() for _ in range(1000)]
    assert len(set(seeds)) > 990
    assert 0 <= min(seeds) < SEED_LIMIT / 10
    assert SEED_LIMIT * 0.9 < max(seeds) < SEED_LIMIT


def test_a_client_s_own_id_is_kept(a_system_without_numbers):
    assert request_id("my-call-7") == "my-call-7"
    assert request_id(None).startswith("req-")
