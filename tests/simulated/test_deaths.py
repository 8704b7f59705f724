"""A killed process is distinguished from one that is cut off, and the others get its share."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, pairwise

import pytest

from crdtbucket.simulator.rule_catalogue import CRDTBUCKET, make_rule
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import simulate
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import NAMES, STILL, drive, mesh_of, total
from tests.simulated.network import Network

SPEC = BucketSpec("b", 500, 100)
DEAD_S = 10.0
LATE_S = 3.0
"""Seconds within which a death is noticed beyond the limit: a peer advertises within two seconds
that it no longer sees a member, and calls are a second apart."""


def forgotten(mesh: SimulatedMesh, by: str, names: Iterable[str] = NAMES) -> set[str]:
    links = mesh[by].node.links
    return {name for name in names if name in links and links[name].forgotten}


def even(names: Iterable[str], load: float) -> dict[str, float]:
    names = list(names)
    return {name: load * SPEC.rate_per_second / len(names) for name in names}


def test_a_killed_process_is_forgotten_in_ten_seconds_and_no_sooner() -> None:
    mesh = mesh_of(3, SPEC)
    drive(mesh, even(NAMES[:3], 2.0), 5)
    mesh.crash("C")
    mesh.advance(DEAD_S - 0.5)
    assert [forgotten(mesh, name) for name in "AB"] == [set(), set()]
    mesh.advance(0.5 + LATE_S)
    assert [forgotten(mesh, name) for name in "AB"] == [{"C"}, {"C"}]
    assert mesh["A"].node.members.status(mesh["A"].node.links["C"], mesh["A"].table.now()) == "dead"
    assert "C" not in mesh["A"].node.members.directory.known


def test_the_last_of_two_forgets_the_other() -> None:
    mesh = mesh_of(2, SPEC)
    mesh.crash("B")
    mesh.advance(DEAD_S + LATE_S)
    assert forgotten(mesh, "A") == {"B"}


def test_never_means_not_before_the_long_silence() -> None:
    mesh = mesh_of(3, SPEC, ended_is_dead="never", forget_after=60.0)
    mesh.crash("C")
    mesh.advance(55)
    assert forgotten(mesh, "A") == set()
    mesh.advance(10)
    assert forgotten(mesh, "A") == {"C"}


def test_silence_without_an_end_is_no_death() -> None:
    mesh = mesh_of(5, SPEC)
    mesh.partition("A", "BCDE")
    mesh.advance(1)
    mesh.crash("A")  # its goodbye is lost in the partition
    mesh.advance(60)
    assert forgotten(mesh, "B") == set()
    mesh.heal()  # the first frame to its host is answered by a reset
    mesh.advance(1 + DEAD_S + LATE_S)
    assert forgotten(mesh, "B") == {"A"}


def test_a_process_that_stands_still_answers_no_call_and_is_no_death() -> None:
    """Its kernel takes calls while the process does not read them: that is silence."""
    mesh = mesh_of(3, SPEC)
    mesh.sever("C", "AB")
    mesh.advance(3)
    mesh.suspend("C", 60)
    mesh.heal()
    mesh.advance(40)
    assert [forgotten(mesh, name) for name in "AB"] == [set(), set()]


def test_who_comes_back_in_time_is_not_forgotten_and_who_comes_later_counts_again() -> None:
    for away, expected in ((DEAD_S - 3, 0), (DEAD_S + LATE_S, 1)):
        mesh = mesh_of(3, STILL)
        mesh["C"].take("b", "k", 7)
        mesh.advance(1)
        mesh.crash("C")
        mesh.advance(away)
        mesh.restart("C", "snapshot")
        mesh.advance(20)
        assert mesh["A"].table.stats()["forgotten"] == expected
        assert (
            mesh["A"].node.members.status(mesh["A"].node.links["C"], mesh["A"].table.now())
            == "alive"
        )
        mesh["C"].take("b", "k", 5)
        mesh.advance(1)
        assert mesh["A"].columns("b", "k")["C"][0] == 12


def test_a_node_that_a_third_one_sees_is_not_dead() -> None:
    mesh = mesh_of(4, SPEC)
    mesh.sever("A", "D")  # B and C see both
    mesh.advance(60)
    assert forgotten(mesh, "A") == set()
    assert forgotten(mesh, "D") == set()
    mesh.crash("D")
    mesh.advance(DEAD_S + 2 * LATE_S)
    assert [forgotten(mesh, name) for name in "ABC"] == [{"D"}] * 3


def ring(nodes: str) -> list[str]:
    """The pairs of nodes that are linked in a ring."""
    return [a + b for a, b in pairwise(nodes + nodes[0])]


def graph(nodes: str, linked: Iterable[str]) -> Network:
    """A mesh in which only these pairs of nodes are linked."""
    return Network(nodes, [SPEC], linked=map(tuple, linked), latency=0.02, seed=1)


@pytest.mark.parametrize(
    ("nodes", "linked", "witnesses"),
    [
        ("ABCD", ["AC", "AD", "BC", "BD", "CD"], "ABC"),
        ("ABCD", ring("ABCD"), "AC"),
        ("ABCDEF", ring("ABCDEF"), "AE"),
        ("ABCDE", ["AB", "BC", "CD", "DE"], "D"),
    ],
    ids=["a broken pair", "ring of 4", "ring of 6", "chain of 5"],
)
def test_a_death_is_noticed_where_relays_see_the_others(
    nodes: str, linked: list[str], witnesses: str
) -> None:
    """The last node is killed. Those that were linked with it see few of the others themselves, and
    the rest through relays."""
    mesh, dead = graph(nodes, linked), nodes[-1]
    drive(mesh, even(nodes, 2.0), 10)
    mesh.die(dead, ends=True)
    survivors = nodes[:-1]
    drive(mesh, even(survivors, 2.0), DEAD_S + LATE_S)
    assert [forgotten(mesh, name, nodes) for name in witnesses] == [{dead}] * len(witnesses)
    assert total(drive(mesh, even(survivors, 2.0), 20)) >= 0.98 * 20 * SPEC.rate_per_second


def test_a_node_that_relays_see_is_not_dead() -> None:
    """A device resets the connection of one pair in a ring, and refuses its calls: each of the two
    still sees the other through all the rest."""
    mesh = graph("ABCDE", ring("ABCDE"))
    mesh.advance(2.0)
    mesh.reset_pairs([("A", "E")])
    mesh.advance(60.0)
    assert [forgotten(mesh, name) for name in "AE"] == [set(), set()]


def test_a_death_is_noticed_by_whom_a_device_keeps_from_most() -> None:
    """A sees B and D only through C, to which it had links: with those it is of the majority that
    has lost E."""
    mesh = graph("ABCDE", map("".join, combinations("ABCDE", 2)))
    drive(mesh, even("ABCDE", 2.0), 5)
    mesh.reset_pairs([("A", "B"), ("A", "D")])
    mesh.die("E", ends=True)
    drive(mesh, even("ABCD", 2.0), DEAD_S + LATE_S)
    assert forgotten(mesh, "A", "ABCDE") == {"E"}


def test_a_node_that_a_relay_saw_lately_is_not_dead() -> None:
    """The way to D is broken for A, and D stands still for a while: only a silence as long as for
    everybody else is a death."""
    mesh = mesh_of(4, SPEC)
    mesh.sever("A", "D")
    mesh.advance(20)
    mesh.suspend("D", DEAD_S - 3)
    mesh.advance(DEAD_S)
    assert forgotten(mesh, "A") == set()


def test_relays_are_no_majority_once_they_are_cut_off() -> None:
    """A ring falls apart into two of six and four of six."""
    mesh = graph("ABCDEF", ring("ABCDEF"))
    drive(mesh, even("ABCDEF", 0.2), 10)
    mesh.reset_pairs([("A", "F"), ("B", "C")])
    drive(mesh, even("ABCDEF", 0.2), 60)
    assert [forgotten(mesh, name, "ABCDEF") for name in "AB"] == [set(), set()]
    assert [forgotten(mesh, name, "ABCDEF") for name in "CF"] == [{"B"}, {"A"}]


@pytest.mark.parametrize("load", [2.0, 0.6])
def test_pods_killed_and_replaced_under_new_names_leave_the_limit_whole(load: float) -> None:
    mesh = mesh_of(5, SPEC)
    live, told = list(NAMES), []
    drive(mesh, even(live, load), 10)
    for number in range(4):
        mesh.crash(live.pop(0))
        live.append(f"pod-{number}")
        mesh.join(live[-1])
        told.append(total(drive(mesh, even(live, load), 30)))
    whole = 30 * min(load, 1.0) * SPEC.rate_per_second
    assert min(told) >= 0.98 * whole, told
    assert sum(told) <= 4 * whole + SPEC.capacity


@pytest.mark.parametrize("nodes", [2, 3, 5])
@pytest.mark.parametrize(("capacity", "rate"), [(1000, 50), (100, 100)])
@pytest.mark.parametrize("seconds", [1, 6])
def test_who_stays_is_not_denied_for_long_beside_those_who_replace_the_dead(
    nodes: int, capacity: int, rate: int, seconds: int
) -> None:
    """The newcomers take what the others keep for the dead, who then get nothing themselves."""
    mesh, live = mesh_of(nodes, BucketSpec("b", capacity, rate)), list(NAMES[:nodes])

    def ask(seconds: float) -> dict[str, tuple[int, int, float]]:
        return drive(mesh, dict.fromkeys(live, 2.0 * rate / nodes), seconds)

    ask(20 + capacity / rate)
    runs = []
    for number in range(3):
        mesh.crash(live.pop(0))
        live.append(f"pod-{number}")
        mesh.join(live[-1])
        runs.append(ask(seconds if number < 2 else 15))
    assert max(starved for run in runs for _, _, starved in run.values()) <= 3.5
    assert sum(map(total, runs)) >= 0.98 * rate * (15 + 2 * seconds)


def test_a_newcomer_beside_an_isolated_node_makes_that_forget_nobody() -> None:
    """It takes the place of one on the other side, and the two are no majority."""
    mesh = mesh_of(5, SPEC)
    mesh.sever("A", "BCDE")
    mesh.advance(1)
    mesh.join("new")
    mesh.sever(("A", "new"), "BCDE")
    mesh.advance(30)
    assert forgotten(mesh, "A") == set()


def test_who_replaces_a_dead_one_is_not_left_starved_by_the_next_death() -> None:
    """A joiner receives the columns of a node that died a moment before. It must not hold them when
    the others have dropped them, else it can adopt no level."""
    settings = Settings()
    outcome = simulate(
        make_rule(CRDTBUCKET), SCENARIOS["killed-and-replaced"](settings, 1.0), settings
    )
    assert outcome.ratio is not None
    assert outcome.ratio >= 0.98
    assert outcome.starved_seconds <= 1.0
    assert outcome.share_min is not None
    assert outcome.share_min >= 0.9


def test_one_pod_a_second_under_a_new_name_leaves_few_columns_and_the_limit_whole() -> None:
    mesh, live, admitted = mesh_of(2, SPEC), list(NAMES[:2]), 0
    for number in range(110):
        if len(live) == 5:
            mesh.crash(live.pop(2))
        live.append(f"pod-{number}")
        mesh.join(live[-1])
        admitted += total(drive(mesh, even(live, 2.0), 1))
    whole = SPEC.capacity + 110 * SPEC.rate_per_second
    assert 0.98 * whole <= admitted <= 1.02 * whole
    columns = mesh["A"].bucket("b").columns("k")
    assert 10 < len(columns) < 80  # dead for 10 s, settled for 30, and 10 until the bucket is full
    assert len(mesh["A"].table.epochs.origins()) <= 113


@pytest.mark.parametrize(("one", "other"), [("AB", "CD"), ("A", "BCD"), ("AB", "CDE")])
def test_the_smaller_part_behind_a_device_that_resets_forgets_nobody(one: str, other: str) -> None:
    mesh = mesh_of(len(one + other), SPEC)
    mesh.sever(one, other)
    mesh.advance(60)
    assert all(forgotten(mesh, name) == set() for name in one)
    larger = len(other) > len(one)
    assert all(forgotten(mesh, name) == (set(one) if larger else set()) for name in other)
    mesh.heal()
    mesh.advance(2)
    for name, node in mesh.nodes.items():
        assert all(
            node.node.members.status(node.node.links[n], node.table.now()) == "alive"
            for n in mesh.nodes
            if n != name
        )


def test_two_halves_behind_a_device_that_resets_keep_their_shares() -> None:
    mesh = mesh_of(4, SPEC)
    demand = even(NAMES[:4], 2.0)
    drive(mesh, demand, 10)
    mesh.sever("AB", "CD")
    assert total(drive(mesh, demand, 60)) <= 1.02 * 60 * SPEC.rate_per_second


@pytest.mark.parametrize(("left", "lost"), [(2, 3), (4, 6)])
def test_connections_that_are_reset_one_by_one_leave_no_false_majority(
    left: int, lost: int
) -> None:
    """Most nodes are cut off, one each twenty seconds: who is left knows that it is few."""
    names = [f"n{i}" for i in range(left + lost)]
    mesh = SimulatedMesh(names, [SPEC], latency=0.02, seed=1)
    for cut in range(1, lost + 1):
        mesh.sever(names[:left], *([name] for name in names[left : left + cut]))
        mesh.advance(20)
    assert len(forgotten(mesh, "n0", names)) < lost
    mesh.heal()
    mesh.advance(2)
    assert mesh["n0"].node.members.known() == left + lost


@pytest.mark.parametrize(
    ("names", "load"), [("AB", 0.8), ("ABC", 0.5), ("ABC", 0.8), ("ABCDE", 0.95)]
)
def test_a_light_load_is_not_denied_when_a_device_resets_no_more(names: str, load: float) -> None:
    """All that was taken meanwhile, and before, was owed at the heal: all calls were denied for ten
    seconds. Who is forgotten has been silent since it was seen, and nobody holds its columns."""
    links, spec = [*combinations(names, 2)], BucketSpec("b", 100, 10)
    mesh = Network(names, [spec], linked=links, seed=1, gossip_interval=0.5)
    demand = dict.fromkeys(names, 10 * load / len(names))
    drive(mesh, demand, 300.0)
    mesh.reset_pairs([("A", name) for name in names[1:]])
    drive(mesh, demand, 120.0)
    mesh.mend_all()
    healed = drive(mesh, demand, 20.0)
    assert sum(denied for _, denied, _ in healed.values()) == 0


def test_what_an_isolated_node_costs_behind_a_device_that_refuses_for_it() -> None:
    """Its share of the refill for as long, and no more: the figure in docs/security.md."""
    settings = Settings(seed=1)
    scenario = SCENARIOS["isolated-by-reset"](settings, 0.25)
    outcome = simulate(make_rule(CRDTBUCKET), scenario, settings)
    share = settings.refill_rate / settings.regions * 300 * 0.25
    assert outcome.over_admission_percent <= 100 * share / settings.capacity * 1.05
    assert outcome.bound_percent is not None
    assert outcome.over_admission_percent <= outcome.bound_percent


def test_a_joiner_must_have_a_name_of_its_own() -> None:
    with pytest.raises(Exception, match="there is a node 'A' already"):
        mesh_of(2).join("A")


@pytest.mark.parametrize("how", ["leave", "die"])
def test_who_is_gone_is_gone_also_for_a_node_that_only_a_relay_told_of_it(how: str) -> None:
    """A and C are cut off from each other, and B sees both. B has seen C go: A keeps C's part no
    longer than a relay needs to say so."""
    mesh = graph("ABC", ["AB", "AC", "BC"])
    drive(mesh, {"A": 10.0, "B": 10.0, "C": 60.0}, 5.0)
    mesh.cut_ways([("A", "C"), ("C", "A")], times_out=True)
    drive(mesh, {"A": 10.0, "B": 10.0, "C": 60.0}, 8.0)
    if how == "leave":
        mesh.leave("C")
    else:
        mesh.die("C", ends=True)
    drive(mesh, {"A": 10.0, "B": 10.0}, 5.0 + DEAD_S * (how == "die"))
    assert forgotten(mesh, "A") == {"C"}
    result = drive(mesh, {"A": 100.0, "B": 100.0}, 10.0)
    assert all(got >= 0.45 * 100 * 10 for got, _, _ in result.values()), result
    assert total(result) <= SPEC.capacity + 1.02 * 100 * 10
