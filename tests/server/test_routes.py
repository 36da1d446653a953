"""Routes for status, metrics and voices, and unknown paths and methods."""

import asyncio
import dataclasses
import logging
import platform
import time
from types import SimpleNamespace

import pytest
from harness import PIECE_SAMPLES, SPEECH, FakeEngine, error_of, serving, until
from prometheus_client.parser import text_string_to_metric_families

from chatterbox import __version__
from chatterbox.runtime import cudart

WAV = {"voice_file": ("me.wav", b"RIFF1234", "audio/wav")}
PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*"


# --- status


async def test_health_reports_the_loaded_model():
    async with serving() as client:
        health = (await client.get("/health")).json()
        assert health["status"] == "ok"
        assert health["ready"] is True
        assert (health["model"], health["device"]) == ("mini", "cpu")
        assert health["precision"] == "language_model=q4 conditional_decoder=fp32"
        assert health["fallback"] == "the hub cannot be reached"
        assert "not Chatterbox Turbo" in health["notice"]
        assert health["skipped_voices"] == [{"voice": "broken", "reason": "meta.json is empty"}]


@pytest.mark.parametrize(
    ("state", "code", "live"), [("loading", "not_ready", 200), ("dead", "engine_dead", 503)]
)
async def test_work_is_refused_in_other_phases(state, code, live):
    async with serving() as client:
        client.engine.state = state
        health = await client.get("/health")
        assert health.status_code == 200
        assert (health.json()["status"], health.json()["ready"]) == (state, False)
        told = {"stage": "downloading", "detail": "1 of 4 MB", "done": 0.25}
        assert health.json()["loading"] == (told if state == "loading" else None)
        assert (await client.get("/health/live")).status_code == live
        for response in (
            await client.get("/health/ready"),
            await client.post("/tts", json=SPEECH),
            await client.post("/tts", content=b"not even a body"),
            await client.post("/voices/register", files=WAV),
            await client.get("/voices"),
            await client.delete("/voices/slt"),
        ):
            error_of(response, 503, code)
            assert int(response.headers["retry-after"]) > 0
        assert (await client.get("/metrics")).status_code == 200


async def test_draining_server_refuses_work_but_is_live():
    async with serving() as client:
        client.lifecycle.drain()
        error_of(await client.post("/tts", json=SPEECH), 503, "draining")
        error_of(await client.get("/health/ready"), 503, "draining")
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health")).json()["status"] == "draining"


async def test_nearly_full_queue_is_not_ready():
    async with serving(FakeEngine(capacity=1, queue_capacity=1)) as client:
        assert (await client.get("/health/ready")).status_code == 200
        admission = client.engine.admission
        async with admission.permit(timeout_s=5):
            waiting = asyncio.create_task(admission.permit(timeout_s=5).__aenter__())
            await until(lambda: admission.queued)
            error_of(await client.get("/health/ready"), 503, "not_ready")
            waiting.cancel()


async def test_root_lists_the_calls():
    async with serving() as client:
        body = (await client.get("/")).json()
        assert body["name"] == "chatterbox"
        calls = {(call["method"], call["path"]) for call in body["calls"]}
        assert {("POST", "/tts"), ("GET", "/voices"), ("GET", "/health")} <= calls
        assert all(call["does"] for call in body["calls"])
        assert (await client.head("/health/ready")).status_code == 200


# --- request handling


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        ("abc-DEF_1", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("é", False),
        ("", False),
    ],
)
async def test_request_ids(offered, taken):
    async with serving() as client:
        headers = {"x-request-id": offered.encode("latin-1")}
        answer = (await client.get("/health", headers=headers)).headers["x-request-id"]
        assert (answer == offered) is taken
        assert taken or answer.startswith("req-")


async def test_log_line_has_no_text_and_no_names(caplog):
    caplog.set_level(logging.INFO)
    async with serving() as client:
        await client.post("/tts", json={"text": "my secret words", "voice_id": "slt"})
        await client.get("/voices/private-name")
        await client.get("/no/such/private-path")
        lines = [r.message for r in caplog.records if r.name == "chatterbox.requests"]
        assert [line.split(" ms=")[0] for line in lines] == [
            "POST /tts status=200 outcome=ok",
            "GET /voices/{voice_id} status=404 outcome=voice_not_found",
            "GET other status=404 outcome=not_found",
        ]
        assert "codes=10 audio_s=0.20 first_ms=10 rtf=0.100 id=req-" in lines[0]
        assert "secret" not in caplog.text
        assert "private" not in "".join(lines)


