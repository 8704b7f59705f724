"""What is held back for peers, seen from outside: by the decisions of a node that sees a peer."""

from __future__ import annotations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import Peer, peers, send

MS = 1_000_000
DAY = 86_400_000 * MS
SPEC = BucketSpec("b", 1000, 100)


def seen_round(peer: Peer, now: int) -> None:
    """A complete round of node 0, 100 ms after it was sent."""
    peer.table.set_time(now)
    peer.table.nodes.set_last_seen(peer.node_of(0), now - 100 * MS)


@pytest.mark.parametrize("days", [1, 24, 27, 40, 51])
def test_a_rate_that_was_not_stated_again_is_forgotten_for_good(days: int) -> None:
    """However long ago: the times of columns are kept in 32 bits, which wrap after 52 days."""
    a, b = Peer(0, SPEC), Peer(1, SPEC)
    b.table.nodes.configure(predict=True)
    for now in range(DAY, DAY + 2000 * MS, 100 * MS):
        seen_round(b, now)
        a.table.set_time(now)
        b.bucket.take("k", 5)
        b.table.outbox.collect()
        a.bucket.take_burst("k", 1000)  # far above the refill, denied for the most part
        send(a, b)
    assert b.bucket.peek("k", 500).allowed is False
    for now in range((1 + days) * DAY, (1 + days) * DAY + 10_000 * MS, 100 * MS):
        seen_round(b, now)
        b.bucket.take("k", 5)  # its entry is never idle, so never evicted
        b.table.outbox.collect()
    assert b.bucket.peek("k", 900).allowed


@pytest.mark.parametrize("silence", range(500, 900, 50))
def test_a_credit_survives_a_rate_at_which_it_would_be_centuries(silence: int) -> None:
    """Tokens of credit at one in 30 days are more ns than fit, and must not come out as debt."""
    fast, slow = BucketSpec("b", 10_000_000, 10_000_000), BucketSpec("b", 100, 1, "30d")
    a, b = peers(2, fast)
    b.table.nodes.configure(predict=True)
    b.table.nodes.set_node(b.node_of(0), a.epoch, True)
    for now in range(DAY, DAY + 2000 * MS, 100 * MS):
        seen_round(b, now)
        a.table.set_time(now)
        b.bucket.take("k", 1)
        b.table.outbox.collect()
        a.bucket.take_burst("k", 100, 10_000_000)
        send(a, b)
    b.table.set_time(DAY + silence * 1000 * MS)
    b.bucket.take("k", 1)
    assert b.bucket.debt("k") < 0
    b.bucket.define(slow)
    assert b.bucket.peek("k").remaining == 100
    assert b.bucket.debt("k") < 0


def test_a_peer_is_silent_too_of_which_nothing_came_after_its_first_rates() -> None:
    a, b = peers(2, SPEC)
    b.table.nodes.configure(predict=True)
    b.table.set_time(DAY)
    b.table.nodes.set_node(b.node_of(0), a.epoch, True)
    for now in range(DAY, DAY + 2000 * MS, 100 * MS):
        a.table.set_time(now)
        a.bucket.take_burst("k", 20)
        a.table.outbox.collect()
    b.table.set_time(now)
    send(a, b)
    b.table.set_time(now + 30_000 * MS)
    b.bucket.take("k", 1)
    assert b.bucket.credit("k") > 0


def calls_of(a: Peer, b: Peer, start: int, until: int, every: int, cost: int = 1) -> int:
    """A takes every so often, and B merges all of it; returns when the last round of A arrived."""
    now = start
    while now < until:
        for peer in (a, b):
            peer.table.set_time(now)
        if (now - start) % every == 0:
            a.bucket.take("k", cost)
        now += 100 * MS
        for peer in (a, b):
            peer.table.set_time(now)
        b.table.nodes.set_last_seen(b.node_of(0), now)
        send(a, b)
    return now


def test_the_rate_of_a_single_call_is_not_held_back_for_a_silent_peer() -> None:
    """One call in 50 ms is twenty a second: on that a small bucket would starve in a partition."""
    a, b = peers(2, BucketSpec("b", 5, 5))
    b.table.nodes.configure(predict=True)
    b.table.nodes.set_node(b.node_of(0), a.epoch, True)
    now = calls_of(a, b, DAY, DAY + 29_100 * MS, 2_900 * MS)
    b.table.set_time(now + 10_000 * MS)
    assert b.bucket.take("k", 1).allowed
    assert b.bucket.peek("k", 3).allowed


def test_the_call_that_makes_an_entry_is_no_rate() -> None:
    """It would be one a second, and a peer that is cut off then would get all of a small limit."""
    a, b = peers(2, BucketSpec("b", 10, 1))
    b.table.nodes.configure(predict=True)
    b.table.nodes.set_node(b.node_of(0), a.epoch, True)
    now = calls_of(a, b, DAY, DAY + 200 * MS, DAY)
    b.table.set_time(now + 30_000 * MS)
    b.bucket.take("k", 1)
    assert b.bucket.credit("k") == 0


