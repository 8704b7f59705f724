"""Nodes advertise which configuration they run, and merge soundly while these differ."""

from __future__ import annotations

import dataclasses

import pytest

from crdtbucket import BucketSpec
from crdtbucket.mesh.protocol import wire
from crdtbucket.spec.overrides import MAX_BUCKETS
from crdtbucket.testing import SimulatedMesh
from tests.mesh.protocol.test_mesh_node import frames_to, local

OLD = BucketSpec("b", 1_000, 100)
NEW = BucketSpec("b", 50, 5)


def mesh_of(size: int, *specs: BucketSpec, **options: object) -> SimulatedMesh:
    settings = {"latency": 0.01, "seed": 5, **options}
    return SimulatedMesh("ABCD"[:size], specs or [OLD], **settings)  # type: ignore[arg-type]


def runs(mesh: SimulatedMesh, name: str) -> dict[str, wire.Config | None]:
    """The configuration of each node, as a node knows it."""
    return {row[0]: row[3] for row in mesh[name].node.fleet(local(mesh, name))}


# ---- which configuration each node runs ----


def test_all_see_what_each_runs_and_that_it_changed() -> None:
    mesh = mesh_of(3)
    for number, name in enumerate("ABC"):
        mesh[name].node.updates.advertise((number, 2**64 - 1, 0), None)
    mesh.advance(2.5)
    expected = {"A": (0, 2**64 - 1, 0), "B": (1, 2**64 - 1, 0), "C": (2, 2**64 - 1, 0)}
    assert [runs(mesh, name) for name in "ABC"] == [expected] * 3
    mesh["B"].node.updates.advertise((7, 5, 0), None)
    mesh.advance(2.5)
    assert [runs(mesh, name) for name in "ABC"] == [expected | {"B": (7, 5, 0)}] * 3


def test_a_lost_frame_is_made_good() -> None:
    mesh = mesh_of(2, loss=0.6)
    mesh.advance(3.0)
    mesh["A"].node.updates.advertise((1, 2, 0), None)
    mesh.advance(60.0)
    assert runs(mesh, "B")["A"] == (1, 2, 0)


def test_a_node_that_advertises_no_configuration_is_shown_without() -> None:
    mesh = mesh_of(2)
    mesh["A"].node.updates.advertise((1, 2, 0), None)
    mesh.advance(2.5)
    assert runs(mesh, "A") == {"A": (1, 2, 0), "B": None}
    rows = mesh["A"].node.fleet(local(mesh, "A"))
    assert [row[:3] for row in rows] == [("A", "A", "alive"), ("B", "B", "alive")]


def test_an_older_frame_that_comes_later_undoes_nothing() -> None:
    mesh = mesh_of(2)
    got = frames_to(mesh, "B")
    mesh["A"].node.updates.advertise((1, 2, 0), None)
    mesh.advance(2.5)
    node, link = mesh["B"].node, mesh["B"].node.links["A"]
    frame = next(f for f in map(wire.decode, got) if f.config is not None)
    later = dataclasses.replace(frame, seq=frame.seq + 1_000, config=(3, 4, 0))
    between = dataclasses.replace(frame, seq=frame.seq + 999, config=(9, 9, 0))
    for told in (later, between):
        node.receive("A", wire.encode(told), local(mesh, "B"))
    assert link.config == (3, 4, 0)


def test_a_new_process_advertises_its_own_configuration() -> None:
    mesh = mesh_of(2)
    mesh["A"].node.updates.advertise((1, 2, 0), None)
    mesh.advance(2.5)
    mesh.restart("A", "empty")
    mesh.advance(2.5)
    assert runs(mesh, "B")["A"] is None


# ---- mixed definitions ----


def roll_out(mesh: SimulatedMesh, names: str, spec: BucketSpec) -> None:
    """As `Limiter.reload` does: the ceiling of what is owed stays."""
    for name in names:
        bucket = mesh[name].bucket("b")
        ceiling = bucket.spec.capacity + bucket.max_debt
        bucket.define(spec, min_debt=max(0, ceiling - spec.capacity))


def test_takes_count_everywhere_even_after_a_long_silence() -> None:
    """A node with a small limit that never knew the large one believes what was taken under it."""
    mesh = mesh_of(3, NEW)
    roll_out(mesh, "A", OLD)
    mesh.advance(2.0)
    assert mesh["A"].take("b", "k", 500)
    mesh.advance(1.0)
    assert mesh["B"].columns("b", "k") == {"A": (500, 0)}
    mesh.partition(["A"], ["B", "C"])
    taken = 500
    for _ in range(600):
        mesh.advance(0.1)
        taken += mesh["A"].take_burst("b", "k", 50)
        mesh["B"].take("b", "k")  # so that the key, and what it saw, stays
    assert taken > 5_000
    mesh.heal()
    mesh.advance(3.0)
    for name in "ABC":
        assert mesh[name].columns("b", "k")["A"] == (taken, 0)
        assert mesh[name].table.stats()["refused_columns"] == 0


