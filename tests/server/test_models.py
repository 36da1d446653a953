"""Several models in one server: choice, loading and unloading."""

import asyncio
import re
import time

import pytest
from harness import SPEECH, FakeEngine, error_of, serving, until
from several_models import pool_of, serving_models, spoken_by

from chatterbox.config import TTSConfig, configs_of
from chatterbox.errors import ConfigError, ModelError, NotReady

SAY = {"input": "Hello there."}


async def say(client, model: str | None = None, **more):
    named = {} if model is None else {"model": model}
    return await client.post("/v1/audio/speech", json={**SAY, **named, **more})


def states(client) -> dict[str, str]:
    return {model.name: model.state for model in client.pool.models}


async def test_model_names_are_resolved_or_refused():
    async with serving_models() as client:
        for name in ("b", "C", None, "tts-1-hd", "gpt-4o-mini-tts", "eleven_v3", ""):
            assert (await say(client, name)).status_code == 200
        assert spoken_by(client.pool) == [*"aaaaa", "b", "c"]
        error = error_of(await say(client, "d"), 404, "model_not_found", "model")
        assert "'d'" in error["message"] and error["message"].endswith("the models are: a, b, c.")
        assert error_of(await say(client, 7), 422, "invalid_value", "model")
        assert (await client.get("/v1/models/d")).status_code == 404


async def test_only_model_answers_to_any_name():
    async with serving() as client:
        for name in ("tts-1", "whatever", "mini"):
            assert (await say(client, name)).status_code == 200
        assert [m["name"] for m in (await client.get("/models")).json()["models"]] == ["mini"]
        assert "models" not in (await client.get("/health")).json()


async def test_chosen_model_applies_to_one_request_only(caplog):
    caplog.set_level("INFO", "chatterbox.requests")
    async with serving_models() as client:
        await say(client, "b")
        await client.get("/v1/audio/voices?model=c")
        await say(client)
        await client.post("/tts?model=c", json=SPEECH)
        assert spoken_by(client.pool) == ["a", "b", "c"]
        assert re.findall(r" model=(\w)", caplog.text) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("limits", "loaded"),
    [
        ({}, "abc"),
        ({"load_models": "first_use"}, "a"),
        ({"max_loaded_models": 2}, "ab"),
    ],
)
async def test_models_loaded_at_startup(limits, loaded):
    async with serving_models(**limits) as client:
        assert [n for n, state in states(client).items() if state == "ready"] == list(loaded)


async def test_concurrent_requests_share_one_load():
    async with serving_models(load_models="first_use") as client:
        answers = await asyncio.gather(*(say(client, "b") for _ in range(6)))
        assert [answer.status_code for answer in answers] == [200] * 6
        assert [engine.info.name for engine in client.pool.made] == ["a", "b"]
        told = {m["id"]: m.get("state") for m in (await client.get("/v1/models")).json()["data"]}
        assert (told["a"], told["b"], told["c"], told["tts-1"]) == (
            "ready",
            "ready",
            "unloaded",
            None,
        )


async def test_least_recently_used_model_is_unloaded_for_another():
    async with serving_models(max_loaded_models=2) as client:
        for name, there in (
            ("b", "ab"),
            ("c", "bc"),
            ("a", "ac"),
            ("a", "ac"),
            ("c", "ac"),
            ("b", "bc"),
        ):
            assert (await say(client, name)).status_code == 200
            assert [n for n, state in states(client).items() if state == "ready"] == list(there)
        assert all(engine.closed for engine in client.pool.made if engine.state == "unloaded")
        assert len(client.pool.made) == 5


async def test_f120_model_in_use_is_unloaded_after_its_last_request():
    gate = asyncio.Event()

    def setup(engine):
        if engine.info.name == "a":
            engine.script = [240, gate, 240]

    async with serving_models(setup=setup, max_loaded_models=1) as client:
        first = asyncio.create_task(say(client, "a"))
        await until(lambda: client.pool.made[0].open_streams == 1)
        other = asyncio.create_task(say(client, "b"))
        await until(lambda: states(client)["a"] == "unloading")
        late = asyncio.create_task(say(client, "a"))
        await asyncio.sleep(0.01)
        assert not other.done() and not late.done()
        gate.set()
        answers = await asyncio.gather(first, other, late)
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert [engine.info.name for engine in client.pool.made] == ["a", "b", "a"]


async def test_f121_request_that_cannot_wait_for_a_load_gets_retry_after():
    async with serving_models(load_models="first_use") as client:
        held = []

        def hold(engine):
            engine.load_gate.clear()
            held.append(engine)

        client.pool.made_by(hold)
        with pytest.raises(NotReady, match="The model b is still loading") as refused:
            async with client.pool.lease(0.01, "b"):
                pass
        assert refused.value.retry_after_s >= 1
        assert states(client)["b"] == "loading"
        assert (await client.get("/health/ready")).status_code == 200
        assert (await say(client)).status_code == 200  # with the default model
        held[0].load_gate.set()
        await until(lambda: states(client)["b"] == "ready")
        assert (await say(client, "b")).status_code == 200
        client.pool.models[1].load_s = 3600.0  # a load known to be too long is refused at once
        await client.post("/models/b/unload")
        answer = await say(client, "b")
        error_of(answer, 503, "not_ready")
        assert 60 < int(answer.headers["retry-after"]) <= 3600
        held[1].load_gate.set()
        await until(lambda: states(client)["b"] == "ready")


