"""Whatever one member sends, an honest node gets half of what it asks for, up to half of an equal
share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from itertools import pairwise

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.bad_member import BadMember
from tests.one_bad_of_five import ABSURD, watch

C, R = 100, 20
IDLE, QUICK_ROUNDS = BucketSpec("b", 100, 10, max_debt=200), BucketSpec("b", 200, 4)
CEILING = 2 * C / R
"""Seconds in which the largest debt refills."""


class Alone:
    """One honest node, and members that state what they like."""

    def __init__(self, members: int) -> None:
        self.mesh = SimulatedMesh("A", [BucketSpec("api", C, R)], latency=0.01, seed=3)
        self.node = self.mesh["A"]
        self.key = self.node.bucket("api").hash("k")
        self.others = [BadMember(self.mesh, f"m{at}", 100 + at) for at in range(members)]
        for one in self.others:
            one.link("A")
        self.mesh.advance(1.0)

    def define(self, rate: int) -> None:
        self.node.table.set_time(self.others[0].local("A"))
        self.node.bucket("api").define(BucketSpec("api", C, rate))

    def state(self, taken: int, rates: tuple[int, int], debt_ns: int = 1) -> None:
        for one in self.others:
            row = (one.name, one.epoch, 1, taken, 0)
            one.state("A", self.key, debt_ns, [row], rates)

    def silence(self) -> None:
        for one in self.others:
            self.node.node.disconnected(one.name, one.local("A"))

    def admitted(
        self, calls: float, seconds: float, also: Callable[[int], None] = lambda step: None
    ) -> int:
        """Of so many calls a second."""
        total, owed = 0, 0.0
        for step in range(round(seconds * 10)):
            also(step)
            owed += calls / 10
            for _ in range(int(owed)):
                total += self.node.take("api", "k", 1).allowed
            owed -= int(owed)
            self.mesh.advance(0.1)
        return total

    def beside_endless_takes(self) -> Callable[[float], int]:
        """What is admitted in so many seconds, of half the rate, while the others state ever more
        takes."""
        steps = itertools.count()
        return lambda seconds: self.admitted(
            R / 2, seconds, lambda _: self.state(R * next(steps), ABSURD, 10**12)
        )


def test_a_peer_that_is_denied_is_predicted_by_what_it_asks_for() -> None:
    """... by its column it would be predicted at nothing, and denied again."""
    alone = Alone(3)
    for _ in range(20):
        alone.node.take("api", "k", max(1, alone.node.peek("api", "k").remaining - C // 4))
        alone.state(0, ABSURD)
        alone.mesh.advance(0.1)
    left = alone.node.peek("api", "k").remaining
    assert left - alone.node.take_burst("api", "k", C, 1) > 10


def test_what_was_missing_before_is_made_good_once() -> None:
    alone = Alone(1)
    alone.admitted(R / 2, 10.0)
    admitted = alone.beside_endless_takes()
    admitted(CEILING + 6.0)
    assert admitted(10.0) >= 0.9 * R / 2 * 10
    admitted(10.0)
    assert 0.9 * R / 4 * 40 <= admitted(40.0) <= 1.1 * R / 4 * 40


def test_a_silent_peer_is_predicted_as_far_as_its_column_shows_takes() -> None:
    alone = Alone(1)
    alone.state(1, ABSURD)
    alone.silence()
    alone.admitted(2 * R, 10.0)
    assert alone.admitted(2 * R, 20.0) >= 0.9 * R * 20


def test_a_silent_peer_that_took_is_left_its_share() -> None:
    """... at twice the limit, by the rates that all ask for."""
    alone = Alone(1)
    alone.admitted(2 * R, 20.0, lambda step: alone.state(R * step // 10, ABSURD, 10**9))
    alone.silence()
    alone.admitted(2 * R, 20.0)
    assert alone.admitted(2 * R, 20.0) <= 0.6 * R * 20


def test_beside_silent_peers_that_ask_for_much_the_share_is_left() -> None:
    """In proportion it would be a forty-first part, and not a tenth."""
    alone = Alone(4)
    alone.admitted(R / 5, 20.0, lambda step: alone.state(R * step // 40, ABSURD, 10**9))
    alone.silence()
    alone.admitted(R / 5, CEILING)
    got = alone.admitted(R / 5, 30.0)
    assert 0.9 * R / 10 * 30 <= got <= 1.3 * R / 10 * 30


@pytest.mark.parametrize("rates", [ABSURD, (0, 0)])
@pytest.mark.parametrize("times", [1, 100])
def test_a_member_that_takes_all_leaves_the_guaranteed_share(
    times: int, rates: tuple[int, int]
) -> None:
    alone = Alone(1)
    alone.admitted(R / 2, 10.0)

    def evil(step: int) -> None:
        alone.state(times * R * step // 10, rates, 10**12)

    alone.admitted(R / 2, CEILING + 15.0, evil)
    start = round(10 * (CEILING + 15.0))
    got = alone.admitted(R / 2, 20.0, lambda step: evil(start + step))
    assert got >= 0.95 * R / 4 * 20


def test_honest_debts_are_waited_for() -> None:
    """The guarantee passes nothing before the largest honest debt has refilled."""
    alone = Alone(1)
    alone.admitted(R / 2, 5.0)
    alone.state(10**6, (0, 0), 10**12)
    assert alone.admitted(R / 2, 0.9 * CEILING / 2) == 0


def test_what_was_missing_of_a_larger_limit_is_not_made_good_of_a_smaller_one() -> None:
    """Nor does it pass before the debts have refilled under the smaller one."""
    alone = Alone(1)
    alone.admitted(R / 2, 10.0)
    alone.admitted(R / 2, CEILING, lambda step: alone.state(100 * R * step, (0, 0), 10**12))
    alone.node.bucket("api").define(BucketSpec("api", C // 10, R // 10, max_debt=C))
    assert alone.admitted(R / 2, CEILING) == 0


def test_calls_of_half_a_bucket_do_not_pass_by_the_guarantee() -> None:
    alone = Alone(1)
    for step in range(400):
        alone.state(100 * R * step // 10, ABSURD, 10**12)
        assert not (step > 20 and alone.node.take("api", "k", C // 2).allowed)
        alone.mesh.advance(0.1)


def test_who_waited_long_makes_good_no_more_than_a_small_burst() -> None:
    """Calls of half a bucket wait in vain, for however long: then a burst of calls of a token gets
    a twentieth of the bucket, and what refills while a part of it is still behind."""
    alone = Alone(1)
    for step in range(600):
        alone.state(100 * R * step // 10, ABSURD, 10**12)
        alone.node.take("api", "k", C // 2)
        alone.mesh.advance(0.1)
    passed = alone.node.take_burst("api", "k", 100, 1)
    assert 0 < passed <= C // 20 + 1


@pytest.mark.parametrize(
    ("every", "calls", "seconds", "rate"),
    [(13.3, 4, 0.1, 1), (15.0, 2, 0.3, 1), (30.0, 300, 0.1, 10)],
)
def test_calls_beyond_a_full_bucket_are_behind_nothing(
    every: float, calls: int, seconds: float, rate: int
) -> None:
    """Who asks for more at once than a bucket holds is denied by its own takes."""
    spec = BucketSpec("b", 1, rate, max_debt=2)
    mesh = SimulatedMesh("AB", [spec], latency=0.001, gossip_interval=1.0, seed=1)
    for _ in range(10):
        for node in ("A", "B"):
            got = 0
            for _ in range(round(seconds * 10)):
                got += mesh[node].take_burst("b", "k", calls, 1)
                mesh.advance(0.1)
            refilled = spec.refill_rate * round(seconds * 10 - 1) / 10
            assert got <= spec.capacity + refilled
            mesh.advance(every / 2)


@pytest.mark.parametrize(("spec", "gossip"), [(IDLE, 1.0), (QUICK_ROUNDS, 0.1)])
def test_idle_time_earns_a_small_burst_at_most(spec: BucketSpec, gossip: float) -> None:
    """The others may use what refills in that time. While it asks, a node earns its share."""
    mesh = SimulatedMesh("AB", [spec], latency=0.0, gossip_interval=gossip, seed=1)
    passed = [0]
    for _ in range(7):
        for _ in range(round(80 / gossip)):
            mesh["A"].take_burst("b", "k", 20, 1)
            mesh.advance(gossip)
        mesh["B"].take_burst("b", "k", 300, 1)
        passed.append(mesh["B"].bucket("b").counters()["guaranteed"])
    most = spec.capacity // 20 + gossip * spec.refill_rate / 2 / 2
    assert max(later - earlier for earlier, later in pairwise(passed)) <= most
    assert bool(passed[-1]) == (spec is QUICK_ROUNDS)  # else the level has as much


def test_a_debt_that_came_after_two_peers_agreed_is_not_lowered() -> None:
    """What an honest peer stated before the charge says nothing of it."""
    alone = Alone(3)
    alone.node.take("api", "k", 10)
    ((generation, taken, refunded),) = alone.node.bucket("api").columns("k").values()
    shown = [("A", alone.node.table.epochs.running, generation, taken, refunded)]
    honest, hot, bad = alone.others
    alone.mesh.advance(0.3)
    honest.state("A", alone.key, 1, shown)  # lower than here, as lag explains
    shown.append((hot.name, hot.epoch, 1, 90, 0))
    hot.state("A", alone.key, 10**12, shown)
    assert 9 <= alone.node.peek("api", "k").remaining <= 10
    bad.state("A", alone.key, 1, shown)
    assert alone.node.peek("api", "k").remaining <= 10 + C // 20


def test_what_a_peer_stated_under_a_slower_limit_is_no_agreement_under_a_faster_one() -> None:
    """Some tokens less were as many seconds as a bad one needs to wipe out ten times as much."""
    alone = Alone(3)
    honest, hot, bad = alone.others
    alone.define(2)
    alone.node.take("api", "k", 10)
    ((generation, taken, refunded),) = alone.node.bucket("api").columns("k").values()
    shown = [("A", alone.node.table.epochs.running, generation, taken, refunded)]
    honest.state("A", alone.key, 1, shown)
    alone.define(R)
    shown.append((hot.name, hot.epoch, 1, 90, 0))
    hot.state("A", alone.key, 10**12, shown)
    before = alone.node.peek("api", "k").remaining
    bad.state("A", alone.key, 1, shown)
    assert before <= alone.node.peek("api", "k").remaining <= before + C // 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "demand", "least"),
    [
        ("absurd rates once, then silence", "a fifth each", 0.9),
        ("takes a hundred times the limit", "one asks for twice the limit", 0.48),
        ("all of it in turns", "one asks for twice the limit", 0.5),
        ("invents members that ask for everything", "one asks for twice the limit", 0.5),
    ],
)
def test_one_bad_member_of_five_adds_a_fifth_and_leaves_the_shares(
    attack: str, demand: str, least: float
) -> None:
    """Half of `min(its demand, r / 5)`."""
    seen = watch(attack, demand, 40.0)
    assert seen.of_limit <= 1.2
    assert seen.least >= least


@pytest.mark.parametrize("cost", [1, C // 20])
def test_a_node_that_is_left_its_guaranteed_share_says_when_the_next_call_passes(
    cost: int,
) -> None:
    """By the level it would be the time in which the largest debt refills."""
    alone = Alone(1)

    def evil() -> None:
        alone.state(100 * R * alone.mesh.now_ns // 10**9, ABSURD, 10**12)

    for _ in range(round(10 * (CEILING + 15.0))):
        evil()
        alone.node.take("api", "k", cost)
        alone.mesh.advance(0.1)
    counted = alone.node.bucket("api").counters()["guaranteed"]
    passed, early = 0, 0
    for _ in range(8):
        denied = alone.node.take("api", "k", cost)
        while denied.allowed:
            passed, denied = passed + 1, alone.node.take("api", "k", cost)
        assert alone.node.peek("api", "k", cost).retry_after == denied.retry_after
        assert 0 < denied.retry_after <= 1.1 * cost / (R / 4) + 0.01
        for _ in range(9):
            alone.mesh.advance(denied.retry_after / 10)
            evil()
            early += alone.node.peek("api", "k", cost).allowed
        alone.mesh.advance(denied.retry_after / 10)
        assert alone.node.peek("api", "k", cost).allowed
    assert (passed >= 7, early) == (True, 0)
    assert alone.node.bucket("api").counters()["guaranteed"] == counted + passed


def test_a_call_that_costs_too_much_for_the_guarantee_is_told_to_wait_for_the_level() -> None:
    """A token less would pass by the guarantee in a moment, and this one never does."""
    alone, cost = Alone(1), C // 20 + 1
    for step in range(round(10 * (CEILING + 15.0))):
        alone.state(100 * R * step // 10, ABSURD, 10**12)
        alone.node.take("api", "k", cost)
        alone.mesh.advance(0.1)
    for denied in (alone.node.take("api", "k", cost), alone.node.peek("api", "k", cost)):
        assert not denied.allowed
        assert denied.retry_after >= denied.reset_after - (C - cost) / R > 1


def test_a_look_with_a_floor_is_denied_like_the_take() -> None:
    """Nothing is guaranteed to calls that leave tokens to others."""
    alone = Alone(1)
    alone.admitted(R / 2, 10.0)
    admitted = alone.beside_endless_takes()
    admitted(CEILING + 10.0)
    bucket = alone.node.bucket("api")
    alone.mesh.advance(1.0)
    assert bucket.peek("k", 1).allowed
    looked, taken = bucket.peek("k", 1, 0.01), bucket.take("k", 1, 0.01)
    assert (looked.allowed, looked.retry_after) == (taken.allowed, taken.retry_after)
    assert not taken.allowed
