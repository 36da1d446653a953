"""Counters of several replicas as those of one server: sums for people, a label for machines."""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

LARGEST = {"uptime_s", "window_s", "p50", "p95"}
"""Not added up. Of quantiles, which cannot be merged: that of the replica which has the worst."""
Counted = tuple[str, Any]
"""A replica's name, and its counters."""
MEANS = {"mean": "count", "mean_rows": "steps"}
"""Mean → how many it is over."""


def merged_json(replicas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One body of `/metrics` of those of all replicas."""
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
    if isinstance(values[0], list):  # the newest of all, as many as of one
        together = sorted((one for value in values for one in value), key=itemgetter("ago_s"))
        return together[: max(map(len, values))]
    if name in LARGEST:
        return max(values)
    if name in MEANS:
        counts = [part[MEANS[name]] for part in parts if part[name] is not None]
        total = sum(value * count for value, count in zip(values, counts, strict=True))
        return round(total / sum(counts), 4)
    return round(sum(values), 4)


def merged_text(replicas: Sequence[Counted], accept: str) -> tuple[bytes, str]:
    """One scrape of those of all replicas, each sample with the label `replica`; and its type."""
    registry = CollectorRegistry()
    registry.register(_Labelled(replicas))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Labelled(Collector):
    def __init__(self, replicas: Sequence[Counted]) -> None:
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, text in self._replicas:
            for read in text_string_to_metric_families(text):
                plain = Metric(read.name, read.documentation, read.type)
                family = families.setdefault(read.name, plain)
                for sample in read.samples:
                    family.add_sample(
                        sample.name, {**sample.labels, "replica": replica}, sample.value
                    )
        yield from families.values()
