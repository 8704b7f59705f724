"""Connections in the simulated network end as those of TCP do, or are silent."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.network import LAST_RETRY_NS, Network

ALL = [("A", "B"), ("A", "C"), ("B", "C")]


def network(linked: list[tuple[str, str]] = ALL, **options: Any) -> Network:
    spec = BucketSpec("b", 100, 1, "1h")
    return Network("ABC", [spec], linked=linked, **{"latency": 0.02, "seed": 1, **options})


def refusals(mesh: Network) -> list[tuple[str, str]]:
    """A list of (caller, called) of every dial that is refused from now on."""
    found: list[tuple[str, str]] = []
    dial_failed = mesh._dial_failed

    def note_refusal(here: str, there: str, *, refused: bool) -> None:
        if refused:
            found.append((here, there))
        dial_failed(here, there, refused=refused)

    mesh._dial_failed = note_refusal  # type: ignore[method-assign]
    return found


def linked(mesh: Network, here: str, there: str) -> bool:
    return mesh[here].node.links[there].connected


def taken(mesh: Network, name: str) -> dict[str, tuple[int, int]]:
    return mesh[name].columns("b", "k")


def test_only_linked_pairs_are_connected() -> None:
    mesh = network([("A", "B"), ("B", "C")])
    mesh.advance(2.0)
    assert [sorted(mesh[name].node.links) for name in "ABC"] == [["B"], ["A", "C"], ["B"]]


@pytest.mark.parametrize("source", ["A", "B"])
def test_one_way_is_cut_and_the_other_is_not(source: str) -> None:
    mesh = network([("A", "B")])
    mesh.cut_ways([("A", "B")], times_out=False)
    mesh[source].take("b", "k", 10)
    mesh.advance(2.0)
    assert taken(mesh, "B" if source == "A" else "A") == ({} if source == "A" else {"B": (10, 0)})
    mesh.mend([("A", "B")], resets=False)
    mesh.advance(2.0)
    assert taken(mesh, "A") == taken(mesh, "B") == {source: (10, 0)}


@pytest.mark.parametrize("times_out", [True, False])
def test_a_silent_connection_is_given_up_where_the_transport_looks(times_out: bool) -> None:
    mesh = network()
    mesh.cut_ways([("A", "B"), ("B", "A")], times_out=times_out)
    mesh.advance(14.5)
    assert linked(mesh, "A", "B")
    assert linked(mesh, "B", "A")
    mesh.advance(1.5)
    assert linked(mesh, "A", "B") == linked(mesh, "B", "A") == (not times_out)
    mesh.mend([("A", "B"), ("B", "A")], resets=False)
    mesh.advance(3.0)
    assert linked(mesh, "A", "B")
    assert linked(mesh, "B", "A")


def test_a_device_ends_connections_at_once_and_refuses_for_the_other_end() -> None:
    mesh = network()
    refused = refusals(mesh)
    mesh.reset_pairs([("A", "B")])
    assert not linked(mesh, "A", "B")
    assert not linked(mesh, "B", "A")
    mesh.advance(5.0)
    assert {("A", "B"), ("B", "A")} == set(refused)
    mesh.mend([("A", "B")], resets=True)
    mesh.advance(3.0)
    assert linked(mesh, "A", "B")
    assert linked(mesh, "A", "C")


@pytest.mark.parametrize("ends", [True, False])
def test_peers_learn_of_a_killed_process_and_not_of_a_lost_host(ends: bool) -> None:
    mesh = network()
    refused = refusals(mesh)
    mesh.die("C", ends=ends)
    mesh.advance(2.0)
    assert linked(mesh, "A", "C") == linked(mesh, "B", "C") == (not ends)
    assert bool(refused) == ends
    mesh.advance(14.0)
    assert not linked(mesh, "A", "C")
    mesh.back("C", None)
    mesh.advance(3.0)
    assert linked(mesh, "A", "C")


def test_frames_to_a_connection_that_is_gone_are_answered_by_a_reset() -> None:
    """The end did not come through; the next frame learns of it when the way is open again."""
    mesh = network()
    ways = [("A", "C"), ("C", "A")]
    mesh.cut_ways(ways, times_out=False)
    mesh.die("C", ends=True)
    mesh.advance(3.0)
    assert linked(mesh, "A", "C")
    mesh.mend(ways, resets=False)
    mesh.advance(1.0)
    assert not linked(mesh, "A", "C")


def test_goodbye_comes_before_the_end() -> None:
    for seed in range(10):
        mesh = network(jitter=0.95, latency=0.15, seed=seed)
        mesh["C"].take("b", "k", 7)
        mesh.leave("C")
        mesh.advance(1.0)
        assert taken(mesh, "A") == {"C": (7, 0)}
        assert (
            mesh["A"].node.members.status(
                mesh["A"].node.links["C"], mesh["A"].local_ns(mesh.now_ns)
            )
            == "left"
        )


def test_a_node_comes_under_a_new_name() -> None:
    mesh = network()
    mesh["A"].take("b", "k", 30)
    mesh.advance(1.0)
    mesh.come("D", ["A"], 5.0, 200.0)
    mesh.advance(2.0)
    assert mesh["D"].peek("b", "k").remaining == 70
    assert sorted(mesh["D"].node.links) == ["A"]


def test_the_time_is_counted_for_which_a_new_process_runs_without_a_connection() -> None:
    mesh = network([("A", "B")])
    mesh.advance(1.0)
    mesh.leave("B")
    mesh.advance(5.0)
    assert mesh.unlinked_ns == 0
    mesh.cut_ways([("A", "B")], times_out=False)
    mesh.back("B", None)
    mesh.advance(2.0)
    mesh.leave("A")
    mesh.advance(5.0)
    assert mesh.unlinked_ns == 2 * 10**9
    mesh.mend_all()
    mesh.back("A", None)
    mesh.advance(5.0)
    assert 2 * 10**9 < mesh.unlinked_ns <= 2 * 10**9 + LAST_RETRY_NS
