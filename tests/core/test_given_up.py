"""Takes of a node that was given up, after its prediction has become debt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.pair import send, send_all
from tests.core.test_apart import SPEC, TOKEN, Beside


class GivenUp(Beside):
    """`a` has given the third node up, and gets its takes from `b`, which has not seen it for a
    second. Of three members no two believe each other."""

    kept = 122
    """The credit for the third node, which is a part of what `a` owes."""

    def __init__(self, own: int = 150) -> None:
        super().__init__()
        a, b, third = self.a, self.b, self.third
        assert round(a.bucket.credit("k")) == self.kept
        a.bucket.settle("k", own)
        a.table.nodes.forget(a.node_of(2))
        a.table.nodes.configure(members=3)
        a.table.nodes.set_node(a.node_of(2), third.epoch, False)
        self.b_is_known_to_a()
        b.epochs[third.epoch] = 2
        b.table.nodes.set_node(b.node_of(2), third.epoch, True)

    def owed(self) -> int:
        return round((self.a.bucket.debt("k") or 0) / TOKEN)

    def third_takes(self, tokens: int) -> int:
        """The third node takes so many tokens; returns by how many of them the debt of `a`
        rises."""
        self.third.table.set_time(self.now)
        self.third.bucket.settle("k", tokens)
        return self.relayed()

    def relayed(self) -> int:
        """The tokens by which the debt of `a` rises when `b` sends what it knows."""
        send(self.third, self.b)
        self.each_second(1, 0, 0)
        self.a.table.nodes.set_last_seen(self.a.node_of(1), self.now)
        before = self.owed()
        send_all(self.b, self.a)
        return self.owed() - before


def test_takes_of_who_was_given_up_are_charged_beyond_what_was_kept_for_it() -> None:
    apart = GivenUp()
    assert apart.owed() == 150
    assert apart.third_takes(80) == 0
    assert apart.third_takes(80) == 160 - (apart.kept - 20)  # 20 have been refilled


@pytest.mark.parametrize("faster", [1, 10])
def test_what_was_kept_for_who_was_given_up_pays_for_no_more_under_a_faster_limit(
    faster: int,
) -> None:
    """It is the same number of tokens, which are refilled sooner."""
    apart = GivenUp()
    for peer in (apart.a, apart.b, apart.third):
        peer.bucket.define(replace(SPEC, refill_rate=faster * SPEC.refill_rate))
    apart.a.bucket.settle("k", 1)
    apart.third_takes(160)
    assert apart.owed() * faster >= 151 + 160 - apart.kept


def test_what_was_kept_for_who_was_given_up_is_refilled_like_any_debt() -> None:
    apart = GivenUp()
    apart.each_second(10, 0, 0)
    assert apart.third_takes(80) == 80 - (apart.kept - 110)


def test_what_was_kept_for_who_was_given_up_covers_nothing_that_credit_is_kept_for_again() -> None:
    """The credit falls by what a relay brings."""
    apart = GivenUp()
    a = apart.a
    a.table.nodes.set_last_seen(a.node_of(2), apart.now)
    send(apart.third, a)  # so it is not given up any more
    apart.each_second(5, 0, 0)
    credit = a.bucket.credit("k")
    assert apart.third_takes(60) == 60
    assert a.bucket.credit("k") < credit


def test_a_burst_is_owed_although_as_much_was_kept_for_who_was_given_up() -> None:
    apart = GivenUp(own=1)
    apart.third_takes(80)
    assert apart.owed() >= round((apart.b.bucket.debt("k") or 0) / TOKEN) == 70


def test_a_refund_of_takes_that_were_charged_when_their_node_was_given_up_is_worth_them() -> None:
    apart = GivenUp()
    apart.third.table.set_time(apart.now)
    decision = apart.third.bucket.take("k", 80)
    assert (decision.allowed, apart.relayed()) == (True, 0)
    apart.third.table.set_time(apart.now)
    refunded = apart.third.bucket.refund(decision, 50)
    assert (refunded, apart.relayed()) == (50, -50)
