"""Roll-outs that operators sign: whom a node obeys, and what it still does by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket import CrdtbucketError
from crdtbucket._core import Table
from crdtbucket.rollout.live_rollout import LiveRollout
from crdtbucket.rollout.reload import Reload
from crdtbucket.rollout.rollout_plan import RolloutPlan
from crdtbucket.rollout.rollout_store import RolloutStore
from crdtbucket.rollout.staged import Position, Status, row_of
from tests.rollout.test_live_rollout import (
    HOLD,
    NEW,
    OLD,
    SECOND,
    STAGES,
    Limits,
    Nobody,
    version,
)

VERSION = version(2, NEW, plan=RolloutPlan(STAGES))
FIRST = Position(2, int(VERSION.hash, 16))
AFTER = 1_700_000_000_000
"""The counter of an order: a time in ms."""


class Operators(Nobody):
    """No peers that are asked, and the order that has come."""

    signs = True
    order: Position | None = None

    def ordered(self, *of: int) -> Position | None:
        return self.order if self.order is not None and self.order.of == of else None


class Signed:
    """The roll-out of a node whose operators sign, in a time of its own."""

    def __init__(self, plan: RolloutPlan | None = None) -> None:
        self.table = Table(virtual=True, hash_key=bytes(16))
        limits, self.operators = Limits(self.table), Operators("eu")
        self.rolling = LiveRollout(limits, RolloutStore(self.table), self.operators)
        started = {"node": None, "region": "eu", "mesh": None, "redis": None}
        self.reload = Reload(limits, self.rolling, started)
        self.reload.change(version(1, OLD))
        self.target = VERSION if plan is None else replace(VERSION, rollout=plan)

    def begin(self) -> None:
        self.reload.change(self.target)

    def command(self, order: Position) -> None:
        self.operators.order = order
        self.rolling.obey()

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.table.set_time(self.table.now() + SECOND)
            self.reload.beat()

    @property
    def at(self) -> tuple[Status, int]:
        position = self.rolling.position
        assert position is not None
        return position.status, position.stage


def order(counter: int, status: Status = Status.RUNNING, stage: int = 0) -> Position:
    return Position(*FIRST.of, counter, status, stage)


RUNNING, DONE, HALTED, BACK = Status


def test_no_peer_is_believed_a_stage_or_that_a_version_was_rolled_back() -> None:
    node = Signed()
    claims = [order(2**62, status, 2) for status in (RUNNING, DONE, BACK)]
    for claim in claims:  # before the node has the version, too
        node.rolling.receive(row_of(claim))
    node.begin()
    for claim in claims:
        node.rolling.receive(row_of(claim))
        node.wait(1)
    assert node.at == (RUNNING, 0)


def test_an_order_moves_it_and_one_that_came_before_the_version_holds_from_its_begin() -> None:
    node = Signed()
    node.command(order(AFTER, RUNNING, 1))
    node.begin()
    assert node.at == (RUNNING, 1)
    for counter, status, stage in ((1, HALTED, 1), (2, RUNNING, 2), (3, DONE, 2), (4, BACK, 2)):
        node.command(order(AFTER + counter, status, stage))
        assert node.at == (status, stage)
        assert node.reload.stats()["version"] == (1 if status is BACK else 2)
    node.command(order(AFTER + 1, RUNNING, 2))
    assert node.at == (BACK, 2)


def test_a_peer_that_halts_by_itself_is_believed_once_and_the_next_order_goes_on() -> None:
    node = Signed()
    node.begin()
    halted = order(2**62, HALTED, 2)
    node.rolling.receive(row_of(replace(halted, version=3)))
    assert node.at == (RUNNING, 0)
    node.rolling.receive(row_of(halted))
    assert node.at == (HALTED, 0)  # at its own stage
    state = node.rolling.state
    assert state is not None
    assert state["reason"] == "another node: halted"
    node.command(order(AFTER, RUNNING, 1))
    assert node.at == (RUNNING, 1)
    node.rolling.receive(row_of(order(AFTER, HALTED, 0)))  # of before that order
    assert node.at == (RUNNING, 1)


def test_each_node_goes_on_by_its_own_time_and_an_order_is_not_obeyed_twice() -> None:
    node = Signed(RolloutPlan(STAGES, HOLD * SECOND))
    node.begin()
    node.command(order(AFTER, RUNNING, 1))
    node.wait(HOLD)
    assert node.at == (RUNNING, 2)
    node.rolling.obey()
    assert node.at == (RUNNING, 2)
    node.wait(HOLD)
    assert node.at == (DONE, 2)


def test_what_is_no_order_for_this_node_is_refused_with_its_fix() -> None:
    node = Signed()
    with pytest.raises(CrdtbucketError, match="no version is being rolled out"):
        node.rolling.check(order(1))
    node.begin()
    for action in ("advance", "halt", "rollback"):
        with pytest.raises(CrdtbucketError, match=rf"mesh\.operator_keys.*rollout {action} --key"):
            getattr(node.rolling, action)()
    node.rolling.check(order(AFTER, BACK))
    node.command(order(AFTER, BACK))
    node.rolling.check(order(AFTER, BACK))  # it holds already
    for wrong, told in (
        (replace(order(AFTER + 1), version=3), "about version 3 .* sign one about that"),
        (replace(order(AFTER + 1), hash=5), "about version 2 .*0000000000000005"),
        (order(AFTER + 1, RUNNING, 1), "was rolled back, and comes again as a higher version"),
        (order(AFTER - 1, BACK), f"sign one with a counter above {AFTER}"),
    ):
        with pytest.raises(CrdtbucketError, match=told):
            node.rolling.check(wrong)