async def test_docs_page_and_schema_are_served():
    async with serving() as client:
        assert "page/reference.js" in (await client.get("/docs")).text
        assert (await client.get("/openapi.json")).json()["info"]["title"] == "Chatterbox Server"


# --- metrics


async def test_metrics_as_json():
    async with serving() as client:
        empty = (await client.get("/metrics")).json()
        assert empty["rtf"] == {"count": 0, "mean": None, "p50": None, "p95": None}
        for _ in range(3):
            await client.post("/tts", json=SPEECH)
        await client.post("/tts", json={"text": "..."})
        metrics = (
            await client.get("/metrics", headers={"accept": "application/json, text/plain, */*"})
        ).json()
        assert metrics["requests"] == {"total": 4, "by_outcome": {"empty_text": 1, "ok": 3}}
        assert (metrics["active"], metrics["queued"]) == (0, 0)
        assert metrics["rtf"] == {"count": 3, "mean": 0.1, "p50": 0.1, "p95": 0.1}
        assert metrics["first_audio_s"]["p95"] == 0.01
        assert metrics["audio_s"] == 0.6
        assert metrics["throughput"]["audio_s_per_s"] > 0
        assert metrics["batch"]["mean_rows"] == 1.5
        assert metrics["stage_s"]["step"] == 0.5
        assert (metrics["segments"]["guarded"], metrics["segments"]["retried"]) == (2, 5)
        assert metrics["memory_bytes"] > 0
        assert [one["outcome"] for one in metrics["last"]] == ["empty_text", "ok", "ok", "ok"]
        newest, oldest = metrics["last"][0], metrics["last"][-1]
        assert (newest["route"], newest["audio_s"], oldest["audio_s"]) == ("/tts", None, 0.2)
        assert oldest["ago_s"] >= newest["ago_s"]
        for _ in range(12):
            await client.post("/tts", json={"text": "..."})
        assert len((await client.get("/metrics")).json()["last"]) == 10


async def scraped(client, accept="text/plain") -> dict[tuple[str, ...], float]:
    """Return samples by name and label values."""
    response = await client.get("/metrics", headers={"accept": accept})
    assert response.headers["content-type"].split(";")[0] in accept
    return {
        (s.name, *sorted(s.labels.values())): s.value
        for family in text_string_to_metric_families(response.text.replace("# EOF\n", ""))
        for s in family.samples
    }


@pytest.mark.parametrize("accept", [PROMETHEUS, "text/plain"])
async def test_metrics_for_prometheus(accept):
    async with serving() as client:
        await client.post("/tts", json=SPEECH)
        await client.get("/nowhere")
        samples = await scraped(client, accept)
        assert samples["chatterbox_requests_total", "/tts", "ok"] == 1
        assert samples["chatterbox_requests_total", "not_found", "other"] == 1
        assert samples["chatterbox_speech_requests_total", "/tts", "ok"] == 1
        assert ("chatterbox_speech_requests_total", "not_found", "other") not in samples
        assert samples["chatterbox_build_info", __version__, platform.python_version()] == 1
        precision = "language_model=q4 conditional_decoder=fp32"
        assert samples["chatterbox_model_info", "cpu", precision, "mini"] == 1
        assert samples["chatterbox_rtf_count",] == 1
        assert samples["chatterbox_first_audio_seconds_bucket", "0.05"] == 1
        assert samples["chatterbox_audio_seconds_total",] == pytest.approx(0.2)
        assert samples["chatterbox_stage_seconds_total", "step"] == 0.5
        assert samples["chatterbox_stepped_rows_total",] == 6
        assert samples["chatterbox_ready",] == 1
        assert samples["chatterbox_segments_total", "guarded"] == 2
        assert samples["chatterbox_retried_attempts_total",] == 5


