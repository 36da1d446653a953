"""Places, queue and refusals."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from chatterbox.engine.admission import RETRY_AFTER_MAX_S, RETRY_AFTER_MIN_S, Admission
from chatterbox.errors import DeadlineExceeded, Draining, Overloaded


async def hold(admission: Admission, release: asyncio.Event, entered: list[int], name: int) -> None:
    async with admission.permit(timeout_s=60):
        entered.append(name)
        await release.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def holders(admission: Admission, count: int):
    release, entered = asyncio.Event(), []
    tasks = [asyncio.create_task(hold(admission, release, entered, n)) for n in range(count)]
    await settle()
    yield tasks, entered, release
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_places_then_queue_then_refusal():
    admission = Admission(2, 3)
    async with holders(admission, 5) as (_, entered, release):
        assert (admission.active, admission.queued, entered) == (2, 3, [0, 1])
        with pytest.raises(Overloaded) as refusal:
            async with admission.permit(timeout_s=60):
                pass
        assert RETRY_AFTER_MIN_S <= refusal.value.retry_after_s <= RETRY_AFTER_MAX_S
        release.set()
        await settle()
        assert entered == [0, 1, 2, 3, 4]  # first come, first served
    assert (admission.active, admission.queued) == (0, 0)


async def test_the_hint_knows_how_long_those_inside_are_there_already(monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("chatterbox.engine.admission.time", clock)
    admission = Admission(1, 1)
    async with holders(admission, 1):
        assert admission.retry_after_s() <= 2  # nothing is known yet but the first guess
        now[0] = 20.0
        assert admission.retry_after_s() >= 20
    assert admission.retry_after_s() >= 4  # and it is remembered


async def test_leaving_the_queue_gives_the_place_back():
    admission = Admission(1, 5)
    async with holders(admission, 3) as (tasks, entered, release):
        tasks[1].cancel()
        await settle()
        assert admission.queued == 1
        release.set()
        await settle()
        assert entered == [0, 2]
    assert (admission.active, admission.queued) == (0, 0)


async def test_cancelled_at_the_moment_of_admission():
    admission = Admission(1, 5)
    async with holders(admission, 3) as (tasks, entered, release):
        release.set()
        await asyncio.sleep(0)  # task 0 runs and hands its place to task 1 …
        tasks[1].cancel()  # … which leaves before it has seen it
        await settle()
        assert 2 in entered
    assert (admission.active, admission.queued) == (0, 0)


async def test_waiting_ends_at_the_deadline():
    admission = Admission(1, 5)
    async with holders(admission, 1):
        with pytest.raises(DeadlineExceeded):
            async with admission.permit(timeout_s=0.01):
                pass
        assert admission.queued == 0


async def test_closing_sends_the_queue_away_and_lets_those_inside_finish():
    admission = Admission(1, 5)
    async with holders(admission, 2) as (tasks, entered, release):
        admission.close()
        await settle()
        assert isinstance(tasks[1].exception(), Draining)
        assert not tasks[0].done()
        with pytest.raises(Draining):
            async with admission.permit(timeout_s=1):
                pass
        release.set()
    assert entered == [0]
    assert admission.active == 0


async def test_a_fault_inside_gives_the_place_back():
    admission = Admission(1, 0)
    with pytest.raises(ValueError, match="inside"):
        async with admission.permit(timeout_s=1):
            raise ValueError("inside")
    assert admission.active == 0
