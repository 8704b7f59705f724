"""The simulated mesh that users test with: a mistyped test must fail, not pass."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket import BucketSpec, CrdtbucketError
from crdtbucket.testing import SimulatedMesh

SPEC = BucketSpec("api", capacity=100, refill_rate=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": -0.1}, "latency is -0.1: it must be 0 to 60"),
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


def test_a_partition_of_a_node_that_is_not_there_is_an_error() -> None:
    mesh = SimulatedMesh(["eu", "us"], [SPEC])
    for act in (
        lambda: mesh.partition({"eu"}, {"usa"}),
        lambda: mesh.partition("eu", "us"),
        lambda: mesh.crash("usa"),
        lambda: mesh.restart("usa"),
        lambda: mesh.suspend("usa", 1.0),
        lambda: mesh["usa"],
    ):
        with pytest.raises(CrdtbucketError, match=r"no node '.*'; there are: eu, us"):
            act()
