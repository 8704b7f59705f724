"""The simulated mesh for the tests of users: a test with a mistyped name must fail, not pass."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket import BucketSpec, CrdtbucketError, InvalidSpec
from crdtbucket.testing import SimulatedMesh

SPEC = BucketSpec("api", capacity=100, refill_rate=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": -0.1}, "latency is -0.1: it must be 0 to 60"),
        ({"latency": "80ms"}, "latency is '80ms': it must be 0 to 60"),
        ({"jitter": 1.5}, "jitter"),
        ({"loss": 2}, "loss is 2: it must be 0 to 1"),
        ({"duplication": float("nan")}, "duplication is nan"),
        ({"reordering": -1}, "reordering"),
        ({"gossip_interval": 0}, "gossip_interval"),
        ({"clock_offsets": {"eus": 1.0}}, "no node 'eus'; there are: eu, us"),
        ({"clock_drift_ppm": {"ap": 1.0}}, "no node 'ap'"),
        ({"down": ["ap"]}, "no node 'ap'"),
        ({"nodes": []}, "one node or more"),
        ({"nodes": ["eu", "eu"]}, "its own name"),
    ],
)
def test_wrong_arguments_are_clear_errors(options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"nodes": ["eu", "us"], "buckets": [SPEC], **options}
    with pytest.raises(CrdtbucketError) as caught:
        SimulatedMesh(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("buckets", ["10/s", ["10/s"], BucketSpec("api", 1, 1)])
def test_buckets_that_are_no_list_of_definitions_are_refused_as_by_a_limiter(buckets: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"^buckets "):
        SimulatedMesh(["eu"], buckets)


def test_time_does_not_go_back() -> None:
    with pytest.raises(CrdtbucketError, match="seconds is -1"):
        SimulatedMesh(["eu"], [BucketSpec("api", 1, 1)]).advance(-1)


def test_a_partition_of_a_node_that_is_not_there_is_an_error() -> None:
    mesh = SimulatedMesh(["eu", "us"], [SPEC])
    for act in (
        lambda: mesh.partition({"eu"}, {"usa"}),
        lambda: mesh.partition("eu", "us"),
        lambda: mesh.crash("usa"),
        lambda: mesh.restart("usa"),
        lambda: mesh.suspend("usa", 1.0),
        lambda: mesh.stall(1.0, 0.0, ("eu", "usa")),
        lambda: mesh["usa"],
    ):
        with pytest.raises(CrdtbucketError, match=r"no node '.*'; there are: eu, us"):
            act()


def arrivals(held: float, drain: float, *ways: tuple[str, str]) -> list[float]:
    """When takes of "eu", one each 100 ms, are known at "us", after links stalled at 0.4 s."""
    mesh = SimulatedMesh(["eu", "us"], [SPEC], latency=0.001, jitter=0.0, gossip_interval=0.01)
    found: list[float] = []
    for tenth in range(1, 41):
        if tenth == 5:
            mesh.stall(held, drain, *ways)
        mesh["eu"].take("api", f"key {tenth}")
        mesh.advance(0.1)
        known = sum(bool(mesh["us"].columns("api", f"key {i}")) for i in range(1, tenth + 1))
        found += [tenth / 10] * (known - len(found))
    return found


def test_what_is_held_comes_at_once_or_little_by_little() -> None:
    free = [tenth / 10 for tenth in range(1, 41)]
    assert arrivals(0.0, 0.0) == free
    at_once = arrivals(1.0, 0.0)
    assert at_once[:4] == free[:4]
    assert at_once[4:14] == [1.4] * 10
    assert at_once[14:] == free[14:]
    drained = arrivals(1.0, 2.0, ("eu", "us"))
    lateness = [came - sent for came, sent in zip(drained, free, strict=True)]
    assert lateness[4] == pytest.approx(1.0, abs=0.11)
    assert sorted(lateness[4:], reverse=True) == pytest.approx(lateness[4:], abs=0.11)
    assert drained[34:] == free[34:]
    assert arrivals(1.0, 2.0, ("us", "eu")) == free