@pytest.mark.parametrize("back", [False, True], ids=["out", "and back"])
@pytest.mark.parametrize("stages", [["A", "B", "C", "D"], ["AB", "CD"], ["ABCD"]], ids=len)
def test_a_roll_out_admits_no_more_than_the_larger_limit(stages: list[str], back: bool) -> None:
    """Under 4 times the larger limit on all nodes, from one definition to the other in stages."""
    mesh = mesh_of(4, OLD)
    mesh.advance(2.0)
    admitted, start = 0, mesh.now_ns
    steps = [(names, NEW) for names in stages]
    steps += [(names, OLD) for names in stages] if back else []
    for names, spec in steps:
        roll_out(mesh, names, spec)
        for _ in range(100):
            mesh.advance(0.1)
            admitted += sum(mesh[name].take_burst("b", "k", 10) for name in "ABCD")
    seconds = (mesh.now_ns - start) / 10**9
    # Who runs the small limit counts what the others take, but never adopts their level, so that
    # each of the two groups may have had its own rate; what is unseen is a tenth of a second.
    assert admitted <= 1_000 + 100 * seconds + (50 + 5 * seconds) + 4 * 100
    mesh.advance(5.0)
    counted = [sum(taken for taken, _ in mesh[name].columns("b", "k").values()) for name in "ABCD"]
    assert counted == [admitted] * 4


def test_levels_of_another_definition_are_never_adopted() -> None:
    """A full node of the other definition does not lift a level, nor does an empty one sink it by
    more than was taken."""
    mesh = mesh_of(2, OLD)
    mesh.advance(2.0)
    mesh["A"].take("b", "k", 600)
    mesh.advance(1.0)
    roll_out(mesh, "B", BucketSpec("b", 1_000, 10**6))  # full again at once
    mesh["B"].take("b", "k", 1)
    mesh.advance(1.0)
    assert mesh["B"].peek("b", "k").remaining == 1_000
    assert 590 <= mesh["A"].peek("b", "k").remaining <= 600  # 400 and two seconds, less the one
    roll_out(mesh, "B", OLD)
    mesh.advance(3.0)
    assert mesh["A"].peek("b", "k").debt <= mesh["B"].peek("b", "k").debt + 10**9 * 5


def test_as_many_buckets_as_there_may_be_changed_as_often_as_there_is_room() -> None:
    """Definitions that were replaced are announced for another minute, since keys may still have
    them."""

    def spec(number: int, change: int) -> BucketSpec:
        return BucketSpec(f"bucket-{number}", 100 + change, 97, f"{61 + number % 3}s")

    mesh = mesh_of(2, *(spec(number, 0) for number in range(MAX_BUCKETS)))
    for change in range(4):
        for number in range(MAX_BUCKETS):
            for name in "AB":
                core = mesh[name].bucket(f"bucket-{number}")
                core.define(spec(number, change))
            mesh["A"].take(f"bucket-{number}", "k", 3)
        mesh.advance(1.0)
    assert len(mesh["A"].table.definitions.all()) == 4 * MAX_BUCKETS
    told = {"A": (12, 0)}
    for number in range(MAX_BUCKETS):
        assert mesh["B"].columns(f"bucket-{number}", "k") == told


@pytest.mark.parametrize("end", ["everywhere", "rolled back"])
def test_a_version_by_stages_admits_no_more_than_the_larger_limit(end: str) -> None:
    """Half of the keys, on two of the nodes and then on all, under 4 times the larger limit."""
    mesh = mesh_of(4, OLD)
    mesh.advance(2.0)
    cores = {name: mesh[name].bucket("b") for name in "ABCD"}
    names = [f"key-{number}" for number in range(20)]
    cores["A"].stage(NEW, 0.5, min_debt=1_950)
    moved = {key for key in names if cores["A"].on_candidate(cores["A"].hash(key)[1])}
    keys = [min(moved), min(set(names) - moved)]
    admitted, start = dict.fromkeys(keys, 0), mesh.now_ns
    for staged in ("A", "AB", "ABCD", end):
        for name in "ABCD" if staged == end else staged:
            if staged == end:
                cores[name].unstage(keep=end == "everywhere")
                cores[name].define(cores[name].spec, min_debt=1_950)
            else:
                cores[name].stage(NEW, 0.5, min_debt=1_950)
        for _ in range(100):
            mesh.advance(0.1)
            for key in keys:
                admitted[key] += sum(mesh[name].take_burst("b", key, 10) for name in "ABCD")
    seconds = (mesh.now_ns - start) / 10**9
    most = 1_000 + 100 * seconds
    # Who still has the old definition of a key, or the new one, never adopts a level of the other.
    assert admitted[keys[0]] <= most + (50 + 5 * seconds) + 4 * 100
    assert admitted[keys[1]] <= most + (50 + 5 * seconds if end == "everywhere" else 0) + 4 * 10
    mesh.advance(5.0)
    for key in keys:
        counted = [sum(p for p, _ in mesh[name].columns("b", key).values()) for name in "ABCD"]
        assert counted == [admitted[key]] * 4
