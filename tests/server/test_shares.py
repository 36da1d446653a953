"""Is a key that floods kept to its share, and kept from taking everybody's time with refusals?"""

import asyncio
from contextlib import asynccontextmanager, contextmanager

import pytest
from faults.virtual_time import run
from harness import FakeEngine, serving

from chatterbox.errors import KeyLimit
from chatterbox.server.auth import holder
from chatterbox.server.quotas import KEPT_WAITING_S, MOST_KEPT_WAITING, KeyQuotas, Limits

MINE, THEIRS = 0, 1
RETRY_AFTER_S = 5.0


@pytest.fixture
def shares():
    return KeyQuotas(Limits(requests=1, characters=None, sockets=1), lambda: RETRY_AFTER_S)


@contextmanager
def coming_with(key):
    token = holder.set(key)
    try:
        yield
    finally:
        holder.reset(token)


async def refused_after_s(shares) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(KeyLimit):
        await shares.check()
    return loop.time() - began


@asynccontextmanager
async def refused_once(shares, key):
    """Whoever comes with `key` has all it may have, and was told so."""
    with coming_with(key):
        async with shares.hold():
            assert await refused_after_s(shares) == 0
            yield


def test_a_refusal_comes_at_once_and_later_to_who_comes_again_too_soon(shares):
    async def main():
        async with refused_once(shares, MINE):
            assert await refused_after_s(shares) == KEPT_WAITING_S
            await asyncio.sleep(RETRY_AFTER_S)  # as it was told
            assert await refused_after_s(shares) == 0
        with coming_with(MINE):
            await shares.check()

    run(main())


def test_sockets_and_texts_are_no_way_around_it(shares):
    async def main():
        async with refused_once(shares, MINE), shares.hold_socket():
            loop = asyncio.get_running_loop()
            for again in (shares.hold, shares.hold_socket):
                began = loop.time()
                with pytest.raises(KeyLimit):
                    async with again():
                        pass
                assert loop.time() - began == KEPT_WAITING_S

    run(main())


def test_others_are_not_kept_waiting_nor_is_a_whole_crowd(shares):
    async def main():
        async with refused_once(shares, THEIRS):
            come = range(2 * MOST_KEPT_WAITING)
            crowd = [asyncio.create_task(refused_after_s(shares)) for _ in come]
            async with refused_once(shares, MINE):
                pass
            waited = await asyncio.gather(*crowd)
            assert waited.count(KEPT_WAITING_S) == waited.count(0) == MOST_KEPT_WAITING

    run(main())


def test_who_leaves_meanwhile_is_not_counted(shares):
    async def main():
        async with refused_once(shares, MINE):
            come = range(MOST_KEPT_WAITING)
            waiting = [asyncio.create_task(shares.check()) for _ in come]
            await asyncio.sleep(KEPT_WAITING_S / 2)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert await refused_after_s(shares) == KEPT_WAITING_S

    run(main())


async def test_the_engine_is_told_whose_a_request_is():
    engine = FakeEngine()
    async with serving(engine, api_keys="first-key-0123,second-key-0123") as client:
        for key in ("second-key-0123", "first-key-0123"):
            headers = {"authorization": f"Bearer {key}"}
            answer = await client.post("/tts", json={"text": "Hello."}, headers=headers)
            assert answer.status_code == 200
    second, first = (request.tenant for request in engine.requests)
    assert None not in (first, second)
    assert first != second


def test_without_keys_nobody_is_counted(shares):
    async def main():
        async with shares.hold():
            await shares.check()

    run(main())
