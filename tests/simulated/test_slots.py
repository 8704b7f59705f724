"""Slots over a mesh: histories of holds against an oracle that knows each hold by itself.

The oracle counts holds and shares nothing with the core: it knows who acquired what and when, who
was killed, and which takes each node may have merged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import SlotDenied
from crdtbucket.limiter.held_slot import Slot
from crdtbucket.limiter.slots import SlotBucket
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import NODES, CutMesh

SLOTS, TTL = 3, 3.0
SPEC = BucketSpec.concurrency("llm", SLOTS, ttl=TTL)
KEY = "tenant-42"
HEARD = 1.0
"""Seconds within which all connected nodes have merged a hold, or its end."""
CONNECTED = 1.5
"""The same after a cut, or the start of a process: connections are tried twice a second."""
ROUNDING = 0.99
"""The least part of its ttl that a hold keeps when others are released."""


@dataclass(eq=False)
class Hold:
    """One hold, as it truly is."""

    node: str
    begin: float
    end: float
    slot: Slot
    process: SlotBucket
    """The process that holds: a node that starts again is another one."""
    blind: bool = False
    """Whether another hold may not have been merged when this one was admitted."""
    released: float | None = None
    lost: bool = False
    """Whether its process was killed before others were sure to have merged it."""

    def live(self, now: float) -> bool:
        sure = self.begin + (self.end - self.begin) * ROUNDING
        return self.released is None and now < sure


@dataclass
class World(CutMesh):
    """A mesh, and all holds of its key."""

    holds: list[Hold] = field(default_factory=list)

    def bucket(self, node: str) -> SlotBucket:
        bucket = self.mesh[node].bucket("llm")
        assert isinstance(bucket, SlotBucket)
        return bucket

    def live(self) -> list[Hold]:
        return [hold for hold in self.holds if hold.live(self.now)]

    def not_merged(self, node: str, hold: Hold) -> bool:
        """Whether `node` may not have merged a hold of another one."""
        if hold.process is self.bucket(node):
            return False
        return hold.lost or self.not_merged_by(node, hold.begin, CONNECTED)

    def acquire(self, node: str, ttl: float = TTL) -> bool:
        if not self.mesh[node].up:
            return False
        process = self.bucket(node)
        slot, before = process.slot(KEY, ttl), self.live()
        try:
            slot.__enter__()
        except SlotDenied:
            return False
        blind = any(self.not_merged(node, hold) for hold in before)
        self.holds.append(Hold(node, self.now, self.now + ttl, slot, process, blind))
        self.check()
        return True

    def release(self, place: int) -> None:
        running = [self.bucket(node) for node in NODES if self.mesh[node].up]
        mine = [hold for hold in self.live() if hold.process in running]
        if mine:
            hold = mine[place % len(mine)]
            assert hold.slot.release()
            hold.released = self.now

    def kill(self, node: str) -> None:
        if not self.mesh[node].up:
            return
        for hold in self.live():
            if hold.process is self.bucket(node):
                hold.lost = self.not_merged_by(None, hold.begin, CONNECTED)
        self.mesh.crash(node)

    def check(self) -> None:
        live = self.live()
        assert len(live) <= SLOTS + sum(hold.blind for hold in live)
        for process in {hold.process for hold in live}:
            assert sum(hold.process is process for hold in live) <= SLOTS
        for node in NODES:
            if self.mesh[node].up:
                assert 0 <= self.bucket(node).held(KEY) <= SLOTS

    def everywhere(self) -> list[int]:
        return [self.bucket(node).held(KEY) for node in NODES if self.mesh[node].up]


def world(seed: int = 0, spec: BucketSpec = SPEC, **settings: Any) -> World:
    return World(SimulatedMesh(NODES, [spec], seed=seed, latency=0.02, **settings))


nodes = st.sampled_from(NODES)
steps = st.one_of(
    st.tuples(st.just("acquire"), nodes, st.sampled_from([TTL, 1.0, 0.013])),
    st.tuples(st.just("acquire"), nodes, st.just(TTL)),
    st.tuples(st.just("release"), st.integers(0, 9)),
    st.tuples(st.just("advance"), st.sampled_from([0.003, 0.05, 0.3, 1.2, 2.0])),
    st.tuples(st.just("kill"), nodes),
    st.tuples(st.just("restart"), nodes, st.sampled_from(["empty", "snapshot"])),
    st.tuples(st.just("cut")),
    st.tuples(st.just("heal")),
)


@given(st.lists(steps, max_size=8), st.integers(0, 999))
def test_no_history_leaks_a_slot_or_admits_more_than_was_not_merged(
    history: list[tuple[object, ...]], seed: int
) -> None:
    here = world(seed)
    for name, *arguments in history:
        act = here.mesh.advance if name == "advance" else getattr(here, str(name))
        act(*arguments)
        here.check()
    here.heal()
    # A slot that all three held at once runs down in three times its ttl.
    here.mesh.advance(len(NODES) * TTL + HEARD)
    assert set(here.everywhere()) <= {0}
    assert not here.live()


def use(here: World, node: str, seconds: float) -> None:
    """Holds of a tenth of a second, one after the other."""
    for _ in range(round(seconds * 10)):
        assert here.acquire(node)
        here.mesh.advance(0.1)
        here.holds[-1].slot.release()
        here.holds[-1].released = here.now


def test_a_history_in_which_all_have_merged_all_is_that_of_one_counter() -> None:
    here = world(spec=BucketSpec.concurrency("llm", SLOTS, ttl="60s"))
    turns = ["a", "b", "c", "a", "a", "b", None, "c", "b", None, None, "a", "c", None, "b", "c"]
    for node in turns:
        live = len(here.live())
        if node is None:
            here.release(live)
        else:
            assert here.acquire(node, 60.0) == (live < SLOTS)
        here.mesh.advance(0.4)
        assert here.everywhere() == [len(here.live())] * 3


def test_a_dead_owners_holds_end_with_their_ttl() -> None:
    """It used the slots a lot before, so that much of it would be predicted."""
    here = world(ended_is_dead="never")
    use(here, "b", 5.0)
    for _ in range(SLOTS):
        assert here.acquire("b")
    here.mesh.advance(HEARD)
    here.kill("b")
    here.mesh.advance(TTL - 2 * HEARD)
    assert here.everywhere() == [SLOTS, SLOTS]
    assert not here.acquire("a")
    here.mesh.advance(2 * HEARD)
    assert here.everywhere() == [0, 0]
    assert [here.acquire("a") for _ in range(SLOTS + 1)] == [True] * SLOTS + [False]


def test_each_side_of_a_partition_admits_all_slots_and_no_more_after_it() -> None:
    here = world()
    here.cut()
    here.mesh.advance(2.0)
    assert [here.acquire("a") for _ in range(SLOTS + 1)] == [True] * SLOTS + [False]
    assert [here.acquire("b") for _ in range(SLOTS + 1)] == [True] * SLOTS + [False]
    here.heal()
    here.mesh.advance(HEARD)
    for node in (*"a" * SLOTS, *"b" * SLOTS):
        assert here.everywhere() == [SLOTS] * 3
        assert not any(here.acquire(name) for name in NODES)
        here.release([hold.node for hold in here.live()].index(node))
        here.mesh.advance(0.1)
    here.mesh.advance(2.0 + HEARD)  # so long two at most held one slot
    assert here.everywhere() == [0] * 3


def test_one_that_starts_again_waits_for_what_it_held_before() -> None:
    here = world()
    for _ in range(SLOTS):
        assert here.acquire("a")
    here.mesh.advance(HEARD)
    here.kill("a")
    here.mesh.advance(0.1)
    here.restart("a", "empty")
    here.mesh.advance(HEARD)
    assert not here.acquire("a")
    assert here.everywhere() == [SLOTS] * 3
    here.mesh.advance(TTL)
    assert here.acquire("a")


def test_a_slot_that_was_held_often_is_free_when_it_is_released_for_who_met_it_last() -> None:
    """What time has brought back of earlier holds was never charged there."""
    here = world(spec=BucketSpec.concurrency("llm", SLOTS, ttl="60s"))
    for _ in range(5):
        assert here.acquire("b", 60.0)
        here.mesh.advance(2.0)
        here.release(0)
    assert here.acquire("b", 60.0)
    here.mesh.crash("c")
    here.mesh.restart("c")
    here.mesh.advance(CONNECTED + HEARD)
    assert here.everywhere() == [1] * 3
    for _ in range(3):
        here.release(0)
        here.mesh.advance(HEARD)
        assert here.everywhere() == [0] * 3
        assert here.acquire("b", 60.0)
        here.mesh.advance(HEARD)


def test_slots_that_are_held_and_idle_by_turns_are_free_on_every_node_in_the_end() -> None:
    """Full keys leave the tables of those who do not use them, with their columns."""
    here = world(spec=BucketSpec.concurrency("llm", SLOTS, ttl="60s"))
    for turn in range(60):
        assert here.acquire("aabc"[turn % 4], 60.0)
        here.mesh.advance((0.3, 0.7, 1.1)[turn % 3])
        here.release(0)
        here.mesh.advance((0.05, 0.4, 1.3, 2.9, 0.2)[turn % 5])
    here.mesh.advance(HEARD)
    assert here.everywhere() == [0] * 3
