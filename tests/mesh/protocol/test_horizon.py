"""From which age on a peer counts as silent."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import CrdtbucketError
from crdtbucket.mesh.protocol import horizon as module
from crdtbucket.mesh.protocol.horizon import NearHorizon
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

MS = 1_000_000
SECOND = 1000 * MS


def table() -> Table:
    return Table(max_keys=64, virtual=True, hash_key=bytes(16))


@pytest.mark.parametrize(
    ("interval", "trip", "near"),
    [(50, 10, 500), (100, 10, 500), (100, 200, 500), (100, 201, 550), (100, 900, 1200),
     (1000, 40, 3050), (10_000, 500, 30_500)],
)  # fmt: skip
def test_three_rounds_and_the_longest_round_trip(interval: int, trip: int, near: int) -> None:
    one = table()
    horizon = NearHorizon(one.nodes, interval * MS, 0)
    horizon.follow([trip * MS, 0, trip * MS // 2], 0)
    assert one.nodes.near_ns == near * MS


def test_it_is_there_before_any_round_trip_is_known() -> None:
    one = table()
    NearHorizon(one.nodes, SECOND, 0)
    assert one.nodes.near_ns == 3 * SECOND


def test_a_round_trip_counts_for_one_to_two_windows() -> None:
    one = table()
    horizon = NearHorizon(one.nodes, 100 * MS, 0)
    horizon.follow([900 * MS], SECOND)
    for second in range(2, 20):
        horizon.follow([40 * MS], second * SECOND)
        assert one.nodes.near_ns == 1200 * MS
    horizon.follow([40 * MS], 20 * SECOND)
    assert one.nodes.near_ns == 500 * MS


def test_where_no_peer_is_connected_it_is_three_rounds_and_not_a_nanosecond_more() -> None:
    one = table()
    horizon = NearHorizon(one.nodes, SECOND, 0)
    for second in (10, 20, 30):
        horizon.follow((), second * SECOND)
        assert one.nodes.near_ns == 3 * SECOND


def test_a_mesh_that_gossips_seldom_takes_nobody_for_silent() -> None:
    """Nothing is kept free for peers that are all seen, with a second between their rounds."""
    spec = BucketSpec("b", 1000, 10)  # so many that nothing is sent before its round
    mesh = SimulatedMesh("AB", [spec], gossip_interval=1.0, latency=0.02)
    for _ in range(400):
        mesh.advance(0.05)
        mesh["A"].take("b", "k", 1)
        assert mesh["B"].bucket("b").credit("k") == 0
    assert mesh["B"].columns("b", "k")["A"][0] > 300


def test_the_horizon_of_a_table_is_a_time() -> None:
    one = table()
    BucketCore(one, BucketSpec("b", 100, 100))
    for wrong in (0, -1):
        with pytest.raises(CrdtbucketError, match="near_ns"):
            one.nodes.configure(near_ns=wrong)


class Nodes:
    """The nodes of a table with 50 places; it notes from which place on they were read."""

    def __init__(self) -> None:
        self.near_ns, self.looked_at = 500 * MS, list[int]()

    def move_near(self, near_ns: int, start: int, most: int) -> int:
        self.looked_at.append(start)
        return start + most if start + most < 50 else -1


def test_each_move_begins_at_the_first_place_and_where_nothing_moves_none_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOVED_PLACES", 20)
    nodes: Any = Nodes()
    horizon = NearHorizon(nodes, 100 * MS, 0)
    assert nodes.looked_at == []
    for _ in range(4):
        horizon.follow([900 * MS], SECOND)
    assert nodes.looked_at == [0, 20, 40]


def test_a_longer_one_takes_a_part_of_the_table_in_each_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It holds once all is looked at. A shorter one holds at once, also in between."""
    monkeypatch.setattr(module, "MOVED_PLACES", 20)
    one = table()
    BucketCore(one, BucketSpec("b", 10, 1)).take_many([f"k{i}" for i in range(50)])
    horizon = NearHorizon(one.nodes, 100 * MS, 0)
    seen = []
    for _ in range(4):
        horizon.follow([900 * MS], SECOND)
        seen.append(one.nodes.near_ns // MS)
    assert seen == [500, 500, 1200, 1200]
    horizon.follow([1900 * MS], SECOND)
    horizon.follow((), 30 * SECOND)
    horizon.follow((), 60 * SECOND)
    assert one.nodes.near_ns == 500 * MS
