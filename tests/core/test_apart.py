"""The debt after two sides of a mesh took tokens without each other and are connected again."""

from __future__ import annotations

from functools import partial

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import SIZE, Peer, send, send_all

MS = 1_000_000
SECOND = 1000 * MS
T0 = 1000 * SECOND
SPEC = BucketSpec("b", 100, 10)
TOKEN = SECOND // 10


class Apart:
    """The peers `a` and `b`, whose link is silent from T0 on; then `b` merges the takes of `a`."""

    def __init__(
        self,
        *,
        linked: bool = True,
        predict: bool = True,
        near_ms: int = 500,
        spec: BucketSpec = SPEC,
    ) -> None:
        self.a, self.b = Peer(0, spec), Peer(1, spec)
        self.now = T0
        for peer in (self.a, self.b):
            peer.table.nodes.configure(near_ns=near_ms * MS, predict=predict)
        self._clocks()
        self.b.epochs[self.a.epoch] = 0
        if linked:
            self.b.table.nodes.set_node(self.b.node_of(0), self.a.epoch, True)
            self.b.table.nodes.set_last_seen(self.b.node_of(0), T0)

    def _clocks(self) -> None:
        for peer in (self.a, self.b):
            peer.table.set_time(self.now)

    def b_is_known_to_a(self) -> None:
        self.a.epochs[self.b.epoch] = 1
        self.a.table.nodes.set_node(self.a.node_of(1), self.b.epoch, True)

    def talk(self) -> None:
        """Each side merges an entry of the other one now."""
        self._clocks()
        self.a.table.nodes.set_last_seen(self.a.node_of(1), self.now)
        self.b.table.nodes.set_last_seen(self.b.node_of(0), self.now)
        send(self.a, self.b)
        send(self.b, self.a)

    def each_second(self, seconds: int, there: int, here: int) -> None:
        """Takes so many tokens each second at `a`, and at `b`."""
        for _ in range(seconds):
            for peer, tokens in ((self.a, there), (self.b, here)):
                if tokens:
                    peer.bucket.take("k", tokens)
                peer.table.outbox.collect()
            self.now += SECOND
            self._clocks()

    def another_takes(self, tokens: int) -> None:
        """A peer that `a` sees now for the first time took them. Nobody knows when, so they are not
        noted as taken lately."""
        other = Peer(3, self.a.bucket.spec)
        other.table.set_time(self.now)
        other.bucket.take("k", tokens)
        self.a.epochs[other.epoch] = 3
        self.a.table.nodes.set_node(self.a.node_of(3), other.epoch, True)
        send(other, self.a)

    def merged_debt(self, **options: object) -> int:
        """Lets `b` merge the entry of `a`; returns what it owes then, in tokens rounded up; 0 also
        if it does not hold the key."""
        send(self.a, self.b, **options)
        return -(-(self.b.bucket.debt("k") or 0) // TOKEN)


@pytest.mark.parametrize("seconds", [5, 30, 300])
@pytest.mark.parametrize(("there", "here"), [(8, 1), (1, 8), (5, 5), (9, 0)])
@pytest.mark.parametrize("near_ms", [500, 4500])
def test_what_was_refilled_meanwhile_is_no_debt(
    near_ms: int, there: int, here: int, seconds: int
) -> None:
    """The whole silence counts, even where rounds are so slow that a long silence is none at
    first."""
    apart = Apart(near_ms=near_ms)
    apart.each_second(seconds, there, here)
    assert apart.merged_debt() == 0


def test_a_long_history_that_the_sender_does_not_know_is_no_debt() -> None:
    """It has never held the key, so it lacks all that was taken here, by the rate of which so much
    was taken in the silence alone."""
    apart = Apart()
    apart.each_second(1000, 0, 4)
    apart.b.table.nodes.set_last_seen(apart.b.node_of(0), apart.now)
    apart.each_second(30, 4, 4)
    assert apart.merged_debt() == 0


def test_what_both_took_beyond_the_refill_is_debt() -> None:
    apart = Apart()
    apart.each_second(20, 8, 4)
    assert 40 <= apart.merged_debt() <= 48


@pytest.mark.parametrize("burst", ["there", "here"])
def test_the_debt_of_one_side_alone_stays(burst: str) -> None:
    apart = Apart()
    apart.each_second(30, 2, 2)
    (apart.a if burst == "there" else apart.b).bucket.take("k", 60)
    assert apart.merged_debt() == 60


def test_what_is_kept_for_silent_peers_counts_as_debt() -> None:
    """A burst has emptied the bucket here, which the sender does not know. It owes nothing by
    itself, nor does this side in the partition: the rate of the sender is known, and credit is
    kept."""
    apart = Apart()
    for _ in range(50):
        apart.each_second(1, 8, 1)
        apart.b.table.nodes.set_last_seen(apart.b.node_of(0), apart.now)
        send(apart.a, apart.b)
    apart.b.bucket.take("k", 90)
    apart.each_second(20, 8, 1)
    for peer in (apart.a, apart.b):
        assert (peer.bucket.debt("k") or 0) < 0
    assert 60 < apart.merged_debt() <= 90


@pytest.mark.parametrize("jump", [0, 3600 * SECOND])
def test_a_burst_is_owed_when_a_peer_is_heard_again_that_took_nothing(jump: int) -> None:
    """It was taken of what is kept for that one. A clock that jumps in between changes nothing."""
    apart = Apart()
    for _ in range(50):
        apart.each_second(1, 8, 1)
        apart.b.table.nodes.set_last_seen(apart.b.node_of(0), apart.now)
        send(apart.a, apart.b)
    apart.each_second(20, 0, 1)
    table, bucket = apart.b.table, apart.b.bucket
    bucket.take("k", 60)
    table.outbox.collect()
    assert (bucket.debt("k") or 0) < 0
    now = apart.now + TOKEN + jump
    table.set_time(now)
    table.shift(jump, now)
    table.nodes.set_last_seen(apart.b.node_of(0), now)
    bucket.take("k", 1)
    table.outbox.collect()
    assert bucket.debt("k") == 60 * TOKEN


@pytest.mark.parametrize(("burst", "by"), [(0, ""), (60, "itself"), (60, "another")])
def test_what_a_sender_keeps_for_this_side_hides_nothing_of_its_debt(burst: int, by: str) -> None:
    """It has seen this side ask for much, so what it takes itself is hidden by what it keeps. Calls
    have moved there, and this side has seen it ask for little."""
    apart = Apart()
    apart.b_is_known_to_a()
    for _ in range(100):
        apart.each_second(1, 1, 4)
        apart.talk()
    apart.each_second(200, 5, 1)
    if burst:
        (apart.another_takes if by == "another" else partial(apart.a.bucket.take, "k"))(burst)
    assert (apart.a.bucket.debt("k") or 0) < 0
    assert apart.merged_debt() == burst


def test_where_both_ask_for_more_than_is_refilled_all_is_charged() -> None:
    """They have asked for so much lately, too; what was refilled before that has been used."""
    apart = Apart()
    apart.each_second(600, 1, 1)
    apart.each_second(150, 9, 9)
    assert apart.merged_debt() > 90


@pytest.mark.parametrize("known", [True, False])
def test_a_sender_that_knew_this_side_lacks_just_what_was_taken_meanwhile(known: bool) -> None:
    """If the sender did not know this side, the present demand here shows how much that was."""
    apart = Apart()
    apart.b.bucket.take("k", 1)
    if known:
        send(apart.b, apart.a)
    apart.each_second(10, 9, 9)
    apart.each_second(120, 9, 1)
    assert (apart.merged_debt() >= 80) == known


def test_refunds_of_this_node_are_no_takes_that_the_sender_knows() -> None:
    apart = Apart()
    decision = apart.b.bucket.take("k", 4)
    apart.b.bucket.take("k", 4)
    apart.b.bucket.refund(decision)
    apart.each_second(10, 9, 9)
    apart.each_second(120, 9, 1)
    assert apart.merged_debt() < 80


def test_a_peer_that_was_seen_has_no_such_time() -> None:
    apart = Apart()
    apart.each_second(5, 4, 4)
    apart.b.table.nodes.set_last_seen(apart.b.node_of(0), apart.now - 500 * MS)
    assert apart.merged_debt() == 20


def test_nor_does_a_frame_that_was_long_under_way_say_since_when_its_sender_is_silent() -> None:
    apart = Apart()
    apart.a.bucket.take("k", 5)
    send(apart.a, apart.b)
    apart.each_second(5, 4, 4)
    assert apart.merged_debt(late=True) == 20


@pytest.mark.parametrize("options", [{"linked": False}, {"predict": False}])
def test_nor_has_one_that_was_never_linked_or_where_nothing_is_predicted(
    options: dict[str, bool],
) -> None:
    """Without prediction all is charged that was ever taken."""
    apart = Apart(**options)
    apart.each_second(5, 4, 4)
    assert apart.merged_debt() == 20


@pytest.mark.parametrize(("older", "owed"), [(False, 80), (True, 70)])
def test_what_a_younger_peer_has_taken_in_all_it_took_since_both_ran(
    older: bool, owed: int
) -> None:
    """They meet five seconds after one had begun. Of an older one it is not known how much of its
    column is history: its rate is low after a single call, so what it owes counts."""
    apart = Apart(linked=False)
    apart.a.bucket.take("k", 60)
    apart.each_second(3, 0, 0)
    apart.b.bucket.take("k", 70)
    apart.each_second(2, 0, 0)
    began = (T0 - 900 * SECOND if older else T0), T0
    apart.b.table.nodes.set_node(apart.b.node_of(0), apart.a.epoch, True, began)
    assert apart.merged_debt() == owed


def test_what_fills_a_bucket_up_to_its_credit_is_no_debt_for_a_newcomer() -> None:
    """If a token takes no whole number of ns, the level, which is stored in whole ones, is up to
    one above the credit."""
    spec = BucketSpec("b", 20, 67)
    apart, third = Apart(spec=spec), Peer(2, spec)
    third.table.set_time(T0)
    third.bucket.take("k")
    send(third, apart.b)
    for _ in range(20):
        apart.each_second(1, 10, 10)
        apart.b.table.nodes.set_last_seen(apart.b.node_of(0), apart.now)
        send(apart.a, apart.b)
    for _ in range(20):
        apart.each_second(1, 0, 0)
        for peer in (third, newcomer := Peer(3, spec)):
            peer.table.set_time(apart.now)
        send(third, apart.b)  # what it knows since long moves the level up to the credit
        positions, _ = apart.b.announced()
        payload, _, count = apart.b.table.outbox.encode_log(
            0, apart.b.table.outbox.version, positions, SIZE
        )
        merged = newcomer.merge(apart.b, payload)
        assert (count, merged.ignored, merged.merged) == (1, 1, 0)


class Beside(Apart):
    """`a` keeps credit for a third node, which is silent and which `b` has never seen."""

    def __init__(self, rate: int = 4) -> None:
        super().__init__()
        self.third = third = Peer(2, SPEC)
        third.table.nodes.configure(near_ns=500 * MS, predict=True)
        self.a.epochs[third.epoch] = 2
        self.a.table.nodes.set_node(self.a.node_of(2), third.epoch, True)
        for _ in range(60):
            third.table.set_time(self.now)
            third.bucket.take("k", rate)
            third.table.outbox.collect()
            self.a.table.nodes.set_last_seen(self.a.node_of(2), self.now)
            send(third, self.a)
            self.each_second(1, 0, 0)
        self.each_second(30, 0, 0)
        assert self.a.bucket.credit("k") > 100

    def hear_b(self) -> None:
        self.b_is_known_to_a()
        send(self.b, self.a)
        self.a.bucket.take("k")  # so the key is sent
        assert (self.a.bucket.debt("k") or 0) < 0


def test_who_keeps_less_owes_what_the_credit_of_another_hides() -> None:
    """The takes of this side come back as none, since the credit for the third node has room for
    them; so all would be taken again."""
    beside = Beside()
    beside.b.bucket.take("k", 80)
    beside.hear_b()
    assert beside.merged_debt() == 81


def test_a_key_that_is_not_held_is_made_for_what_the_credit_hides() -> None:
    beside = Beside()
    beside.b_is_known_to_a()
    beside.another_takes(80)
    beside.a.bucket.take("k")  # so the key is sent
    beside.each_second(1, 0, 0)
    assert beside.merged_debt() == 75  # 4 of 10 are kept for the third node


def test_a_snapshot_has_what_the_credit_hides() -> None:
    """The process that restores it keeps no credit."""
    beside = Beside()
    beside.b.bucket.take("k", 80)
    beside.hear_b()
    beside.each_second(1, 0, 0)
    a, again = beside.a, Peer(0, SPEC)
    again.table.set_time(beside.now)
    positions, places = a.announced()
    payload, _, count = a.table.outbox.encode_table(0, positions, SIZE)
    assert count == 1
    assert again.table.inbox.restore(payload, a.definitions_for(again), again.understood(places))
    assert -(-(again.bucket.debt("k") or 0) // TOKEN) == 75


@pytest.mark.parametrize(("one", "other", "owed"), [(6, 9, 140), (3, 3, 26)])
def test_what_two_have_taken_is_refilled_once(one: int, other: int, owed: int) -> None:
    """Each brings its own takes. What the first one knows of the second one was refilled in the
    same time, and a burst here that is half refilled is owed beside it."""
    apart, third = Apart(), Peer(2, SPEC)
    third.table.nodes.configure(near_ns=500 * MS, predict=True)
    apart.each_second(300, 0, 1)
    apart.b.epochs[third.epoch] = 2
    apart.b.table.nodes.set_node(apart.b.node_of(2), third.epoch, True)
    for number in (0, 2):
        apart.b.table.nodes.set_last_seen(apart.b.node_of(number), apart.now)
    apart.b.bucket.take("k", 100)
    for _ in range(8):
        apart.each_second(1, one, 0)
        third.table.set_time(apart.now)
        third.bucket.take("k", other)
        send(third, apart.a)
        send(apart.a, third)
    apart.merged_debt()
    send(third, apart.b)
    assert apart.b.bucket.debt("k") == owed * TOKEN


def test_who_never_kept_what_became_debt_here_states_no_low_debt() -> None:
    """Once the third node is forgotten, its predicted takes are debt, and no column shows them. The
    peer that has never seen that node is no liar."""
    beside = Beside(12)
    a, b = beside.a, beside.b
    a.table.nodes.configure(members=3)  # of two, each believes the other
    a.bucket.take("k", 80)
    beside.b_is_known_to_a()
    send_all(a, b)
    beside.each_second(30, 0, 0)
    a.table.nodes.forget(a.node_of(2))
    assert (a.bucket.debt("k") or 0) > 70 * TOKEN
    a.table.nodes.set_last_seen(a.node_of(1), beside.now)
    b.bucket.take("k")
    merged = send(b, a)
    assert (merged.merged, merged.lowered) == (1, 0)
