"""Definitions that change while a partition lasts, and what is admitted after the heal."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import NAMES, drive, mesh_of

STEP = 0.01
LARGE = BucketSpec("b", 10_000, 2_000)
SMALL = BucketSpec("b", 100, 20)


class Load:
    """Calls at an even rate on every node, beside one bucket that sees them all."""

    def __init__(self, mesh: SimulatedMesh, spec: BucketSpec) -> None:
        self.mesh, self.spec, self.level = mesh, spec, float(spec.capacity)
        self.owed = dict.fromkeys(mesh.nodes, 0.0)

    def drive(self, seconds: float, rate: float) -> tuple[int, int, float]:
        """(admitted, by the one bucket, longest time in s in which a node admitted nothing)."""
        admitted = ideal = 0
        last, longest, start = dict.fromkeys(self.mesh.nodes, 0.0), 0.0, self.mesh.now_ns
        for step in range(round(seconds / STEP)):
            for name in self.mesh.nodes:
                self.owed[name] += rate * STEP
                calls = int(self.owed[name])
                self.owed[name] -= calls
                given = self.mesh[name].take_burst("b", "k", calls) if calls else 0
                due = min(calls, int(self.level))
                self.level -= due
                admitted, ideal = admitted + given, ideal + due
                longest = max(longest, step * STEP - last[name])
                if given:
                    last[name] = step * STEP
            self.level = min(self.spec.capacity, self.level + self.spec.rate_per_second * STEP)
            self.mesh.advance_to(start + round((step + 1) * STEP * 10**9))
        return admitted, ideal, longest

    def reload(self, spec: BucketSpec, ceiling: int = 0) -> None:
        """Everywhere at once; `ceiling`: tokens that a key may go on owing, as a reload of a
        limiter leaves it."""
        for name in self.mesh.nodes:
            least = max(ceiling - spec.capacity, 4 * spec.refill_rate // 7)
            self.mesh[name].bucket("b").define(spec, min_debt=least)
        self.mesh.specs = [spec]
        self.level = min(self.level, spec.capacity)
        self.spec = spec


def columns_are_equal(mesh: SimulatedMesh) -> bool:
    shown = [mesh[name].columns("b", "k") for name in mesh.nodes]
    return all(one == shown[0] for one in shown)


@pytest.mark.parametrize("ceiling", [0, 20_000], ids=["defined", "reloaded"])
@pytest.mark.parametrize("load", [0.4, 1.0], ids=["light", "twice the limit"])
def test_a_limit_lowered_in_a_partition_holds_after_the_heal(load: float, ceiling: int) -> None:
    mesh = SimulatedMesh(NAMES[:2], [LARGE], latency=0.04, seed=7)
    calls = Load(mesh, LARGE)
    calls.drive(10, load * 2_000)
    mesh.partition(["A"], ["B"])
    calls.drive(25, load * 2_000)
    calls.reload(SMALL, ceiling)
    _, _, starved = calls.drive(5, 20)
    assert starved < 2.0
    mesh.heal()
    mesh.advance(2 * (0.1 + 0.06))  # two rounds and their way
    assert columns_are_equal(mesh)
    minutes = [calls.drive(60, 20) for _ in range(2)]
    for admitted, ideal, starved in minutes:
        assert abs(admitted / ideal - 1) <= 0.03
        assert starved < 2.0
    for name in "AB":
        counted = mesh[name].node.counters
        assert counted["refused_columns"] == counted["capped_columns"] == 0


@pytest.mark.parametrize(
    ("old", "new"), list(itertools.permutations([(100, 100), (100, 20), (400, 50)], 2))
)
def test_the_credit_for_silent_peers_is_what_the_limit_of_then_gave_them(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    """The level does not jump with a change, which would empty the bucket or charge takes twice."""
    mesh = SimulatedMesh(NAMES[:2], [BucketSpec("b", *old)], latency=0.02, seed=3)
    calls = Load(mesh, mesh.specs[0])
    calls.drive(5, old[1] * 0.4)
    mesh.partition(["A"], ["B"])
    calls.drive(20, old[1] * 0.4)
    node = mesh["A"]
    before, level = node.bucket("b").credit("k"), node.peek("b", "k").remaining
    assert before > 0
    calls.reload(BucketSpec("b", *new))
    assert level == old[0]
    assert node.peek("b", "k").remaining == new[0]
    assert node.bucket("b").credit("k") == pytest.approx(before, rel=0.02)


def warned(records: list[logging.LogRecord], words: str) -> list[str]:
    return [r.getMessage() for r in records if words in r.getMessage()]


def test_what_a_peer_cannot_have_taken_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """One node had a larger limit while it was cut off, and no other knows of that."""
    mesh = SimulatedMesh(NAMES[:2], [SMALL], latency=0.04, seed=7)
    calls = Load(mesh, SMALL)
    calls.drive(5, 20)
    mesh.partition(["A"], ["B"])
    b = mesh["B"].bucket("b")
    b.define(LARGE)
    for _ in range(20):
        mesh["B"].take_burst("b", "k", 2_000)
        mesh.advance(1.0)
    b.define(SMALL)
    mesh["B"].take("b", "k")
    mesh.heal()
    calls.drive(60, 20)
    lines = warned(caplog.records, "took more than any limit")
    assert len(lines) == 1
    assert "B took more" in lines[0]
    assert "compare the configuration" in lines[0]
    assert mesh["A"].node.counters["capped_columns"] >= 1
    assert columns_are_equal(mesh) or mesh.advance(1.0) or columns_are_equal(mesh)


Define = Callable[[str, BucketSpec], None]


@pytest.fixture
def mixed() -> tuple[SimulatedMesh, Load]:
    """A has another definition than B and C from the start."""
    mesh = SimulatedMesh(NAMES[:3], [SMALL], latency=0.02, seed=5)
    mesh["A"].bucket("b").define(BucketSpec("b", 200, 50))
    return mesh, Load(mesh, SMALL)


def test_different_definitions_are_logged_once_a_peer_and_bucket(
    mixed: tuple[SimulatedMesh, Load], caplog: pytest.LogCaptureFixture
) -> None:
    _, calls = mixed
    calls.drive(30, 5)
    lines = warned(caplog.records, "defined otherwise")
    assert sorted(line.split(":")[0] + line.split(" on ")[1][:2] for line in lines) == [
        "AB:", "AC:", "BA:", "CA:",
    ]  # fmt: skip
    here = next(line for line in lines if line.startswith("B"))
    assert "bucket 'b'" in here
    assert "50 tokens a second there" in here
    assert "capacity 100 and 20 tokens a second here" in here
    assert "reload the one that is behind" in here


def test_different_definitions_are_logged_again_when_they_change(
    mixed: tuple[SimulatedMesh, Load], caplog: pytest.LogCaptureFixture
) -> None:
    mesh, calls = mixed
    calls.drive(5, 5)
    caplog.clear()
    mesh["A"].bucket("b").define(BucketSpec("b", 100, 30))
    calls.drive(30, 5)
    lines = warned(caplog.records, "defined otherwise")
    assert len([line for line in lines if line.startswith("B")]) == 1
    assert "30 tokens a second there" in next(line for line in lines if line.startswith("B"))


def test_a_reload_that_reaches_all_nodes_is_no_difference(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Keys stand under a replaced definition until they are touched."""
    mesh = SimulatedMesh(NAMES[:3], [SMALL], latency=0.02, seed=5)
    calls = Load(mesh, SMALL)
    calls.drive(5, 5)
    for _ in range(3):
        calls.reload(BucketSpec("b", 100, calls.spec.refill_rate + 5))
        calls.drive(5, 5)
    assert warned(caplog.records, "defined otherwise") == []


