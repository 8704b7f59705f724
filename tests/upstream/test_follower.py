"""A bucket falls to what its service has left, never rises, and a fleet charges it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import BucketSpec
from crdtbucket._core import BucketCore
from crdtbucket.testing import SimulatedMesh
from crdtbucket.upstream import follower
from crdtbucket.upstream.follower import Follower
from crdtbucket.upstream.upstream_fields import UpstreamQuota, UpstreamState
from tests.virtual_loop import VirtualTime

NS = 1_000_000_000
LONGEST_S = 60
DENIED = UpstreamState(denied=True)


def left(tokens: int) -> UpstreamState:
    return UpstreamState((UpstreamQuota("", "requests", tokens),))


def level(bucket: BucketCore, key: str = "k") -> float:
    """The level in tokens, below zero in debt."""
    decision = bucket.peek(key)
    q, p = bucket.spec.emission
    return decision.limit - decision.debt * p / q


def of(bucket: BucketCore, *, sharers: int = 1, round_s: float = 0.0) -> Follower:
    return Follower(
        bucket,
        follows="requests",
        longest_pause_ns=LONGEST_S * NS,
        round_ns=round(round_s * NS),
        sharers=lambda: sharers,
    )


# -- one node


def test_the_difference_is_charged_once_and_a_level_is_never_raised() -> None:
    time = VirtualTime()
    bucket = time.bucket(capacity=100, rate=1)
    follower = of(bucket)
    seen = [
        follower.update("k", left(tokens), time.now_ns, time.now_ns)
        for tokens in (40, 40, 70, 10**15, 39)
    ]
    assert seen == [60, 0, 0, 0, 1]
    assert follower.update("k", UpstreamState(), time.now_ns, time.now_ns) == 0
    assert level(bucket) == 39


def test_what_refilled_since_the_request_was_sent_is_not_charged() -> None:
    time = VirtualTime()
    bucket = time.bucket(capacity=100, rate=1)
    bucket.take("k", 50)
    sent = time.now_ns
    time.advance(20)  # the service counted at the beginning of a long answer
    assert of(bucket).update("k", left(50), sent, time.now_ns) == 0
    assert level(bucket) == 70


def test_a_denial_empties_the_bucket_and_retry_after_is_a_debt() -> None:
    time = VirtualTime()
    bucket = time.bucket(capacity=100, rate=2)
    follower = of(bucket)
    assert follower.update("k", DENIED, time.now_ns, time.now_ns) == 100
    assert level(bucket) == 0
    state = UpstreamState(denied=True, retry_after_s=20.0)
    assert follower.update("k", state, time.now_ns, time.now_ns) == 40
    assert bucket.peek("k").retry_after == 20.5
    time.advance(5)
    assert follower.pause_ns("k", time.now_ns) == 15 * NS
    # Answers to requests that were sent before know less, and so does a shorter pause.
    assert follower.update("k", left(0), time.now_ns, time.now_ns) == 0
    assert follower.update("k", DENIED, time.now_ns, time.now_ns) == 0
    assert level(bucket) == -30
    time.advance(15)
    assert bucket.peek("k").retry_after == 0.5


def test_a_service_cannot_stop_requests_for_longer_than_allowed() -> None:
    time = VirtualTime()
    bucket = time.bucket(capacity=1_000, rate=2)
    follower = of(bucket)
    for _ in range(3):
        state = UpstreamState((UpstreamQuota("", "requests", 0, 1e6),), True, 1e9)
        follower.update("k", state, time.now_ns, time.now_ns)
    assert follower.pause_ns("k", time.now_ns) == LONGEST_S * NS
    assert level(bucket) == -2 * LONGEST_S


def test_other_quotas_and_other_keys_are_left_alone() -> None:
    time = VirtualTime()
    bucket = time.bucket(capacity=100, rate=1)
    state = UpstreamState((UpstreamQuota("tokens", "tokens", 0),))
    assert of(bucket).update("k", state, time.now_ns, time.now_ns) == 0
    assert of(bucket).update("k", left(1), time.now_ns, time.now_ns) == 99
    assert level(bucket, "other") == 100


def test_a_bounded_number_of_keys_is_remembered() -> None:
    time = VirtualTime(max_keys=64)
    bucket = time.bucket(capacity=100, rate=1)
    one = of(bucket, sharers=200)  # a part of less than a token is not charged, but remembered
    for number in range(follower.MAX_FOLLOWED + 5):
        one.update(f"{number}", left(0), time.now_ns, time.now_ns)
    assert len(one._standings) == follower.MAX_FOLLOWED


STATES = st.integers(0, 200).map(left) | (st.none() | st.floats(0, 1e9)).map(
    lambda after: UpstreamState(denied=True, retry_after_s=after)
)


@given(st.lists(st.tuples(STATES, st.integers(0, 30), st.integers(0, 20)), max_size=5))
def test_whatever_a_service_says_the_level_stays_between_its_bounds(
    told: Sequence[tuple[UpstreamState, int, int]],
) -> None:
    time = VirtualTime()
    bucket = time.bucket(capacity=100, rate=2)
    bucket.take("k", 30)
    follower = of(bucket)
    for state, wait_s, age_s in told:
        before, paused = level(bucket), follower.pause_ns("k", time.now_ns)
        follower.update("k", state, time.now_ns - age_s * NS, time.now_ns)
        after = level(bucket)
        assert min(before, -2 * LONGEST_S) <= after <= before
        if not state.denied and not paused:
            assert after >= min(before, 0)
        time.advance(wait_s)


# -- a fleet


class Fleet:
    """Nodes of a mesh that see the same service, each with a follower of its own."""

    def __init__(self, nodes: int, *, rate: int = 1) -> None:
        names = [f"n{number}" for number in range(nodes)]
        spec = BucketSpec("api", capacity=1_000, refill_rate=rate)
        self.mesh = SimulatedMesh(names, [spec], latency=0.08)
        self.mesh.advance(2)
        self.followers: Mapping[str, Follower] = {
            name: of(self.mesh[name].bucket("api"), sharers=nodes, round_s=0.5) for name in names
        }
        self.charged = 0

    def update(self, name: str, state: UpstreamState) -> None:
        now = self.mesh[name].bucket("api").table.now()
        self.charged += self.followers[name].update("k", state, now, now)

    def go_on(self, seconds: float) -> None:
        """Time passes, and each node charges when its rounds come."""
        for _ in range(round(seconds * 4)):
            for name, one in self.followers.items():
                self.charged += one.charge("k", self.mesh[name].bucket("api").table.now())
            self.mesh.advance(0.25)

    def levels(self) -> list[float]:
        return [level(self.mesh[name].bucket("api")) for name in self.followers]


def test_five_nodes_that_see_the_same_charge_it_once() -> None:
    fleet = Fleet(5)
    for _ in range(20):  # answers come to each of them all the time
        for name in fleet.followers:
            fleet.update(name, left(400))
        fleet.mesh.advance(0.01)
    assert fleet.charged == 600
    fleet.go_on(0.25)
    assert all(399 <= one <= 402 for one in fleet.levels())


def test_nodes_that_see_one_after_the_other_charge_hardly_more() -> None:
    fleet = Fleet(5)
    for _ in range(10):
        for name in fleet.followers:
            fleet.update(name, left(400))
            fleet.mesh.advance(0.03)
    fleet.go_on(2)
    assert all(380 <= one <= 410 for one in fleet.levels())


def test_what_one_node_sees_lowers_the_level_of_all_round_by_round() -> None:
    fleet = Fleet(3, rate=20)
    fleet.update("n1", UpstreamState(denied=True, retry_after_s=20.0))
    fleet.go_on(0.5)
    assert all(400 <= one <= 700 for one in fleet.levels())
    fleet.go_on(5.5)
    assert all(-300 <= one <= -260 for one in fleet.levels())  # 14 s of the pause are left
    assert not fleet.mesh["n0"].take("api", "k")
