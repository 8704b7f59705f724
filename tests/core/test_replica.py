"""Exchanges with a common store: what is stated, booked and adopted, and which decisions follow."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from crdtbucket._core import MAX_COST, BucketCore, BucketReplica
from crdtbucket.errors import CostExceedsCapacity, InvalidKey, LimiterClosed, WireError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from tests.core.specs import SECOND, bucket_of, virtual_table
from tests.tombstones import add_tombstone

SPEC = BucketSpec("b", 100, 10)


def bucket(spec: BucketSpec = SPEC, **options: Any) -> BucketCore:
    return BucketCore(virtual_table(64, **options), spec)


def own_origin(one: BucketCore) -> int:
    table = one.table
    return next(i for i, _, epoch, _ in table.epochs.origins() if epoch == table.epochs.running)


def close(one: BucketCore, key: str = "k", cost: int = 1, **values: Any) -> Any:
    given = {"allowed": True, "taken": cost, "refunded": 0, "mode": Mode.STRONG, **values}
    return BucketReplica(one).close_call(key, cost, **given)


class TestStating:
    def test_a_new_key_has_an_entry_and_states_nothing(self) -> None:
        one = bucket()
        opened = BucketReplica(one).open_call("k", 5)
        assert opened == (*one.hash("k"), 1, 0, 0, 0, 0)
        assert len(one.table) == 1

    def test_the_own_column_the_debt_and_the_wait(self) -> None:
        one = bucket()
        decision = one.take("k", 90)
        one.refund(decision, 10)
        one.table.set_time(one.table.now() + SECOND)
        assert BucketReplica(one).open_call("k", 31) == (
            *one.hash("k"),
            1,
            90,
            10,
            7 * SECOND,
            SECOND // 10,
        )
        assert BucketReplica(one).open_call("k", 30) == (*one.hash("k"), 1, 90, 10, 7 * SECOND, 0)

    def test_a_key_of_another_bucket_is_none_of_its_own(self) -> None:
        one = bucket()
        other = BucketCore(one.table, BucketSpec("other", 50, 1_000))
        one.take("k", 90)
        place, debt = one.hash("k"), one.debt("k")
        assert BucketReplica(other).own(*place) is BucketReplica(other).advertised(*place) is None
        assert not BucketReplica(other).void(*place, 5)
        assert not BucketReplica(other).adopt(*place, 0, True, [])
        assert (one.debt("k"), BucketReplica(one).own(*place)) == (debt, (1, 90, 0))

    def test_a_peek_like_look_changes_nothing(self) -> None:
        one = bucket()
        one.take("k", 90)
        before = one.debt("k"), one.counters(), one.columns("k")
        BucketReplica(one).open_call("k", 100)
        assert (one.debt("k"), one.counters(), one.columns("k")) == before

    def test_bad_arguments_make_no_entry(self) -> None:
        one = bucket()
        with pytest.raises(CostExceedsCapacity):
            BucketReplica(one).open_call("k", 101)
        with pytest.raises(InvalidKey):
            BucketReplica(one).open_call("", 1)
        one.table.refuse(LimiterClosed("closed"))
        with pytest.raises(LimiterClosed):
            BucketReplica(one).open_call("k", 1)
        assert len(one.table) == 0

    def test_a_key_without_room_opens_no_call(self) -> None:
        one = bucket(BucketSpec("b", 100, 10, max_keys=1))
        one.take("k", 50)
        assert BucketReplica(one).open_call("other", 1) is None

    def test_all_columns_are_stated_but_for_those_with_a_tombstone(self) -> None:
        one = bucket()
        place = one.hash("k")
        assert BucketReplica(one).advertised(*place) is None
        BucketReplica(one).open_call("k")
        first, second = one.table.epochs.origin(3, 33), one.table.epochs.origin(4, 44)
        assert BucketReplica(one).adopt(*place, 0, True, [(first, 1, 7, 2), (second, 5, 1, 0)])
        assert BucketReplica(one).advertised(*place) == (
            1,
            0,
            0,
            0,
            [(4, 44, 5, 1, 0), (3, 33, 1, 7, 2)],
        )
        add_tombstone(one.table, 33)
        assert BucketReplica(one).advertised(*place) == (1, 0, 0, 0, [(4, 44, 5, 1, 0)])


class TestBooking:
    def test_an_admitted_call_is_counted_and_shows_the_stores_debt(self) -> None:
        one = bucket()
        BucketReplica(one).open_call("k", 30)
        decision = close(one, cost=30, debt=5 * SECOND)
        assert decision
        assert decision.mode is Mode.STRONG
        assert decision.remaining == 50
        assert BucketReplica(one).own(*one.hash("k")) == (1, 30, 0)
        assert one.debt("k") == 3 * SECOND
        assert one.counters()["granted"] == 30

    def test_a_denied_call_says_the_longer_wait(self) -> None:
        one = bucket()
        BucketReplica(one).open_call("k", 30)
        stores = close(one, cost=30, allowed=False, taken=0, debt=9 * SECOND)
        assert not stores
        assert stores.retry_after == 2.0
        assert close(one, cost=30, allowed=False, taken=0, debt=0, wait=SECOND).retry_after == 1.0
        one.take("k", 100)
        assert close(one, cost=30, allowed=False, taken=0, debt=0).retry_after == 3.0
        assert BucketReplica(one).own(*one.hash("k")) == (1, 100, 0)

    def test_void_raises_both_halves_and_leaves_the_level(self) -> None:
        one = bucket()
        one.take("k", 30)
        before = one.debt("k")
        assert BucketReplica(one).void(*one.hash("k"), 12)
        assert BucketReplica(one).own(*one.hash("k")) == (1, 42, 12)
        assert one.debt("k") == before
        assert BucketReplica(one).void(*one.hash("gone"), 1) is False

    def test_refunds_that_fill_a_column_open_another_epoch(self) -> None:
        """Else the sum of both halves, as peers get it, would grow beyond what a frame holds."""
        one = bucket(BucketSpec("b", MAX_COST, 10**9))
        one.take("k", 1)
        epoch = one.table.epochs.running
        for _ in range(6):
            assert BucketReplica(one).void(*one.hash("k"), MAX_COST)
        assert one.table.epochs.running != epoch
        for column in [BucketReplica(one).own(*one.hash("k")), *one.columns("k").values()]:
            assert column is not None
            assert column[1] < 2**55
        assert sum(taken for _, taken, _ in one.columns("k").values()) == 6 * MAX_COST + 1

    def test_what_is_beyond_the_ceiling_is_forgiven_and_stays_counted(self) -> None:
        one = bucket(BucketSpec("b", 100, 10, max_debt=0))
        one.take("k", 90)
        close(one, cost=100)
        assert BucketReplica(one).own(*one.hash("k")) == (1, 190, 0)
        assert one.debt("k") == 10 * SECOND
        assert one.counters()["forgiven"] == 90

    @pytest.mark.parametrize("cost", [3_000, 4_000, 10_000])
    def test_a_call_of_a_larger_limit_empties_the_bucket(self, cost: int) -> None:
        """... also where the time in which its tokens refill is more ns than fit."""
        one = bucket(BucketSpec("b", 10_000, 10_000))
        BucketReplica(one).open_call("k", cost)
        one.define(BucketSpec("b", 10, 1, "30d"))
        close(one, cost=cost)
        assert not one.peek("k")
        assert [taken for _, taken, _ in one.columns("k").values()] == [cost]
        assert one.counters()["forgiven"] == cost - 20
        assert one.counters()["over_admission"] == cost - 10
        denied = close(one, cost=cost, allowed=False, taken=0)
        assert denied.retry_after_ns == min(2**63 - 1, (cost + 10) * 30 * 86_400 * SECOND)
        one.table.verify()

    @pytest.mark.parametrize("cost", [3_000, 4_000, 10_000])
    def test_a_call_of_a_larger_limit_can_be_refunded(self, cost: int) -> None:
        one = bucket(BucketSpec("b", 10_000, 10_000))
        BucketReplica(one).open_call("k", cost)
        one.define(BucketSpec("b", 10, 1, "30d"))
        assert one.refund(close(one, cost=cost)) == cost
        assert one.peek("k").remaining == 10
        assert one.counters()["forgiven"] == cost - 20
        one.table.verify()

    def test_a_booked_decision_can_be_refunded_once(self) -> None:
        one = bucket()
        BucketReplica(one).open_call("k", 30)
        decision = close(one, cost=30)
        assert one.refund(decision, 20) == 20
        assert one.refund(decision) == 10
        assert one.refund(decision) == 0
        assert BucketReplica(one).own(*one.hash("k")) == (1, 30, 30)

    def test_a_call_whose_entry_is_gone_is_counted_all_the_same(self) -> None:
        one = bucket()
        close(one, cost=30)
        assert BucketReplica(one).own(*one.hash("k")) == (1, 30, 0)

    def test_take_as_says_the_mode(self) -> None:
        one = bucket()
        assert one.take_as("k", 1, Mode.FALLBACK).mode is Mode.FALLBACK
        assert one.take("k", 1).mode is Mode.EVENTUAL


class TestAdopting:
    def test_the_stores_debt_is_adopted_less_what_it_lacks(self) -> None:
        """min(what I count, what it states and I know beyond)."""
        one = bucket()
        one.take("k", 50)
        place, me = one.hash("k"), own_origin(one)
        peer = one.table.epochs.origin(3, 33)
        assert BucketReplica(one).adopt(
            *place, 6 * SECOND, True, [(me, 1, 50, 0), (peer, 1, 40, 0)]
        )
        assert one.debt("k") == 6 * SECOND  # counted: 9
        assert BucketReplica(one).adopt(
            *place, 2 * SECOND, True, [(me, 1, 45, 0), (peer, 1, 40, 0)]
        )
        assert one.debt("k") == 2 * SECOND + SECOND // 2

    def test_an_empty_store_takes_nothing_away(self) -> None:
        one = bucket()
        one.take("k", 50)
        assert BucketReplica(one).adopt(*one.hash("k"), 0, True, [])
        assert one.debt("k") == 5 * SECOND

    def test_another_definition_is_counted_and_not_adopted(self) -> None:
        one = bucket()
        one.take("k", 50)
        peer = one.table.epochs.origin(3, 33)
        columns = [(own_origin(one), 1, 50, 0), (peer, 1, 10, 0)]
        assert BucketReplica(one).adopt(*one.hash("k"), 1, False, columns)
        assert one.debt("k") == 5 * SECOND + 1  # of an unknown column no more than is stated
        assert BucketReplica(one).adopt(
            *one.hash("k"), 9 * SECOND, False, [*columns[:1], (peer, 1, 30, 0)]
        )
        assert one.debt("k") == 7 * SECOND + 1

    def test_connected_peers_columns_are_believed(self) -> None:
        """Nobody but its owner raised them there, so the word of a live peer adds nothing."""
        one = bucket()
        BucketReplica(one).open_call("k")
        peer = one.table.nodes.set_node(3, 33, True)
        assert BucketReplica(one).adopt(*one.hash("k"), 4 * SECOND, True, [(peer, 1, 40, 0)])
        assert one.debt("k") == 4 * SECOND
        assert BucketReplica(one).shortage(*one.hash("k"), 61) == SECOND // 10
        assert BucketReplica(one).shortage(*one.hash("k"), 60) == 0

    @pytest.mark.parametrize("column", [(0, 1, 1, 0), (1, 1, 0, 1), (1, 1, MAX_COST + 1, 0)])
    def test_what_is_no_column_changes_nothing(self, column: tuple[int, int, int, int]) -> None:
        one = bucket()
        one.take("k", 50)
        with pytest.raises(WireError):
            BucketReplica(one).adopt(*one.hash("k"), 0, True, [column])
        assert one.debt("k") == 5 * SECOND

    def test_a_key_without_an_entry_adopts_nothing(self) -> None:
        one = bucket()
        assert BucketReplica(one).adopt(*one.hash("k"), SECOND, True, []) is False
        assert BucketReplica(one).shortage(*one.hash("k"), 1) == 0
        assert len(one.table) == 0


def test_hashes_names_the_bucket_and_the_key_of_entries() -> None:
    one = bucket()
    one.take("k", 1)
    assert one.table.hashes([0, 5]) == [(one.name_hash, *one.hash("k"))]


def suspect_bucket() -> BucketCore:
    """A bucket whose key comes from a snapshot of unknown age, in which it owed 60 of 100."""
    spec = BucketSpec("b", 100, 1, "1h")
    old = bucket_of(spec)
    old.take("k", 60)
    epoch = old.table.epochs.running
    positions = array("H", [0xFFFF]) * 512
    positions[old.table.epochs.origins()[0][0]] = 0
    payload, _, _ = old.table.outbox.encode_table(0, positions, 4096)
    new = bucket_of(spec)
    origins = array("H", [new.table.epochs.origin(0, epoch)])
    slots = [(0, 1, *spec.emission)]
    assert new.table.inbox.restore(payload, slots, origins, age=None) == 1
    assert (new.table.inbox.suspects, new.peek("k").remaining) == (1, 40)
    return new


def test_a_suspect_key_states_what_was_taken_in_this_epoch_to_the_store() -> None:
    """Its columns are facts; the store knows better how much of them is left to pay."""
    bucket = suspect_bucket()
    bucket.take("k", 5)
    _, taken, _, debt, others = BucketReplica(bucket).advertised(*bucket.hash("k"))
    assert (taken, debt) == (5, 5 * 3600 * 10**9)
    assert [column[3:] for column in others] == [(60, 0)]


@pytest.mark.parametrize(("debt", "left"), [(0, 95), (20, 75)])
def test_the_store_settles_what_is_suspect(debt: int, left: int) -> None:
    bucket = suspect_bucket()
    bucket.take("k", 5)
    place = bucket.hash("k")
    generation, taken, _, _, _ = BucketReplica(bucket).advertised(*place)
    own = next(
        o
        for o, _, epoch, _ in bucket.table.epochs.origins()
        if epoch == bucket.table.epochs.running
    )
    stated = (debt + 5) * 3600 * 10**9
    old = next(o for o, _, _, _ in bucket.table.epochs.origins() if o != own)
    columns = [(own, generation, taken, 0), (old, 1, 60, 0)]  # the store has both
    assert BucketReplica(bucket).adopt(*place, stated, True, columns)
    assert (bucket.table.inbox.suspects, bucket.peek("k").remaining) == (0, left)


def test_what_was_given_back_before_the_store_settled_a_suspect_key_stays_counted() -> None:
    """Else the own column would fall behind what the store has of it, and the next takes would be
    charged to nobody there."""
    bucket = suspect_bucket()
    bucket.refund(bucket.take("k", 10), 4)
    place = bucket.hash("k")
    mine = BucketReplica(bucket).own(*place)
    assert mine is not None
    assert mine[1:] == (10, 4)
    stated = 6 * 3600 * SECOND
    assert BucketReplica(bucket).adopt(*place, stated, True, [(own_origin(bucket), *mine)])
    assert BucketReplica(bucket).own(*place) == mine
    assert bucket.peek("k").remaining == 94
