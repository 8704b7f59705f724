"""The roll-out of a version: on one limiter, and over a mesh in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import (
    BucketSpec,
    ConfigError,
    CrdtbucketError,
    Limiter,
    MeshError,
    Mode,
    UnknownBucket,
)
from crdtbucket._core import Table
from crdtbucket.base.clock import WallClock
from crdtbucket.config import Config
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.factory import Factory
from crdtbucket.limiter.node_identity import Identity
from crdtbucket.limiter.tables import Tables
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.rollout.in_force import InForce
from crdtbucket.rollout.live_rollout import LiveRollout
from crdtbucket.rollout.reload import Reload
from crdtbucket.rollout.rollout_plan import RolloutPlan, Stage
from crdtbucket.rollout.rollout_store import HostRollout, RolloutStore, begun, kept, recalled
from crdtbucket.rollout.staged import Position, Status, row_of
from crdtbucket.testing import SimulatedMesh
from tests.threads import running
from tests.virtual_loop import VirtualTime, virtually

SECOND = 1_000_000_000
HOLD = 60
KEYS = [f"key-{number}" for number in range(200)]
OLD = BucketSpec("api", 1_000, 1_000)
NEW = BucketSpec("api", 50, 10)
STAGES = (Stage(("eu",), 10), Stage(("eu",), 50), Stage())
PLAN = RolloutPlan(STAGES, HOLD * SECOND, 0.2)
BY_COMMAND = RolloutPlan(STAGES)


def version(number: int, *specs: BucketSpec, plan: RolloutPlan | None = None) -> Config:
    return Config(f"v{number}.yaml", specs, version=number, rollout=plan)


class Limits(InForce):
    """Buckets of a limiter without a mesh."""

    def __init__(self, table: Table) -> None:
        tables = Tables(None, node="a", mesh=None, redis=None, max_keys=table.max_keys, main=table)
        factory = Factory(tables, None, Mode.EVENTUAL, WallClock())
        super().__init__(tables, factory, None, {}, has_redis=False)


class Nobody:
    """No peers, and no operators."""

    signs = False

    def __init__(self, region: str) -> None:
        self.identity = Identity("a", region, None)

    def ordered(self, *_: int) -> None:
        pass

    def advertise(self, *_: object) -> None:
        pass


class Reloaded(Reload):
    """A limiter's configuration, and all that it moves."""

    def __init__(self, table: Table, region: str) -> None:
        self.limits = Limits(table)
        rollout = LiveRollout(self.limits, RolloutStore(table), Nobody(region))
        started = {"node": None, "region": region, "mesh": None, "redis": None}
        super().__init__(self.limits, rollout, started)

    @property
    def buckets(self) -> dict[str, Bucket]:
        return self.limits.buckets

    @property
    def config(self) -> Config | None:
        return self.limits.config

    @property
    def running(self) -> tuple[int, int, int] | None:
        return self.rollout.running


def of_new(reload: Reloaded, bucket: str = "api", capacity: int = 50) -> set[str]:
    """The keys that are under the new version."""
    one = reload.buckets[bucket]
    return {key for key in KEYS if one.peek(key).limit == capacity}


class Node:
    """A limiter's configuration without sockets, in a time of its own."""

    def __init__(self, region: str = "eu") -> None:
        self.table = Table(virtual=True, hash_key=bytes(16))
        self.reload = Reloaded(self.table, region)
        self.reload.change(version(1, OLD))

    @property
    def rolling(self) -> LiveRollout:
        return self.reload.rollout

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.table.set_time(self.table.now() + SECOND)
            self.reload.beat()


# ---- one node ----


def test_a_version_reaches_more_keys_stage_by_stage() -> None:
    node = Node()
    bucket = node.reload.buckets["api"]
    bucket.take("key-0", 5)
    node.reload.change(version(2, NEW, plan=BY_COMMAND))
    first = of_new(node.reload)
    assert 10 <= len(first) <= 35
    assert node.reload.running == (2, int(version(2, NEW).hash, 16), 1)
    node.rolling.advance()
    second = of_new(node.reload)
    assert first < second
    assert node.reload.running[2] == 2
    node.rolling.advance()
    assert of_new(node.reload) == set(KEYS)
    assert node.reload.config.version == 1
    node.rolling.advance()
    assert (node.reload.config.version, bucket.spec, bucket.candidate) == (2, NEW, None)
    assert node.reload.running[2] == 0
    assert bucket.peek("key-0").remaining == 45
    with pytest.raises(CrdtbucketError, match="version 2 is everywhere"):
        node.rolling.advance()


