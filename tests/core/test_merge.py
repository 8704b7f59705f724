"""Exchanges between tables, compared step by step with the merge rules in exact arithmetic."""

from __future__ import annotations

import itertools
import math
from array import array
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.oracle import Member
from tests.core.pair import ORIGINS, SIZE, Peer, peers, send, send_all
from tests.core.specs import SECOND, rate_of

WHOLE = BucketSpec("b", 100, 100)
ODD = BucketSpec("b", 100, 7)
DEBT_AT = 18
"""The debt stands behind the hash of the key, the flags and the bucket; one byte up to 127 ns."""


class World:
    """Peers of the core and members of the naive mesh that do the same; clocks run together."""

    def __init__(self, spec: BucketSpec, count: int) -> None:
        self.spec = spec
        self.peers = peers(count, spec)
        self.members = [Member(rate_of(spec), peer.epoch) for peer in self.peers]
        self.decisions: list[Any] = [None] * count
        self.now = 0
        self.messages = 0

    def step(self, what: str, a: int, b: int, amount: int, gap: int) -> None:
        self.now += gap
        for peer in self.peers:
            peer.table.set_time(self.now)
        getattr(self, what)(a % len(self.peers), b % len(self.peers), amount)
        for peer, member in zip(self.peers, self.members, strict=True):
            self.check(peer, member)

    def take(self, a: int, _: int, amount: int) -> None:
        decision = self.peers[a].bucket.take("k", amount)
        if decision:
            self.members[a].charge(amount, self.now)
            self.decisions[a] = decision
        else:
            self.members[a].create(self.now)

    def settle(self, a: int, _: int, amount: int) -> None:
        self.members[a].charge(self.peers[a].bucket.settle("k", 3 * amount), self.now)

    def refund(self, a: int, _: int, amount: int) -> None:
        decision = self.decisions[a]
        if decision is not None:
            back = self.peers[a].bucket.refund(decision)
            if back:
                self.members[a].charge(-back, self.now)
            self.decisions[a] = None

    def send(self, a: int, b: int, _: int) -> None:
        if a != b and self.members[a].held:
            self.peers[a].bucket.table.outbox.touch([0])
            stated = self.members[a].statement(self.now)
            if stated.debt <= 1:
                # Less than 1 ns is stated as nothing, and a clamp leaves less than 1 ns too much.
                self.peers[a].table.outbox.collect()
                stated = stated._replace(debt=Fraction(self.peers[a].payload()[DEBT_AT]))
            self.members[b].merge(stated, self.now)
            send(self.peers[a], self.peers[b], newer=False)
            self.messages += 1

    def evict(self, a: int, _: int, __: int) -> None:
        """Evicts as a table does: only a full key that was sent and is idle."""
        table = self.peers[a].table
        table.outbox.collect()
        table.outbox.trim(table.outbox.version)
        if table.sweep():
            assert self.members[a].debt(self.now) == 0
            self.members[a].evict()
            self.decisions[a] = None

    def check(self, peer: Peer, member: Member) -> None:
        held = peer.bucket.debt("k")
        if not member.held:
            assert held is None
            return
        assert held is not None
        exact = math.ceil(member.debt(self.now))
        over = max(held, 0) - exact
        # each message may round up what it states and what it leaves, by less than 1 ns each
        assert 0 <= over <= (2 * self.messages + 2 if self.spec is ODD else 0)
        shown = {epoch: (p, n) for (_, epoch), (_, p, n) in peer.bucket.columns("k").items()}
        assert shown == {k: (c.taken, c.refunded) for k, c in member.columns.items() if c.taken}


