"""Fault table, F05b: a key that floods the server does not affect other keys."""

from contextlib import AsyncExitStack

from faults.calls import refusal_of
from faults.harness import GOLDEN, KEY, SECRET, SHORT, running
from harness import error_of
from websockets.asyncio.client import connect

FLOODER = f"flood-{SECRET}-0123456789"
ENGINE = {"max_concurrent_requests": 5, "max_queued_requests": 8}
SHARE = 3  # three quarters of five


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_f05b_flooding_key_leaves_places_for_others(tmp_path, monkeypatch):
    monkeypatch.setattr("chatterbox.server.admission_control.REFUSAL_DELAY_S", 0.01)
    async with running(tmp_path, engine=ENGINE, api_keys=f"{KEY},{FLOODER}") as rig:
        rig.headers = bearer(KEY)
        flooding = bearer(FLOODER)
        async with rig.fault(), AsyncExitStack() as held:
            for _ in range(SHARE):  # answers that nobody reads: they keep their places
                client = await held.enter_async_context(rig.new_client(narrow=True))
                call = client.stream("POST", "/tts", json=GOLDEN, headers=flooding)
                assert (await held.enter_async_context(call)).status_code == 200
            for path, body in (
                ("/tts", SHORT),
                ("/v1/audio/speech", {"input": "a", "voice": "slt"}),
            ):
                for _ in range(10):
                    answer = await rig.client.post(path, json=body, headers=flooding)
                    error_of(answer, 429, "key_limit")
                    assert 1 <= int(answer.headers["retry-after"]) <= 30
            upload = {"voice_file": ("a.wav", b"RIFF")}
            answer = await rig.client.post("/voices/register", files=upload, headers=flooding)
            error_of(answer, 429, "key_limit")
            url = f"ws://127.0.0.1:{rig.port}/ws/tts"
            async with connect(url, additional_headers=flooding) as socket:
                await socket.send(SHORT["text"])
                await socket.wait_closed()
                assert (socket.close_code, socket.close_reason) == (1013, "key_limit")
            # It waits for nobody: there is a place.
            assert (rig.engine.admission.active, rig.engine.admission.queued) == (SHARE + 1, 0)
            answer = await rig.client.post("/tts", json=SHORT, headers=bearer(KEY))
            assert answer.status_code == 200
            assert rig.engine.admission.active == SHARE + 1


async def test_f05b_sockets_and_characters_are_limited_per_key(tmp_path):
    keys = f"{KEY},{FLOODER}"
    limits = {"max_websockets": 4, "max_characters_per_key": 20}
    async with running(tmp_path, engine=ENGINE, api_keys=keys, **limits) as rig:
        rig.headers = bearer(KEY)
        flooding = bearer(FLOODER)
        async with rig.fault(), AsyncExitStack() as held:
            client = await held.enter_async_context(rig.new_client(narrow=True))
            longer = {**GOLDEN, "text": GOLDEN["text"] + " and so on"}  # alone, any is spoken
            call = client.stream("POST", "/tts", json=longer, headers=flooding)
            assert (await held.enter_async_context(call)).status_code == 200
            answer = await rig.client.post("/tts", json=SHORT, headers=flooding)
            error_of(answer, 429, "key_limit")
            url = f"ws://127.0.0.1:{rig.port}/ws/tts"
            for _ in range(3):  # three quarters of four
                await held.enter_async_context(connect(url, additional_headers=flooding))
            status, body = await refusal_of(rig, "/ws/tts", additional_headers=flooding)
            assert (status, "key_limit" in body) == (429, True)
            async with connect(url, additional_headers=bearer(KEY)):
                pass


async def test_f05b_only_key_may_use_all_places(tmp_path):
    async with running(tmp_path, engine=ENGINE, api_keys=KEY) as rig:
        rig.headers = bearer(KEY)
        async with rig.fault(), AsyncExitStack() as held:
            for _ in range(4):
                client = await held.enter_async_context(rig.new_client(narrow=True))
                call = client.stream("POST", "/tts", json=GOLDEN, headers=rig.headers)
                assert (await held.enter_async_context(call)).status_code == 200
    async with running(tmp_path, engine=ENGINE, api_keys=KEY, max_requests_per_key=1) as rig:
        rig.headers = bearer(KEY)
        async with rig.client.stream("POST", "/tts", json=GOLDEN, headers=rig.headers) as answer:
            assert answer.status_code == 200
            error_of(await rig.speak(), 429, "key_limit")
