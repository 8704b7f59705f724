"""A limiter's numbers for Prometheus, read when they are scraped: a decision costs nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from crdtbucket._core import Table
from crdtbucket.errors import CrdtbucketError
from crdtbucket.metrics.catalogue import METRICS, PREFIX
from crdtbucket.metrics.metric import MetricSpec, Stats

if TYPE_CHECKING:
    from crdtbucket.limiter.facade import Limiter


LEVELS = ("empty", "debt", "highest_debt")
NO_LEVEL = (0, 0.0, 0.0)


@dataclass(eq=False)
class CatalogueCollector(Collector):
    """Collects some metrics of the catalogue for a Prometheus registry, when it is scraped."""

    metrics: Sequence[MetricSpec]
    stats: Callable[[], Stats]
    """Is asked at each scrape, in any thread."""

    def describe(self) -> Iterator[Metric]:
        """Every metric's name and help, without numbers."""
        return (family(metric, None) for metric in self.metrics)

    def collect(self) -> Iterator[Metric]:
        """Every metric that has a number at this moment."""
        stats = self.stats()
        families = (family(metric, stats) for metric in self.metrics)
        return (one for one in families if one.samples)


def surveyed(limiter: Limiter) -> dict[str, Any]:
    """The stats of a limiter as the metrics read them: each bucket with its levels, too. Goes over
    all keys: some 4 ms for a million, in which other threads go on."""
    stats, buckets = limiter.stats(), dict(limiter.buckets)
    levels: dict[Table, dict[int, tuple[float, ...]]] = {}
    for name in list(stats["buckets"]):
        bucket = buckets.get(name)
        if bucket is None:  # removed in this moment
            del stats["buckets"][name]
            continue
        table = bucket.table
        if table not in levels:
            levels[table] = dict(table.survey())
        numbers = stats["buckets"][name]
        numbers["spec"] = bucket.spec
        numbers.setdefault("mode", bucket.mode)
        of_all = [levels[table].get(one.name_hash, NO_LEVEL) for one in bucket.parts or (bucket,)]
        empty, lacking, highest = zip(*of_all, strict=True)
        level = sum(empty), sum(lacking), max(highest)
        numbers |= dict(zip(LEVELS, level, strict=True))
    return stats


def register(limiter: Limiter, registry: CollectorRegistry = REGISTRY) -> CatalogueCollector:
    """Show a limiter's numbers in `registry`; `registry.unregister` takes what is returned.

    A registry shows one limiter: `CrdtbucketError` for a second one.
    """
    collector = CatalogueCollector(METRICS, partial(surveyed, limiter))
    try:
        registry.register(collector)
    except ValueError as error:
        raise CrdtbucketError(
            "this registry shows a limiter already: unregister that one first, "
            "or give each limiter a CollectorRegistry of its own"
        ) from error
    return collector


def family(metric: MetricSpec, stats: Stats | None) -> Metric:
    """A metric as prometheus_client has it; without `stats` its name and help alone."""
    samples = metric.read(stats) if stats is not None else ()
    name = PREFIX + metric.name
    if metric.histogram:
        histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        for labels, (buckets, total) in samples:
            bounds = [("+Inf" if bound is None else repr(bound), n) for bound, n in buckets]
            histogram.add_metric(labels, bounds, total)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
