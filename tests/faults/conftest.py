"""Fixtures for fault tests."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from faults.harness import Rig, running


@pytest.fixture
async def rig(tmp_path) -> AsyncIterator[Rig]:
    """Return a server with default settings."""
    async with running(tmp_path) as rig:
        yield rig


@pytest.fixture(scope="session")
def right(tmp_path_factory) -> Callable[[dict], bytes]:
    """Return a function from a call to the audio that a server on the same fakes makes for it."""

    def answer(call: dict) -> bytes:
        async def speak() -> bytes:
            async with running(tmp_path_factory.mktemp("right")) as rig:
                return await rig.right(call)

        return asyncio.run(speak())

    return answer
