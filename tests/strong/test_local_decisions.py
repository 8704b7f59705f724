"""Decisions of a strong bucket without the store, by `on_outage`, and what quotas are charged."""

from __future__ import annotations

from fractions import Fraction

import pytest

from crdtbucket._core import BucketCore, BucketReplica, Decision, Table
from crdtbucket.base.clock import NS_PER_SECOND as SECOND
from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import CostExceedsCapacity
from crdtbucket.spec.bucket_spec import BucketSpec, OnOutage
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.local_decisions import NODES_NS, LocalDecisions, deny, took
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.script import Arguments
from crdtbucket.strong.redis.shares import Division
from crdtbucket.strong.store_rules import RuleBook, Rules

START = 10**12
SPEC = BucketSpec("b", 10, 1, "1s")


class Node:
    """A node of two, whose half of a bucket of ten is a quota of five."""

    def __init__(self, on_outage: OnOutage, spec: BucketSpec = SPEC) -> None:
        self.table = Table(max_keys=64, virtual=True, hash_key=bytes(16), grace=0.0)
        self.quotas = Table(max_keys=64, virtual=True)
        self.bucket = BucketCore(self.table, spec)
        self.quota = Quota(self.quotas, spec, Fraction(1), fleet=False)
        self.rules = Rules(Arguments(spec, spec.max_debt), on_outage, self.quota)
        self.nodes = 2
        self.usual: int | None = None
        self.book = RuleBook({self.bucket: self.rules})
        self.local = LocalDecisions(self.book, self.division, self.table.now, ForkLock())
        self.set_time(START)

    def division(self) -> Division:
        return Division(self.nodes, self.nodes if self.usual is None else self.usual)

    def set_time(self, now: int) -> None:
        self.table.set_time(now)
        self.quotas.set_time(now)

    def decide(self, cost: int, mode: Mode = Mode.FALLBACK) -> Decision:
        return self.local.decide(self.bucket, "k", cost, mode)

    def left(self, nodes: int = 2, usual: int | None = None, key: str = "k") -> int:
        """Whole tokens that are left of the quota."""
        among = Division(nodes, nodes if usual is None else usual)
        return 10 - self.quota.debt_ns(key, among) // SECOND

    @property
    def counts(self) -> tuple[int, ...]:
        return (BucketReplica(self.bucket).own(*self.bucket.hash("k")) or (0, 0, 0))[1:]


@pytest.mark.parametrize(
    ("on_outage", "mode", "shown", "admitted"),
    [
        ("eventual", Mode.FALLBACK, Mode.EVENTUAL, 10),
        ("quota", Mode.FALLBACK, Mode.FALLBACK, 5),
        ("quota", Mode.EVENTUAL, Mode.EVENTUAL, 10),
        ("deny", Mode.FALLBACK, Mode.FALLBACK, 0),
        ("deny", Mode.EVENTUAL, Mode.EVENTUAL, 10),
        ("allow", Mode.FALLBACK, Mode.FALLBACK, 17),
    ],
)
def test_each_rule_admits_and_charges_what_it_says(
    on_outage: OnOutage, mode: Mode, shown: Mode, admitted: int
) -> None:
    node = Node(on_outage)
    node.bucket.mode = Mode.STRONG  # of another server, and so of the bucket
    decisions = [node.decide(2 - number % 2, mode) for number in range(11)]
    assert {one.mode for one in decisions} == {shown}
    assert {one.key for one in decisions} == {"k"}
    assert [one.cost for one in decisions[:2]] == [2, 1]
    assert sum(one.cost for one in decisions if one.allowed) == admitted
    assert node.counts == (admitted, 0)
    assert node.left() == max(0, 5 - admitted)
    with pytest.raises(CostExceedsCapacity):
        node.decide(11, mode)


def test_a_quota_that_is_used_up_says_when_there_is_more() -> None:
    node = Node("quota")
    assert node.decide(4).remaining == 1  # of the quota, which binds
    denied = node.decide(3)
    assert (denied.allowed, denied.remaining) == (False, 1)  # of the quota, which binds
    assert denied.retry_after == pytest.approx(4)  # two tokens, of which two nodes share each
    assert node.counts == (4, 0)
    never = node.decide(6)  # more than the share ever holds
    assert (never.allowed, never.remaining, never.retry_after) == (False, 1, 1)
    node = Node("quota")
    node.decide(3)
    node.bucket.take("k", 6)
    denied = node.decide(5)
    assert (denied.allowed, denied.remaining) == (False, 1)  # of the bucket, which has less


def test_what_is_left_in_an_outage_is_what_the_next_call_gets() -> None:
    node = Node("quota")
    node.bucket.take("k", 3)
    shown = [node.decide(1) for _ in range(7)]
    assert [(one.allowed, one.remaining) for one in shown] == [
        *((True, left) for left in (4, 3, 2, 1, 0)),  # seven of the bucket, five of the quota
        (False, 0),
        (False, 0),
    ]
    node = Node("quota")
    node.bucket.take("k", 8)
    shown = [node.decide(1) for _ in range(3)]
    assert [(one.allowed, one.remaining) for one in shown] == [(True, 1), (True, 0), (False, 0)]
    assert node.bucket.refund(shown[0]) == 1  # what is shown is not what is counted
    assert node.bucket.peek("k").remaining == 1


