"""Two replicas under load: one is killed, all are replaced by newer ones, all are full."""

import asyncio
import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.conftest import ENDS_S, PLACES, QUEUE, REPLICAS, STARTS_S
from cluster.load import ask, client_of, load

pytestmark = pytest.mark.cluster

LONG = (pytest.mark.slow, pytest.mark.timeout(3600))

CALLERS = 4
SOCKET = "/v1/audio/speech/stream"


@pytest.fixture(scope="module")
def golden(cluster) -> bytes:
    """What the request of the load sounds like, from whichever replica."""

    async def said() -> bytes:
        async with client_of(cluster.http) as client:
            answers = [await ask(client) for _ in range(2 * REPLICAS)]
            assert len({answer.sound for answer in answers}) == 1
            return answers[0].sound

    return asyncio.run(said())


@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=LONG)])
async def test_a_killed_replica_fails_only_its_own_requests(whole, golden, kills):
    async with load(whole.http, CALLERS) as answers:
        for _ in range(kills):
            await asyncio.sleep(2)
            victim = whole.replicas()[0]
            victim.kill()
            await asyncio.to_thread(victim.wait, ENDS_S)
            await asyncio.to_thread(whole.until, whole.whole, STARTS_S)
    failed = [answer for answer in answers if not answer.whole]
    assert len(failed) <= kills * CALLERS
    assert all(answer.clean for answer in failed), failed
    assert all(golden.startswith(answer.sound) for answer in failed if answer.status == 200)
    assert {answer.sound for answer in answers if answer.whole} == {golden}


async def speak(cluster, utterances: int) -> list[bytes]:
    """One socket, one utterance after another."""
    sounds = []
    async with cluster.connect(SOCKET) as socket:
        await socket.send(json.dumps({"type": "session.config", "response_format": "pcm"}))
        for _ in range(utterances):
            await socket.send(json.dumps({"type": "input.text", "text": "A sentence, once more."}))
            await socket.send(json.dumps({"type": "input.flush"}))
            sound = b""
            while isinstance(heard := await socket.recv(), bytes) or "audio.done" not in heard:
                sound += heard if isinstance(heard, bytes) else b""
            sounds.append(sound)
            await asyncio.sleep(0.5)
    return sounds


async def test_a_redeployment_cuts_no_request(whole, golden):
    before = whole.replicas()
    async with load(whole.http, CALLERS) as answers:
        sockets = [asyncio.create_task(speak(whole, 8)) for _ in range(4)]
        await asyncio.sleep(1)
        deploying = whole.redeploy()
        assert await asyncio.to_thread(deploying.wait, STARTS_S) == 0, whole.log
        sounds = await asyncio.gather(*sockets)
    assert not set(before) & set(whole.replicas())
    assert all(answer.whole for answer in answers)
    assert {answer.sound for answer in answers} == {golden}
    assert all(sound for spoken in sounds for sound in spoken)


async def test_a_full_cluster_answers_429_with_retry_after(whole, golden):
    places = REPLICAS * (PLACES + QUEUE)
    async with client_of(whole.http) as client:
        answers = await asyncio.gather(*(ask(client) for _ in range(3 * places)))
    spoken = [answer for answer in answers if answer.whole]
    assert (
        len(spoken) >= places - 2
    )  # replicas are chosen by what they were asked, not by what is left
    assert {answer.sound for answer in spoken} == {golden}
    for answer in answers:
        if answer not in spoken:
            assert answer.status == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 30
            assert json.loads(answer.sound)["error"]["code"] == "overloaded"


def test_one_scrape_has_all_replicas(whole):
    text = httpx.get(whole.http + "/metrics", headers={"Accept": "text/plain"}).text
    read = {family.name: family for family in text_string_to_metric_families(text)}
    assert len({sample.labels["replica"] for sample in read["chatterbox_ready"].samples}) == 2


def test_rays_metrics_are_at_the_reported_port(whole):
    port = whole.log.split("metrics: port ")[1].split(")")[0]
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert "ray_serve_num_http_requests" in text
