"""The harness itself: it must detect violated invariants."""

import asyncio
import logging

import pytest
from faults.harness import GOLDEN, SECRET, running
from harness import error_of


async def test_no_fault_passes(rig):
    async with rig.fault():
        assert rig.engine.admission.active == 1  # the golden request is in the air
        assert (await rig.speak()).status_code == 200
        error_of(await rig.speak(""), 422, "empty_text", "text")


async def test_leak_is_detected(rig, monkeypatch):
    monkeypatch.setattr("faults.harness.SETTLE_S", 0.1)
    with pytest.raises(AssertionError, match=r"I4.*tasks"):
        async with rig.fault():
            kept = asyncio.create_task(asyncio.sleep(60))
    kept.cancel()


async def test_leaked_place_is_detected(rig, monkeypatch):
    monkeypatch.setattr("faults.harness.SETTLE_S", 0.1)
    with pytest.raises(AssertionError, match=r"I4"):
        async with rig.fault():
            rig.engine.admission.active += 1


async def test_text_in_the_log_is_detected(rig):
    with pytest.raises(AssertionError, match="I6"):
        async with rig.fault():
            logging.getLogger("somebody").info("he said %s", SECRET)


async def test_wrong_probe_is_detected(rig):
    with pytest.raises(AssertionError, match="I2"):
        async with rig.fault(ready=503):
            pass


async def test_damaged_golden_request_is_detected(tmp_path):
    async with running(tmp_path) as rig:
        with pytest.raises(AssertionError, match="I3"):
            async with rig.fault():
                rig.model.poison.add(next(iter(rig.model.held.values()))[1][0])


async def test_golden_request_is_half_done_during_the_fault(rig):
    async with rig.fault():
        await rig.quiet()
        begun = rig.model.begun
    assert rig.model.begun > begun + 1  # and has gone on since


def test_server_process_on_fakes(process, tmp_path, right):
    with process(tmp_path) as server:
        assert server.speak(GOLDEN).content == right(GOLDEN)
        assert (server.status("live"), server.status("ready")) == (200, 200)
        server.signal()
        assert server.ended() == 143