def test_where_nothing_is_given_nothing_is_left() -> None:
    node = Node("deny")
    denied = node.decide(4)
    assert (denied.allowed, denied.remaining, denied.limit) == (False, 0, 10)
    assert denied.retry_after == 1.0  # nobody knows when Redis is back
    assert node.bucket.peek("k").remaining == 10


def test_a_denial_without_a_wait_shows_what_the_bucket_holds() -> None:
    denied = deny(Node("deny").bucket, "k", 1, Mode.STRONG)
    assert (denied.allowed, denied.remaining, denied.retry_after) == (False, 10, 0)


def test_the_outage_of_a_bucket_says_what_its_callers_get() -> None:
    rules: tuple[OnOutage, ...] = ("deny", "allow", "eventual")
    for rule in rules:
        node = Node(rule)
        assert node.local.outage(node.bucket) == {"rule": rule}
    node = Node("quota")
    share = {"rule": "quota", "tokens": 5, "seconds": 10.0}
    assert node.local.outage(node.bucket) == share
    node.nodes = 11
    assert node.local.outage(node.bucket) == {"rule": "quota", "tokens": 0, "seconds": 0.0}


@pytest.mark.parametrize("usual", [2, 1])
def test_what_the_bucket_denies_is_taken_from_no_quota(usual: int) -> None:
    """`usual`: with one, this node is in the doubt of a newcomer."""
    node = Node("quota")
    node.usual = usual
    node.bucket.take("k", 9)
    denied = node.decide(2)
    assert (denied.allowed, denied.mode, denied.key, denied.cost) == (
        False, Mode.FALLBACK, "k", 2,
    )  # fmt: skip
    assert node.left(2, usual) == 5
    assert node.decide(1).allowed
    assert node.left(2, usual) == 4


@pytest.mark.parametrize("key", ["k", "other"])
def test_what_is_charged_or_comes_back_without_a_decision_counts_in_the_quota_of_the_key(
    key: str,
) -> None:
    """Also on the keys of a candidate, whose rules are others."""
    node = Node("quota")
    node.local.charged(node.bucket, key, 3)
    assert node.left(key=key) == 2
    node.local.give_back(node.bucket, key, 2)
    assert node.left(key=key) == 4
    spec = BucketSpec("b", 20, 1, "1s")
    node.bucket.stage(spec, 1.0)
    quota = Quota(node.quotas, spec, Fraction(1), fleet=False, name="candidate ")
    node.book.follow(node.bucket, node.rules, Rules(Arguments(spec, 20), "quota", quota))
    node.local.charged(node.bucket, key, 3)
    node.local.give_back(node.bucket, key, 1)
    assert (node.left(key=key), quota.debt_ns(key, Division(2, 2)) // SECOND) == (4, 12)


def test_a_shadow_admits_and_takes_nothing_that_its_limit_denies() -> None:
    node = Node("eventual", BucketSpec("b", 10, 1, "1s", shadow=True))
    assert took(node.decide(10))
    shadowed = node.decide(2)
    assert (shadowed.allowed, took(shadowed)) == (True, False)
    assert node.counts == (10, 0)


def test_without_room_for_a_key_the_table_decides() -> None:
    node = Node("quota", BucketSpec("b", 10, 1, "1s", max_keys=1))
    node.bucket.take("other")
    decision = node.decide(2)
    assert (decision.key, decision.cost, decision.mode) == ("k", 2, Mode.FALLBACK)
    assert node.left() == 5


def test_the_outage_of_a_bucket_is_that_of_its_candidate_where_all_keys_are() -> None:
    node = Node("quota")
    node.bucket.stage(BucketSpec("b", 20, 1, "1s"), 1.0)
    rules = Rules(Arguments(SPEC, 10), "allow", node.quota)
    node.book.follow(node.bucket, node.rules, rules)
    assert node.local.outage(node.bucket) == {"rule": "allow"}


def test_where_nothing_is_given_nothing_is_left_of_any_capacity() -> None:
    for capacity in (10**12 + 1, 10**15 + 1):
        node = Node("deny", BucketSpec("b", capacity, 10**9 - 1, "1s"))
        assert node.decide(1).remaining == 0


def test_the_quota_of_a_key_is_that_of_its_candidate() -> None:
    node = Node("deny")
    new = BucketSpec("b", 20, 1, "1s")
    node.bucket.stage(new, 1.0)
    quota = Quota(Table(max_keys=16, virtual=True), new, Fraction(1), fleet=False)
    rules = Rules(Arguments(new, new.max_debt), "quota", quota)
    node.book.follow(node.bucket, node.rules, rules)
    assert node.local.policy(node.bucket, "k") == quota.policy(Division(2, 2))
    assert node.decide(10).allowed
    node.book.follow(node.bucket, node.rules)
    assert node.local.policy(node.bucket, "k") is None
    assert not node.decide(1).allowed


def test_the_first_charge_asks_for_the_number_of_nodes() -> None:
    node = Node("eventual")
    LocalDecisions(node.book, node.division, lambda: 0, ForkLock()).charge(node.rules, "k", 1)
    assert node.left(1) == 8


def test_charges_reckon_for_a_while_with_the_nodes_that_were_counted_last() -> None:
    node = Node("eventual")
    for passed, nodes, left in ((0, 1, 9), (NODES_NS - 1, 2, 8), (NODES_NS, 5, 3)):
        node.nodes = nodes
        node.set_time(START + passed)
        node.local.charge(node.rules, "k", 1)
        assert node.left(1) == left
