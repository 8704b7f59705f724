"""OpenTelemetry gets what Prometheus gets, and no key of a bucket."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from crdtbucket import BucketSpec, Limiter
from crdtbucket.base.histogram import Histogram
from crdtbucket.http.limits import Limits
from crdtbucket.http.middleware.wsgi import WSGIRequest
from crdtbucket.http.request_rules import Rule
from crdtbucket.metrics.catalogue import METRICS
from crdtbucket.metrics.collector import register
from crdtbucket.metrics.open_telemetry import (
    EVENT,
    ONE_COLLECTION_NS,
    SharedStats,
    instrument,
    instruments_of,
    note_denial,
    span_event,
)
from tests.base.test_fork_lock import Holder
from tests.forks import in_child

KEY = "tenant-with-a-name"
REQUEST = WSGIRequest({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_ADDR": "203.0.113.9"})
SPECS = [BucketSpec("api", 10, 1, "1h"), BucketSpec("login", 5, 1, "1h")]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def collected(reader: InMemoryMetricReader) -> tuple[Samples, dict[str, str]]:
    """The samples, and by each name what kind it is."""
    samples: Samples = {}
    kinds: dict[str, str] = {}
    data: Any = reader.get_metrics_data()
    for metric in [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]:
        kinds[metric.name] = "counter" if getattr(metric.data, "is_monotonic", False) else "gauge"
        for point in metric.data.data_points:
            samples[metric.name, frozenset(point.attributes.items())] = point.value
    return samples, kinds


def test_the_numbers_are_those_of_prometheus_and_none_has_a_key() -> None:
    limiter = Limiter(SPECS)
    for cost in (4, 4, 4):
        limiter.bucket("api").take(KEY, cost)
    reader, registry = InMemoryMetricReader(), CollectorRegistry()
    instrument(limiter, MeterProvider([reader]).get_meter("tests"))
    register(limiter, registry)
    samples, kinds = collected(reader)
    assert samples["crdtbucket_tokens_granted_total", frozenset({("bucket", "api")})] == 8
    families = text_string_to_metric_families(generate_latest(registry).decode())
    expected = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    moving = ("debt_tokens", "fill_ratio")  # a bucket refills between the two looks
    assert samples.keys() == expected.keys()
    for sample, value in expected.items():
        within = 0.01 if sample[0].endswith(moving) else 0
        assert samples[sample] == pytest.approx(value, abs=within), sample
    assert kinds["crdtbucket_decisions_total"] == "counter"
    assert kinds["crdtbucket_fill_ratio"] == "gauge"
    assert KEY not in str(samples)


def test_a_histogram_is_its_count_and_its_sum() -> None:
    (metric,) = [one for one in METRICS if one.histogram]
    times = Histogram()
    for ns in (1_000_000, 3_000_000):
        times.add(ns)
    endpoint = {"latency": times.cumulative(), "latency_sum": times.sum_ns / 1e9}
    stats = {"redis": {"redis:6379": endpoint}}
    found = {name: (kind, [*read(stats)]) for name, kind, read in instruments_of(metric)}
    assert found == {
        "crdtbucket_redis_latency_seconds_count": ("counter", [(("redis:6379",), 2)]),
        "crdtbucket_redis_latency_seconds_sum": ("counter", [(("redis:6379",), 0.004)]),
    }


def test_a_collection_reads_once_and_a_limiter_may_go() -> None:
    times, limiter = [0], Limiter(SPECS)
    stats = SharedStats(limiter, lambda: times[0])
    first = stats.read()
    times[0] = ONE_COLLECTION_NS - 1
    assert stats.read() is first
    times[0] = ONE_COLLECTION_NS
    second = stats.read()
    assert second is not None
    assert second is not first
    del limiter
    gc.collect()
    assert stats.read() is None


def test_a_denial_is_an_event_of_the_span_without_the_key() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    limiter = Limiter(SPECS)
    limits = Limits(
        limiter, [Rule("api", key=lambda _: KEY, cost=lambda _: 8)], on_denied=note_denial
    )
    asked = REQUEST
    with provider.get_tracer("tests").start_as_current_span("a request"):
        assert limits.acquire_sync(asked)
        verdict = limits.acquire_sync(asked)
        assert not verdict
        assert limits.answer(asked, verdict).status == 429  # the usual answer stays
        span_event(limiter.bucket("login").take(KEY))  # an admission is none
    span_event(limiter.bucket("api").take(KEY, 8))  # nor is there a span here
    (span,) = exporter.get_finished_spans()
    (event,) = span.events
    assert event.name == EVENT
    told = dict(event.attributes or {})
    assert told.pop("crdtbucket.retry_after") > 0
    assert told == {
        "crdtbucket.bucket": "api",
        "crdtbucket.mode": "eventual",
        "crdtbucket.cost": 8,
        "crdtbucket.limit": 10,
        "crdtbucket.remaining": 2,
    }
    assert KEY not in str(span.to_json())


def test_a_child_collects_whatever_a_reader_of_its_parent_was_doing() -> None:
    limiter = Limiter(SPECS)
    stats = SharedStats(limiter)
    with Holder(stats._lock):
        assert in_child(lambda: sorted((stats.read() or {})["buckets"])) == ["['api', 'login']"]
