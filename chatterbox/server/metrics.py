"""Counters and histograms of requests and engine: JSON for people, Prometheus text for machines.

Labels come from closed sets only.
"""

import asyncio
import math
import platform
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from chatterbox import __version__
from chatterbox.errors import Cancelled, DeadlineExceeded
from chatterbox.runtime import cudart
from chatterbox.server.admission_control import Lifecycle
from chatterbox.server.memory import process_bytes
from chatterbox.server.model_loader import Model
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.request_log import OK, AccessRecord

RECENT_REQUESTS = 1000
"""Means and quantiles in the JSON are over this many requests at most."""
SHOWN_REQUESTS = 10
"""The last ones for speech, in the JSON."""
RATE_WINDOW_S = 60.0
RTF_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)
LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
DISTRIBUTIONS = {
    "rtf": ("rtf", "Generation time over audio time of finished speech", RTF_BUCKETS),
    "queue_s": (
        "queue_time_seconds",
        "Wait of a request for its place, also where it gave up; not of one refused at once",
        LATENCY_BUCKETS_S,
    ),
    "first_audio_s": (
        "first_audio_seconds",
        "From a finished request's place in the engine to its first sound, without the queue",
        LATENCY_BUCKETS_S,
    ),
    "time_to_first_audio_s": (
        "time_to_first_audio_seconds",
        "From a request's arrival to its first sound, whatever became of it later",
        LATENCY_BUCKETS_S,
    ),
}
"""Name in the JSON → the histogram's name, what it is, and its buckets."""
GAVE_UP = (Cancelled.code, DeadlineExceeded.code)
STAGES = ("prefill", "step", "sample", "decode")
SEGMENTS = {
    "finished": "segments",
    "failed": "failed_segments",
    "cancelled": "cancelled_segments",
    "capped": "capped_segments",
    "guarded": "guarded_segments",
}
"""How segments ended → the engine's counter."""
COUNTERS = {
    "retried_attempts": ("retried_segments", "Attempts at a segment that the guard threw away"),
    "underruns": ("underruns", "Times that a listener in real time had nothing to play"),
    "underrun_seconds": ("underrun_s", "Seconds that listeners had nothing to play"),
    "codes": ("codes", "Speech codes sampled"),
    "steps": ("steps", "Steps of the language model"),
    "stepped_rows": ("stepped_rows", "Rows over all steps; divided by steps: batch size"),
}
"""Metric → the engine's counter, and what it is."""
MODEL_GAUGES: tuple[tuple[str, str, Callable[[Model], float]], ...] = (
    ("loaded", "1 while the model is in memory", lambda model: model.loaded),
    ("active_requests", "Requests that speak with the model", lambda model: model.users),
    ("loads", "How often the model was loaded", lambda model: model.loads),
    ("memory_bytes", "Memory that the model took when it was loaded", lambda model: model.nbytes),
)
"""Of each model: metric, what it is, its value."""


class Distribution:
    """A histogram for Prometheus, and the newest values for the JSON."""

    def __init__(
        self, name: str, text: str, buckets: tuple[float, ...], registry: CollectorRegistry
    ) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_REQUESTS)
        name = f"chatterbox_{name}"
        self._histogram = Histogram(name, text, buckets=buckets, registry=registry)

    def observe(self, value: float) -> None:
        self._recent.append(value)
        self._histogram.observe(value)

    def summary(self) -> dict[str, float | int | None]:
        """Count, mean and quantiles of the newest."""
        ordered = sorted(self._recent)
        count = len(ordered)

        def quantile(share: float) -> float | None:
            """The smallest value that `share` of all do not exceed."""
            return round(ordered[max(0, math.ceil(share * count) - 1)], 4) if count else None

        mean = round(sum(ordered) / count, 4) if count else None
        return {"count": count, "mean": mean, "p50": quantile(0.50), "p95": quantile(0.95)}


