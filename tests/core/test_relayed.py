"""The credit for a silent peer, less what others relay of its takes.

Of three nodes, `b` is linked with `c` only through `a`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import Peer, send

MS = 1_000_000
SECOND = 1000 * MS
SPEC = BucketSpec("b", 10**9, 1000)
RATE = 400
BEGIN = 1000 * SECOND


class Trio:
    """`b` has seen `c` take RATE tokens a second for ten seconds; `a` sees both."""

    def __init__(self) -> None:
        self.a, self.b, self.c = (Peer(number, SPEC, epoch=number + 1) for number in range(3))
        self.b.table.nodes.configure(predict=True)
        self.now = BEGIN
        self.at(BEGIN)
        for other in (self.a, self.c):
            self.b.table.nodes.set_node(self.b.node_of(other.number), other.epoch, True)
        for _ in range(100):
            self.pass_time(100 * MS)
            self.c.bucket.take("k", RATE // 10)
            self.speak()
        self.b.table.nodes.set_node(self.b.node_of(2), self.c.epoch, False)

    def at(self, now: int) -> None:
        self.now = now
        for peer in (self.a, self.b, self.c):
            peer.table.set_time(now)

    def pass_time(self, ns: int) -> None:
        self.at(self.now + ns)

    def speak(self) -> None:
        """`a` and `b` receive a complete round of `c`."""
        send(self.c, self.a)
        send(self.c, self.b)
        self.round()

    def round(self) -> None:
        self.b.table.nodes.set_last_seen(self.b.node_of(2), self.now)

    def relay(self) -> None:
        """`b` gets the takes of `c` from `a`, which has merged them."""
        send(self.c, self.a)
        self.pass_on()

    def pass_on(self, **options: Any) -> None:
        """`a` sends what it knows; `c` sends nothing."""
        self.a.table.outbox.touch(array("I", [self.a.table.find(*self.a.bucket.hash("k"))]))
        send(self.a, self.b, **options)

    def credit(self) -> float:
        return float(self.b.bucket.credit("k"))


def unrelayed(trio: Trio, silence: int) -> float:
    """The credit if no node relayed anything of the silent peer."""
    trio = Trio()
    trio.pass_time(silence)
    return trio.credit()


@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_all_that_is_relayed_counts_however_small_its_steps(tokens: int) -> None:
    """A sum in few bits stalls as it grows; both ends of a broken pair were starved by that."""
    trio, silence = Trio(), 0
    while silence < 100 * SECOND:
        trio.pass_time(50 * MS * tokens)
        silence += 50 * MS * tokens
        trio.c.bucket.take("k", tokens)
        trio.relay()
    relayed = silence // (50 * MS)
    assert trio.credit() == pytest.approx(unrelayed(trio, silence) - relayed)


def test_more_than_was_predicted_leaves_no_credit_and_no_debt() -> None:
    trio = Trio()
    trio.pass_time(10 * SECOND)
    trio.c.bucket.take("k", 10**6)
    trio.relay()
    assert trio.credit() == 0


def test_what_came_before_the_newest_update_of_the_owner_counts_no_more() -> None:
    trio = Trio()
    for _ in range(20):
        trio.pass_time(500 * MS)
        trio.c.bucket.take("k", RATE // 2)
        trio.relay()
    trio.speak()
    trio.pass_time(10 * SECOND)
    assert trio.credit() > 0.8 * 9.5 * RATE


def test_a_round_without_the_key_is_an_update_too() -> None:
    trio = Trio()
    for _ in range(20):
        trio.pass_time(500 * MS)
        trio.c.bucket.take("k", RATE // 2)
        trio.relay()
    trio.round()
    trio.pass_time(10 * SECOND)
    before = trio.credit()
    assert before > 0.8 * 9.5 * RATE
    trio.c.bucket.take("k", 150)
    trio.relay()
    assert trio.credit() == pytest.approx(before - 150, rel=1e-3)


def refund(trio: Trio) -> int:
    decision = trio.c.bucket.take("k", 500)
    return 500 - int(trio.c.bucket.refund(decision, 200))


def new_generation(trio: Trio) -> int:
    trio.c.bucket.take("k", 300)
    trio.relay()
    fresh = Peer(2, SPEC, epoch=trio.c.epoch)
    fresh.table.set_time(trio.now)
    for key in "xy":
        fresh.bucket.take(key, 1)
    fresh.bucket.take("k", 200)
    trio.c = fresh
    return 500


def new_epoch(trio: Trio) -> int:
    trio.c.bucket.take("k", 300)
    trio.relay()
    trio.c = Peer(2, SPEC, epoch=77)
    trio.c.table.set_time(trio.now)
    trio.c.bucket.take("k", 200)
    return 500


@pytest.mark.parametrize("takes", [refund, new_generation, new_epoch])
def test_relayed_counts_over(takes: Callable[[Trio], int]) -> None:
    """Relaying counts after refunds, after the owner made the key again, and after a restart of its
    process."""
    trio = Trio()
    trio.pass_time(20 * SECOND)
    before = trio.credit()
    relayed = takes(trio)
    trio.relay()
    assert trio.credit() == pytest.approx(before - relayed)


class TestRates:
    """`a` sees `c` in complete rounds, and relays its rates."""

    @pytest.fixture
    def trio(self) -> Trio:
        trio = Trio()
        trio.a.table.nodes.set_node(trio.a.node_of(2), trio.c.epoch, True)
        trio.a.table.nodes.relay(trio.a.node_of(2), True)
        return trio

    def go_on(self, trio: Trio, rate: int, seconds: int, late: int = 0) -> None:
        """`c` takes so much a second, and `b` gets that from `a`, `late` ns after `a` did."""
        for _ in range(10 * seconds):
            trio.pass_time(100 * MS)
            if rate:
                trio.c.bucket.take("k", rate // 10)
            trio.a.table.nodes.set_last_seen(trio.a.node_of(2), trio.now)
            send(trio.c, trio.a)
        trio.pass_time(late)
        trio.relay()

    def test_the_newest_rates_count(self, trio: Trio) -> None:
        self.go_on(trio, 900, 600)
        trio.pass_time(10 * SECOND)
        assert trio.credit() == pytest.approx(9.5 * 900, rel=0.05)

    def test_an_entry_by_a_relay_ends_what_was_predicted_for_the_time_before(
        self, trio: Trio
    ) -> None:
        trio.pass_time(30 * SECOND)
        before = trio.credit()
        assert before > 20 * RATE
        self.go_on(trio, 10, 1)
        assert trio.credit() == 0

    def test_older_ones_than_are_held_do_nothing(self, trio: Trio) -> None:
        """`b` gets a burst of `c` from `c` itself, which `a` has not merged yet."""
        self.go_on(trio, 600, 100)
        trio.pass_time(300 * MS)
        trio.c.bucket.take("k", 10**6)
        send(trio.c, trio.b)
        trio.round()
        trio.pass_time(100 * MS)
        trio.pass_on()
        trio.pass_time(10 * SECOND)
        credit = trio.credit()
        trio.pass_time(SECOND)
        assert trio.credit() - credit == pytest.approx(1000, rel=1e-3)  # all of the refill

    def test_not_of_a_node_that_is_linked_here(self, trio: Trio) -> None:
        trio.b.table.nodes.set_node(trio.b.node_of(2), trio.c.epoch, True)
        self.go_on(trio, 900, 20)
        expected = unrelayed(trio, 20 * SECOND)
        assert trio.credit() == pytest.approx(expected)

    def test_not_where_the_relay_itself_has_not_seen_it_lately(self, trio: Trio) -> None:
        trio.pass_time(20 * SECOND)
        credit = trio.credit()
        assert credit > 1000
        trio.pass_on()
        assert trio.credit() == credit

    def test_not_in_a_frame_that_was_long_under_way(self, trio: Trio) -> None:
        trio.pass_time(20 * SECOND)
        trio.c.bucket.take("k", 1)
        trio.a.table.nodes.set_last_seen(trio.a.node_of(2), trio.now)
        send(trio.c, trio.a)
        credit = trio.credit()
        trio.pass_on(late=True, newer=False)
        assert trio.credit() == pytest.approx(credit - 1)

    def test_not_with_a_silence_for_which_nothing_was_kept(self, trio: Trio) -> None:
        """Else a full bucket would be short of tokens at once."""
        trio.b.table.nodes.configure(near_ns=300 * MS)
        trio.pass_time(100 * MS)
        trio.c.bucket.take("k", 1)
        trio.a.table.nodes.set_last_seen(trio.a.node_of(2), trio.now)
        send(trio.c, trio.a)
        trio.pass_time(400 * MS)
        credit = trio.credit()
        trio.pass_on()
        assert trio.credit() == pytest.approx(credit - 1)

    @pytest.mark.parametrize("most", [1, 2**62])
    def test_not_of_a_node_that_was_given_up(self, trio: Trio, most: int) -> None:
        """The node is given up at once, or place by place."""
        for number in range(5):
            trio.b.bucket.take(f"another {number}")
        node, place = trio.b.node_of(2), 0
        while place >= 0:
            assert trio.b.table.stats()["forgotten"] == 0
            place = trio.b.table.nodes.forget(node, place, most)
        assert trio.b.table.stats()["forgotten"] == 1
        self.go_on(trio, 900, 5)
        trio.pass_time(60 * SECOND)
        assert trio.credit() == 0

    def test_one_epoch_of_a_node_has_rates_at_a_time(self, trio: Trio) -> None:
        trio.c = Peer(2, SPEC, epoch=77)
        trio.at(trio.now)
        self.go_on(trio, 500, 600)
        trio.pass_time(10 * SECOND)
        assert trio.credit() == pytest.approx(9.5 * 500, rel=0.05)

    def test_only_those_of_nodes_that_are_relayed_are_sent(self, trio: Trio) -> None:
        def size() -> int:
            trio.a.table.outbox.touch(array("I", [trio.a.table.find(*trio.a.bucket.hash("k"))]))
            return len(trio.a.payload(trio.a.table.outbox.version - 1))

        self.go_on(trio, 100, 1)
        long = size()
        for _ in range(2):  # twice is once
            trio.a.table.nodes.relay(trio.a.node_of(2), False)
        assert size() == long - 1 - 1 - 1 - 4


@pytest.mark.parametrize(
    ("seen", "told"), [(None, 50), (0, 50), (10 * SECOND, 0), (10 * SECOND - 2 * MS, 50)]
)
def test_what_an_owner_says_is_less_than_others_told_and_stands_where_it_was_silent(
    seen: int | None, told: int
) -> None:
    """Where it was updated since it is seen, the common store has shown more of it. `seen`: since
    when, after the beginning. An update in the same unit of time may have come before that."""
    trio = Trio()
    (key,) = (one for one in trio.b.bucket.columns("k") if one[1] == trio.c.epoch)
    _, before, _ = trio.b.bucket.columns("k")[key]
    trio.c.table.outbox.collect()
    said = trio.c.payload()
    trio.c.bucket.take("k", 50)
    trio.relay()
    assert trio.b.bucket.columns("k")[key][1] == before + 50
    trio.pass_time(2 * SECOND)
    trio.b.merge(trio.c, said, answers_since=None if seen is None else BEGIN + seen)
    assert trio.b.bucket.columns("k")[key][1] == before + told
