"""Counters of several replicas as those of one."""

import pytest
from harness import SPEECH, serving
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse

from chatterbox.cluster.metrics import MetricsRoute, merged_json, merged_text


@pytest.fixture
async def replicas():
    """Two servers' counters as JSON and as text: one has spoken twice, one has refused."""
    found = []
    for texts in ("One.", "Two."), ("",):
        async with serving() as client:
            for text in texts:
                await client.post("/tts", json={**SPEECH, "text": text})
            texts = await client.get("/metrics", headers={"Accept": "text/plain"})
            found.append(((await client.get("/metrics")).json(), texts.text))
    return found


def test_json_is_summed(replicas):
    one, two = (body for body, _ in replicas)
    both = merged_json([one, two])
    assert both.pop("replicas") == 2
    assert both.keys() == one.keys()
    assert both["requests"]["total"] == 3
    assert both["requests"]["by_outcome"]["ok"] == 2
    assert sum(both["requests"]["by_outcome"].values()) == 3
    assert both["uptime_s"] == max(one["uptime_s"], two["uptime_s"])
    assert len(both["last"]) == max(len(one["last"]), len(two["last"]))
    assert both["last"][0]["ago_s"] <= both["last"][-1]["ago_s"]
    assert both["rtf"] == one["rtf"]  # nothing was spoken by the other


def test_means_are_over_all_requests_and_quantiles_of_the_worst_replica():
    few, many = ({"count": n, "mean": x, "p95": x} for n, x in ((1, 4.0), (3, 2.0)))
    assert merged_json([{"rtf": few}, {"rtf": many}])["rtf"] == {"count": 4, "mean": 2.5, "p95": 4}


def test_prometheus_text_has_each_replica(replicas):
    named = [(name, text) for name, (_, text) in zip("ab", replicas, strict=True)]
    body, content_type = merged_text(named, "text/plain")
    assert content_type.startswith("text/plain")
    read = {f.name: f for f in text_string_to_metric_families(body.decode())}
    one = {f.name: f for f in text_string_to_metric_families(replicas[0][1])}
    assert {n: f.type for n, f in read.items()} == {n: f.type for n, f in one.items()}
    ready = read["chatterbox_ready"].samples
    assert {s.labels["replica"]: s.value for s in ready} == {"a": 1, "b": 1}
    buckets = [s for s in read["chatterbox_rtf"].samples if s.labels.get("le") == "+Inf"]
    assert {s.labels["replica"]: s.value for s in buckets} == {"a": 2, "b": 0}


async def test_scrapes_are_logged_under_their_route_at_debug_level(caplog):
    async def metrics(_request):
        return PlainTextResponse("")

    caplog.set_level("DEBUG", "chatterbox.requests")
    async with serving() as client:
        client.app.router.routes.insert(0, MetricsRoute("/metrics", metrics))
        await client.get("/metrics")
    (line,) = (record for record in caplog.records if record.name == "chatterbox.requests")
    assert line.levelname == "DEBUG"
    assert line.getMessage().startswith("GET /metrics ")