class Metrics(Collector):
    """Counts every request at its end; the engine's own counters are read when asked for, so that
    nothing is counted twice. One for each server; no global registry."""

    def __init__(self, models: ModelPool, lifecycle: Lifecycle) -> None:
        self._models = models
        self._lifecycle = lifecycle
        self._started = time.monotonic()
        self._outcomes: Tally[str] = Tally()  # of speech calls
        self._finished: deque[tuple[float, float]] = deque(maxlen=RECENT_REQUESTS)  # (when, audio)
        self._last: deque[tuple[float, dict[str, Any]]] = deque(maxlen=SHOWN_REQUESTS)
        self._audio_s = 0.0
        self._registry = registry = CollectorRegistry(auto_describe=True)
        self._requests, self._speech_requests = (
            Counter(f"chatterbox_{name}", text, ["route", "outcome"], registry=registry)
            for name, text in (
                ("requests", "All requests by route and outcome (`ok` or an error's code)"),
                ("speech_requests", "Those for speech alone: no pages, probes, voices or scrapes"),
            )
        )
        self._distributions = {
            name: Distribution(*described, registry) for name, described in DISTRIBUTIONS.items()
        }
        self._audio_counter = Counter(
            "chatterbox_audio_seconds", "Speech made for finished requests", registry=registry
        )
        registry.register(self)
        ProcessCollector(registry=registry)

    def record_request(self, record: AccessRecord) -> None:
        self._requests.labels(record.route, record.outcome).inc()
        if not record.speech:
            return
        self._speech_requests.labels(record.route, record.outcome).inc()
        self._outcomes[record.outcome] += 1
        self._last.appendleft((time.monotonic(), _shown(record)))
        for name, value in _measured(record):
            self._distributions[name].observe(value)
        if record.outcome == OK and record.report is not None:
            self._audio_s += record.report.audio_s
            self._audio_counter.inc(record.report.audio_s)
            self._finished.append((time.monotonic(), record.report.audio_s))

    def as_json(self) -> dict[str, Any]:
        """For people and for the benchmark."""
        stats = self._models.stats()
        admission = self._models.admission
        segments = {name: getattr(stats, counter) for name, counter in SEGMENTS.items()}
        return {
            "uptime_s": round(time.monotonic() - self._started, 3),
            "requests": {
                "total": sum(self._outcomes.values()),
                "by_outcome": dict(sorted(self._outcomes.items())),
            },
            "active": admission.active,
            "queued": admission.queued,
            **{name: values.summary() for name, values in self._distributions.items()},
            "throughput": self._throughput(),
            "audio_s": round(self._audio_s, 3),
            "codes": stats.codes,
            "batch": {
                "mean_rows": round(stats.stepped_rows / stats.steps, 3) if stats.steps else None,
                "steps": stats.steps,
                "running_rows": stats.running_rows,
                "waiting_rows": stats.waiting_rows,
            },
            "segments": {**segments, "retried": stats.retried_segments},
            "stage_s": {stage: round(getattr(stats, f"{stage}_s"), 3) for stage in STAGES},
            "memory_bytes": process_bytes(),
            "last": [
                {"ago_s": round(time.monotonic() - when, 1), **shown} for when, shown in self._last
            ],
        }

    def as_text(self, accept: str) -> tuple[bytes, str]:
        """For Prometheus: the body and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def families(self) -> list[Metric]:
        """Every metric with its kind and meaning, for docs/reference/metrics.md."""
        return list(self._registry.collect())

    def collect(self) -> Iterator[Metric]:
        """What is read of the engines and the machine."""
        built = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("chatterbox_build", "This server", value=built)
        loaded = InfoMetricFamily("chatterbox_model", "What is loaded; none while it loads")
        for info in (engine.info for engine in self._models.loaded()):
            named = {"model": info.name, "precision": info.precision_text, "device": info.device}
            loaded.add_metric([], named)
        yield loaded
        gpus = self._gpu_memory()
        for at, state in enumerate(("used", "free")):
            what = "Memory of the GPU, by all processes; only where one is used"
            values = {gpu: memory[at] for gpu, memory in gpus.items()}
            yield _labelled(GaugeMetricFamily, f"gpu_memory_{state}_bytes", what, "gpu", values)
        stats, admission = self._models.stats(), self._models.admission
        for name, text, value in (
            ("ready", "1 while new work should be sent here", self._lifecycle.ready),
            ("active_requests", "Requests that hold a place", admission.active),
            ("queued_requests", "Requests that wait for one", admission.queued),
            ("running_rows", "Segments in the batch", stats.running_rows),
            ("waiting_rows", "Segments waiting for a slot", stats.waiting_rows),
            ("tasks", "Tasks of the event loop", _tasks()),
        ):
            yield GaugeMetricFamily(f"chatterbox_{name}", text, value=float(value))
        for name, text, value_of in MODEL_GAUGES:
            values = {model.name: float(value_of(model)) for model in self._models.models}
            yield _labelled(GaugeMetricFamily, f"model_{name}", text, "model", values)
        values = {outcome: getattr(stats, counter) for outcome, counter in SEGMENTS.items()}
        text = "Segments by how they ended"
        yield _labelled(CounterMetricFamily, "segments", text, "outcome", values)
        for name, (counter, text) in COUNTERS.items():
            yield CounterMetricFamily(f"chatterbox_{name}", text, value=getattr(stats, counter))
        values = {stage: getattr(stats, f"{stage}_s") for stage in STAGES}
        yield _labelled(CounterMetricFamily, "stage_seconds", "Wall time by stage", "stage", values)

    def _gpu_memory(self) -> dict[str, tuple[float, float]]:
        """Used and free bytes by GPU."""
        found: dict[str, tuple[float, float]] = {}
        engine = next(iter(self._models.loaded()), None)
        if engine and engine.info.device == "cuda":
            first, second = engine.config.gpu_device_id, engine.config.decoder_device_id
            for gpu in {first, first if second is None else second}:
                with suppress(OSError, RuntimeError):  # a broken card says nothing
                    free, total = cudart.memory(gpu)
                    found[str(gpu)] = total - free, free
        return found

    def _throughput(self) -> dict[str, float]:
        """Of the last minute, or of the time since the start when that is shorter."""
        now = time.monotonic()
        recent = [audio_s for when, audio_s in self._finished if now - when <= RATE_WINDOW_S]
        window_s = max(min(RATE_WINDOW_S, now - self._started), 1e-9)
        if len(recent) == RECENT_REQUESTS:  # the memory, not the window, is the bound
            window_s = max(now - self._finished[0][0], 1e-9)
        return {
            "window_s": round(window_s, 3),
            "requests_per_s": round(len(recent) / window_s, 4),
            "audio_s_per_s": round(sum(recent) / window_s, 4),
        }


def _labelled(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    text: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    family = kind(f"chatterbox_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def wants_prometheus(accept: str) -> bool:
    """Whether `Accept` asks for the text format. Browsers' programs name both text and JSON, and
    mean JSON."""
    asked = accept.lower()
    if "application/openmetrics-text" in asked:
        return True
    return "text/plain" in asked and "application/json" not in asked


def _shown(record: AccessRecord) -> dict[str, Any]:
    """One of the last requests: nothing that its client chose."""
    report, sounded = record.report, record.sounded
    return {
        "route": record.route,
        "outcome": record.outcome,
        "audio_s": round(report.audio_s, 2) if report else None,
        "time_to_first_audio_s": round(sounded - record.started, 3) if sounded else None,
    }


def _measured(record: AccessRecord) -> Iterator[tuple[str, float]]:
    """Names and values of what is known of a request for speech."""
    if record.queued is not None and (record.placed is not None or record.outcome in GAVE_UP):
        yield "queue_s", (record.placed or time.monotonic()) - record.queued
    if record.sounded is not None:
        yield "time_to_first_audio_s", record.sounded - record.started
    if record.outcome == OK and (report := record.report) is not None:
        yield "rtf", report.rtf
        if report.first_audio_s is not None:
            yield "first_audio_s", report.first_audio_s


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # asked outside of a loop
        return 0
