"""Calendar quotas over a mesh: histories around midnight against an oracle that knows each take.

The oracle adds up what was admitted of each period, by the name that the node gave it. It knows
which takes a node may not have merged, and what each wall clock shows. It shares nothing with the
core.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.limiter.calendar_bucket import CalendarBucket
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.calendar_period import CalendarPeriod
from crdtbucket.testing import SimulatedMesh
from crdtbucket.testing.simulated_node import WALL_NS
from tests.simulated.meshes import NODES, CutMesh

LIMIT = 10
SPEC = BucketSpec.calendar("api", LIMIT, time_zone="Europe/Berlin")
PERIOD = CalendarPeriod("day", "Europe/Berlin")
KEY = "tenant-42"
NS = 1_000_000_000
DAY = 86_400.0
HEARD = 3.0
"""Seconds within which all connected nodes have merged a take."""
WARM = 3.0
BEFORE = 45.0
"""Seconds to midnight when a test begins."""
CLOCKS_HEARD = 13.0
"""Seconds within which they know how a wall clock was set."""


@dataclass
class Take:
    node: str
    process: object
    """The process that took: a node that starts again is another one."""
    period: int
    tokens: int
    at: float
    lost: bool = False
    """Whether its process was killed before others were sure to have merged it."""


@dataclass
class World(CutMesh):
    midnight: int
    """Wall clock ns."""
    before: float = BEFORE
    takes: list[Take] = field(default_factory=list)

    @property
    def today(self) -> int:
        """The period by a clock that is right."""
        return PERIOD.number_at(self.mesh.now_ns + self.right)

    def bucket(self, node: str) -> CalendarBucket:
        bucket = self.mesh[node].bucket("api")
        assert isinstance(bucket, CalendarBucket)
        return bucket

    def not_merged(self, node: str, take: Take) -> bool:
        if take.process is self.bucket(node):
            return False
        return take.lost or self.not_merged_by(node, take.at, HEARD)

    def take(self, node: str, tokens: int) -> bool:
        if not self.mesh[node].up:
            return False
        bucket = self.bucket(node)
        number = bucket.look().number
        if not bucket.take(KEY, tokens):
            return False
        here = [one for one in self.takes if one.period == number]
        not_merged = sum(one.tokens for one in here if self.not_merged(node, one))
        assert sum(one.tokens for one in here) + tokens <= LIMIT + not_merged
        self.takes.append(Take(node, bucket, number, tokens, self.now))
        return True

    def set_clock(self, node: str, seconds: float) -> None:
        """How far the wall clock of a node is ahead from now on."""
        self.mesh[node].wall_ahead_ns = self.right + round(seconds * NS)

    def kill(self, node: str) -> None:
        if self.mesh[node].up:
            process = self.bucket(node)
            for one in self.takes:
                if one.process is process:
                    one.lost |= self.not_merged_by(None, one.at, HEARD)
            self.mesh.crash(node)

    def left(self) -> list[int]:
        return [self.bucket(node).peek(KEY).remaining for node in NODES if self.mesh[node].up]

    @property
    def right(self) -> int:
        """How far a wall clock that is right is ahead of the mesh's time."""
        return self.midnight - round((WARM + self.before) * NS)


def world(seed: int = 0, nodes: tuple[str, ...] = NODES, before: float = BEFORE) -> World:
    """A mesh that has been together for a while, just before midnight."""
    mesh = SimulatedMesh(nodes, [SPEC], seed=seed, latency=0.02, gossip_interval=1.0)
    here = World(mesh, PERIOD.begin_ns(PERIOD.number_at(WALL_NS) + 1), before)
    for node in nodes:
        here.set_clock(node, 0.0)
    mesh.advance(WARM)
    return here


nodes = st.sampled_from(NODES)
steps = st.one_of(
    st.tuples(st.just("take"), nodes, st.sampled_from([1, 3, 4])),
    st.tuples(st.just("take"), nodes, st.sampled_from([2, 7])),
    st.tuples(st.just("advance"), st.sampled_from([0.003, 0.6, 2.5, 15.0])),
    st.tuples(
        st.just("set_clock"), nodes, st.sampled_from([0.0, 3.0, -20.0, 1_800.0, -DAY, 2 * DAY])
    ),
    st.tuples(st.just("kill"), nodes),
    st.tuples(st.just("restart"), nodes, st.sampled_from(["empty", "snapshot"])),
    st.tuples(st.just("cut")),
    st.tuples(st.just("heal")),
)


@given(st.lists(steps, max_size=8), st.integers(0, 999))
def test_no_history_admits_more_of_a_period_than_was_not_merged(
    history: list[tuple[object, ...]], seed: int
) -> None:
    here = world(seed, before=8.0)
    for name, *arguments in history:
        act = here.mesh.advance if name == "advance" else getattr(here, str(name))
        act(*arguments)


def use(here: World, turns: str) -> list[bool]:
    """Makes takes of one token each, which all nodes merge in between."""
    out = []
    for node in turns:
        out.append(here.take(node, 1))
        here.mesh.advance(HEARD)
    return out


def test_a_quota_is_that_of_one_counter_and_is_back_everywhere_at_midnight() -> None:
    here = world()
    assert [here.take(node, 3) for node in "abc" if not here.mesh.advance(HEARD)] == [True] * 3
    here.mesh.advance(HEARD)
    assert here.left() == [1] * 3
    assert use(here, "ab") == [True, False]
    here.mesh.advance_to(round((WARM + BEFORE - 0.1) * NS))
    assert here.left() == [0] * 3
    here.mesh.advance(0.2)
    assert here.left() == [LIMIT] * 3
    assert use(here, "abcabc") == [True] * 6
    assert here.left() == [LIMIT - 6] * 3


def test_what_is_merged_after_midnight_counts_for_the_day_before() -> None:
    here = world()
    here.cut()
    here.mesh.advance(HEARD)
    assert here.take("a", 7)
    assert here.take("b", 6)
    here.mesh.advance(BEFORE)
    assert here.take("a", 2)
    here.heal()
    here.mesh.advance(HEARD + 1)
    assert here.left() == [LIMIT - 2] * 3
    for node in NODES:
        here.set_clock(node, -90)
    here.mesh.advance(CLOCKS_HEARD)
    assert here.left() == [0] * 3


@pytest.mark.parametrize("ahead", [3_600.0, -3_600.0, -400 * DAY, 2 * DAY])
def test_one_wrong_clock_of_three_changes_nothing(ahead: float) -> None:
    here = world()
    here.set_clock("a", ahead)
    assert use(here, "a" * LIMIT + "bc") == [True] * LIMIT + [False] * 2
    assert {take.period for take in here.takes} == {here.today}
    here.mesh.advance_to(round((WARM + BEFORE + 1.2) * NS))
    assert here.left() == [LIMIT] * 3
    assert use(here, "ab") == [True] * 2


def test_a_wrong_clock_of_two_costs_one_quota_early_and_none_in_all() -> None:
    here = world(nodes=("a", "b"))
    here.set_clock("a", 3_600.0)
    here.mesh.advance(HEARD)
    assert here.take("b", LIMIT)
    assert here.take("a", LIMIT)  # of tomorrow
    here.mesh.advance_to(round((WARM + BEFORE + 1) * NS))
    assert not here.take("a", 1)
    assert not here.take("b", 1)