def test_another_region_waits_for_its_stage() -> None:
    node = Node("us")
    node.reload.change(version(2, NEW, plan=BY_COMMAND))
    assert node.reload.buckets["api"].candidate is None
    assert node.rolling.state is not None
    assert node.rolling.state["percent"] == 0
    node.rolling.advance()
    assert of_new(node.reload) == set()
    node.rolling.advance()
    assert of_new(node.reload) == set(KEYS)


def test_it_goes_on_by_time() -> None:
    node = Node()
    node.reload.change(version(2, NEW, plan=PLAN))
    node.wait(HOLD - 1)
    assert node.rolling.state["stage"] == 1
    node.wait(1)
    assert node.rolling.state["stage"] == 2
    node.wait(2 * HOLD)
    assert node.rolling.state["status"] == "done"
    assert node.reload.config.version == 2


def test_rolling_back_puts_everything_back() -> None:
    node = Node()
    bucket = node.reload.buckets["api"]
    node.reload.change(version(2, NEW, BucketSpec("more", 5, 5), plan=BY_COMMAND))
    for key in KEYS:
        bucket.take(key, 30)
    node.rolling.advance()
    node.rolling.rollback()
    assert list(node.reload.buckets) == ["api"]
    assert bucket.candidate is None
    assert {bucket.peek(key).remaining for key in KEYS} == {970}
    assert node.reload.running == (1, int(version(1, OLD).hash, 16), 0)
    assert node.rolling.position.status is Status.ROLLED_BACK
    with pytest.raises(CrdtbucketError, match="version 2 was rolled back"):
        node.rolling.advance()
    with pytest.raises(ConfigError, match="was rolled back") as caught:
        node.reload.change(version(2, NEW, BucketSpec("more", 5, 5), plan=BY_COMMAND))
    assert [problem.path for problem in caught.value.problems] == ["version"]
    node.reload.change(version(3, NEW, plan=BY_COMMAND))
    assert node.rolling.state["version"] == 3


def test_what_is_everywhere_can_be_rolled_back_as_long_as_the_one_before_is_known() -> None:
    node = Node()
    node.reload.change(version(2, NEW, plan=RolloutPlan((Stage(),))))
    node.rolling.advance()
    assert node.reload.config.version == 2
    node.rolling.rollback()
    assert node.reload.buckets["api"].spec == OLD
    assert node.reload.config.version == 1


def test_what_has_grown_or_shrunk_is_not_given_out_again() -> None:
    """Whatever a key owes it owes after every change, under ceilings that are lower as well."""
    node = Node()
    node.reload.change(version(2, BucketSpec("api", 10_000, 10), plan=RolloutPlan((Stage(),))))
    bucket = node.reload.buckets["api"]
    bucket.take("k", 10_000)
    node.rolling.rollback()
    assert bucket.peek("k").debt == 10_000 * SECOND // 1_000
    node.reload.change(version(3, NEW, plan=RolloutPlan((Stage(),))))
    assert bucket.peek("k").debt == 10_000 * SECOND // 10
    node.rolling.advance()
    assert bucket.peek("k").debt == 10_000 * SECOND // 10
    assert bucket.counters()["forgiven"] == 0
    node.wait(2_001)  # the most that could be owed, at 10 a second
    assert bucket.max_debt == 50  # paid: the ceiling is the definition's again


def test_new_buckets_come_with_the_first_stage_that_is_here_and_old_ones_go_at_the_end() -> None:
    gone, come = BucketSpec("gone", 5, 5), BucketSpec("come", 7, 7)
    eu, us = Node("eu"), Node("us")
    for node in (eu, us):
        node.reload.change(version(2, OLD, gone))
        node.reload.change(version(3, NEW, come, plan=BY_COMMAND))
    assert list(eu.reload.buckets) == ["api", "gone", "come"]
    assert list(us.reload.buckets) == ["api", "gone"]
    for node in (eu, us):
        for _ in range(3):
            node.rolling.advance()
        assert list(node.reload.buckets) == ["api", "come"]


