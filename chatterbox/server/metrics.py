"""Counters and histograms of requests and engines, as JSON and as Prometheus text.

Label values come only from closed sets.
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
"""Means and quantiles in the JSON cover at most this many requests."""
SHOWN_REQUESTS = 10
"""How many of the last speech requests the JSON lists."""
RATE_WINDOW_S = 60.0
RTF_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)
LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
DISTRIBUTIONS = {
    "rtf": ("rtf", "Generation time over audio time of finished requests", RTF_BUCKETS),
    "queue_s": (
        "queue_time_seconds",
        "Time that a request waited for a place or gave up waiting; none if refused at once",
        LATENCY_BUCKETS_S,
    ),
    "first_audio_s": (
        "first_audio_seconds",
        "Time from a finished request's start in the engine to its first sound",
        LATENCY_BUCKETS_S,
    ),
    "time_to_first_audio_s": (
        "time_to_first_audio_seconds",
        "Time from a request's arrival to its first sound, even if the request failed later",
        LATENCY_BUCKETS_S,
    ),
}
"""Name in the JSON → the histogram's name, help text and buckets."""
GAVE_UP = (Cancelled.code, DeadlineExceeded.code)
STAGES = ("prefill", "step", "sample", "decode")
SEGMENTS = {
    "finished": "segments",
    "failed": "failed_segments",
    "cancelled": "cancelled_segments",
    "capped": "capped_segments",
    "guarded": "guarded_segments",
}
"""Outcome of a segment → the engine's counter."""
COUNTERS = {
    "retried_attempts": ("retried_segments", "Attempts discarded by the runaway guard"),
    "underruns": ("underruns", "Times that a client playing in real time ran out of audio"),
    "underrun_seconds": ("underrun_s", "Seconds without audio for clients playing in real time"),
    "codes": ("codes", "Speech codes sampled"),
    "steps": ("steps", "Steps of the language model"),
    "stepped_rows": ("stepped_rows", "Sum of the batch sizes of all steps"),
}
"""Metric → the engine's counter and the help text."""
MODEL_GAUGES: tuple[tuple[str, str, Callable[[Model], float]], ...] = (
    ("loaded", "1 while the model is in memory", lambda model: model.is_loaded),
    ("active_requests", "Requests that use the model", lambda model: model.users),
    ("loads", "Times that the model was loaded", lambda model: model.loads),
    ("memory_bytes", "Memory measured when the model was loaded", lambda model: model.memory_bytes),
)
"""For each model: metric, help text and value."""


class Distribution:
    """A Prometheus histogram, with the newest values for the JSON."""

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
        """Return count, mean and quantiles of the newest values."""
        ordered = sorted(self._recent)
        count = len(ordered)

        def quantile(share: float) -> float | None:
            """Return the smallest value that `share` of all values do not exceed."""
            return round(ordered[max(0, math.ceil(share * count) - 1)], 4) if count else None

        mean = round(sum(ordered) / count, 4) if count else None
        return {"count": count, "mean": mean, "p50": quantile(0.50), "p95": quantile(0.95)}


