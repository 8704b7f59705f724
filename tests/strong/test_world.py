"""Strong nodes beside nodes that lost Redis keep one limit; and the second look costs nothing."""

from __future__ import annotations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec, OnOutage
from crdtbucket.strong.redis.script import owner_name
from tests.strong.world import World

SPEC = BucketSpec("b", 10_000, 2_000)
COST = 10


def overload(world: World, until: float) -> None:
    """Twice the limit, spread over all nodes."""
    for number in range(len(world.nodes)):
        world.load(number, 2 * 2_000 / COST / len(world.nodes), COST, until)


@pytest.mark.parametrize("rtt", [0.001, 0.04])
def test_five_strong_nodes_admit_what_redis_alone_would(rtt: float) -> None:
    world = World(5, SPEC, rtt=rtt)
    overload(world, 30.0)
    world.mesh.advance(31.0)
    ideal = 10_000 + 2_000 * 30
    assert 0.995 <= sum(world.admitted) / ideal <= 1.0


def test_a_peer_that_settles_a_lost_call_before_it_runs_makes_no_duplicate_name() -> None:
    world = World(3, SPEC, rtt=0.002)
    for number in range(3):
        world.load(number, 40, COST, 8.0)
    world.mesh.advance(2.0)
    epochs = [node.sim.table.epochs.running for node in world.nodes]
    world.freeze()
    world.mesh.advance(0.3)
    for node in world.nodes:
        node.time_out()
    world.mesh.advance(0.5)
    # The first asks again and pushes the others' columns, and is the first to be served.
    world.nodes[0].find_redis()
    world.mesh.advance(0.5)
    world.thaw()
    world.mesh.advance(1.0)
    for node in world.nodes[1:]:
        node.find_redis()
    world.mesh.advance(8.0)
    assert [node.sim.table.epochs.running for node in world.nodes] == epochs
    assert sum(node.ledger.counters["unclaimed_charges"] for node in world.nodes) > 0
    (entry,) = world.redis.entries.values()
    kept = {owner: r.taken - r.refunded for owner, r in entry.records.items()}
    admitted = {owner_name(e, f"n{i}"): world.admitted[i] for i, e in enumerate(epochs)}
    assert kept == admitted
    assert all(node.sim.table.open_tokens == 0 for node in world.nodes)


@pytest.mark.parametrize("on_outage", ["quota", "eventual"])
def test_two_of_five_without_redis_do_not_double_the_limit(on_outage: OnOutage) -> None:
    world = World(5, SPEC, rtt=0.002, on_outage=on_outage)
    overload(world, 80.0)
    world.mesh.advance(10.0)
    for node in world.nodes[:2]:
        node.lose_redis()
    world.mesh.advance(60.0)
    for node in world.nodes[:2]:
        node.find_redis()
    world.mesh.advance(11.0)
    ideal = 10_000 + 2_000 * 80
    assert sum(world.admitted) / ideal <= 1.02
    assert all(world.admitted[:2])
    assert not any(node.ledger.unsettled.pending for node in world.nodes)


def test_peers_may_read_a_take_from_redis_before_its_taker_has_the_answer() -> None:
    world = World(3, SPEC, rtt=0.002)
    world.nodes[0].rtt_ns = 1_000_000_000
    epochs = [node.sim.table.epochs.running for node in world.nodes]
    overload(world, 4.0)
    other = world.nodes[1]
    for _ in range(20):
        world.mesh.advance(0.2)
        # A settle reads all records, and its node sends them to the mesh.
        other.ledger.unsettled.add(other.bucket, other.bucket.hash("k"))
        other.settle_all()
    world.mesh.advance(2.0)
    # That is no second process under the same epoch.
    assert [node.sim.table.epochs.running for node in world.nodes] == epochs
    assert all(node.sim.table.open_tokens == 0 for node in world.nodes)
