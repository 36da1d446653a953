"""Merges the metrics of several replicas: sums in JSON, a `replica` label in Prometheus text."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.routing import Match, Route
from starlette.types import Scope

LARGEST = {"uptime_s", "window_s", "p50", "p95"}
"""Fields merged by their maximum, since they cannot be summed. For quantiles this is inexact."""
MEANS = {"mean": "count", "mean_rows": "steps"}
"""Field with a mean → field with the number of values."""
ReplicaMetrics = tuple[str, Any]
"""Name of a replica, and its metrics."""


class MetricsRoute(Route):
    """Route that adds itself to the scope, as FastAPI's routes do, since the request log reads
    it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}


def merged_json(replicas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the JSON bodies of `/metrics`."""
    return {"replicas": len(replicas), **_merged(replicas)}


def _merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _value(name, [part for part in parts if name in part]) for name in names}


def _value(name: str, parts: Sequence[Mapping[str, Any]]) -> Any:
    values = [part[name] for part in parts if part[name] is not None]
    if not values:
        return None
    if isinstance(values[0], Mapping):
        return _merged(values)
    if isinstance(values[0], list):  # the newest entries, as many as one replica has
        newest = sorted(chain(*values), key=itemgetter("ago_s"))
        return newest[: max(map(len, values))]
    if name in LARGEST:
        return max(values)
    if name in MEANS:
        counts = [part[MEANS[name]] for part in parts if part[name] is not None]
        total = sum(value * count for value, count in zip(values, counts, strict=True))
        return round(total / sum(counts), 4)
    return round(sum(values), 4)


def merged_text(replicas: Sequence[ReplicaMetrics], accept: str) -> tuple[bytes, str]:
    """Merge Prometheus scrapes; returns the body and its content type."""
    registry = CollectorRegistry()
    registry.register(_Labelled(replicas))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Labelled(Collector):
    def __init__(self, replicas: Sequence[ReplicaMetrics]) -> None:
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, text in self._replicas:
            for parsed in text_string_to_metric_families(text):
                empty = Metric(parsed.name, parsed.documentation, parsed.type)
                family = families.setdefault(parsed.name, empty)
                for sample in parsed.samples:
                    labels = {**sample.labels, "replica": replica}
                    family.add_sample(sample.name, labels, sample.value)
        yield from families.values()
