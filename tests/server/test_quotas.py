"""Quotas of API keys, and the delay of refusals."""

import asyncio
from contextlib import asynccontextmanager, contextmanager

import pytest
from faults.virtual_time import run
from harness import FakeEngine, serving

from chatterbox.errors import KeyLimit
from chatterbox.server.admission_control import MAX_DELAYED_REFUSALS, REFUSAL_DELAY_S, KeyQuotas
from chatterbox.server.auth import current_key

MINE, THEIRS = 0, 1
RETRY_AFTER_S = 5.0


@pytest.fixture
def quotas():
    return KeyQuotas({"requests": 1, "sockets": 1}, lambda: RETRY_AFTER_S)


@contextmanager
def coming_with(key):
    token = current_key.set(key)
    try:
        yield
    finally:
        current_key.reset(token)


async def refused_after_s(quotas) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(KeyLimit):
        await quotas.check(requests=1)
    return loop.time() - began


@asynccontextmanager
async def refused_once(quotas, key):
    """Use `key` with its quota exhausted, after one refusal."""
    with coming_with(key):
        async with quotas.reserve(requests=1):
            assert await refused_after_s(quotas) == 0
            yield


def test_refusal_is_delayed_only_for_a_client_that_retries_too_early(quotas):
    async def main():
        async with refused_once(quotas, MINE):
            assert await refused_after_s(quotas) == REFUSAL_DELAY_S
            await asyncio.sleep(RETRY_AFTER_S)  # the Retry-After time
            assert await refused_after_s(quotas) == 0
        with coming_with(MINE):
            await quotas.check(requests=1)

    run(main())


def test_delay_applies_to_all_kinds_of_requests(quotas):
    async def main():
        async with refused_once(quotas, MINE), quotas.reserve(sockets=1):
            loop = asyncio.get_running_loop()
            for again in ({"requests": 1}, {"sockets": 1}):
                began = loop.time()
                with pytest.raises(KeyLimit):
                    async with quotas.reserve(**again):
                        pass
                assert loop.time() - began == REFUSAL_DELAY_S

    run(main())


def test_other_keys_are_not_delayed_and_delays_are_limited(quotas):
    async def main():
        async with refused_once(quotas, THEIRS):
            come = range(2 * MAX_DELAYED_REFUSALS)
            crowd = [asyncio.create_task(refused_after_s(quotas)) for _ in come]
            async with refused_once(quotas, MINE):
                pass
            waited = await asyncio.gather(*crowd)
            assert waited.count(REFUSAL_DELAY_S) == waited.count(0) == MAX_DELAYED_REFUSALS

    run(main())


def test_cancelled_refusal_is_not_counted(quotas):
    async def main():
        async with refused_once(quotas, MINE):
            come = range(MAX_DELAYED_REFUSALS)
            waiting = [asyncio.create_task(quotas.check(requests=1)) for _ in come]
            await asyncio.sleep(REFUSAL_DELAY_S / 2)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert await refused_after_s(quotas) == REFUSAL_DELAY_S

    run(main())


async def test_engine_gets_the_key_as_tenant():
    engine = FakeEngine()
    async with serving(engine, api_keys="first-key-0123,second-key-0123") as client:
        for key in ("second-key-0123", "first-key-0123"):
            headers = {"authorization": f"Bearer {key}"}
            answer = await client.post("/tts", json={"text": "Hello."}, headers=headers)
            assert answer.status_code == 200
    second, first = (request.tenant for request in engine.requests)
    assert None not in (first, second)
    assert first != second


def test_no_quota_without_keys(quotas):
    async def main():
        async with quotas.reserve(requests=1):
            await quotas.check(requests=1)

    run(main())