async def test_time_to_first_audio_includes_the_queue(monkeypatch):
    ahead = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead)
    monkeypatch.setattr("chatterbox.server.speech_service.time", clock)
    gate = asyncio.Event()
    engine = FakeEngine(capacity=1, queue_capacity=1, script=[gate, PIECE_SAMPLES])
    async with serving(engine) as client:
        first = asyncio.create_task(client.post("/tts", json=SPEECH))
        await until(lambda: engine.admission.active == 1)
        second = asyncio.create_task(client.post("/tts", json=SPEECH))
        await until(lambda: engine.admission.queued == 1)
        assert (await client.post("/tts", json=SPEECH)).status_code == 429
        ahead = 0.35
        gate.set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        metrics = (await client.get("/metrics")).json()
        queue, arrival = metrics["queue_s"], metrics["time_to_first_audio_s"]
        assert (queue["count"], arrival["count"]) == (2, 2)  # the refused request did not wait
        assert queue["p50"] < 0.3 < queue["p95"]
        assert arrival["p50"] > 0.3
        assert metrics["first_audio_s"]["p95"] == 0.01
        samples = await scraped(client)
        assert samples["chatterbox_queue_time_seconds_bucket", "0.3"] == 1
        assert samples["chatterbox_time_to_first_audio_seconds_bucket", "0.3"] == 0
        assert samples["chatterbox_speech_requests_total", "/tts", "overloaded"] == 1


async def test_queue_time_is_counted_for_requests_that_give_up():
    engine = FakeEngine(capacity=1, script=[asyncio.Event()])
    async with serving(engine, first_audio_timeout_s=0.1) as client:
        answers = await asyncio.gather(*(client.post("/tts", json=SPEECH) for _ in range(2)))
        assert [answer.status_code for answer in answers] == [504, 504]
        metrics = (await client.get("/metrics")).json()
        assert metrics["queue_s"]["count"] == 2
        assert metrics["queue_s"]["p95"] >= 0.1
        assert metrics["time_to_first_audio_s"]["count"] == 0


async def test_memory_of_each_used_gpu(monkeypatch):
    asked = []

    def memory(gpu: int) -> tuple[int, int]:
        asked.append(gpu)
        if gpu:
            raise RuntimeError("CUDA failure 719: unspecified launch failure")
        return 3, 8

    monkeypatch.setattr(cudart, "memory", memory)
    async with serving() as client:
        assert "chatterbox_gpu_memory_used_bytes" not in {
            name for name, *_ in await scraped(client)
        }
        engine = client.engine
        engine.info = dataclasses.replace(engine.info, device="cuda")
        engine.config = engine.config.model_copy(update={"decoder_device_id": 1})
        samples = await scraped(client)
        assert asked == [0, 1]
        assert samples["chatterbox_gpu_memory_used_bytes", "0"] == 5
        assert samples["chatterbox_gpu_memory_free_bytes", "0"] == 3
        assert ("chatterbox_gpu_memory_used_bytes", "1") not in samples


# --- voices


async def test_voice_lifecycle_over_http():
    async with serving() as client:
        response = await client.post("/voices/register", files=WAV, data={"name": "me"})
        body = response.json()
        assert (response.status_code, body["voice_id"], body["name"]) == (201, "v8", "me")
        assert body["message"] == "The voice is registered."
        assert body["warnings"] == ["short_reference: under 5 s."]
        assert body["report"]["duration_s"] == 6.0
        assert client.engine.warmed == ["v8"]
        again = await client.post("/voices/register", files=WAV)
        assert (again.status_code, again.json()["voice_id"]) == (200, "v8")

        listed = (await client.get("/voices")).json()
        assert [voice["voice_id"] for voice in listed["voices"]] == ["slt", "v8"]
        assert listed["default_voice"] == "slt"
        assert (await client.get("/voices/me")).json()["voice_id"] == "v8"
        export = await client.get("/voices/me/export")
        assert export.content == b"VOICEme"
        assert export.headers["content-disposition"] == 'attachment; filename="v8.voice"'
        imported = await client.post("/voices/import", files={"voice_file": ("x", export.content)})
        assert (imported.status_code, imported.json()["voice_id"]) == (200, "v11")

        assert (await client.put("/voices/v8/name", json={"name": "you"})).json()["name"] == "you"
        note = {"description": "Calm, for the news"}
        noted = await client.put("/voices/v8/description", json=note)
        assert noted.json()["description"] == "Calm, for the news"
        aliased = await client.put("/voices/v8/aliases/alloy")
        assert aliased.json()["aliases"] == ["alloy"]
        response = await client.delete("/voices/slt/aliases/alloy")
        error_of(response, 404, "voice_not_found", "alias")
        assert (await client.delete("/voices/v8/aliases/alloy")).json()["aliases"] == []

        gone = await client.delete("/voices/you")
        assert (gone.json()["voice_id"], gone.json()["message"]) == ("v8", "The voice is deleted.")
        error_of(await client.get("/voices/you"), 404, "voice_not_found", "voice_id")
        assert client.engine.admission.active == 0
