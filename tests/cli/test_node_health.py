"""Reads the answers of a node, and finds what is wrong with it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from crdtbucket.cli.config_report import ConfigReport
from crdtbucket.cli.node_health import (
    NodeReport,
    PeerReport,
    RegionReport,
    departed,
    faults,
    strangers,
)
from crdtbucket.cli.snapshot_report import SnapshotReport
from crdtbucket.cli.unreached_peers import UnreachedPeers, UnreachedReport

GONE = UnreachedReport("10.0.0.3:7946", "", 75.0, "Connection refused")
REFUSED = "10.0.0.3:7946 for 75 s: Connection refused"


def node(name: str = "eu-1", **more: Any) -> NodeReport:
    return NodeReport(f"http://{name}", name, **more)


def test_nothing_is_wrong() -> None:
    assert faults([node(ready=True, redis={"r:6379": "strong"})], 2.0) == []
    assert faults([node(snapshot=SnapshotReport(60.0))], 2.0) == []
    peers = (PeerReport("us-1", "alive", 0.1), PeerReport("ap-1", "left", 300.0))
    assert faults([node(modes={"a": "strong", "b": "eventual"}, peers=peers)], 2.0) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"modes": {"api": "fallback"}}, "eu-1: api is in fallback, the rule for an outage"),
        ({"redis": {"r:6379": "eventual"}}, "eu-1: Redis r:6379 is slow or out of reach, mode ev"),
        ({"ready": False}, "eu-1 is not ready: it is about to end, or may not serve"),
        ({"ready": False, "not_ready": "two are called so"}, "eu-1 is not ready: two are called"),
        (
            {"refused": "x.yaml:3:9: no"},
            "eu-1: its file is refused, and the configuration in force stays: x",
        ),
        ({"warming_up": True, "ready": False}, "eu-1 has no answer from the mesh yet"),
        ({"alone": True}, "eu-1 has no peer: none of its calls made a link: its log"),
        ({"alone": True, "last_failure": "no link with x"}, "eu-1 has no peer: no link with x"),
        (
            {"alone": True, "unreached": UnreachedPeers(2)},
            "eu-1 has no peer: none of its calls made a link: its log",
        ),
        ({"unreached": UnreachedPeers(1, (GONE,))}, f"eu-1: no link with {REFUSED}"),
        (
            {"unreached": UnreachedPeers(2), "peers": (PeerReport("us-1", "alive", 0.1),)},
            "eu-1: no link at 2 of its mesh.peers; with the admin token `status` says which, and",
        ),
        (
            {
                "unreached": UnreachedPeers(1, (replace(GONE, node="us-1"),)),
                "peers": (PeerReport("us-1", "dead", 90.0),),
            },
            "eu-1: us-1 is dead, last seen 90 s ago; 10.0.0.3:7946: Connection refused",
        ),
        (
            {"unreached": UnreachedPeers(1), "peers": (PeerReport("us-1", "dead", 90.0),)},
            "eu-1: us-1 is dead, last seen 90 s ago",
        ),
        ({"alone": True, "warming_up": True}, "eu-1 has no answer from the mesh yet"),
        ({"peers": (PeerReport("us-1", "dead", 90.0),)}, "eu-1: us-1 is dead, last seen 90 s ago"),
        ({"peers": (PeerReport("us-1", "suspect"),)}, "eu-1: us-1 is suspect"),
        (
            {"regions": (RegionReport("us", "silent", 12.0), RegionReport("ap", "unknown"))},
            "eu-1: region us is silent, 12 s behind, its share is held back",
        ),
        (
            {"region": "eu", "region_conflict": True},
            "eu-1: two Redis have one region's name, or regions hash otherwise",
        ),
        (
            {"snapshot": SnapshotReport(12.0, "d/a.snapshot cannot be written: no space")},
            "eu-1: no snapshot is kept: d/a.snapshot cannot be written: no space; the last one is",
        ),
        (
            {"snapshot": SnapshotReport(61.0)},
            "eu-1: its last snapshot is 61 s old, and a restart loses what was taken since: its lo",
        ),
        (
            {"late_certificates": ("its certificate, mesh.tls.cert, expires in 6 days",)},
            "eu-1: its certificate, mesh.tls.cert, expires in 6 days",
        ),
        (
            {"peers": (PeerReport("us-1", "alive", 2.1),)},
            "eu-1: us-1 lags, its last update is 2.1 s old",
        ),
    ],
)
def test_each_fault_is_a_sentence(wrong: dict[str, Any], words: str) -> None:
    found = faults([node(**wrong)], 2.0)
    assert len(found) == 1
    assert found[0].startswith(words)


def test_of_several_peers_that_cannot_be_reached_each_has_its_own_reason() -> None:
    other = UnreachedReport("10.0.0.4:7946", "ap-1", 3.0, "it shares no secret with this node")
    found = faults([node(alone=True, unreached=UnreachedPeers(2, (GONE, other)))], 2.0)
    assert found == [
        "eu-1 has no peer: none of its calls made a link",
        f"eu-1: no link with {REFUSED}",
        "eu-1: no link with 10.0.0.4:7946 (ap-1) for 3 s: it shares no secret with this node",
    ]


def test_a_peer_that_has_left_is_a_note_and_nothing_wrong() -> None:
    left = node(unreached=UnreachedPeers(0, (replace(GONE, node="us-1", left=True),)))
    assert faults([left], 2.0) == []
    assert departed([left]) == [
        "eu-1: us-1 at 10.0.0.3:7946 has left, and nobody answers there for 75 s"
    ]
    assert departed([node(unreached=UnreachedPeers(1, (GONE,)))]) == []


def test_nodes_of_a_mesh_of_which_neither_knows_the_other_are_named() -> None:
    eu, us = node(identity="off"), node("us-1", identity="off")
    (found,) = strangers([eu, us, node("alone")])  # the last one is in no mesh
    assert found.startswith("us-1 and eu-1 do not know each other, so each limits without the")
    told = node("us-1", identity="off", peers=(PeerReport("eu-1", "dead"),))
    assert strangers([eu, told]) == []


def test_a_version_split_names_who_runs_what() -> None:
    old, new = ConfigReport(1, "aaaaaaaa11"), ConfigReport(2, "bbbbbbbb22", "stage 1")
    peers = (
        PeerReport("us-1", "alive", 0.1, old),
        PeerReport("ap-1", "dead", 99.0, ConfigReport(7, "c")),
    )
    found = faults([node(config=new, peers=peers)], 100.0)
    assert found[1:] == ["version split: eu-1 on 2 bbbbbbbb; us-1 on 1 aaaaaaaa"]
    # The word of us-1 itself counts, whatever eu-1 knew of it before.
    assert not faults([node(config=new, peers=peers[:1]), node("us-1", config=new)], 100.0)
    same_number = (PeerReport("us-1", "alive", 0.1, ConfigReport(2, "dddddddd")),)
    assert len(faults([node(config=new, peers=same_number)], 2.0)) == 1


def test_nodes_of_a_version_split_are_told_apart_by_the_limits_that_differ() -> None:
    def answer(version: int, *buckets: dict[str, Any]) -> dict[str, Any]:
        return {"config": {"version": version, "hash": f"{version:016x}"}, "buckets": [*buckets]}

    api = {"name": "api", "capacity": 200, "refill_per_second": 100.0, "slots": None}
    jobs = {"name": "jobs", "capacity": 8, "refill_per_second": 1.0, "slots": 8}
    told = [
        NodeReport.of("eu-1", answer(1, api, jobs)),
        NodeReport.of("us-1", answer(1, api, jobs)),
        NodeReport.of("ap-1", answer(2, api | {"capacity": 2_000, "refill_per_second": 1000.0})),
        NodeReport.of("sa-1", {"config": {"version": 2, "hash": f"{2:016x}"}}),
    ]
    assert faults(told, 2.0)[1:] == [
        "bucket api differs: 100/s, at most 200 on eu-1, us-1; 1,000/s, at most 2,000 on ap-1",
        "bucket jobs differs: 8 in flight on eu-1, us-1; missing on ap-1",
    ]
    # By stages of one roll-out they may differ.
    staged = [replace(one, config=told[0].config) for one in told]
    assert faults(staged, 2.0) == []


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ({"version": 3, "hash": "0123456789abcdef", "stage": ""}, "3 01234567"),
        ({"version": 3, "hash": "0123456789abcdef", "stage": 2}, "3 01234567 stage 2"),
        ({"version": 0, "hash": "0123456789abcdef", "stage": 0}, "01234567"),
    ],
)
def test_the_name_of_a_configuration(answer: dict[str, Any], name: str) -> None:
    read = ConfigReport.of(answer)
    assert read is not None
    assert read.name == name


@pytest.mark.parametrize("answer", [None, {}, {"version": None, "hash": None, "stage": None}])
def test_no_configuration(answer: Any) -> None:
    assert ConfigReport.of(answer) is None


def test_an_answer_is_read() -> None:
    answer = {
        "node": "eu-1", "region": "eu", "warming_up": False,
        "config": {"version": 2, "hash": "0123456789abcdef", "stage": None},
        "ready": True,
        "buckets": [{"name": "api", "mode": "strong"}, {"name": "b", "mode": "eventual"}],
        "redis": {"r:6379": "strong"},
        "peers": [
            {"name": "us-1", "state": "alive", "lag": 0.2, "config": {"version": 1, "hash": "ab"}},
            {"name": "ap-1", "state": "dead", "lag": None, "config": None},
        ],
    }  # fmt: skip
    read = NodeReport.of("http://here", answer)
    assert read == NodeReport(
        "http://here", "eu-1", "eu",
        ready=True,
        config=ConfigReport(2, "0123456789abcdef"),
        modes={"api": "strong", "b": "eventual"},
        redis={"r:6379": "strong"},
        peers=(PeerReport("us-1", "alive", 0.2, ConfigReport(1, "ab")), PeerReport("ap-1", "dead")),
    )  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"node": 3, "config": [], "buckets": [1], "peers": "none", "redis": [], "ready": "yes"},
        {"buckets": [{}], "peers": [[], {"name": "\x1b[2J", "lag": "x"}], "redis": {"\x1b": 1}},
        {"unreached": math.inf, "config": {"hash": "ab", "version": math.nan}},
        {"rollout": {"status": "halted", "version": -math.inf}},
        {"buckets": [{"name": "a", "capacity": 10**400, "refill_per_second": 1, "slots": 10**400}]},
        {"peers": [{"name": "a", "state": "dead", "lag": 10**400}], "snapshot": {"age": 10**400}},
        {"certificate": {"left": math.nan, "validity": math.inf}},
    ],
)
def test_an_answer_of_another_shape_is_no_error_and_nothing_dangerous(answer: Any) -> None:
    read = NodeReport.of("http://here", answer)
    assert read.name == "http://here"
    assert "\x1b" not in repr(read)
    assert all("\x1b" not in peer.name for peer in read.peers)
    assert "nan" not in str(faults([read], 2.0))
