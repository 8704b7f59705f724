"""Limits that operators give to keys while versions come, go and are rolled out by stages."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtbucket import BucketSpec, ConfigError, CrdtbucketError, Limiter, UnknownBucket
from crdtbucket._core import Table
from crdtbucket.config import Config
from crdtbucket.mesh.links.override_orders import OverrideOrder
from crdtbucket.rollout.rollout_plan import RolloutPlan, Stage

API, SILVER, GOLD = (
    BucketSpec(*one) for one in (("api", 10, 1), ("silver", 20, 1), ("gold", 40, 2))
)
WIDER = BucketSpec("api", 30, 1, overrides=[("k*", BucketSpec("x", 50, 1))])
FLEETS = (
    (API, SILVER),
    (WIDER, GOLD),
    (BucketSpec("gold", 70, 2), BucketSpec("renamed", 10, 1)),
    (API, SILVER, BucketSpec("gold", 41, 2)),
)
BY_STAGES = RolloutPlan((Stage(percent=50), Stage()))
BUCKETS, KEYS = ("api", "gold", "renamed"), ("k1", "k2", "other")
LIMITS = ("gold", "silver", "7/s", None)
STEPS = ("advance", "halt", "rollback")


class Node:
    """A limiter, and the orders that it has, as from peers."""

    def __init__(self) -> None:
        self.table = Table(virtual=True, hash_key=bytes(16))  # all have the same keys in a stage
        self.limiter = Limiter(FLEETS[0], _table=self.table)
        self.limiter.reload(Config("v0", FLEETS[0]))
        self.number = 0

    def version(self, fleet: int, *, staged: bool) -> None:
        self.number += 1
        plan = BY_STAGES if staged else None
        self.limiter.reload(Config("v", FLEETS[fleet], version=self.number, rollout=plan))

    def move(self, step: str) -> None:
        with suppress(CrdtbucketError):  # there is nothing to move
            getattr(self.limiter.rollout, step)()

    def order(self, *orders: OverrideOrder) -> None:
        self.limiter.overrides.book.recall(orders, send=False)

    def limits(self) -> dict[tuple[str, str], int | None]:
        """What each key has now; None where its bucket is not in force."""
        return {(name, key): self._limit(name, key) for name in BUCKETS for key in KEYS}

    def _limit(self, name: str, key: str) -> int | None:
        try:
            return self.limiter.bucket(name).peek(key).limit
        except UnknownBucket:
            return None


EVENTS = st.one_of(
    st.tuples(st.sampled_from(range(len(FLEETS))), st.booleans()),
    st.sampled_from(STEPS),
    st.tuples(st.sampled_from(BUCKETS), st.sampled_from(KEYS), st.sampled_from(LIMITS)),
)


@settings(max_examples=40)
@given(st.lists(EVENTS, max_size=12))
def test_what_a_key_has_depends_on_its_orders_and_the_versions_and_not_on_which_came_first(
    events: list[Any],
) -> None:
    """So nodes that are at one stage have the same limits, whenever an order has reached them."""
    early, late, orders = Node(), Node(), []
    for counter, event in enumerate(events):
        if isinstance(event, str):
            early.move(event)
            late.move(event)
        elif len(event) == 2:
            early.version(event[0], staged=event[1])
            late.version(event[0], staged=event[1])
        else:
            orders.append(OverrideOrder(event[0], event[1], counter, event[2], b"", b""))
            early.order(orders[-1])
    late.order(*orders)
    assert early.limits() == late.limits()


def test_a_limit_that_only_the_next_version_has_holds_from_its_first_stage() -> None:
    node = Node()
    node.order(OverrideOrder("api", "k1", 1, "gold", b"", b""))
    assert node.limits()["api", "k1"] == 10
    node.version(3, staged=True)
    assert node.limits()["api", "k1"] == 41
    node.move("rollback")
    assert node.limits()["api", "k1"] == 10


def test_what_was_given_in_a_bucket_that_went_again_can_be_taken_away() -> None:
    node = Node()
    node.version(3, staged=True)
    given = node.limiter.overrides
    assert given.set("gold", "k1", "7/s")
    node.move("rollback")
    assert node.limits()["gold", "k1"] is None
    assert [one.key for one in given.listed()] == ["k1"]
    assert given.remove("gold", "k1")
    assert not given.remove("gold", "k1")
    for change in (lambda: given.remove("gold", "k2"), lambda: given.set("gold", "k1", "7/s")):
        with pytest.raises(UnknownBucket):
            change()
    node.version(3, staged=False)
    assert node.limits()["gold", "k1"] == 41


def test_limits_of_keys_of_a_bucket_that_is_gone_are_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node()
    node.version(3, staged=True)
    node.order(OverrideOrder("gold", "k1", 1, "no such bucket", b"", b""))
    node.move("rollback")
    assert "'no such bucket'" in caplog.text
    caplog.clear()
    more = (*FLEETS[0], BucketSpec("renamed", 10, 1))
    node.limiter.reload(Config("v", more, version=9, rollout=BY_STAGES))
    assert node.limits()["renamed", "k1"] == 10
    assert "'no such bucket'" not in caplog.text


def test_a_version_for_whose_limits_of_keys_there_is_no_room_is_refused_as_a_whole() -> None:
    node, count = Node(), 50
    node.order(*(OverrideOrder("api", f"{n}", 1, f"{n + 1}/h", b"", b"") for n in range(count)))
    api, silver = node.limiter.bucket("api"), node.limiter.bucket("silver")
    while node.table.definitions.free > count - 10:  # each change needs one, for a minute
        silver.define(BucketSpec("silver", 21, 1))
        silver.define(SILVER)
    shadows = Config("v", (BucketSpec("api", 10, 1, shadow=True), SILVER))
    with pytest.raises(ConfigError, match="51 buckets and limits of keys, and there is room for"):
        node.limiter.reload(shadows)
    assert [api.peek(f"{n}").limit for n in range(count)] == list(range(1, count + 1))
    node.table.set_time(60 * 10**9)
    node.limiter.reload(shadows)
    assert api.spec.shadow
    assert [api.peek(f"{n}").limit for n in range(count)] == list(range(1, count + 1))


def test_processes_of_a_host_that_start_in_a_stage_have_the_same_and_follow_on(
    tmp_path: Path,
) -> None:
    file, shared = tmp_path / "limits.yaml", tmp_path / "table"
    file.write_text("version: 1\nservices: {api: {limit: 10/day}}\n")

    def begun() -> Limiter:
        return Limiter.from_file(file, node="a", shared=shared, max_keys=64)

    every = [begun()]
    file.write_text(
        "version: 2\nrollout: {stages: [{percent: 1}, {percent: 50}, {}]}\n"
        "services: {api: {limit: 30/day}, gold: {limit: 40/day}}\n"
    )

    def limits() -> set[int]:
        for one in every:
            one._reload.beat()
            one.overrides.beat()
        return {one.bucket("api").peek("k1").limit for one in every}

    every[0].reload()
    assert every[0].overrides.set("api", "k1", "gold")
    every.append(begun())
    every[0].rollout.advance()  # beside what the second one has defined meanwhile
    assert limits() == {40}
    every.append(begun())
    assert limits() == {40}
    every[1].rollout.halt()
    assert limits() == {40}
    every[2].rollout.advance()
    assert limits() == {40}
    assert {(one.rollout.state or {})["stage"] for one in every} == {3}
    every[1].rollout.rollback()
    every.append(begun())
    assert limits() == {10}