def test_overrides_change_by_their_keys_and_come_at_the_end() -> None:
    def api(*plans: tuple[str, int], capacity: int = 1_000) -> BucketSpec:
        return BucketSpec(
            "api", capacity, 1_000, overrides=[(g, BucketSpec("p", n, 5)) for g, n in plans]
        )

    node = Node()
    node.reload.change(version(2, api(("key-1*", 300))))
    node.reload.change(version(3, api(("key-1*", 70), ("key-2*", 60)), plan=BY_COMMAND))
    bucket = node.reload.buckets["api"]
    limits = {key: bucket.peek(key).limit for key in KEYS}
    planned = {limits[key] for key in KEYS if key.startswith("key-1")}
    assert planned == {300, 70}
    assert {limits[key] for key in KEYS if not key.startswith("key-1")} == {1_000}
    assert bucket.spec_of("key-3") == bucket.spec
    node.rolling.advance()
    node.rolling.advance()
    node.rolling.advance()
    assert bucket.peek("key-1").limit == 70
    assert bucket.peek("key-2").limit == 60


@virtually
async def test_who_waits_looks_again_when_a_stage_comes(time: VirtualTime) -> None:
    limiter = Limiter([BucketSpec("api", 10, 1, "1h")], _table=time.table)
    limiter.reload(version(1, BucketSpec("api", 10, 1, "1h")))
    bucket = limiter.bucket("api")
    bucket.take("k", 10)
    waiting = asyncio.ensure_future(bucket.wait("k", 8))
    await asyncio.sleep(0)
    limiter.reload(version(2, BucketSpec("api", 8, 8), plan=RolloutPlan((Stage(),))))
    assert (await waiting).limit == 8
    assert time.elapsed == pytest.approx(1.25)


def test_a_limiter_says_how_its_roll_out_stands() -> None:
    limiter = Limiter([OLD], node="eu-1", region="eu")
    assert limiter.rollout.state is None
    with pytest.raises(CrdtbucketError, match="no version is being rolled out"):
        limiter.rollout.halt()
    limiter.reload(version(1, OLD))
    limiter.reload(version(2, NEW, plan=PLAN))
    limiter.bucket("api").take_many(KEYS, 40)
    limiter.bucket("api").take_many(KEYS, 40)
    limiter.rollout.halt()
    state = limiter.rollout.state
    assert state is not None
    sides = state.pop("buckets")
    assert sides["api"]["new"]["admitted"] == sides["api"]["new"]["denied"] > 0
    assert sides["api"]["old"]["denied"] == 0
    assert 0 <= state.pop("since") < 10
    assert state == {
        "version": 2,
        "hash": version(2, NEW).hash,
        "before": 1,
        "status": "halted",
        "reason": "command",
        "stage": 1,
        "stages": 3,
        "reach": "10% of the keys in eu",
        "percent": 10,
        "hold": 60.0,
        "halts": 0,
    }
    assert limiter.stats()["rollout"]["status"] == "halted"
    assert limiter.stats()["config"]["stage"] == "1"
    (row,) = limiter.fleet()
    assert (row["version"], row["stage"]) == (2, 1)
    assert row["rollout"] == {"version": 2, "hash": state["hash"], "status": "halted"}


def test_no_count_is_lost_while_keys_change_sides_under_other_threads() -> None:
    limiter = Limiter([OLD], region="eu")
    limiter.reload(version(1, OLD))
    bucket = limiter.bucket("api")
    stop = threading.Event()
    counted = [[0, 0], [0, 0], [0, 0]]

    def work(number: int) -> None:
        while not stop.is_set():
            if number:
                answers = bucket.take_many(KEYS, 7).allowed
                counted[number][0] += sum(answers)
                counted[number][1] += len(answers) - sum(answers)
            else:
                counted[0][not bucket.take(KEYS[0], 7)] += 1

    with running(*(partial(work, number) for number in range(3))):
        for number in range(2, 42):
            limiter.reload(version(number, BucketSpec("api", 50 * number, 10), plan=BY_COMMAND))
            limiter.rollout.advance()
            if number % 3:
                limiter.rollout.rollback()
            else:
                limiter.rollout.advance()
                limiter.rollout.advance()
        stop.set()
    counters = bucket.counters()
    assert counters["allowed"] == sum(one[0] for one in counted) > 0
    assert counters["denied"] == sum(one[1] for one in counted)
    assert counters["granted"] == 7 * counters["allowed"]