def test_the_window_of_a_rate_begins_with_the_first_call() -> None:
    """A key that came from a peer is held for longer, while nobody here has asked for it."""
    a, b = peers(2, BucketSpec("b", 1_000, 1_000))
    b.table.nodes.configure(predict=True)
    b.table.nodes.set_node(b.node_of(0), a.epoch, True)
    b.epochs[a.epoch] = 0
    b.table.set_time(DAY)
    b.bucket.take("k", 500)
    a.table.set_time(DAY)
    send(b, a)
    for now in range(DAY, DAY + 100_000 * MS, 100 * MS):
        a.table.set_time(now)
        a.table.outbox.collect()
    now = calls_of(a, b, now, now + 3_000 * MS, 100 * MS, 20)
    b.table.set_time(now + 10_500 * MS)
    assert b.bucket.credit("k") == pytest.approx(10 * 200, rel=0.1)


def test_a_rate_whose_window_began_after_a_jump_stays_as_it_is() -> None:
    """The clock jumped to three seconds before the first call, which is noticed a second later."""
    a, b = peers(2, BucketSpec("b", 1_000, 1_000))
    b.table.nodes.configure(predict=True)
    b.table.nodes.set_node(b.node_of(0), a.epoch, True)
    now = calls_of(a, b, DAY, DAY + 1_000 * MS, 100 * MS, 20)
    a.table.shift(60_000 * MS, DAY - 33_000 * MS)
    now = calls_of(a, b, now, now + 1_000 * MS, 100 * MS, 20)
    b.table.set_time(now + 10_500 * MS)
    assert b.bucket.credit("k") == pytest.approx(10 * 200, rel=0.1)


@pytest.mark.parametrize("claims", [2, 1_000])
def test_a_silent_peer_is_granted_no_more_for_asking_more(claims: int) -> None:
    """Beside its two refill rates this node's tenth of one is a twenty-first of what is shared."""
    a, b = peers(2, BucketSpec("b", 1_000, 100))
    b.table.nodes.configure(predict=True)
    b.table.nodes.set_node(b.node_of(0), a.epoch, True)
    for now in range(DAY, DAY + 30_000 * MS, 100 * MS):
        seen_round(b, now)
        a.table.set_time(now)
        b.bucket.take("k", 1)
        b.table.outbox.collect()
        a.bucket.take_burst("k", claims * 10)
        send(a, b)
    before = b.bucket.credit("k")
    for now in range(DAY + 30_000 * MS, DAY + 60_000 * MS, 100 * MS):
        b.table.set_time(now)
        b.bucket.take("k", 1)
        b.table.outbox.collect()
    granted = (b.bucket.credit("k") - before) / 30
    assert granted == pytest.approx(100 * 20 / 21, rel=0.03)


@pytest.mark.parametrize("floor", [0, 0.3])
def test_a_look_says_what_a_take_gets_where_a_prediction_is_in_the_way(floor: float) -> None:
    """A take gets past it by the reserve; the peek shows that, and how soon."""
    a, b = peers(2, BucketSpec("b", 20, 100))
    b.table.nodes.configure(predict=True, members=5)
    waits = set()
    for step in range(100):
        now = DAY + step * 100 * MS
        seen_round(b, now)
        a.table.set_time(now)
        cost = (5, 8, 2)[step % 3]
        looked, taken = b.bucket.peek("k", cost, floor), b.bucket.take("k", cost, floor)
        assert (looked.allowed, looked.retry_after_ns) == (taken.allowed, taken.retry_after_ns)
        waits.add(looked.retry_after_ns)
        b.table.outbox.collect()
        for _ in range(step * 11 % 16):
            a.bucket.take("k")
        send(a, b)
    assert len(waits) > 10


@pytest.mark.parametrize(("calls", "cut"), [(19, 0), (21, 1)])
def test_a_rate_above_twice_the_limit_is_counted_as_cut(calls: int, cut: int) -> None:
    a, b = peers(2, SPEC)
    for now in range(DAY, DAY + 2000 * MS, 100 * MS):
        a.table.set_time(now)
        a.bucket.take_burst("k", calls, 1)
        merged = send(a, b)
    assert merged.rates_cut == cut


@pytest.mark.parametrize("cost", [200, 250, 300])
def test_a_denial_says_when_the_call_passes_as_what_is_held_back_fades(cost: int) -> None:
    """It was 3.7 s in place of 1 s, as if the peer took all of that."""
    a, b = peers(2, BucketSpec("b", 1_000, 1_000, "60s"))
    b.table.nodes.configure(predict=True)
    b.table.nodes.set_node(b.node_of(0), a.epoch, True)
    for now in range(DAY, DAY + 2_100 * MS, 100 * MS):
        for peer in (a, b):
            peer.table.set_time(now)
        if (now - DAY) % (1_000 * MS) == 0:
            a.bucket.take("k", 200)
        b.bucket.take("k", 1)
        for peer in (a, b):
            peer.table.outbox.collect()
        b.table.nodes.set_last_seen(b.node_of(0), now)
        send(a, b)
    now += 100 * MS
    seen_round(b, now)
    denied = b.bucket.take("k", cost)
    assert not denied.allowed
    assert denied.remaining > cost
    passes = now
    while not b.bucket.peek("k", cost).allowed:
        passes += 100 * MS
        seen_round(b, passes)
    assert 0.9 <= denied.retry_after_ns / (passes - now) <= 1.1