histories = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "send", "send", "send", "settle", "refund", "evict"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(1, 100),
        st.one_of(st.integers(0, 10**7), st.integers(0, 2 * SECOND), st.just(20 * SECOND)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("spec", [WHOLE, ODD], ids=["whole", "odd"])
@given(history=histories)
@example(
    [
        ("take", 0, 0, 1, 279),
        ("take", 0, 0, 29, 20 * SECOND),
        ("refund", 0, 0, 1, 40 * SECOND),
        ("send", 0, 1, 1, 0),
    ]
)
def test_every_step_follows_the_merge_rules(
    spec: BucketSpec, count: int, history: list[tuple[str, int, int, int, int]]
) -> None:
    world = World(spec, count)
    for step in history:
        world.step(*step)


@settings(max_examples=30)
@given(
    takes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 25)), max_size=8),
    order=st.permutations(list(itertools.permutations(range(4), 2))),
    repeats=st.integers(1, 3),
)
def test_any_order_and_repetition_gives_the_same_columns(
    takes: list[tuple[int, int]], order: list[tuple[int, int]], repeats: int
) -> None:
    nodes = peers(4, WHOLE)
    for node, cost in takes:
        nodes[node].bucket.take("k", cost)
    for _ in range(4):  # enough for everything to reach everyone
        for a, b in order:
            for _ in range(repeats):
                nodes[a].table.outbox.touch([0] if len(nodes[a].table) else [])
                send(nodes[a], nodes[b])
    columns = [{e: c for (_, e), c in node.bucket.columns("k").items()} for node in nodes]
    debts = {node.bucket.debt("k") for node in nodes}
    taken = sum(p - n for _, p, n in columns[0].values())
    assert all(c == columns[0] for c in columns)
    assert len(debts) == 1
    admitted = sum(node.bucket.counters()["granted"] for node in nodes)
    assert taken == admitted  # no take is lost


def test_a_late_message_changes_nothing() -> None:
    a, b = peers(2, WHOLE)
    a.bucket.take("k", 20)
    a.table.outbox.collect()
    old = a.payload()
    a.bucket.take("k", 30)
    send(a, b)
    before = b.bucket.debt("k"), b.bucket.columns("k")
    b.merge(a, old)
    assert (b.bucket.debt("k"), b.bucket.columns("k")) == before