class Metrics(Collector):
    """Counts every request at its end. The engines' own counters are read on demand, so nothing is
    counted twice. One per server, with its own registry."""

    def __init__(self, models: ModelPool, lifecycle: Lifecycle) -> None:
        self._models = models
        self._lifecycle = lifecycle
        self._started = time.monotonic()
        self._outcomes: Tally[str] = Tally()  # of speech requests
        self._finished: deque[tuple[float, float]] = deque(maxlen=RECENT_REQUESTS)  # (when, audio)
        self._last: deque[tuple[float, dict[str, Any]]] = deque(maxlen=SHOWN_REQUESTS)
        self._audio_s = 0.0
        self._registry = registry = CollectorRegistry(auto_describe=True)
        labels = ["route", "outcome"]
        text = "requests by route and outcome (`ok` or an error's code)"
        self._requests, self._speech_requests = (
            Counter(f"chatterbox_{name}", f"{which} {text}", labels, registry=registry)
            for name, which in (("requests", "All"), ("speech_requests", "Speech"))
        )
        self._distributions = {
            name: Distribution(*facts, registry) for name, facts in DISTRIBUTIONS.items()
        }
        self._audio_counter = Counter(
            "chatterbox_audio_seconds", "Audio made for finished requests", registry=registry
        )
        registry.register(self)
        ProcessCollector(registry=registry)

    def record_request(self, record: AccessRecord) -> None:
        """Count a request that has ended."""
        self._requests.labels(record.route, record.outcome).inc()
        if not record.is_speech:
            return
        self._speech_requests.labels(record.route, record.outcome).inc()
        self._outcomes[record.outcome] += 1
        self._last.appendleft((time.monotonic(), _summary(record)))
        for name, value in _measurements(record):
            self._distributions[name].observe(value)
        if record.outcome == OK and record.report is not None:
            self._audio_s += record.report.audio_s
            self._audio_counter.inc(record.report.audio_s)
            self._finished.append((time.monotonic(), record.report.audio_s))

    def as_json(self) -> dict[str, Any]:
        """Return all metrics as JSON, for people and the benchmark."""
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
                {"ago_s": round(time.monotonic() - when, 1), **facts} for when, facts in self._last
            ],
        }

    def as_text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as Prometheus text, with its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def families(self) -> list[Metric]:
        """Return every metric with its type and help text, for docs/reference/metrics.md."""
        return list(self._registry.collect())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics read from the engines and the machine. Called by Prometheus' client."""
        built = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily(
            "chatterbox_build", "Version of the server and of Python", value=built
        )
        loaded = InfoMetricFamily("chatterbox_model", "Loaded models; none while loading")
        for info in (engine.info for engine in self._models.loaded_engines()):
            named = {"model": info.name, "precision": info.precision_text, "device": info.device}
            loaded.add_metric([], named)
        yield loaded
        gpus = self._gpu_memory()
        for at, state in enumerate(("used", "free")):
            text = f"{state.capitalize()} GPU memory over all processes; only if a GPU is used"
            values = {gpu: memory[at] for gpu, memory in gpus.items()}
            yield _labelled(GaugeMetricFamily, f"gpu_memory_{state}_bytes", text, "gpu", values)
        stats, admission = self._models.stats(), self._models.admission
        for name, text, value in (
            ("ready", "1 while the server is ready for new work", self._lifecycle.is_ready),
            ("active_requests", "Requests that hold a place", admission.active),
            ("queued_requests", "Requests that wait for a place", admission.queued),
            ("running_rows", "Segments in the batch", stats.running_rows),
            ("waiting_rows", "Segments that wait for a slot", stats.waiting_rows),
            ("tasks", "Tasks of the event loop", _tasks()),
        ):
            yield GaugeMetricFamily(f"chatterbox_{name}", text, value=float(value))
        for name, text, value_of in MODEL_GAUGES:
            values = {model.name: float(value_of(model)) for model in self._models.models}
            yield _labelled(GaugeMetricFamily, f"model_{name}", text, "model", values)
        values = {outcome: getattr(stats, counter) for outcome, counter in SEGMENTS.items()}
        text = "Segments by outcome"
        yield _labelled(CounterMetricFamily, "segments", text, "outcome", values)
        for name, (counter, text) in COUNTERS.items():
            yield CounterMetricFamily(f"chatterbox_{name}", text, value=getattr(stats, counter))
        values = {stage: getattr(stats, f"{stage}_s") for stage in STAGES}
        yield _labelled(CounterMetricFamily, "stage_seconds", "Wall time by stage", "stage", values)

    def _gpu_memory(self) -> dict[str, tuple[float, float]]:
        """Return used and free bytes by GPU."""
        memory: dict[str, tuple[float, float]] = {}
        engine = next(iter(self._models.loaded_engines()), None)
        if engine and engine.info.device == "cuda":
            first, second = engine.config.gpu_device_id, engine.config.decoder_device_id
            for gpu in {first, first if second is None else second}:
                with suppress(OSError, RuntimeError):  # a broken GPU reports nothing
                    free, total = cudart.memory(gpu)
                    memory[str(gpu)] = total - free, free
        return memory

    def _throughput(self) -> dict[str, float]:
        """Return rates over the last minute, or since the start if more recent."""
        now = time.monotonic()
        recent = [audio_s for when, audio_s in self._finished if now - when <= RATE_WINDOW_S]
        window_s = max(min(RATE_WINDOW_S, now - self._started), 1e-9)
        if len(recent) == RECENT_REQUESTS:  # older requests in the window have been dropped
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
    """Return whether `Accept` asks for Prometheus text. JavaScript clients list both text and JSON,
    and mean JSON."""
    accept = accept.lower()
    if "application/openmetrics-text" in accept:
        return True
    return "text/plain" in accept and "application/json" not in accept


def _summary(record: AccessRecord) -> dict[str, Any]:
    """Return a request's entry in the JSON, without any value that the client chose."""
    report, sound_at = record.report, record.first_sound_at
    return {
        "route": record.route,
        "outcome": record.outcome,
        "audio_s": round(report.audio_s, 2) if report else None,
        "time_to_first_audio_s": round(sound_at - record.started_at, 3) if sound_at else None,
    }


def _measurements(record: AccessRecord) -> Iterator[tuple[str, float]]:
    """Yield a speech request's values for `DISTRIBUTIONS`, as far as they were measured."""
    if record.queued_at is not None and (record.placed_at is not None or record.outcome in GAVE_UP):
        yield "queue_s", (record.placed_at or time.monotonic()) - record.queued_at
    if record.first_sound_at is not None:
        yield "time_to_first_audio_s", record.first_sound_at - record.started_at
    if record.outcome == OK and (report := record.report) is not None:
        yield "rtf", report.rtf
        if report.first_audio_s is not None:
            yield "first_audio_s", report.first_audio_s


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # called outside of the event loop
        return 0
