"""Metrics: every number of the stats is shown once, under its name in the docs."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from crdtbucket import BucketSpec, CrdtbucketError, Limiter, MeshConfig, RedisConfig
from crdtbucket._core import Table
from crdtbucket.config import Config
from crdtbucket.metrics.catalogue import METRICS, PREFIX
from crdtbucket.metrics.collector import CatalogueCollector, register
from crdtbucket.metrics.metric import PEER_STATES
from crdtbucket.rollout.rollout_plan import RolloutPlan, Stage
from tests.test_docs import rows

Shown = dict[tuple[str, frozenset[tuple[str, str]]], float]

ENDPOINT: dict[str, Any] = {
    "mode": "fallback",
    "mode_seconds": {"strong": 9001.5, "eventual": 9002.5, "fallback": 9003.5},
    "switches": 9004,
    "answered": 9005,
    "timed_out": 9006,
    "failed": {"refused": 9007, "readonly": 9008},
    "late": 9009,
    "indeterminate": 9018,
    "latency": [[0.001, 9012], [0.05, 9013], [None, 9014]],
    "latency_sum": 9015.25,
    "open_calls": 9016,
    "evicts": 9010,
    "evicted": 9011,
    "slow": 9019,
    "cancelled": 9017,
}
STRONG = {
    "settled_keys": 9020,
    "settled_tokens": 9021,
    "unsettled": 9022,
    "denied_here": 9023,
    "unclaimed_charges": 9024,
    "sharing_nodes": 9025,
    "refused": 9026,
    "fault": "",
    "outages": {},
}


CONFIG = {"hash": "0123456789abcdef", "stage": "eu", "reloads": 9032, "refused": 9033}


def shown(registry: CollectorRegistry) -> Shown:
    """The samples of a scrape, as Prometheus reads them."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def named(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return PREFIX + name, frozenset(labels.items())


