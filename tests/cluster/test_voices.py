"""Voices of two replicas are one set, whatever becomes of the replicas."""

import asyncio

import httpx
import pytest
from dialects.live import clip
from prometheus_client.parser import text_string_to_metric_families
from voices.clips import babble, encoded

from cluster.conftest import ENDS_S, REPLICAS, STARTS_S
from cluster.load import Answer, ask, client_of

pytestmark = pytest.mark.cluster

LONG = (pytest.mark.slow, pytest.mark.timeout(3600))

TOGETHER, ROUNDS = 8, 5
"""Requests at once, and how often, so that all replicas have some."""


async def register(client: httpx.AsyncClient, name: str, recording: bytes) -> httpx.Response:
    return await client.post(
        "/voices/register", data={"name": name}, files={"voice_file": ("a.wav", recording)}
    )


async def spoken(cluster, voice: str) -> list[Answer]:
    """By requests on connections of their own."""
    async with client_of(cluster.http) as client:
        calls = (ask(client, voice=voice, input="Hello there.") for _ in range(TOGETHER))
        return await asyncio.gather(*calls)


def speakers(cluster) -> dict[str, float]:
    """Replica → speech calls that it has answered."""
    text = httpx.get(cluster.http + "/metrics", headers={"Accept": "text/plain"}, timeout=30).text
    read = {family.name: family.samples for family in text_string_to_metric_families(text)}
    speech = [s for s in read["chatterbox_requests"] if s.labels["route"] == "/v1/audio/speech"]
    return {s.labels["replica"]: s.value for s in speech if s.labels["outcome"] == "ok"}


async def test_a_voice_registered_once_speaks_in_all_replicas_and_is_deleted_in_all(whole):
    before = speakers(whole)
    async with client_of(whole.http) as client:
        voice = (await register(client, "anna", clip())).raise_for_status().json()["voice_id"]
        sounds = set()
        for name in [voice, "Anna"] * ROUNDS:
            answers = await spoken(whole, name)
            assert [answer.status for answer in answers] == [200] * TOGETHER
            sounds |= {answer.sound for answer in answers}
            after = speakers(whole)
            if len([r for r in after if after[r] > before.get(r, 0)]) == REPLICAS:
                break
        else:
            pytest.fail(f"only one replica spoke: {before}, {after}")
        assert len(sounds) == 1
        again = await register(client, "anna", clip())
        assert again.json()["voice_id"] == voice
        (await client.delete(f"/voices/{voice}")).raise_for_status()
        assert {answer.status for answer in await spoken(whole, voice)} == {404}


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=LONG)])
async def test_acknowledged_voices_survive_killed_replicas(whole, kills):
    kept: dict[str, str] = {}
    over = False

    async def registering() -> None:
        number = 0
        while not over:
            number += 1
            async with client_of(whole.http) as client:
                try:
                    name = f"{kills}-{number}"
                    answer = await register(client, name, encoded(babble(6, seed=number)))
                except httpx.RemoteProtocolError:
                    continue
            if answer.is_success:
                kept[name] = answer.json()["voice_id"]
            else:
                assert answer.status_code in (429, 503), answer.text
                assert "retry-after" in answer.headers

    task = asyncio.create_task(registering())
    for _ in range(kills):
        await asyncio.sleep(1.5)
        victim = whole.replicas()[0]
        victim.kill()
        await asyncio.to_thread(victim.wait, ENDS_S)
        await asyncio.to_thread(whole.until, whole.whole, STARTS_S)
    over = True
    await task
    assert len(kept) >= kills
    async with client_of(whole.http) as client:
        listed = {voice["voice_id"] for voice in (await client.get("/voices")).json()["voices"]}
        assert set(kept.values()) <= listed
        for name in kept:
            assert (await ask(client, voice=name, input="Hello.")).whole
        for voice in kept.values():
            (await client.delete(f"/voices/{voice}")).raise_for_status()
