"""What a configuration means for fleets of several sizes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from crdtbucket._core import Table
from crdtbucket.config import Config, load_config
from crdtbucket.config.outlook import Outlook, Share, outlook
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.shares import Division

STRONG = "bucket_backend: {connection: {host: h}}, consistency: strong"


def load(folder: Path, text: str) -> Config:
    file = folder / "crdtbucket.yaml"
    file.write_text(text)
    return load_config(file, {})


def one(folder: Path, text: str, nodes: int) -> Outlook:
    (found,) = outlook(load(folder, text), [nodes])
    return found


@pytest.mark.parametrize("scope", ["node", "fleet"])
@pytest.mark.parametrize("nodes", [1, 3, 10, 40])
@pytest.mark.parametrize("capacity", [10_000, 100, 25, 7])
def test_the_quota_is_what_a_node_grants_in_an_outage(
    tmp_path: Path, scope: str, nodes: int, capacity: int
) -> None:
    text = (
        f"rating: {{{STRONG}, fallback_ratio: 15%, fallback_scope: {scope}}}\n"
        f"services: {{a: {{limit: 20/s burst {capacity}}}}}\n"
    )
    found = one(tmp_path, text, nodes).fleets[0]
    table = Table(max_keys=10_000, virtual=True)
    spec = load(tmp_path, text).buckets[0]
    quota = Quota(table, spec, Fraction(15, 100), fleet=scope == "fleet")
    among = Division(nodes, nodes)
    granted = max(n for n in range(capacity) if not n or quota.take(f"key-{n}", n, among))
    assert found.quota is not None
    assert found.quota.capacity == granted
    assert found.quota_of_all is not None
    assert found.quota_of_all.capacity == granted * nodes <= capacity
    assert found.cut_off is None


def test_what_is_left_when_nobody_receives_from_another(tmp_path: Path) -> None:
    found = one(tmp_path, "services: {a: {limit: 20/s burst 100}}\n", 5)
    assert found.fleets[0].cut_off == Share(500, 100.0)
    assert found.fleets[0].split == Share(20, 4.0)
    assert found.fleets[0].quota is None
    assert (found.consistency, found.on_outage) == ("eventual", "eventual")
    assert found.seconds_to_full == 5.0


def test_what_holds_no_token_grants_none(tmp_path: Path) -> None:
    found = one(tmp_path, f"rating: {{{STRONG}}}\nservices: {{a: {{limit: 3/s}}}}\n", 4)
    assert found.fleets[0].split == found.fleets[0].quota == Share(0, 0.0)


@pytest.mark.parametrize("policy", ["allow", "deny"])
def test_an_outage_may_be_answered_without_a_quota(tmp_path: Path, policy: str) -> None:
    text = f"rating: {{{STRONG}, on_outage: {policy}}}\nservices: {{a: {{limit: 3/s}}}}\n"
    found = one(tmp_path, text, 4)
    fleet = found.fleets[0]
    assert (found.on_outage, fleet.quota, fleet.cut_off) == (policy, None, None)


def test_without_a_redis_strong_buckets_are_eventual(tmp_path: Path) -> None:
    found = one(tmp_path, "rating: {consistency: strong}\nservices: {a: {limit: 3/s}}\n", 4)
    assert (found.consistency, found.on_outage) == ("eventual", "eventual")


def test_memory_is_what_a_table_takes(tmp_path: Path) -> None:
    text = "services: {a: {limit: 3/s, bucket: {max_keys: 1000}, keys: {b: 4/s}}}\n"
    found = outlook(load(tmp_path, text), [1])
    assert [row.bucket for row in found] == ["a", "a[b]"]
    assert found[0].memory_bytes is not None
    assert 64_000 <= found[0].memory_bytes <= 512_000
    assert one(tmp_path, "services: {a: {limit: 3/s}}\n", 1).memory_bytes is None