def decisions(bucket: str, decision: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return named("decisions_total", bucket=bucket, decision=decision, mode="eventual")


class GivenStats:
    """A limiter with these stats."""

    def __init__(self, limiter: Limiter, stats: dict[str, Any]) -> None:
        self.buckets = limiter.buckets
        self._stats = stats

    def stats(self) -> dict[str, Any]:
        return self._stats


def scraped(limiter: Any) -> Shown:
    registry = CollectorRegistry()
    register(limiter, registry)
    return shown(registry)


def test_a_scrape_says_what_was_decided() -> None:
    limiter = Limiter([BucketSpec("api", 10, 60, "1m"), BucketSpec("login", 5, 5)], region="eu")
    registry = CollectorRegistry()
    register(limiter, registry)
    assert shown(registry)[decisions("api", "allowed")] == 0
    bucket = limiter.bucket("api")
    decision = bucket.take("a", 7)
    assert not bucket.take("a", 7)
    bucket.refund(decision, 2)
    now = shown(registry)
    assert now[decisions("api", "allowed")] == 1
    assert now[decisions("api", "denied")] == 1
    assert now[decisions("login", "denied")] == 0
    assert now[named("tokens_granted_total", bucket="api")] == 7
    assert now[named("tokens_refunded_total", bucket="api")] == 2
    assert now[named("capacity_tokens", bucket="api")] == 10
    assert now[named("refill_tokens_per_second", bucket="api")] == 1
    assert now[named("node_info", node="local", region="eu")] == 1
    assert now[named("mode", bucket="api", mode="eventual")] == 1
    assert now[named("mode", bucket="api", mode="strong")] == 0
    assert now[named("fallback_active", bucket="api")] == 0
    assert now[named("table_keys")] == 1
    assert now[named("over_admission_bound_tokens", bucket="api")] == 0
    assert not [name for name, _ in now if "redis" in name or "mesh" in name]


def test_levels_are_those_of_the_moment() -> None:
    table = Table(max_keys=16, virtual=True)
    limiter = Limiter([BucketSpec("api", 10, 1), BucketSpec("login", 5, 5)], _table=table)
    limiter.bucket("api").take("a", 4)
    limiter.bucket("api").take("b", 10)
    limiter.bucket("login").settle("a", 7)
    registry = CollectorRegistry()
    register(limiter, registry)
    now = shown(registry)

    def levels(bucket: str) -> list[float]:
        names = ("debt_tokens", "highest_debt_tokens", "fill_ratio", "lowest_fill_ratio")
        return [now[named(name, bucket=bucket)] for name in (*names, "empty_keys")]

    assert levels("api") == pytest.approx([14, 10, 0.3, 0, 1])
    assert levels("login") == pytest.approx([7, 7, -0.4, -0.4, 1])
    table.set_time(4_000_000_000)
    now = shown(registry)
    assert levels("api") == pytest.approx([6, 6, 0.7, 0.4, 0])
    assert levels("login") == [0, 0, 1, 1, 0]


def test_tokens_of_open_reservations_are_reserved() -> None:
    limiter = Limiter([BucketSpec("api", 100, 1)])
    reserved = named("tokens_reserved", bucket="api")
    bucket = limiter.bucket("api")
    with bucket.reserve("a", 30), bucket.reserve("b", 20) as second:
        assert scraped(limiter)[reserved] == 50
        second.commit(25)
        assert scraped(limiter)[reserved] == 30
    assert scraped(limiter)[reserved] == 0


async def test_what_peers_may_have_admitted_in_the_lag_bounds_the_over_admission() -> None:
    limiter, stats = await mesh_stats()
    assert stats["lag"] == {}
    assert scraped(limiter)[named("over_admission_bound_tokens", bucket="api")] == 0
    stats["lag"] = {"us-1": 0.25, "us-2": 3.5}
    stats["longest_lag"] = {"us-1": 0.5, "us-2": 4.0}
    now = scraped(GivenStats(limiter, stats))
    assert now[named("over_admission_bound_tokens", bucket="api")] == 2 * 1 + 1 * 4.5
    assert now[named("replication_lag_seconds", peer="us-2")] == 3.5


def test_the_configuration_that_runs_is_shown() -> None:
    limiter = Limiter([BucketSpec("api", 1, 1)])
    stats = limiter.stats()
    stats.pop("config", None)
    assert not [name for name, _ in scraped(GivenStats(limiter, dict(stats))) if "config" in name]
    now = scraped(GivenStats(limiter, {**limiter.stats(), "config": {**CONFIG, "version": 7}}))
    labels = {"version": "7", "hash": "0123456789abcdef", "stage": "eu"}
    assert now[named("config_info", **labels)] == 1
    assert now[named("config_version")] == 7
    assert now[named("config_reloads_total", result="applied")] == 9032
    assert now[named("config_reloads_total", result="refused")] == 9033


async def mesh_stats() -> tuple[Limiter, dict[str, Any]]:
    mesh = MeshConfig(listen="127.0.0.1:0")
    async with Limiter([BucketSpec("api", 1, 1)], node="eu-1", mesh=mesh) as limiter:
        return limiter, limiter.stats()


def unlike_numbers(stats: Any, count: list[int]) -> Any:
    """The same stats with every number another one."""
    if isinstance(stats, dict):
        return {key: unlike_numbers(value, count) for key, value in stats.items()}
    if isinstance(stats, int) and not isinstance(stats, bool):
        count[0] += 1
        return count[0]
    return stats


def numbers(stats: Any) -> list[float]:
    if isinstance(stats, dict):
        return [number for value in stats.values() for number in numbers(value)]
    if isinstance(stats, list):
        return [number for _, number in stats]
    return [] if stats is None or isinstance(stats, (str, bool)) else [stats]


def without_sums(buckets: dict[str, Any]) -> dict[str, Any]:
    """Decisions are shown by mode alone."""
    sums = ("allowed", "denied", "shadowed")
    return {
        name: {field: value for field, value in one.items() if field not in sums}
        for name, one in buckets.items()
    }


async def test_every_number_of_the_stats_is_shown_once() -> None:
    limiter, stats = await mesh_stats()
    stats["mesh"]["refused"] = {"seal": 0, "frame": 0}
    stats = unlike_numbers(stats, [1000])
    stats["mesh"] |= {"wall_clock_moved": 9032.5, "snapshot_age": 9034.5}
    stats["certificates"] = {"redis": {"left": 9035.5, "validity": 9036.5}}
    del stats["table"]["refused_columns"]  # the mesh counts the same events
    del stats["config"]
    stats |= {"redis": {"10.0.0.1:6379": ENDPOINT}, "strong": STRONG}
    stats |= {"lag": {"us-1": 9030.5}, "config": {**CONFIG, "version": 9031}}
    wanted = sorted(numbers({**stats, "buckets": without_sums(stats["buckets"])}))
    now = scraped(GivenStats(limiter, stats))
    assert stats["longest_lag"] == {}  # shown by the bound that is reckoned from it
    values = sorted(value for value in now.values() if value >= 1000)
    assert len(wanted) > 50
    # A histogram shows its last count twice: as a bucket and as the count.
    assert values == sorted([*wanted, 9014])


async def test_strong_mode_has_the_numbers_that_are_shown_here() -> None:
    with socket.socket() as held:  # a port at which nobody listens
        held.bind(("127.0.0.1", 0))
        redis = RedisConfig(host="127.0.0.1", port=held.getsockname()[1])
        spec = BucketSpec("api", 1, 1, consistency="strong")
        async with Limiter([spec], node="eu-1", redis=redis) as limiter:
            stats = limiter.stats()
    assert [set(one) for one in stats["redis"].values()] == [set(ENDPOINT)]
    assert set(stats["strong"]) == set(STRONG)


async def test_a_node_that_keeps_no_snapshots_has_no_age_of_one() -> None:
    limiter, stats = await mesh_stats()
    name = named("mesh_snapshot_age_seconds")
    assert name not in scraped(GivenStats(limiter, stats))
    stats["mesh"]["snapshot_age"] = 75.5
    assert scraped(GivenStats(limiter, stats))[name] == 75.5
    del stats["mesh"]["snapshot_age"]  # as of a leader of an earlier version
    assert name not in scraped(GivenStats(limiter, stats))


async def test_a_node_without_a_certificate_has_no_end_of_one() -> None:
    limiter, stats = await mesh_stats()
    assert not [one for one in scraped(GivenStats(limiter, stats)) if "certificate" in str(one)]
    stats["certificates"] = {"mesh": {"left": -75.5, "validity": 9.0}}
    found = scraped(GivenStats(limiter, stats))
    assert found[named("certificate_left_seconds", use="mesh")] == -75.5


async def test_the_other_regions_of_a_replicated_redis_are_shown() -> None:
    limiter, stats = await mesh_stats()
    stats["strong"] = {**STRONG, "region_conflict": 1}
    stats["regions"] = {
        "us": {"state": "silent", "late": 12.5, "nodes": 3},
        "ap": {"state": "unknown", "late": None, "nodes": 0},
    }
    now = scraped(GivenStats(limiter, stats))
    states = {state: now[named("region_state", region="us", state=state)] for state in
              ("seen", "silent", "unknown")}  # fmt: skip
    assert states == {"seen": 0, "silent": 1, "unknown": 0}
    assert now[named("region_late_seconds", region="us")] == 12.5
    assert named("region_late_seconds", region="ap") not in now
    assert now[named("region_nodes", region="us")] == 3
    assert now[named("region_conflict")] == 1


async def test_peers_are_counted_by_state() -> None:
    limiter, stats = await mesh_stats()
    stats["peers"] = {"a": "alive", "b": "dead", "c": "alive"}
    now = scraped(GivenStats(limiter, stats))
    counts = {state: now[named("peers", state=state)] for state in PEER_STATES}
    assert counts == {"alive": 2, "suspect": 0, "dead": 1, "left": 0}


async def test_strong_mode_is_shown_for_each_endpoint_and_bucket() -> None:
    limiter, stats = await mesh_stats()
    stats["redis"] = {"10.0.0.1:6379": ENDPOINT, "10.0.0.2:6379": {**ENDPOINT, "mode": "strong"}}
    stats["buckets"]["api"]["mode"] = "fallback"
    now = scraped(GivenStats(limiter, stats))
    assert now[named("fallback_active", bucket="api")] == 1
    modes = {mode: now[named("mode", bucket="api", mode=mode)] for mode in ("strong", "fallback")}
    assert modes == {"strong": 0, "fallback": 1}
    second = {"endpoint": "10.0.0.2:6379"}
    assert now[named("redis_mode", mode="strong", **second)] == 1
    assert now[named("redis_mode", mode="fallback", **second)] == 0
    assert now[named("redis_mode_seconds_total", mode="eventual", **second)] == 9002.5
    assert now[named("redis_failures_total", kind="readonly", **second)] == 9008
    assert now[named("redis_latency_seconds_bucket", le="0.05", **second)] == 9013
    assert now[named("redis_latency_seconds_bucket", le="+Inf", **second)] == 9014
    assert now[named("redis_latency_seconds_count", **second)] == 9014
    assert now[named("redis_latency_seconds_sum", **second)] == 9015.25


def test_a_registry_shows_one_limiter() -> None:
    registry = CollectorRegistry()
    limiter = Limiter([BucketSpec("api", 1, 1)])
    collector = register(limiter, registry)
    with pytest.raises(CrdtbucketError, match="unregister"):
        register(Limiter([]), registry)
    registry.unregister(collector)
    register(Limiter([]), registry)
    assert not [name for name, labels in shown(registry) if ("bucket", "api") in labels]


def test_no_metric_is_labelled_by_key() -> None:
    limiter = Limiter([BucketSpec("api", 10, 10)])
    limiter.bucket("api").take("a-key-of-its-own")
    registry = CollectorRegistry()
    register(limiter, registry)
    assert "a-key-of-its-own" not in generate_latest(registry).decode()
    assert not [metric.name for metric in METRICS if "key" in metric.labels]


def kind_of(family: Metric) -> str:
    return str(family.type)


def test_names_and_help_keep_the_conventions() -> None:
    described = list(CatalogueCollector(METRICS, dict).describe())
    assert len({family.name for family in described}) == len(METRICS) == len(described)
    for metric, family in zip(METRICS, described, strict=True):
        assert family.name == PREFIX + metric.name.removesuffix("_total")
        assert kind_of(family) == metric.kind
        assert metric.help.endswith(".")
        assert not any(unit in metric.name for unit in ("_ms", "_ns", "_kib", "milli"))


def test_the_reference_is_the_code() -> None:
    told = [[cell.replace("`", "") for cell in row] for row in rows("docs/metrics.md", "Reference")]
    assert told == [[PREFIX + one.name, ", ".join(one.labels), one.help] for one in METRICS]
    histogram = "redis_latency_seconds"
    for one in METRICS:
        kind = "counter" if one.name.endswith("_total") else "gauge"
        assert one.kind == ("histogram" if one.name == histogram else kind), one.name


def test_a_roll_out_is_shown_with_what_either_version_decides() -> None:
    def version(number: int, capacity: int, **more: Any) -> Config:
        return Config("f", (BucketSpec("api", capacity, 1, "1d"),), version=number, **more)

    limiter = Limiter(version(1, 100).buckets)
    limiter.reload(version(1, 100))
    assert not any("rollout" in name for name, _ in scraped(limiter))
    stages = (Stage(percent=50), Stage())
    limiter.reload(version(2, 10, rollout=RolloutPlan(stages, 60 * 10**9, 0.2)))
    bucket = limiter.bucket("api")
    keys = [f"key-{number}" for number in range(50)]
    for _ in range(2):
        bucket.take_many(keys, 10)
    new = sum(bucket.on_candidate(bucket.hash(key)[1]) for key in keys)
    seen = scraped(limiter)

    def calls(side: str, decision: str) -> float:
        labels = {"bucket": "api", "version": side, "decision": decision}
        return seen[named("rollout_decisions_total", **labels)]

    assert (calls("new", "admitted"), calls("new", "denied")) == (new, new)
    assert (calls("old", "admitted"), calls("old", "denied")) == (100 - 2 * new, 0)
    assert seen[decisions("api", "allowed")] == 100 - new
    assert (seen[named("rollout_stage")], seen[named("rollout_stages")]) == (1, 2)
    assert seen[named("rollout_percent")] == 50
    assert seen[named("rollout_status", status="running")] == 1
    assert seen[named("config_info", version="2", hash=version(2, 10).hash, stage="1")] == 1
    limiter.rollout.rollback()
    seen = scraped(limiter)
    assert seen[named("rollout_status", status="rolled_back")] == 1
    assert seen[named("rollout_status", status="running")] == 0
    assert seen[decisions("api", "denied")] == new
    assert seen[named("rollout_halts_total")] == 0