def test_what_is_in_the_way_of_a_stage_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a peer sends is believed at once, and followed as soon as possible."""
    node = Node()
    node.reload.change(version(2, NEW, plan=BY_COMMAND))
    first = of_new(node.reload)
    further = dataclasses.replace(node.rolling.position, changes=1, stage=1)

    def stage(*_: Any) -> None:
        raise CrdtbucketError("no slot is free")

    with monkeypatch.context() as patched:
        patched.setattr(node.reload.limits, "stage", stage)
        node.rolling.receive(row_of(further))
        node.wait(1)
    assert of_new(node.reload) == first
    assert "not followed yet: no slot is free" in caplog.text
    node.wait(1)
    assert of_new(node.reload) > first


# ---- what comes in between ----


@pytest.mark.parametrize("plan", [None, BY_COMMAND], ids=["at once", "by stages"])
def test_a_later_version_takes_the_place_of_one_under_way(plan: RolloutPlan | None) -> None:
    node = Node()
    node.reload.change(version(2, NEW, BucketSpec("two", 5, 5), plan=BY_COMMAND))
    later = BucketSpec("api", 70, 10)
    node.reload.change(version(3, later, plan=plan))
    assert of_new(node.reload) == set()
    assert "two" not in node.reload.buckets
    reached = of_new(node.reload, capacity=70)
    assert reached == set(KEYS) if plan is None else 0 < len(reached) < len(KEYS)


def test_the_same_version_again_changes_nothing_but_its_stages() -> None:
    node = Node()
    node.reload.change(version(2, NEW, plan=BY_COMMAND))
    node.rolling.advance()
    before = node.rolling.position
    node.reload.change(version(2, NEW, plan=PLAN))
    assert node.rolling.position == before
    assert node.rolling.state["hold"] == HOLD
    node.reload.change(version(2, NEW, plan=RolloutPlan((Stage(), Stage()))))
    assert of_new(node.reload) == set(KEYS)


def test_the_version_before_takes_this_node_out_of_it() -> None:
    node = Node()
    node.reload.change(version(2, NEW, plan=BY_COMMAND))
    node.reload.change(version(1, OLD))
    assert node.rolling.state is None
    assert of_new(node.reload) == set()


@pytest.mark.parametrize("number", [0, 1])
def test_a_roll_out_needs_a_higher_version(number: int) -> None:
    node = Node()
    with pytest.raises(ConfigError, match="raise it") as caught:
        node.reload.change(version(number, NEW, plan=PLAN))
    assert [problem.path for problem in caught.value.problems] == ["version"]
    assert node.reload.counters == {"reloads": 1, "refused": 1}
    node.reload.change(version(number, NEW))  # at once it may come


def test_what_cannot_change_is_refused_before_it_begins() -> None:
    node = Node()
    with pytest.raises(ConfigError, match="cannot change while"):
        node.reload.change(Config("v2.yaml", (NEW,), version=2, region="us", rollout=PLAN))
    assert node.rolling.state is None


def test_the_first_configuration_is_in_force_at_once() -> None:
    table = Table(virtual=True)
    reload = Reloaded(table, "eu")
    reload.change(version(1, OLD, plan=PLAN))
    assert reload.config.version == 1
    assert reload.rollout.state is None


# ---- when denials jump ----


def test_it_halts_where_the_new_version_denies_more_and_says_why() -> None:
    node = Node()
    bucket = node.reload.buckets["api"]
    node.reload.change(version(2, NEW, plan=PLAN))
    for _ in range(10):
        bucket.take_many(KEYS, 40)
        node.wait(1)
    state = node.rolling.state
    assert state["status"] == "halted"
    assert "under the old version" in state["reason"]
    assert state["halts"] == 1
    node.wait(10 * HOLD)
    assert node.rolling.state["stage"] == 1
    assert 0 < len(of_new(node.reload)) < 40


def test_where_all_keys_are_new_it_compares_with_the_time_before() -> None:
    node = Node()
    bucket = node.reload.buckets["api"]
    for _ in range(3):
        bucket.take_many(KEYS, 40)
        node.wait(1)
    node.reload.change(version(2, NEW, plan=RolloutPlan((Stage(),), HOLD * SECOND, 0.2)))
    for _ in range(4):
        node.wait(1)
        bucket.take_many(KEYS, 40)
    node.wait(1)
    assert node.rolling.state["status"] == "halted"


def test_a_version_that_denies_no_more_goes_on() -> None:
    node = Node()
    bucket = node.reload.buckets["api"]
    node.reload.change(version(2, BucketSpec("api", 1_000, 1_100), plan=PLAN))
    for _ in range(3 * HOLD):
        bucket.take_many(KEYS + KEYS, 1_000)  # half are denied, under both
        node.wait(1)
    assert node.rolling.state["status"] == "done"


# ---- a mesh in memory ----


class Fleet:
    """Three nodes in a simulated mesh, each with its configuration."""

    def __init__(self, **options: Any) -> None:
        self.mesh = SimulatedMesh(["eu", "us", "ap"], [], latency=0.02, seed=11, **options)
        self.reloads: dict[str, Reloaded] = {}
        for name in self.mesh.nodes:
            self.start(name)
            self.reloads[name].change(version(1, OLD))

    def start(self, name: str) -> None:
        node = self.mesh[name]
        reload = self.reloads[name] = Reloaded(node.table, name)
        node.node.subscribe(rollout=reload.rollout.receive)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.mesh.advance(1.0)
            for name, reload in self.reloads.items():
                node = self.mesh[name]
                node.table.set_time(node.local_ns(self.mesh.now_ns))
                reload.beat()
                node.node.updates.advertise(reload.running, row_of(reload.rollout.position))

    def load(self, config: Config, names: Any = ("eu", "us", "ap")) -> None:
        for name in names:
            node = self.mesh[name]
            node.table.set_time(node.local_ns(self.mesh.now_ns))
            self.reloads[name].change(config)

    def take(self, tokens: int) -> None:
        for reload in self.reloads.values():
            reload.buckets["api"].take_many(KEYS, tokens)

    def reached(self) -> dict[str, int]:
        return {name: len(of_new(reload)) for name, reload in self.reloads.items()}

    def status(self) -> set[str]:
        return {reload.rollout.state["status"] for reload in self.reloads.values()}


def test_a_bad_version_reaches_one_region_halts_everywhere_and_is_rolled_back() -> None:
    fleet = Fleet()
    fleet.load(version(2, NEW, plan=PLAN))
    fleet.wait(3)
    reached = fleet.reached()
    assert (0 < reached["eu"] < 40, reached["us"], reached["ap"]) == (True, 0, 0)
    for _ in range(8):
        fleet.take(40)
        fleet.wait(1)
    fleet.wait(5)
    assert fleet.status() == {"halted"}
    reasons = {name: one.rollout.state["reason"] for name, one in fleet.reloads.items()}
    assert "under the old version" in reasons["eu"]
    assert reasons["us"] == reasons["ap"] == "another node: halted"
    assert {row.config[2] for row in fleet.mesh["us"].node.fleet(0)} == {1}
    fleet.reloads["ap"].rollout.rollback()
    fleet.wait(5)
    assert fleet.status() == {"rolled back"}
    assert fleet.reached() == {"eu": 0, "us": 0, "ap": 0}
    assert {row.config[0] for row in fleet.mesh["us"].node.fleet(0)} == {1}
    keys = KEYS[:20]
    fleet.wait(5)
    columns = [[fleet.reloads[n].buckets["api"].columns(k) for k in keys] for n in ("eu", "us")]
    totals = [[sum(p for _, p, _ in one.values()) for one in node] for node in columns]
    assert totals[0] == totals[1]


def test_a_good_version_goes_everywhere_in_step() -> None:
    fleet = Fleet()
    fleet.load(version(2, BucketSpec("api", 500, 900), plan=PLAN))
    for _ in range(3 * HOLD + 20):
        fleet.take(20)
        fleet.wait(1)
        stages = {one.rollout.position.stage for one in fleet.reloads.values()}
        assert max(stages) - min(stages) <= 1
    assert fleet.status() == {"done"}
    assert {one.config.version for one in fleet.reloads.values()} == {2}


def test_who_gets_the_file_late_is_at_the_stage_of_the_others_at_once() -> None:
    fleet = Fleet()
    fleet.load(version(2, NEW, plan=BY_COMMAND), ["eu", "us"])
    fleet.reloads["us"].rollout.advance()
    fleet.reloads["us"].rollout.advance()
    fleet.wait(5)
    fleet.load(version(2, NEW, plan=BY_COMMAND), ["ap"])
    assert fleet.reached() == {"eu": 200, "us": 200, "ap": 200}


def test_a_partition_in_which_both_sides_commanded_ends_in_the_command_that_halts() -> None:
    fleet = Fleet()
    fleet.load(version(2, NEW, plan=BY_COMMAND))
    fleet.wait(2)
    fleet.mesh.partition(["eu"], ["us", "ap"])
    fleet.reloads["eu"].rollout.halt()
    fleet.reloads["us"].rollout.advance()
    fleet.wait(5)
    assert fleet.status() == {"halted", "running"}
    fleet.mesh.heal()
    fleet.wait(15)
    assert fleet.status() == {"halted"}
    assert {one.rollout.position.stage for one in fleet.reloads.values()} == {0}


def test_a_removed_bucket_is_unknown_only_at_the_end() -> None:
    limiter = Limiter([OLD, BucketSpec("gone", 5, 5)], region="eu")
    limiter.reload(version(1, OLD, BucketSpec("gone", 5, 5)))
    limiter.reload(version(2, NEW, plan=RolloutPlan((Stage(),))))
    assert limiter.bucket("gone").take("k")
    limiter.rollout.advance()
    with pytest.raises(UnknownBucket):
        limiter.bucket("gone")


# ---- starting again in the middle ----


def test_a_node_that_starts_again_is_where_it_was_and_sees_what_it_missed() -> None:
    fleet = Fleet()
    fleet.load(version(2, NEW, plan=BY_COMMAND))
    fleet.reloads["us"].rollout.advance()
    fleet.wait(3)
    memory = kept(version(1, OLD), fleet.reloads["eu"].rollout.position)
    fleet.mesh.crash("eu")
    gone = fleet.reloads.pop("eu")
    fleet.reloads["us"].rollout.advance()
    fleet.wait(3)
    fleet.mesh.restart("eu")
    fleet.start("eu")
    target = version(2, NEW, plan=BY_COMMAND)
    before, position = recalled(memory, target)
    eu = fleet.reloads["eu"]
    eu.limits.force(before)
    eu.rollout.start(before, target, (before, position))
    assert fleet.reached()["eu"] == len(of_new(gone))  # stage 2, as when it ended
    fleet.wait(5)
    assert fleet.reached() == {"eu": 200, "us": 200, "ap": 200}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status.RUNNING, "version 2 (*) is rolled out after 1 (*): stage 3 of 3, all keys in *"),
        (Status.HALTED, "version 2 (*) is rolled out after 1 (*): stage 3 of 3, all keys in *"),
        (Status.DONE, "the roll-out of version 2 (*) after 1 (*) is done"),
        (Status.ROLLED_BACK, "the roll-out of version 2 (*) after 1 (*) is rolled back"),
    ],
)
def test_a_restart_says_how_a_roll_out_stands(
    status: Status, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    node, target = Node(), version(2, NEW, plan=BY_COMMAND)
    caplog.clear()
    caplog.set_level(logging.INFO)
    known = version(1, OLD), Position(*target.version_id, 1, status, 2)
    node.rolling.start(version(1, OLD), target, known)
    (message,) = [one for one in caplog.messages if not one.startswith("configuration")]
    assert fnmatch(message, said), message


@pytest.mark.parametrize("status", list(Status))
def test_what_is_kept_is_what_comes_back(status: Status) -> None:
    plans = [("vip-*", BucketSpec("p", 7, 3, "90s", shadow=True))]
    specs = (
        BucketSpec("a", 5, 3, "7s", max_debt=2, max_keys=9, on_table_full="allow", overrides=plans),
        BucketSpec("b", 2**53, 10**9, on_outage="deny", consistency="strong"),
    )
    target = version(2, NEW, plan=PLAN)
    how = dataclasses.replace(target.degradation, on_outage="allow", expected_nodes=7)
    before = dataclasses.replace(
        target, version=1, buckets=specs, rollout=None, consistency=Mode.STRONG, degradation=how
    )
    position = Position(2, int(target.hash, 16), 5, status, 1)
    assert recalled(kept(before, position), target) == (before, position)
    assert recalled(kept(before, position), version(3, NEW, plan=PLAN)) is None
    assert recalled(kept(before, position), version(2, OLD, plan=PLAN)) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"position": [1]}', b"\xff", b"null"])
def test_what_is_damaged_says_what_to_do(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "eu.rollout").write_bytes(data)
    with pytest.raises(MeshError, match=r"eu\.rollout is damaged .*: remove it to start with the"):
        begun(version(2, NEW, plan=PLAN), None, StateDir(tmp_path, "eu"))


def test_a_damaged_version_before_of_a_host_says_what_to_do(tmp_path: Path) -> None:
    target = version(2, NEW, plan=PLAN)
    host = HostRollout(str(tmp_path / "table"))
    position = Position(*target.version_id)
    host.exchange(position, lambda: kept(version(1, OLD), position))
    sound = Path(host.path).read_bytes()
    Path(host.path).write_bytes(sound.replace(b'"capacity"', b'"capacitx"'))
    with pytest.raises(
        MeshError, match=r"table~rollout is damaged .*: remove it to start with the"
    ):
        host.begun(target)


FILE = """
version: {number}
node: eu-1
region: eu
mesh: {{listen: "127.0.0.1:0", state_dir: {folder}}}
rollout: {{stages: [{{percent: 50}}, {{}}]}}
services: {{api: {{limit: {limit}/day}}}}
"""


def test_a_limiter_of_a_file_begins_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "crdtbucket.yaml"

    def write(number: int, limit: int) -> None:
        file.write_text(FILE.format(number=number, limit=limit, folder=tmp_path / "state"))

    def limits(limiter: Limiter) -> set[int]:
        return {limiter.bucket("api").peek(key).limit for key in KEYS}

    write(1, 100)
    with Limiter.from_file(file) as limiter:
        assert limiter.rollout.state is None  # the first version is in force at once
        assert limits(limiter) == {100}
        write(2, 200)
        limiter.reload()
        assert limits(limiter) == {100, 200}
    with Limiter.from_file(file) as limiter:
        assert limits(limiter) == {100, 200}
        assert limiter.rollout.state["status"] == "running"
        limiter.rollout.halt()
    with Limiter.from_file(file) as limiter:
        assert limiter.rollout.state["status"] == "halted"
        assert (limiter.fleet()[0]["version"], limiter.fleet()[0]["stage"]) == (2, 1)
        limiter.rollout.rollback()
    with Limiter.from_file(file) as limiter:  # the same file is still there
        assert limits(limiter) == {100}
        assert limiter.rollout.state["status"] == "rolled back"
        write(3, 300)
        limiter.reload()
        limiter.rollout.advance()
        limiter.rollout.advance()
        assert limits(limiter) == {300}
    with Limiter.from_file(file) as limiter:  # the one before is known after the end as well
        assert limiter.rollout.state["status"] == "done"
        assert limits(limiter) == {300}
        limiter.rollout.rollback()
        assert limits(limiter) == {100}


def test_a_node_that_does_not_know_the_version_before_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleet = Fleet()
    fleet.load(version(2, NEW, plan=BY_COMMAND), ["eu", "us"])
    fleet.wait(2)
    fleet.mesh.restart("ap")
    fleet.start("ap")
    fleet.reloads["ap"].change(version(2, NEW, plan=BY_COMMAND))
    fleet.wait(5)
    assert fleet.reached()["ap"] == 200
    (said,) = [one.getMessage() for one in caplog.records if "not known here" in one.getMessage()]
    assert said.startswith("version 2 is running at other nodes")
