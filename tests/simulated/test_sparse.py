"""Meshes in which some pairs can never be linked: one limit, and the same share for every node."""

from __future__ import annotations

import itertools

import pytest

from crdtbucket.mesh.protocol import wire
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.meshes import drive, total
from tests.simulated.network import Network

SPEC = BucketSpec("b", 40, 40)
SHAPES = {
    "star": ("ABCD", "DA DB DC", "DA"),
    "chain": ("ABCD", "AB BC CD", "BC"),
    "long chain": ("ABCDE", "AB BC CD DE", "DE"),
    "two hubs": ("ABCDEF", "AB AC AD BE BF", "AB"),
}
"""Nodes, links, and the link that is cut."""


def sparse(shape: str, gossip: float = 0.1) -> tuple[Network, str]:
    nodes, links, cut = SHAPES[shape]
    linked = [(pair[0], pair[1]) for pair in links.split()]
    mesh = Network(nodes, [SPEC], linked=linked, latency=0.02, seed=1, gossip_interval=gossip)
    return mesh, cut


def cut(mesh: Network, first: str, second: str) -> None:
    mesh.cut_ways([(first, second), (second, first)], times_out=False)


@pytest.mark.parametrize("gossip", [0.1, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_everybody_gets_the_same_part_in_overload(shape: str, gossip: float) -> None:
    """Without rates of those behind the hub, the hub gets half of what a leaf gets, as it alone
    reckons with all."""
    mesh, _ = sparse(shape, gossip)
    demand = dict.fromkeys(mesh.nodes, 80.0 / len(mesh.nodes))
    drive(mesh, demand, 10.0)
    result = drive(mesh, demand, 15.0)
    part = 40 * 15 / len(result)
    assert all(0.97 * part <= got <= 1.03 * part for got, _, _ in result.values()), result


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cut_link_is_no_second_limit(shape: str) -> None:
    """The nodes behind the cut link were only ever relayed: half of the limit more would be
    admitted, for as long as the cut lasts."""
    mesh, pair = sparse(shape)
    demand = dict.fromkeys(mesh.nodes, 80.0 / len(mesh.nodes))
    drive(mesh, demand, 10.0)
    cut(mesh, *pair)
    assert total(drive(mesh, demand, 30.0)) <= 1.02 * 40 * 30


@pytest.mark.parametrize("shape", SHAPES)
def test_a_light_load_is_not_denied_at_the_end_of_a_cut(shape: str) -> None:
    """What was predicted is not charged once more when the takes arrive."""
    mesh, pair = sparse(shape)
    demand = dict.fromkeys(mesh.nodes, 30.0 / len(mesh.nodes))
    drive(mesh, demand, 10.0)
    cut(mesh, *pair)
    drive(mesh, demand, 20.0)
    mesh.mend_all()
    assert [denied for _, denied, _ in drive(mesh, demand, 5.0).values()] == [0] * len(demand)


LARGE = {
    "star": [("a", leaf) for leaf in "bcdefghijkl"],
    "two hubs for all": [("a", "b"), *((hub, leaf) for hub in "ab" for leaf in "cdefghijkl")],
    "ring": [*itertools.pairwise("abcdefghijkl"), ("l", "a")],
    "chain": [*itertools.pairwise("abcdefghijkl")],
    "tree": [(mother, child) for mother, child in zip("aabbccddeef", "bcdefghijkl", strict=True)],
}


@pytest.mark.parametrize("shape", LARGE)
def test_a_large_sparse_mesh_in_heavy_overload_holds_the_limit(shape: str) -> None:
    """Each node is guaranteed a part of what all are, though it is linked with few of them: else
    each of twelve is guaranteed a sixth of the limit in a ring, and they get twice the limit."""
    linked = LARGE[shape]
    mesh = Network("abcdefghijkl", [SPEC], linked=linked, latency=0.02, seed=1)
    demand = dict.fromkeys(mesh.nodes, 20.0)
    drive(mesh, demand, 6.0)
    assert total(drive(mesh, demand, 6.0)) <= 1.05 * 40 * 6


@pytest.mark.slow
def test_cliques_behind_one_gateway_each_hold_the_limit_when_their_number_is_known() -> None:
    """A gateway that alone sees others cannot be distinguished from a member that invents them:
    each node counts its own clique, and is guaranteed a quarter of the limit at least."""
    cliques = ["Aabc", "Bdef", "Cghi", "Djkl"]
    linked = [pair for clique in cliques for pair in itertools.combinations(clique, 2)]
    linked += itertools.combinations("ABCD", 2)
    names = "".join(cliques)

    def admitted(expected: int) -> float:
        mesh = Network(names, [SPEC], linked=linked, latency=0.02, seed=1, expected_nodes=expected)
        demand = dict.fromkeys(names, 20.0)
        drive(mesh, demand, 12.0)
        return total(drive(mesh, demand, 6.0)) / 40 / 6

    assert admitted(1) > 1.3
    assert admitted(len(names)) <= 1.05


def test_a_leaf_that_says_goodbye_leaves_its_part_to_the_others() -> None:
    mesh, _ = sparse("star")
    demand = dict.fromkeys("ABCD", 20.0)
    drive(mesh, demand, 10.0)
    mesh.leave("A")
    rest = dict.fromkeys("BCD", 20.0)
    drive(mesh, rest, 8.0)
    assert total(drive(mesh, rest, 10.0)) >= 0.99 * 40 * 10
    assert all(len(mesh[leaf].table.nodes.relayed_members()) == 1 for leaf in "BC")


def test_a_leaf_that_comes_back_and_is_idle_leaves_its_part_to_the_others() -> None:
    """No entry names its new process, and what relays state of that one has to be known by its
    name: the part of the old one was kept until that was forgotten, and its keys as well."""
    mesh, _ = sparse("star")
    drive(mesh, dict.fromkeys("ABCD", 20.0), 10.0)
    mesh.die("A", ends=True)
    mesh.advance(0.5)
    mesh.back("A", None)
    mesh.advance(5.0)
    assert [mesh[leaf].bucket("b").credit("k") for leaf in "BC"] == [0, 0]
    rest = dict.fromkeys("BCD", 20.0)
    drive(mesh, rest, 2.0)
    assert total(drive(mesh, rest, 10.0)) >= 0.98 * 40 * 10


def test_the_end_of_a_chain_that_comes_back_and_is_idle_leaves_its_part_to_all() -> None:
    """Who is three links away knows it as the member that a relay says runs, which does not see it
    itself either."""
    names = "ABCDEF"
    spec = BucketSpec("b", 400, 40)
    mesh = Network(names, [spec], linked=[*itertools.pairwise(names)], latency=0.02, seed=1)
    drive(mesh, dict.fromkeys(names, 5.0), 10.0)
    mesh.die("A", ends=True)
    mesh.advance(0.5)
    mesh.back("A", None)
    mesh.advance(10.0)
    assert [mesh[name].bucket("b").credit("k") for name in "BCDEF"] == [0] * 5


def test_a_hub_that_begins_anew_is_no_second_limit() -> None:
    """Until it is back, the leaves keep each other's part."""
    mesh, _ = sparse("star")
    demand = dict.fromkeys("ABC", 30.0)
    drive(mesh, demand, 10.0)
    mesh.leave("D")
    gone = total(drive(mesh, demand, 10.0))
    mesh.back("D", None)
    assert gone + total(drive(mesh, demand, 10.0)) <= 40 * 20 + 40


def test_a_leaf_that_ends_while_the_hub_is_down_leaves_its_part_soon() -> None:
    """Nobody says that it has ended; the hub, once it is back, does not meet it."""
    mesh, _ = sparse("star")
    drive(mesh, dict.fromkeys("ABC", 30.0), 10.0)
    mesh.leave("D")
    mesh.leave("A")
    mesh.back("D", None)
    rest = dict.fromkeys("BC", 30.0)
    drive(mesh, rest, 20.0)
    assert total(drive(mesh, rest, 10.0)) >= 0.99 * 40 * 10


@pytest.mark.parametrize("shape", ["chain", "long chain", "two hubs"])
def test_a_leaf_that_died_leaves_its_part_also_to_those_who_are_far_away(shape: str) -> None:
    """Who goes on to advertise it makes those behind keep its part, while all others take it: they
    would get nothing for ten seconds, and half of their part for longer."""
    mesh, _ = sparse(shape)
    demand = dict.fromkeys(mesh.nodes, 80.0 / len(mesh.nodes))
    drive(mesh, demand, 10.0)
    gone = list(mesh.nodes)[-1]
    mesh.die(gone, ends=True)
    del demand[gone]
    drive(mesh, demand, 14.0)  # it counts as dead after ten
    result = drive(mesh, demand, 5.0)
    part = 40 * 5 / len(result)
    assert all(got >= 0.85 * part for got, _, _ in result.values()), result


def test_all_give_up_a_leaf_that_died_within_a_few_rounds_of_each_other() -> None:
    """Nodes that are three links away from it gave it up six seconds before those who meet it: no
    peer of theirs knows it as a member."""
    mesh, _ = sparse("long chain")
    drive(mesh, dict.fromkeys("ABCDE", 16.0), 10.0)
    died = mesh["E"].table.epochs.running
    mesh.die("E", ends=True)
    given_up: dict[str, float] = {}
    for step in range(200):
        drive(mesh, dict.fromkeys("ABCD", 16.0), 0.1)
        for name in "ABC":
            if died not in {epoch for _, epoch, _ in mesh[name].table.nodes.relayed_members()}:
                given_up.setdefault(name, step / 10)
        if mesh["D"].node.links["E"].forgotten:
            given_up.setdefault("D", step / 10)
    assert 10.0 <= given_up["D"] <= min(given_up.values()) + 0.2
    assert max(given_up.values()) <= given_up["D"] + 4.0


def test_all_keep_the_part_of_a_leaf_that_is_cut_off() -> None:
    """As long as the node that meets it: else one that is far away takes it."""
    mesh, pair = sparse("long chain")
    drive(mesh, dict.fromkeys("ABCDE", 16.0), 10.0)
    cut(mesh, *pair)
    drive(mesh, dict.fromkeys("ABCDE", 16.0), 30.0)
    epoch = mesh["E"].table.epochs.running
    for name in "ABC":
        assert epoch in {one for _, one, _ in mesh[name].table.nodes.relayed_members()}


def test_more_members_than_a_round_has_ages_for_are_known_behind_two_hubs_in_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They take turns: the same ones were stated in each round, and nobody predicted the others."""
    monkeypatch.setattr(wire, "MAX_AGES", 4)
    linked = [("x", "A"), ("A", "B"), ("B", "C"), *(("C", leaf) for leaf in "defghijk")]
    mesh = Network("xABCdefghijk", [SPEC], linked=linked, latency=0.02, seed=1)
    drive(mesh, dict.fromkeys(mesh.nodes, 3.0), 6.0)
    for name in "xA":
        seen = {mesh[leaf].table.epochs.running for leaf in "defghijk"}
        assert seen <= {epoch for _, epoch, _ in mesh[name].table.nodes.relayed_members()}


def test_idle_keys_leave_also_at_the_ends_of_long_ways() -> None:
    """What comes by three relays is about as old as the age at which a node counts as silent."""
    linked = [(pair[0], pair[1]) for pair in ("AB", "AC", "BD", "AE")]
    mesh = Network("ABCDE", [SPEC], linked=linked, latency=0.15, jitter=0.0, gossip_interval=0.1)
    drive(mesh, dict.fromkeys("ABCDE", 4.0), 4.0)
    mesh.advance(40.0)
    assert [len(node.table) for node in mesh.nodes.values()] == [0] * 5