def test_the_debt_of_a_peer_that_keeps_credit_counts_here_up_to_the_capacity() -> None:
    a, b, c = peers(3, WHOLE)
    a.bucket.take("k", 60)
    send(a, b)
    b.table.set_time(SECOND // 2)
    b.bucket.take("k", 5)
    for newer, debt in ((False, 15), (True, 65)):  # an older frame says nothing of now
        send(a, b, keeps_credit=True, newer=newer)
        assert b.bucket.debt("k") == debt * SECOND // 100  # with what is not known there
    c.bucket.take("k", 60)
    send(c, a)
    send(a, b)
    b.table.set_time(3 * SECOND // 2)
    send(a, b, keeps_credit=True)
    assert b.bucket.debt("k") == SECOND


def test_history_costs_a_newcomer_nothing() -> None:
    a, b = peers(2, WHOLE)
    for second in range(50):
        a.table.set_time(second * SECOND)
        a.bucket.take("k", 100)
    a.table.set_time(50 * SECOND - SECOND // 2)
    send(a, b)
    assert b.bucket.columns("k").popitem()[1][1] == 5_000
    assert b.bucket.peek("k").remaining == 50


def test_a_key_that_is_full_there_makes_no_entry_here() -> None:
    a, b = peers(2, WHOLE)
    a.bucket.take("k", 20)
    a.table.set_time(SECOND)
    merged = send(a, b)
    assert (merged.merged, merged.ignored) == (0, 1)
    assert len(b.table) == 0


def test_a_full_node_answers_one_that_is_low() -> None:
    """Else the one that is low stays low until it refills by itself."""
    a, b = peers(2, WHOLE)
    a.bucket.take("k", 50)
    send(a, b)
    b.table.set_time(SECOND)  # its clock ran ahead: full there
    merged = send(a, b)
    assert list(merged.answers) == [0]
    b.table.outbox.touch(merged.answers)
    send(b, a)
    assert a.bucket.peek("k").remaining == 100


def test_a_settle_beyond_the_floor_is_believed_by_peers() -> None:
    """A column rises no faster than the limit allows even when far more is settled."""
    a, b = peers(2, BucketSpec("b", 100, 100))
    for second in range(5):
        for peer in (a, b):
            peer.table.set_time(second * SECOND)
        for _ in range(10):
            a.bucket.settle("k", 1_000)
        merged = send(a, b)
        assert merged.refused_columns == 0
        assert b.bucket.debt("k") == a.bucket.debt("k") == 2 * SECOND


def liar_for(owner: Peer, tokens: int) -> Peer:
    """A process that states so many tokens under the owner's epoch, whatever the limit."""
    liar = Peer(owner.number, BucketSpec("b", 2**30, 100))
    liar.table.set_time(SECOND)
    liar.table.epochs.open(owner.epoch)
    liar.bucket.take("k", tokens)
    liar.table.outbox.collect()
    return liar


def lie(liar: Peer, receiver: Peer, sender: Peer) -> Any:
    """The receiver merges the entries of the liar from `sender`, under its own definition."""
    _, places = liar.announced()
    return receiver.table.inbox.merge(
        liar.payload(),
        [(0, True, *WHOLE.emission)],
        receiver.understood(places),
        node=receiver.node_of(sender.number),
        epoch=sender.epoch,
        at=receiver.table.now(),
    )


MOST = 2 * 100 + 100 + 1.25 * 100 * 5
"""The most by which a column may rise at once, under a limit of 100 and 100 a second."""


def test_an_owner_that_took_more_than_its_limit_is_counted_and_charged_up_to_that() -> None:
    """Its later counts build on these: if they were refused, it would never be believed again."""
    a, b = peers(2, WHOLE)
    for peer in (a, b):
        peer.table.set_time(SECOND)
    a.bucket.take("k", 1)
    send(a, b)
    merged = lie(liar_for(a, 1_000_000), b, a)
    assert (merged.refused_columns, merged.capped_columns) == (0, 1)
    assert b.bucket.columns("k")[1, a.epoch] == (1, 1_000_000, 0)
    assert b.bucket.peek("k").remaining == 0
    assert b.bucket.debt("k") == 2 * SECOND  # the ceiling: so much the sender says is owed


def one_merged_a_take_of_a() -> list[Peer]:
    """Three peers; the second one has merged a take of one token of the first."""
    a, b, c = peers(3, WHOLE)
    for peer in (a, b, c):
        peer.table.set_time(SECOND)
    a.bucket.take("k", 1)
    send(a, b)
    return [a, b, c]


def test_a_relay_raises_a_column_by_what_the_limit_explains() -> None:
    a, b, c = one_merged_a_take_of_a()
    liar = liar_for(a, 1_000_000)
    merged = lie(liar, b, c)
    assert (merged.refused_columns, merged.capped_columns) == (1, 0)
    assert b.bucket.columns("k")[1, a.epoch] == (1, 1 + MOST, 0)


def test_what_a_relay_took_itself_is_charged_beside_a_column_that_nothing_explains() -> None:
    """Else one member that advertises a million tokens of its own has all others forgive what they
    took at the same time."""
    a, b, c = one_merged_a_take_of_a()
    lie(liar_for(a, 1_000_000), c, a)
    for seconds in (20, 40):
        for one in (b, c):
            one.table.set_time(seconds * SECOND)  # all has refilled
            assert one.bucket.take("k", 80)
        send(c, b)
        assert b.bucket.debt("k") == 160 * SECOND // 100


def test_relays_raise_a_column_in_many_steps_by_no_more() -> None:
    a, b, c = one_merged_a_take_of_a()
    for stated in range(50, 2_000, 50):
        lie(liar_for(a, stated), b, c)
    assert b.bucket.columns("k")[1, a.epoch] == (1, 1 + MOST, 0)
    b.table.set_time(3 * SECOND)
    for stated in range(1_000, 3_000, 50):
        lie(liar_for(a, stated), b, c)
    assert b.bucket.columns("k")[1, a.epoch] == (1, 1 + MOST + 2 * 125, 0)


def test_counts_that_come_late_raise_only_what_is_held() -> None:
    a, b = peers(2, WHOLE)
    a.bucket.take("k", 20)
    send(a, b)
    a.bucket.take("k", 20)
    a.bucket.take("other", 30)
    a.table.outbox.collect()
    merged = b.merge(a, a.payload(), late=True, newer=False)
    assert (merged.merged, merged.ignored) == (1, 1)
    assert b.bucket.columns("k")[1, a.epoch][1] == 40
    assert b.bucket.peek("k").remaining == 60
    assert len(b.table) == 1


def test_a_debt_that_comes_late_lowers_none() -> None:
    a, b = peers(2, WHOLE)
    a.bucket.take("k", 20)
    send(a, b)
    a.table.set_time(SECOND // 10)  # it has refilled 10
    a.bucket.take("k", 1)
    a.table.outbox.collect()
    payload = a.payload()
    b.merge(a, payload, late=True, newer=False)
    assert b.bucket.debt("k") == 21 * SECOND // 100
    b.merge(a, payload)
    assert b.bucket.debt("k") == a.bucket.debt("k") == 11 * SECOND // 100


def test_a_late_count_of_another_generation_is_history() -> None:
    a, b = peers(2, WHOLE)
    for peer in (a, b):
        peer.bucket.take("k", 20)
    send(b, a)
    before = b.bucket.debt("k"), b.bucket.columns("k")
    a.table.outbox.collect()
    b.merge(a, a.payload(), late=True, newer=False)
    assert (b.bucket.debt("k"), b.bucket.columns("k")) == before


def test_a_relayed_column_of_a_connected_owner_is_not_believed() -> None:
    a, b, c = peers(3, WHOLE)
    c.table.nodes.set_node(c.node_of(0), a.epoch, True)
    a.bucket.take("k", 30)
    send(a, b)
    b.bucket.take("k", 1)
    send(b, c)
    assert {e for _, e in c.bucket.columns("k")} == {b.epoch}
    c.table.nodes.set_node(c.node_of(0), a.epoch, False)
    b.table.outbox.touch([0])
    send(b, c)
    assert {e for _, e in c.bucket.columns("k")} == {a.epoch, b.epoch}


def test_a_refund_that_is_not_believed_yet_is_not_counted_twice() -> None:
    """A level that has the refund in it, and then the refund by its owner's word."""
    a, b, c = peers(3, WHOLE)
    c.table.nodes.set_node(c.node_of(0), a.epoch, True)
    decision = a.bucket.take("k", 30)
    send(a, b)
    send(a, c)
    a.bucket.refund(decision, 20)
    send(a, b)
    b.bucket.take("k", 1)
    send(b, c)
    assert c.bucket.peek("k").remaining == 69
    send(a, c)
    assert c.bucket.peek("k").remaining == 89


class TestDefinitions:
    def test_levels_are_not_adopted_across_different_ones(self) -> None:
        a, b = Peer(0, WHOLE), Peer(1, BucketSpec("b", 100, 50))
        b.bucket.take("k", 60)
        b.table.set_time(SECOND)  # 50 came back at 50 a second
        a.bucket.take("k", 60)
        send(a, b)
        assert b.bucket.peek("k").remaining == 30  # 60 on top of the 10 owed, not a's level

    def test_first_sight_charges_at_most_what_is_stated(self) -> None:
        a, b = Peer(0, WHOLE), Peer(1, BucketSpec("b", 100, 50))
        for second in range(20):
            a.table.set_time(second * SECOND)
            a.bucket.take("k", 100)
        a.table.set_time(20 * SECOND - SECOND // 4)
        send(a, b)
        assert b.bucket.peek("k").remaining == 75

    @pytest.mark.parametrize(("q", "p"), [(1, 2**30), (1, 2**40), (1, 2**63 - 1), (3, 2**62)])
    def test_an_absurd_rate_of_the_sender_hides_no_takes(self, q: int, p: int) -> None:
        """Its debt in tokens is then more than fits into 128 bits of our units."""
        a, b = Peer(0, BucketSpec("b", 900, 1, "1h")), Peer(1, BucketSpec("b", 1000, 1, "1h"))
        a.bucket.take("k", 600)
        positions, places = a.announced()
        payload, _, _ = a.table.outbox.encode_table(0, positions, SIZE)
        origins = b.understood(places)
        b.table.inbox.merge(
            payload, [(0, False, q, p)], origins, node=1, epoch=a.epoch, at=b.table.now()
        )
        assert b.bucket.peek("k").remaining == 400

    def test_an_unknown_bucket_is_counted_and_left(self) -> None:
        a, b = Peer(0, BucketSpec("other", 100, 100)), Peer(1, WHOLE)
        a.bucket.take("k")
        assert send(a, b).unknown_bucket == 1
        assert len(b.table) == 0


def test_a_large_frame_is_merged_as_its_entries_one_by_one() -> None:
    a, b, c = peers(3, WHOLE, max_keys=1_000)
    keys = [f"key {i}" for i in range(500)]
    for i, key in enumerate(keys):
        a.bucket.take(key, 1 + i % 50)
        if i % 3:
            b.bucket.take(key, 1 + i % 20)
            c.bucket.take(key, 1 + i % 20)
    together = send(a, b)
    assert together.merged == 500
    for version in range(1, a.table.outbox.version):
        positions, _ = a.announced()
        one, _, count = a.table.outbox.encode_log(version, version + 1, positions, 1 << 16)
        assert count == 1
        c.merge(a, bytes(one))
    for key in keys:
        assert b.bucket.debt(key) == c.bucket.debt(key)
        net = [sorted(p for _, p, _ in x.bucket.columns(key).values()) for x in (b, c)]
        assert net[0] == net[1]


def test_a_joiner_gets_all_that_is_indebted() -> None:
    a, b = peers(2, WHOLE)
    a.bucket.take("k", 60)
    a.bucket.take("full", 1)
    a.table.outbox.collect()
    a.table.outbox.trim(a.table.outbox.version)
    for peer in (a, b):
        peer.table.set_time(SECOND // 10)
    merged = send_all(a, b, joining=True)
    assert merged.merged == 1
    assert len(merged.answers) == 1
    assert b.bucket.peek("k").remaining == 50


def test_fractions_of_the_oracle_are_whole_where_the_rate_is() -> None:
    assert rate_of(WHOLE).emission == Fraction(10_000_000)


def test_a_definition_that_changed_since_the_frame_was_understood() -> None:
    """Its keys are not brought back to the old one, whose ceiling would forgive what they owe."""
    a, b = peers(2, WHOLE)
    a.bucket.take("k", 40)
    a.table.outbox.collect()
    _, places = a.announced()
    understood, ids, payload = a.definitions_for(b), b.understood(places), a.payload()
    b.bucket.settle("k", 30)
    b.bucket.define(BucketSpec("b", 1000, 100, max_debt=1000))
    b.bucket.settle("k", 1000)
    merged = b.table.inbox.merge(payload, understood, ids, node=1, epoch=a.epoch, at=0)
    assert merged.merged == 1
    assert b.bucket.debt("k") == (30 + 1000 + 40) * SECOND // 100


def test_what_a_merge_forgives_stays_at_the_end_of_its_range() -> None:
    a, b = peers(2, WHOLE)
    for _ in range(5):
        a.bucket.settle("full", 2**62)
    assert a.bucket.counters()["forgiven"] == 2**63 - 1
    for one in (a, b):
        one.bucket.settle("k", 200)
    send(b, a)
    assert a.bucket.counters()["forgiven"] == 2**63 - 1


def test_what_a_debt_falls_by_as_the_sender_states_less_is_counted_but_no_refunds() -> None:
    """Half of what is owed here has refilled by the sender's clock, and it has taken one since."""
    sender, receiver = peers(2, WHOLE)
    decision = sender.bucket.take("k", 40)
    assert send(sender, receiver).adopted == 0
    sender.table.set_time(SECOND // 5)
    sender.bucket.take("k", 1)
    assert send(sender, receiver).adopted == 40 - 20 - 1
    assert receiver.bucket.debt("k") == 21 * SECOND // 100
    assert sender.bucket.refund(decision)
    assert send(sender, receiver).adopted == 0


def test_what_is_kept_for_all_silent_peers_is_no_more_than_one_bucket_refills() -> None:
    """A newcomer knows takes of two peers that are silent for the sender, for five and for four
    seconds. Of these 80 tokens 50 at most can be in the sender's debt."""
    spec = BucketSpec("b", 200, 10)
    one, two, sender, newcomer = peers(4, spec)
    for peer in (one, two):
        peer.bucket.take("k", 40)
        send(peer, newcomer)
    sender.bucket.take("k", 30)
    kept = array("q", [0]) * ORIGINS
    for origin, _, epoch, _ in newcomer.table.epochs.origins():
        kept[origin] = {one.epoch: 5, two.epoch: 4}.get(epoch, 0) * SECOND
    send(sender, newcomer, silent=kept)
    assert newcomer.bucket.debt("k") == (30 + 80 - 50) * SECOND // 10
