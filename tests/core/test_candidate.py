"""A bucket with two definitions: keys choose by hash, and going back and forth mints nothing."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore, BucketReplica
from crdtbucket.errors import CostExceedsCapacity, CrdtbucketError
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from tests.core.pair import Peer, send, send_all
from tests.core.specs import SECOND, bucket_of

OLD = BucketSpec("b", 100, 100)
NEW = BucketSpec("b", 50, 10)
SHADOW = BucketSpec("b", 50, 10, shadow=True)
NAMES = [f"key-{number}" for number in range(2_000)]


def moved(bucket: BucketCore) -> set[str]:
    return {name for name in NAMES if bucket.on_candidate(bucket.hash(name)[1])}


def one_of_each(bucket: BucketCore) -> tuple[str, str]:
    """A key of the definition and one of the candidate."""
    new = moved(bucket)
    return next(name for name in NAMES if name not in new), next(iter(sorted(new)))


def staged(share: float = 0.5, new: BucketSpec = NEW, max_keys: int = 64) -> BucketCore:
    bucket = bucket_of(OLD, max_keys)
    bucket.stage(new, share)
    return bucket


# ---- which keys ----


def test_a_share_of_the_keys_moves_and_a_larger_one_has_them_all() -> None:
    bucket = bucket_of(OLD)
    before: set[str] = set()
    for percent in (0, 1, 10, 50, 99, 100):
        bucket.stage(NEW, percent / 100)
        now = moved(bucket)
        assert before <= now
        assert abs(len(now) - 20 * percent) < 100
        before = now
    assert before == set(NAMES)


def test_the_same_keys_move_on_every_node_and_in_every_epoch() -> None:
    assert moved(staged(0.3)) == moved(staged(0.3)) == moved(peer_with(0.3).bucket)


def peer_with(share: float, number: int = 0) -> Peer:
    peer = Peer(number, OLD)
    peer.bucket.stage(NEW, share)
    return peer


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(CrdtbucketError, match="0 to 1"):
        bucket_of(OLD).stage(NEW, share)


def test_a_candidate_has_the_name_of_its_bucket() -> None:
    with pytest.raises(CrdtbucketError, match="no definition of 'b'"):
        bucket_of(OLD).stage(BucketSpec("c", 1, 1), 0.5)


# ---- every kind of call uses the key's own definition ----


def test_take_peek_and_settle_go_by_the_definition_of_the_key() -> None:
    bucket = staged()
    old, new = one_of_each(bucket)
    assert (bucket.spec_of(old), bucket.spec_of(new)) == (OLD, NEW)
    assert (bucket.take(old).limit, bucket.take(new).limit) == (100, 50)
    assert (bucket.peek(old).remaining, bucket.peek(new).remaining) == (99, 49)
    assert bucket.take_burst(new, 60) == 49
    bucket.settle(old, 20)
    bucket.table.set_time(SECOND)
    assert (bucket.peek(old).remaining, bucket.peek(new).remaining) == (100, 10)


def test_a_cost_fits_the_capacity_of_its_own_key() -> None:
    bucket = staged()
    old, new = one_of_each(bucket)
    assert bucket.take(old, 60)
    calls: list[Any] = [bucket.take, bucket.peek, BucketReplica(bucket).open_call]
    calls.append(lambda key, cost: bucket.take_many([old, key], [1, cost]))
    calls.append(lambda key, cost: bucket.take_burst(key, 1, cost))
    for call in calls:
        with pytest.raises(CostExceedsCapacity, match="capacity of 50"):
            call(new, 60)
    assert bucket.peek(old).remaining == 40  # all costs are checked before anything is taken
    with pytest.raises(CostExceedsCapacity, match="capacity of 100"):
        bucket.take(new, 101)


def test_a_larger_candidate_lets_its_keys_take_more() -> None:
    bucket = staged(new=BucketSpec("b", 500, 100))
    old, new = one_of_each(bucket)
    assert bucket.take(new, 400)
    with pytest.raises(CostExceedsCapacity):
        bucket.take(old, 400)


def test_refund_and_reset_go_by_the_definition_of_the_key() -> None:
    bucket = staged()
    for key in one_of_each(bucket):
        seen = bucket.take(key, 30)
        assert bucket.refund(seen, 10) == 10
        assert bucket.reset(key) == 20
        assert bucket.peek(key).remaining == seen.limit
    assert bucket.counters()["refunded"] == 60


def test_many_takes_in_one_call_use_either_definition() -> None:
    bucket = staged(max_keys=4_096)
    new = moved(bucket)
    for _ in range(2):
        answers = bucket.take_many(NAMES, 30)
        limits = [50 if name in new else 100 for name in NAMES]
        remaining = [bucket.peek(name).remaining for name in NAMES]
        assert list(answers.remaining) == remaining
    assert list(answers.allowed) == [limit == 100 for limit in limits]
    assert bucket.decided() == ((2 * (2_000 - len(new)), 0), (len(new), len(new)))


def test_a_candidate_that_is_a_shadow_admits_its_own_keys_alone() -> None:
    bucket = staged(new=SHADOW)
    old, new = one_of_each(bucket)
    many = bucket.take_many([old, new] * 3, 40)
    assert list(many.allowed) == [1, 1, 1, 1, 0, 1]
    assert bucket.take(new, 40).shadowed
    assert not bucket.take(old, 40)
    assert bucket.take_burst(new, 5, 40) == 5


def test_a_strong_call_books_under_the_definition_of_the_key() -> None:
    bucket = staged()
    for key, limit in zip(one_of_each(bucket), (100, 50), strict=True):
        lo, hi, *_ = BucketReplica(bucket).open_call(key, 30) or (0, 0)
        seen = BucketReplica(bucket).close_call(
            key, 30, allowed=True, taken=30, refunded=0, mode=Mode.STRONG, debt=None
        )
        assert (seen.limit, seen.remaining) == (limit, limit - 30)
        assert BucketReplica(bucket).own(lo, hi)
        assert BucketReplica(bucket).void(lo, hi, 5)
        assert bucket.peek(key).remaining == limit - 30
        assert BucketReplica(bucket).shortage(lo, hi, limit) > 0


# ---- going back and forth ----


def test_tokens_of_debt_move_with_a_key_in_both_directions() -> None:
    bucket = bucket_of(OLD)
    for name in NAMES[:20]:
        bucket.take(name, 30)
    for share, keep in ((0.5, False), (0.5, True)):
        bucket.stage(NEW, share)
        for name in NAMES[:20]:
            seen = bucket.peek(name)
            assert seen.limit - seen.remaining == 30
        bucket.unstage(keep=keep)
    assert bucket.spec is NEW
    assert {bucket.peek(name).remaining for name in NAMES[:20]} == {20}


def test_a_key_that_was_not_touched_changes_as_of_the_stage() -> None:
    bucket = bucket_of(BucketSpec("b", 100, 1))
    bucket.settle("k", 100)
    bucket.table.set_time(10 * SECOND)
    bucket.stage(BucketSpec("b", 100, 10), 1)
    bucket.table.set_time(14 * SECOND)
    assert bucket.peek("k").remaining == 10 + 40


def test_upkeep_leaves_a_key_with_its_candidate_and_takes_it_back_after() -> None:
    bucket = staged(1.0)
    bucket.settle("k", 60)
    bucket.table.outbox.collect()
    bucket.table.sweep()
    assert bucket.table.survey()[bucket.name_hash] == (1, 60.0, 60.0)
    assert bucket.peek("k").limit == 50
    bucket.unstage(keep=False)
    bucket.table.sweep()
    assert bucket.table.survey()[bucket.name_hash] == (0, 60.0, 60.0)
    assert (bucket.peek("k").limit, bucket.peek("k").remaining) == (100, 40)


def test_a_survey_counts_the_keys_of_both_for_the_one_bucket() -> None:
    bucket = staged()
    for key in one_of_each(bucket):
        bucket.settle(key, 50)
    assert bucket.table.survey() == {bucket.name_hash: (1, 100.0, 50.0)}


def test_a_definition_that_changes_keeps_its_candidate() -> None:
    bucket = staged()
    old, new = one_of_each(bucket)
    bucket.take(new, 10)
    bucket.define(BucketSpec("b", 200, 100))
    assert (bucket.peek(old).limit, bucket.peek(new).limit) == (200, 50)
    bucket.stage(NEW, 0.5, min_debt=10_000)
    assert bucket.peek(new).remaining == 40
    assert bucket.settle(new, 5_000) == 5_000


@pytest.mark.parametrize("keep", [False, True])
def test_counts_are_apart_while_staged_and_none_is_lost_when_joined(keep: bool) -> None:
    bucket = staged()
    old, new = one_of_each(bucket)
    for _ in range(3):
        bucket.take(old, 40)
        bucket.take(new, 40)
    assert bucket.decided() == ((2, 1), (1, 2))
    before = bucket.counters()
    assert (before["allowed"], before["denied"], before["granted"]) == (3, 3, 120)
    assert before["modes"]["eventual"] == {"allowed": 3, "denied": 3, "shadowed": 0}
    assert before["keys"] == 2
    bucket.unstage(keep=keep)
    for key in (old, new):
        bucket.peek(key)
    assert bucket.counters() == before
    assert bucket.decided() == ((3, 3), None)


def test_slots_of_ended_candidates_are_used_again() -> None:
    bucket = bucket_of(OLD)
    for change in range(5_000):
        bucket.table.set_time(change * 61 * SECOND)
        bucket.stage((NEW, SHADOW)[change % 2], 0.5)
        bucket.unstage(keep=False)
    assert len(bucket.table.definitions.all()) <= 3


def test_peers_understand_anew_when_a_candidate_comes_and_goes() -> None:
    bucket = bucket_of(OLD)
    roster = Roster(bucket.table, "a")
    keys = {roster.key}
    bucket.stage(NEW, 0.5)
    keys.add(roster.key)
    tables, _ = roster.announced()
    assert [same for _, same, _, _ in roster.restore(tables).definitions] == [1, 2]
    bucket.unstage(keep=True)
    keys.add(roster.key)
    assert len(keys) == 3
    assert [same for _, same, _, _ in roster.restore(tables).definitions] == [0, 1]


specs = st.sampled_from([OLD, NEW, BucketSpec("b", 100, 7), BucketSpec("b", 200, 30)])
steps = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(NAMES[:6]),
        st.integers(1, 50),
        st.one_of(
            st.none(),
            st.tuples(specs, st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0])),
            st.booleans(),
        ),
    ),
    max_size=40,
)


@given(steps)
def test_flips_mint_nothing_and_lose_nothing(steps: list[Any]) -> None:
    """Against one level a key in exact tokens, which refills under the definition of the key."""
    bucket = bucket_of(OLD)
    owed: dict[str, Fraction] = dict.fromkeys(NAMES[:6], Fraction(0))
    loosest, now = Fraction(0), 0
    for seconds, key, tokens, change in steps:
        now += seconds * SECOND
        for name, tokens_owed in owed.items():
            spec = bucket.spec_of(name)
            rate = Fraction(spec.refill_rate, spec.interval_ns)
            owed[name] = max(Fraction(0), tokens_owed - rate * seconds * SECOND)
        bucket.table.set_time(now)
        owed[key] += bucket.settle(key, tokens)
        if isinstance(change, tuple):
            bucket.stage(change[0], change[1], min_debt=10_000)
        elif change is not None:
            bucket.unstage(keep=change)
        else:
            bucket.define(bucket.spec, min_debt=10_000)
        for name in owed:
            bucket.peek(name)  # each changes as of now
        loosest += 1
    for name, exact in owed.items():
        if bucket.debt(name) is not None:
            q, p = bucket.spec_of(name).emission
            found = Fraction(bucket.peek(name).debt * p, q)
            assert exact <= found <= exact + Fraction(3, 10**6) * (loosest + 1)


# ---- between nodes ----


def test_levels_are_adopted_where_a_key_has_the_same_definition_on_both() -> None:
    """A newcomer that is at the same stage takes over the debt; one that is not counts what it
    learns, and no more than is stated."""
    a = peer_with(0.5)
    old, new = one_of_each(a.bucket)
    for key in (old, new):
        a.bucket.take(key, 40)
    a.table.set_time(SECOND // 5)
    left = {old: 80, new: 12}
    for number, share in ((1, 0.5), (2, 0.0)):
        b = peer_with(share, number=number)
        b.table.set_time(a.table.now())
        send_all(a, b)
        for key in (old, new):
            seen = b.bucket.peek(key)
            taken = a.bucket.peek(key).limit - left[key]
            assert seen.limit == b.bucket.spec_of(key).capacity
            assert seen.limit - seen.remaining == taken


@pytest.mark.parametrize("share", [0.5, 0.0], ids=["at one stage", "at two"])
def test_levels_meet_where_a_key_has_one_definition_on_both(share: float) -> None:
    """What one clock refilled sooner is adopted by the other node, under the candidate as well, but
    never from a level of another definition."""
    a, b = peer_with(0.5), peer_with(share, number=1)
    old, new = one_of_each(a.bucket)
    for key in (old, new):
        a.bucket.take(key, 40)
    send(a, b)
    a.table.set_time(SECOND // 5)  # 20 tokens come back to the one, 2 to the other
    send_all(a, b)
    assert b.bucket.peek(old).remaining == 80
    assert b.bucket.peek(new).remaining == (12 if share else 60)


def do(step: tuple[Any, ...], nodes: list[Peer], taken: dict[str, list[Any]]) -> None:
    what, who, *rest = step
    if what == "wait":
        for peer in nodes:
            peer.table.set_time(peer.table.now() + who * SECOND // 1000)
        return
    peer = nodes[who]
    if what == "take" and peer.bucket.take(*rest):
        taken[rest[0]].append((who, peer.table.now(), rest[1]))
    elif what == "send" and rest[0] != who:
        send(peer, nodes[rest[0]])
    elif what == "stage":
        peer.bucket.stage(NEW, rest[0], min_debt=1_000)
    elif what == "end":
        peer.bucket.unstage(keep=rest[0])
        peer.bucket.define(OLD, min_debt=1_000)


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("take"), st.integers(0, 2), st.sampled_from(NAMES[:4]), st.integers(1, 40)
            ),
            st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 2)),
            st.tuples(st.just("wait"), st.integers(1, 500)),
            st.tuples(st.just("stage"), st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0])),
            st.tuples(st.just("end"), st.integers(0, 2), st.booleans()),
        ),
        max_size=40,
    )
)
def test_mixed_versions_merge_soundly(history: list[tuple[Any, ...]]) -> None:
    """No take is lost, no debt is above all that was taken, and each node's is at least that of a
    bucket which saw its own takes alone and refilled at the faster of the two rates."""
    nodes = [Peer(number, OLD) for number in range(3)]
    taken: dict[str, list[tuple[int, int, int]]] = {name: [] for name in NAMES[:4]}
    for step in history:
        do(step, nodes, taken)
    now = nodes[0].table.now()
    for one in (*nodes, *nodes):
        for other in nodes:
            if one is not other:
                send(one, other)
    for name, takes in taken.items():
        total = sum(tokens for _, _, tokens in takes)
        for number, peer in enumerate(nodes):
            q, p = peer.bucket.spec_of(name).emission
            owed = Fraction(peer.bucket.peek(name).debt * p, q)
            own = [(at, tokens) for who, at, tokens in takes if who == number]
            assert least_debt(own, now) - Fraction(1, 1000) <= owed <= total + Fraction(1, 1000)
            if owed:
                assert sum(p for _, p, _ in peer.bucket.columns(name).values()) == total


def least_debt(takes: list[tuple[int, int]], now: int) -> Fraction:
    owed, before = Fraction(0), 0
    for at, tokens in [*takes, (now, 0)]:
        owed = max(Fraction(0), owed - Fraction((at - before) * 100, SECOND)) + tokens
        before = at
    return owed


def test_another_process_replaces_the_definition_beside_the_candidate_or_ends_that() -> None:
    bucket = staged()
    ceiling = bucket.candidate_max_debt
    other = BucketCore(bucket.table, OLD, min_debt=300)  # as a process that starts in a stage
    assert bucket.candidate_max_debt == ceiling > 0
    other.stage(NEW, 0.5)
    other.unstage(keep=False)
    assert bucket.candidate_max_debt == 0