async def test_f119_failed_load_is_reported_and_retried_later():
    async with serving_models(load_models="first_use") as client:

        def fail(engine):
            engine.load_fault = ModelError("/secret/place is missing")

        client.pool.made_by(fail)
        for _ in range(2):
            answer = await say(client, "b")
            assert "secret" not in answer.text
            error_of(answer, 503, "model_unavailable")
        assert len(client.pool.made) == 2 and client.pool.made[1].closed  # not retried at once
        assert states(client)["b"] == "failed"
        client.pool.made_by(lambda engine: None)
        client.pool.models[1].retry_at = time.monotonic()
        assert (await say(client, "b")).status_code == 200


@pytest.mark.parametrize("broken", "ab")
async def test_f119_broken_model_ends_the_startup(broken):
    def setup(engine):
        if engine.info.name == broken:
            engine.load_fault = ModelError(f"{broken} is missing")

    with pool_of(setup=setup) as pool, pytest.raises(ModelError, match=f"^{broken} is missing$"):
        await pool.start()


async def test_idle_models_are_unloaded_while_the_server_stays_ready():
    async with serving_models(idle_unload_minutes=0.0005) as client:
        watching = asyncio.create_task(client.pool.watch())
        await until(lambda: set(states(client).values()) == {"unloaded"})
        assert (await client.get("/health/ready")).status_code == 200
        health = (await client.get("/health")).json()
        assert (health["status"], health["model"]) == ("ok", "a")
        assert (await client.get("/voices")).json()["voices"][0]["voice_id"] == "slt"
        watching.cancel()
        assert (await say(client)).status_code == 200
        assert states(client) == {"a": "ready", "b": "unloaded", "c": "unloaded"}


async def test_operators_load_and_unload_by_key():
    keys = {"api_keys": "user-key-1", "operator_keys": "operator-key-1"}
    async with serving_models(load_models="first_use", **keys) as client:
        user, operator = ({"authorization": f"Bearer {key}"} for key in keys.values())
        for call in ("/models/b/load", "/models/a/unload"):
            error_of(await client.post(call, headers=user), 403, "operator_only")
            assert (await client.post(call, headers=operator)).status_code == 200
        listed = (await client.get("/models", headers=user)).json()
        assert [(m["name"], m["state"], m["loads"]) for m in listed["models"]] == [
            ("a", "unloaded", 1),
            ("b", "ready", 1),
            ("c", "unloaded", 0),
        ]
        assert listed["default_model"] == "a"
        answer = await client.post("/models/nobody/load", headers=operator)
        error_of(answer, 404, "model_not_found", "model")


async def test_metrics_by_model_survive_an_unload():
    async with serving_models(load_models="first_use") as client:
        await say(client, "b")
        steps = (await client.get("/metrics")).json()["batch"]["steps"]
        text = (await client.get("/metrics", headers={"accept": "text/plain"})).text
        told = dict(re.findall(r'chatterbox_model_loaded\{model="(\w)"\} (\d)', text))
        assert told == {"a": "1", "b": "1", "c": "0"}
        assert steps == 8  # of both models


async def test_dead_engine_of_any_model_makes_the_server_dead():
    async with serving_models() as client:
        client.pool.made[1].state = "dead"
        assert (await client.get("/health/live")).status_code == 503


def test_names_of_models(tmp_path):
    (tmp_path / "one" / "mine").mkdir(parents=True)
    (tmp_path / "two" / "mine").mkdir(parents=True)
    plain = TTSConfig(_env_file=None)
    assert [*configs_of(plain, "")] == [*configs_of(plain, "mini")] == [""]
    configs = configs_of(plain, f"turbo, {tmp_path}/one/mine,turbo,owner/repo")
    assert [*configs] == ["turbo", "mine", "owner/repo"]
    assert configs["mine"].model == f"{tmp_path}/one/mine"
    chosen = TTSConfig(model="orpheus", _env_file=None)
    assert [*configs_of(chosen, "turbo,orpheus")] == [
        "orpheus",
        "turbo",
    ]  # the first is the default
    with pytest.raises(ConfigError, match="two models are called mine"):
        configs_of(plain, f"{tmp_path}/one/mine,{tmp_path}/two/mine")
    with pytest.raises(ConfigError, match="MODEL_REVISION"):
        configs_of(TTSConfig(model_revision="x", _env_file=None), "turbo,orpheus")


async def test_recording_is_registered_with_a_cloning_model():
    def setup(engine):
        engine.cloning = None if engine.info.name == "a" else "unused"

    async with serving_models(setup=setup) as client:
        files = {"voice_file": ("me.wav", b"RIFFsound")}
        assert (await client.post("/voices/register", files=files)).status_code == 201
        assert [len(engine.voices.infos) for engine in client.pool.made] == [1, 2, 1]


def test_fake_engines_have_the_interface_that_the_pool_uses():
    assert FakeEngine().voice_store.shared is False
