"""The text of a scrape: which metrics have lines in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from crdtbucket import BucketSpec, ConfigError, Limiter
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


def test_a_file_that_is_refused_is_shown_until_a_good_one_comes(tmp_path: Path) -> None:
    path, registry, shows = tmp_path / "limits.yaml", CollectorRegistry(), []
    path.write_text("services: {api: {limit: 1/s}}\n")
    limiter = Limiter.from_file(path)
    register(limiter, registry)
    for limit in ("1/s", "-1/s", "2/s"):
        path.write_text(f"services: {{api: {{limit: {limit}}}}}\n")
        with suppress(ConfigError):
            limiter.reload()
        shows.append(registry.get_sample_value("crdtbucket_config_refused"))
    assert shows == [0, 1, 0]
