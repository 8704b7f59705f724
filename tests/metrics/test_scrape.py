"""The text of a scrape: which metrics have lines in it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from crdtbucket import BucketSpec, Limiter
from crdtbucket.metrics.collector import register


def test_a_metric_without_a_number_has_no_lines() -> None:
    registry = CollectorRegistry()
    register(Limiter([BucketSpec("api", 10, 60, "1m")]), registry)
    text = generate_latest(registry).decode()
    families = list(text_string_to_metric_families(text))
    assert [one.name for one in families if not one.samples] == []
    assert "_redis_" not in text
    assert "_mesh_" not in text
    # Zero is a number: what begins later would be missed by `increase()`.
    for mode in ("strong", "eventual", "fallback"):
        labels = f'bucket="api",decision="denied",mode="{mode}"'
        assert f"crdtbucket_decisions_total{{{labels}}} 0.0" in text