@pytest.mark.parametrize(
    ("before", "after"), [((300, 150), (100, 50)), ((100, 50), (100, 100))], ids=["lower", "higher"]
)
def test_nodes_that_are_reloaded_one_after_the_other_accuse_nobody(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    """What others take under a higher limit is charged under the lower one, too. Who has that limit
    later may owe less, and lies no more than the nodes that have had it all the time."""
    old, new = BucketSpec("b", *before), BucketSpec("b", *after)
    mesh = SimulatedMesh(NAMES[:3], [old], latency=0.02, seed=5)
    calls = Load(mesh, old)
    calls.drive(12, 0.6 * old.refill_rate)
    for name in mesh.nodes:
        mesh[name].bucket("b").define(new, min_debt=2 * old.capacity - new.capacity)
        calls.drive(5, 0.6 * old.refill_rate)
    calls.drive(10, 0.6 * old.refill_rate)
    bounded = [mesh[name].node.members.bounded.counts() for name in mesh.nodes]
    assert {bound for of in bounded for counts in of.values() for bound in counts} <= {"rates"}


@pytest.mark.parametrize("second", ["A", "B", "C"])
@pytest.mark.parametrize("factor", [0.5, 1.1, 2.0])
def test_a_burst_beside_a_silent_peer_is_owed_under_the_next_limit(
    factor: float, second: str
) -> None:
    """The room for the silent peer hides it until that one is seen again. What was noted of it went
    with the limit, and a full bucket was given out again."""
    mesh = mesh_of(3, BucketSpec("b", 1_000, 333))
    drive(mesh, dict.fromkeys("ABC", 33.0), 20.0)
    mesh.partition("AB", "C")
    drive(mesh, dict.fromkeys("AB", 33.0), 30.0)
    admitted = mesh["A"].take_burst("b", "k", 2_000)
    assert admitted >= 900
    mesh.advance(0.15)
    spec = BucketSpec("b", 1_000, round(333 * factor))
    for name in "ABC":
        mesh[name].bucket("b").define(spec, min_debt=1_000)
    mesh.advance(0.15)
    mesh.heal()
    mesh.advance(0.4)
    admitted += mesh[second].take_burst("b", "k", 2_000)
    assert admitted <= 1_000 + 0.15 * 333 + 0.55 * spec.refill_rate + 60
