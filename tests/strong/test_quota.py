"""The share of an outage: what each node admits, and that the fleet never admits the limit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.base.forks import ForkLock
from crdtbucket.errors import InvalidSpec
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.shared.table_file import open_table
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import MAX_TOKENS
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.local_decisions import NODES_NS, LocalDecisions
from crdtbucket.strong.quota import CandidateQuota, Quota
from crdtbucket.strong.redis.script import Arguments
from crdtbucket.strong.redis.shares import ALONE, NOTHING, Division
from crdtbucket.strong.store_rules import RuleBook, Rules

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
TENTH = Fraction(1, 10)


def among(nodes: int, usual: int | None = None) -> Division:
    """Without `usual`: in no doubt."""
    return Division(nodes, nodes if usual is None else usual)


class Node:
    """A quota and its clock."""

    def __init__(self, spec: BucketSpec, ratio: Fraction = TENTH, *, fleet: bool = False) -> None:
        self.table = Table(max_keys=1_000, virtual=True)
        self.quota = Quota(self.table, spec, ratio, fleet=fleet)

    def take(self, now: int, cost: int, nodes: int, key: str = "k") -> bool:
        self.table.set_time(now)
        share = self.quota.take(key, cost, among(nodes))
        return share is not None and share.allowed

    def drain_usual(self, most: int, *, nodes: int = 1, key: str = "k") -> int:
        """`drain` at the present time, by a process that nobody doubts."""
        taken = 0
        while taken < most and self.quota.take(key, 1, among(nodes)):
            taken += 1
        return taken

    def drain(self, now: int, nodes: int, most: int, key: str = "k") -> int:
        """Takes single tokens until one is denied."""
        taken = 0
        while taken < most and self.take(now, 1, nodes, key):
            taken += 1
        return taken


def spec_of(capacity: int, rate: int, interval: str = "1s", **options: int) -> BucketSpec:
    return BucketSpec("b", capacity, rate, interval, **options)


@pytest.mark.parametrize(
    ("nodes", "fleet", "share"),
    [(1, False, 100), (10, False, 100), (11, False, 90), (20, False, 50), (1_000, False, 1),
     (1_001, False, 0), (1, True, 100), (3, True, 33), (100, True, 1), (101, True, 0)],
)  # fmt: skip
def test_the_share_of_capacity_and_of_rate(nodes: int, fleet: bool, share: int) -> None:
    node = Node(spec_of(1_000, 1_000), fleet=fleet)
    assert node.drain(0, nodes, 2_000) == share
    # Full again after the time to full of the whole bucket, and no more than full.
    assert node.drain(SECOND, nodes, 2_000) == share
    assert node.drain(100 * SECOND, nodes, 2_000) == share


def test_odd_ratios_lose_next_to_nothing() -> None:
    assert Node(spec_of(1_000, 1_000), Fraction(7, 9)).drain(0, 1, 2_000) == 777
    assert Node(spec_of(1_000, 1_000), Fraction("0.333")).drain(0, 1, 2_000) in (332, 333)


def test_it_is_charged_for_what_other_modes_admit_and_flapping_gives_nothing() -> None:
    node = Node(spec_of(1_000, 1_000))
    for _ in range(50):
        node.quota.charge("k", 2, among(1))
    assert node.drain(0, 1, 10) == 0
    assert node.drain(10 * SECOND // 1_000, 1, 10) == 1  # a tenth of the rate


def test_a_charge_beyond_the_share_leaves_no_debt() -> None:
    node = Node(spec_of(1_000, 1_000))
    node.quota.charge("k", 1_000, among(1))
    node.quota.charge("k", MAX_TOKENS, among(10**9))
    assert node.drain(SECOND, 1, 1_000) == 100


@pytest.mark.parametrize(("nodes", "left"), [(1, 30), (20, 30)])
def test_what_came_back_is_given_again_at_its_price(nodes: int, left: int) -> None:
    node = Node(spec_of(1_000, 1, "1h"))
    assert node.take(0, 50, nodes)
    node.drain(0, nodes, 1_000)
    node.quota.give_back("k", left, among(nodes))
    assert node.drain(0, nodes, 1_000) == left
    node.quota.give_back("k", MAX_TOKENS, among(nodes))
    assert node.drain(0, nodes, 1_000) == 100 // max(1, nodes // 10)


def test_what_another_rule_denied_comes_back_once() -> None:
    node = Node(spec_of(100, 1))
    share = node.quota.take("k", 10, among(1))
    assert share is not None
    assert share.allowed
    assert not node.take(0, 1, 1)
    node.quota.refund(share, "k", 10, among(1))
    assert node.drain(0, 1, 100) == 10
    node.quota.refund(share, "k", 10, among(1))
    assert not node.take(0, 1, 1)


def test_keys_have_shares_of_their_own() -> None:
    node = Node(spec_of(10, 1))
    assert [node.take(0, 1, 1, key) for key in ("a", "a", "b", "b")] == [True, False, True, False]


def test_a_denial_says_when_the_share_holds_the_cost_again() -> None:
    node = Node(spec_of(1_000, 1_000))
    assert node.take(0, 100, 1)
    denied = node.quota.take("k", 30, among(1))
    assert denied is not None
    assert denied.retry_after_ns == 300_000_000
    assert not node.take(299_999_999, 30, 1)
    assert node.take(300_000_000, 30, 1)


@pytest.mark.parametrize(("nodes", "fleet"), [(1, False), (7, False), (40, False), (3, True)])
def test_the_policy_says_what_the_share_grants(nodes: int, fleet: bool) -> None:
    node = Node(spec_of(1_000, 250), fleet=fleet)
    tokens, filled_ns = node.quota.policy(among(nodes))
    assert node.drain(0, nodes, 2_000) == tokens
    assert node.drain(filled_ns, nodes, 2_000) == tokens
    assert node.drain(2 * filled_ns - filled_ns // tokens, nodes, 2_000) == tokens - 1


def test_the_policy_of_a_share_that_grants_nothing() -> None:
    assert Node(spec_of(10, 1)).quota.policy(among(11))[0] == 0


def test_a_decision_in_fallback_shows_what_is_left_of_the_quota() -> None:
    """The bucket itself has 93 of 100 tokens left: that is not what the caller can have."""
    spec, table = spec_of(100, 100), Table(max_keys=16, virtual=True)
    node, bucket = Node(spec), BucketCore(table, spec)
    local = LocalDecisions(
        RuleBook({bucket: Rules(Arguments(spec, 0), "quota", node.quota)}),
        lambda: ALONE,
        table.now,
        ForkLock(),
    )

    def decide(cost: int) -> Decision:
        return local.decide(bucket, "k", cost, Mode.FALLBACK)

    assert decide(7).remaining == 3
    denied = decide(4)
    assert (denied.allowed, denied.remaining, denied.mode) == (False, 3, Mode.FALLBACK)
    assert denied.retry_after == pytest.approx(0.1)
    more_than_the_quota_holds = decide(11)
    assert (more_than_the_quota_holds.remaining, more_than_the_quota_holds.allowed) == (3, False)
    assert local.policy(bucket, "k") == (10, SECOND)
    table.set_time(SECOND // 10)
    node.table.set_time(SECOND // 10)
    assert decide(4)
    assert decide(1).remaining == 0


# -- shares under one token


def test_a_share_under_one_token_still_gives_single_ones_at_its_rate() -> None:
    node = Node(spec_of(5, 5, "1m"))
    assert node.drain(0, 1, 10) == 1
    assert not node.take(119 * SECOND, 1, 1)  # 0.5 a minute
    assert node.drain(120 * SECOND, 1, 10) == 1
    assert node.drain(100_000 * SECOND, 1, 10) == 1


def test_but_only_where_one_for_each_node_fits_the_capacity() -> None:
    for nodes in range(1, 30):
        assert Node(spec_of(5, 5, "1m")).drain(0, nodes, 10) == (1 if nodes <= 5 else 0)


def test_costs_that_the_share_never_holds_have_no_answer() -> None:
    node = Node(spec_of(5, 5, "1m"))
    assert node.quota.take("k", 2, among(1)) is None
    assert node.quota.take("k", 1, among(6)) is None
    node = Node(spec_of(100, 5, "1m"))
    assert node.quota.take("k", 10, among(10)) is not None
    assert node.quota.take("k", 11, among(1)) is None
    assert node.quota.take("k", 10, among(11)) is None


def test_the_whole_fleets_share_is_not_rounded_up_for_several() -> None:
    spec = spec_of(5, 5, "1m")
    assert [Node(spec, fleet=True).drain(0, nodes, 10) for nodes in (1, 2, 5)] == [1, 0, 0]


def test_a_share_of_less_than_a_token_in_a_century_gives_nothing() -> None:
    node = Node(spec_of(1, 1, "30d"), Fraction("1e-12"))
    assert node.quota.take("k", 1, among(1)) is None
    node.quota.charge("k", 1, among(1))


# -- the candidate of a roll-out


@pytest.mark.parametrize("doubted", [False, True])
def test_a_candidate_grants_what_both_quotas_grant_and_charges_both(doubted: bool) -> None:
    table, certain = Table(max_keys=64, virtual=True), among(10)
    divided = among(20, 10) if doubted else certain
    now = Quota(table, spec_of(1_000, 1, "1h"), TENTH, fleet=False)
    new = CandidateQuota(table, spec_of(200, 1, "1h"), TENTH, fleet=False, kept=None, in_force=now)

    def left(divided: Division = certain) -> tuple[int, int]:
        found = (now.debt_ns("k", divided), new.debt_ns("k", divided))
        return 1_000 - found[0] // (3_600 * SECOND), 200 - found[1] // (3_600 * SECOND)

    assert left() == (100, 20)
    assert (now.policy(divided)[0], new.policy(divided)[0]) == ((50, 10) if doubted else (100, 20))
    new.charge("k", 3, divided)
    share = new.take("k", 4, divided)
    assert share is not None
    assert left() == (93, 13)
    assert left(divided) == ((43, 3) if doubted else (93, 13))
    assert new.refund(share, "k", 4, divided)
    assert not new.refund(share, "k", 4, divided)
    new.give_back("k", 1, divided)
    assert left() == (98, 18)
    now.charge("k", 95, among(10))
    assert left() == (3, 3)
    assert not new.take("k", 4, divided)
    assert new.take("k", 11, divided) is None if doubted else not new.take("k", 11, divided)
    now.give_back("k", 95, among(10))
    assert left() == (98, 18)


def test_a_candidate_of_a_fleet_has_a_part_of_the_share_of_all() -> None:
    table = Table(max_keys=64, virtual=True)
    now = Quota(table, spec_of(1_000, 1), TENTH, fleet=True)
    new = CandidateQuota(table, spec_of(200, 1), TENTH, fleet=True, kept=None, in_force=now)
    assert (now.policy(among(4))[0], new.policy(among(4))[0]) == (25, 5)


# -- parts of a token


def test_tokens_have_fewer_parts_where_the_core_cannot_count_so_many() -> None:
    spec = spec_of(MAX_TOKENS // 3, 10**8)
    assert Node(spec, Fraction(1)).take(0, MAX_TOKENS // 3, 1)
    node = Node(spec, Fraction(1, 3))
    assert node.take(0, MAX_TOKENS // 9, 1)
    assert not node.take(0, 1, 1)


def test_a_later_quota_of_the_bucket_goes_on_from_what_was_charged() -> None:
    table = Table(max_keys=1_000, virtual=True)
    Quota(table, spec_of(1_000, 1_000), TENTH, fleet=False).charge("k", 60, among(1))
    later = Quota(table, spec_of(1_000, 500), TENTH, fleet=False)
    assert later.take("k", 40, among(1))
    assert not later.take("k", 1, among(1))


def test_where_tokens_have_other_parts_what_was_charged_in_the_old_ones_is_left_out() -> None:
    table, thirds, fifths = Table(max_keys=1_000, virtual=True), 3 * 10**8, 2 * 10**8
    for rate in (1_000, thirds, fifths):
        quota = Quota(table, spec_of(1_000, rate), TENTH, fleet=False)
        assert quota.take("k", 100, among(1))
        assert not quota.take("k", 1, among(1))
    other = Quota(table, BucketSpec("c", 1_000, fifths, "1s"), TENTH, fleet=False)
    assert other.take("k", 100, among(1))


def test_a_quota_holds_no_more_keys_than_its_bucket() -> None:
    node = Node(spec_of(10, 1, max_keys=2))
    assert [node.take(0, 1, 1, key) for key in "abc"] == [True, True, False]


# -- any definition


@st.composite
def specs(draw: st.DrawFn) -> BucketSpec:
    digits = draw(st.integers(0, 15))
    capacity = draw(st.integers(1, 10**digits))
    rate = draw(st.integers(1, 10 ** draw(st.integers(0, 9))))
    interval = draw(st.sampled_from([rate, SECOND, 60 * SECOND, 30 * DAY, rate * 30 * DAY, 1]))
    try:
        return BucketSpec("b", capacity, rate, f"{interval}ns", max_debt=0)
    except InvalidSpec:
        return BucketSpec("b", min(capacity, 10**6), rate, f"{max(rate, SECOND)}ns", max_debt=0)


RATIOS = st.one_of(
    st.sampled_from(["0.1", "1", "0.5", "0.333", "1e-9", "1e-300", "0.9999999999"]),
    st.integers(1, 1_000).map(lambda n: str(n / 1_000)),
).map(Fraction)


@given(
    specs(),
    RATIOS,
    st.booleans(),
    st.integers(1, 6) | st.integers(1, 40),
    st.lists(
        st.tuples(
            st.integers(0, 39),
            st.integers(1, 12) | st.integers(1, 2**53),
            st.sampled_from([0, 0, 0, 1, 1_000, SECOND, 60 * SECOND, DAY, 30 * DAY]),
            st.booleans(),
        ),
        max_size=60,
    ),
)
def test_the_fleet_never_gives_out_more_than_the_limit(
    spec: BucketSpec,
    ratio: Fraction,
    fleet: bool,
    nodes: int,
    calls: list[tuple[int, int, int, bool]],
) -> None:
    fleet_nodes = [Node(spec, ratio, fleet=fleet) for _ in range(nodes)]
    now, given_by = 0, [0] * nodes
    rate = Fraction(spec.refill_rate, spec.interval_ns)
    share = ratio / nodes if fleet else min(ratio, Fraction(1, nodes))
    for number, cost, wait, whole in calls:
        now += wait
        node = number % nodes
        asked = max(1, int(spec.capacity * share)) if whole else min(cost, spec.capacity)
        if fleet_nodes[node].take(now, asked, nodes):
            given_by[node] += asked
        assert given_by[node] <= max(1, spec.capacity * share) + rate * share * now
        assert sum(given_by) <= spec.capacity + rate * now


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    RATIOS,
    st.booleans(),
    st.integers(1, 12),
    st.lists(st.integers(1, 60), max_size=6),
)
def test_a_greedy_fleet_gets_no_more_than_the_limit(
    capacity: int, rate: int, ratio: Fraction, fleet: bool, nodes: int, waits: list[int]
) -> None:
    all_nodes = [Node(spec_of(capacity, rate, "1m"), ratio, fleet=fleet) for _ in range(nodes)]
    now, given_out = 0, 0
    for wait in (0, *waits):
        now += wait
        for node in all_nodes:
            given_out += node.drain(now * SECOND, nodes, 1_000)
        assert given_out <= capacity + Fraction(rate * now, 60)


@given(specs(), RATIOS, st.integers(1, 100))
def test_no_cost_above_the_share_is_given(spec: BucketSpec, ratio: Fraction, nodes: int) -> None:
    share = spec.capacity * min(ratio, Fraction(1, nodes))
    assert not Node(spec, ratio).take(0, max(1, int(share)) + 1, nodes)


@given(specs(), RATIOS, st.integers(1, 100))
def test_the_share_is_given_in_full(spec: BucketSpec, ratio: Fraction, nodes: int) -> None:
    """The rounding of a price may lose a part of a token each time."""
    share = int(spec.capacity * min(ratio, Fraction(1, nodes)))
    loss = spec.interval_ns // spec.refill_rate < 1_000 or spec.capacity > MAX_TOKENS // 1_000
    if not share or loss:
        return
    least = max(1, int(share * Fraction(1_000, 1_001)))
    node = Node(spec, ratio)
    assert node.take(0, least, nodes)


@given(specs(), RATIOS, st.booleans(), st.integers(1, 10**6), st.integers(1, 2**53))
def test_no_definition_number_or_cost_is_beyond_it(
    spec: BucketSpec, ratio: Fraction, fleet: bool, nodes: int, cost: int
) -> None:
    node = Node(spec, ratio, fleet=fleet)
    node.quota.charge("k", cost, among(nodes))
    node.take(DAY, cost, nodes)


def test_a_charge_reckons_with_the_nodes_of_a_moment_ago_and_a_decision_with_those_of_now() -> None:
    spec, table = spec_of(1_000, 1), Table(max_keys=16, virtual=True)
    node, bucket, nodes = Node(spec, Fraction(1)), BucketCore(table, spec), 1
    rules = Rules(Arguments(spec, 0), "quota", node.quota)
    local = LocalDecisions(RuleBook({bucket: rules}), lambda: among(nodes), table.now, ForkLock())
    local.charge(rules, "k", 100)
    nodes = 2
    local.charge(rules, "k", 100)  # still as one of one
    assert node.quota.debt_ns("k", among(1)) == 200 * SECOND
    table.set_time(NODES_NS)
    local.charge(rules, "k", 100)  # as one of two, where a token costs two
    assert node.quota.debt_ns("k", among(1)) == 400 * SECOND
    assert local.decide(bucket, "k", 300, Mode.FALLBACK)
    assert not local.decide(bucket, "k", 1, Mode.FALLBACK)


@pytest.mark.parametrize(("nodes", "left"), [(10, 100), (11, 90), (1_000, 1), (1_001, 0)])
def test_its_debt_is_that_of_a_bucket_with_as_many_whole_tokens_left(nodes: int, left: int) -> None:
    node = Node(spec_of(1_000, 3))
    debt = node.quota.debt_ns("k", among(nodes))
    assert (debt, type(debt)) == ((1_000 - left) * SECOND // 3, int)
    if left > 1:
        assert node.take(0, 30, nodes)
        assert node.quota.debt_ns("k", among(nodes)) == (1_030 - left) * SECOND // 3


def test_a_small_bucket_gives_single_tokens_while_one_for_each_node_fits_its_capacity() -> None:
    node = Node(spec_of(5, 5))
    assert (node.quota.policy(among(5))[0], node.quota.debt_ns("k", among(5))) == (
        1,
        4 * SECOND // 5,
    )
    assert (node.quota.policy(among(6))[0], node.quota.debt_ns("k", among(6))) == (0, SECOND)
    assert not node.take(0, 1, 6)
    assert node.take(0, 1, 5)


def test_a_later_quota_goes_on_from_the_debt_of_an_earlier_one_in_the_same_parts() -> None:
    table = Table(max_keys=16, virtual=True)
    for capacity, allowed in ((10**9, True), (1_000, True), (1_000, False)):
        quota = Quota(table, spec_of(capacity, capacity), Fraction(1), fleet=False)
        share = quota.take("k", capacity, among(1))
        assert share is not None
        assert share.allowed is allowed


# -- the doubt of a newcomer


def test_after_the_doubt_a_key_owes_the_usual_price_of_what_was_charged_in_it() -> None:
    node = Node(spec_of(90, 1, "1h"), Fraction(1))
    node.quota.charge("k", 1, among(NOTHING, 1))
    assert node.quota.take("k", 1, among(NOTHING, 1)) is None
    node.table.set_time(DAY)
    for _ in range(3):
        node.quota.charge("k", 1, among(NOTHING, 1))
    node.quota.give_back("k", 1, among(NOTHING, 1))
    assert node.drain_usual(90) == 88


def test_what_the_quota_granted_in_the_doubt_counts_after_it() -> None:
    node = Node(spec_of(100, 1, "1h"), Fraction(1))
    node.quota.charge(b"k", 5, among(4, 2))
    node.quota.charge("k", 3, among(4, 2))
    node.quota.charge(b"k", 2, among(4, 2))  # 25 in the doubt, 50 after it
    shares = [node.quota.take("k", 5, among(4, 2)) for _ in range(4)]
    assert [bool(share) for share in shares] == [True, True, True, False]
    assert shares[2] is not None
    node.quota.refund(shares[2], "k", 5, among(4, 2))
    node.quota.refund(shares[2], "k", 5, among(4, 2))  # nothing
    node.quota.give_back("k", 2, among(4, 2))  # at half that price: it may be from before the doubt
    assert [bool(node.quota.take("k", cost, among(4, 2))) for cost in (7, 6)] == [False, True]
    assert node.drain_usual(100, nodes=2) == 50 - (10 + 15 - 5 - 2 + 6)


def test_a_doubt_that_is_found_over_late_gives_back_nothing_that_was_charged_since() -> None:
    node = Node(spec_of(100, 100), Fraction(1))
    node.quota.charge("k", 1, among(NOTHING, 1))
    node.table.set_time(2 * SECOND)  # full again
    node.quota.charge("k", 60, among(1, 1))
    assert node.drain_usual(100) == 40


def test_a_refund_in_the_doubt_gives_back_no_more_than_was_charged_before_it() -> None:
    node = Node(spec_of(100, 1, "1h"), Fraction(1))
    node.quota.charge("k", 60, among(1, 1))
    node.quota.give_back("k", 1, among(NOTHING, 1))
    assert node.drain_usual(100) == 41


def test_a_definition_that_comes_in_the_doubt_goes_on_from_what_was_charged() -> None:
    table = Table(max_keys=16, virtual=True)
    quota = Quota(table, spec_of(100, 1, "1h"), Fraction(1), fleet=False)
    quota.charge("k", 30, among(2, 1))
    later = Quota(table, spec_of(100, 100), Fraction(1), fleet=False)
    assert not later.take("k", 21, among(2, 1))
    assert later.take("k", 20, among(2, 1))
    assert not later.take("k", 51, among(1))
    assert later.take("k", 50, among(1))


def test_what_was_charged_before_a_doubt_counts_in_it() -> None:
    node = Node(spec_of(100, 1, "1h"), Fraction(1))
    for left in (35, 17):  # a later doubt goes on from what was charged between the two
        node.quota.charge("k", 30, among(1))
        assert not node.quota.take("k", left + 1, among(2, 1))
        assert node.quota.take("k", 5, among(2, 1))


def test_where_the_table_has_no_room_for_the_doubt_its_price_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node(spec_of(100, 1, "1h"), Fraction(1))
    for number in range(node.table.definitions.free):
        BucketCore(node.table, BucketSpec(f"other-{number}", 1, 1))
    node.quota.charge("k", 10, among(4, 2))
    monkeypatch.delattr("crdtbucket.strong.quota.BucketCore")  # a call that finds no room is slow
    assert node.quota.take("k", 1, among(4, 2))
    node.quota.give_back("k", 0, among(4, 2))
    assert node.drain_usual(100, nodes=2) == (100 - 6 * 11) // 2


def test_processes_with_one_table_have_the_doubt_in_common(tmp_path: Path) -> None:
    """Each of them charges the key, in the doubt and after it."""
    files = [SharedFile(str(tmp_path / "quotas")) for _ in range(2)]
    try:
        tables = [open_table(file, max_keys=64, hash_key=None, owner="node") for file in files]
        spec = spec_of(90, 1, "1h")
        one, other = (Quota(table, spec, Fraction(1), fleet=False) for table in tables)
        one.charge("k", 1, among(NOTHING, 1))
        assert one.take("k", 1, among(NOTHING, 1)) is None
        other.charge("k", 4, among(3, 1))
        assert not other.take("k", 1, among(3, 1))  # nothing was left when the doubt began
        other.charge("more", 4, among(3, 1))
        assert one.take("more", 26, among(3, 1))
        assert not other.take("more", 1, among(3, 1))
        for quota, key, left in ((one, "k", 85), (other, "more", 60)):
            assert not quota.take(key, left + 1, among(1))
            assert quota.take(key, left, among(1))
    finally:
        for file in files:
            file.close()


@given(
    st.integers(1, 200),
    st.lists(
        st.tuples(
            st.sampled_from(["charge", "take", "denied", "back"]),
            st.integers(1, 40),
            st.sampled_from([1, 1, 2, 7, NOTHING]),
            st.sampled_from([0, 0, 1, SECOND // 3, SECOND, 60 * SECOND]),
        ),
        max_size=30,
    ),
)
def test_the_doubt_changes_no_debt_after_it(
    rate: int, calls: list[tuple[str, int, int, int]]
) -> None:
    """The other quota is charged the same without a doubt. Each price is rounded by less than a
    part of a token, in favour of the limit."""
    spec, now = spec_of(100, rate, "1m"), 0
    one, other = (Node(spec, Fraction(1)) for _ in range(2))
    for what, cost, nodes, wait in calls:
        now += wait
        for each in (one, other):
            each.table.set_time(now)
        if what == "charge":
            one.quota.charge("k", cost, among(nodes, 1))
            other.quota.charge("k", cost, among(1))
        elif what == "back":
            one.quota.give_back("k", cost, among(nodes, 1))
            other.quota.give_back("k", cost, among(1))
        elif share := one.quota.take("k", cost, among(nodes, 1)):
            if what == "take":
                other.quota.charge("k", cost, among(1))
            else:
                one.quota.refund(share, "k", cost, among(1))
    left, right = (each.quota._core.peek("k", 1).remaining for each in (one, other))
    assert right - 2 * len(calls) <= left <= right
