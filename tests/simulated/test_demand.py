"""Rough demand on a whole mesh: small buckets in a partition, storms of retries, bursts in step."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from crdtbucket.simulator.arrivals import poisson
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import drive, mesh_of, total
from tests.simulated.truth import IdealBucket

STEP = 0.01


@dataclass
class Seen:
    """The figures of a run. Beside it is one bucket that sees every call at once."""

    admitted: dict[str, int]
    offered: dict[str, int]
    ideal_denied: int = 0
    worst: float = 0.0
    """Most tokens admitted in any window, less what the refill gives in it."""
    waits: dict[str, float] = field(default_factory=dict)
    """The longest time from a denied call to the next one that was admitted, s."""

    @property
    def denied(self) -> int:
        return sum(self.offered.values()) - sum(self.admitted.values())


def run(
    mesh: SimulatedMesh,
    seconds: float,
    calls: Callable[[float, str], int],
) -> Seen:
    """Takes of one token, so many a node in each step of 10 ms."""
    spec = mesh.specs[0]
    rate = spec.rate_per_second * STEP
    seen = Seen(dict.fromkeys(mesh.nodes, 0), dict.fromkeys(mesh.nodes, 0))
    level, above, lowest = float(spec.capacity), 0.0, 0.0
    denied_at: dict[str, float] = {}
    for k in range(round(seconds / STEP)):
        now = k * STEP
        level = min(float(spec.capacity), level + rate)
        above -= rate
        lowest = min(lowest, above)
        for name in mesh.nodes:
            wanted = calls(now, name)
            if not wanted:
                continue
            got = mesh[name].take_burst("b", "k", wanted)
            seen.offered[name] += wanted
            seen.admitted[name] += got
            passed = min(wanted, int(level))
            level, above = level - passed, above + got
            seen.ideal_denied += wanted - passed
            if got and name in denied_at:
                waited = now - denied_at.pop(name)
                seen.waits[name] = max(seen.waits.get(name, 0.0), waited)
            elif not got:
                denied_at.setdefault(name, now)
        seen.worst = max(seen.worst, above - lowest)
        mesh.advance(STEP)
    for name, since in denied_at.items():
        seen.waits[name] = max(seen.waits.get(name, 0.0), seconds - since)
    return seen


def at_random(demand: dict[str, float], seed: int) -> Callable[[float, str], int]:
    """Poisson calls, so many a second."""
    rng = random.Random(seed)
    return lambda _now, name: poisson(demand.get(name, 0.0) * STEP, rng)


@pytest.mark.parametrize(
    ("capacity", "rate", "interval", "seed"),
    [(5, 5, "1s", 4), (10, 5, "1s", 4), (10, 1, "1s", 4), (60, 60, "1m", 4)],
)
def test_small_buckets_deny_no_light_load_in_a_partition(
    capacity: int, rate: int, interval: str, seed: int
) -> None:
    """Half of the rate, through a partition: as one bucket, within a hundredth of the calls."""
    mesh = mesh_of(5, BucketSpec("b", capacity, rate, interval), latency=0.08, seed=1)
    calls = at_random(dict.fromkeys(mesh.nodes, mesh.specs[0].rate_per_second / 10), seed)
    run(mesh, 30, calls)
    mesh.partition(["A", "B"], ["C", "D", "E"])
    seen = run(mesh, 120, calls)
    assert seen.denied - seen.ideal_denied <= 0.01 * sum(seen.offered.values())


@pytest.mark.parametrize("storm", [100, 1_000])
def test_a_storm_of_retries_buys_no_share(storm: int) -> None:
    """A node's demand counts for twice the limit at most; polite ones get most of the rest."""
    mesh = mesh_of(3, BucketSpec("b", 200, 100), latency=0.04)
    calls = at_random({"A": storm * 100.0, "B": 40.0, "C": 10.0}, 1)
    run(mesh, 5, calls)
    seen = run(mesh, 15, calls)
    for name, wants in (("B", 40.0), ("C", 10.0)):
        part = 100 * wants / (200 + 40 + 10)
        assert seen.admitted[name] >= 0.8 * part * 15, (name, seen.admitted)
    assert sum(seen.admitted.values()) == pytest.approx(15 * 100, rel=0.02)


@pytest.mark.parametrize("storm", [20, 200])
def test_a_storm_that_is_over_is_remembered_for_no_longer_than_twice_the_limit(storm: int) -> None:
    """A small bucket holds what is refilled in a round: what was left to the storm was lost."""
    mesh = mesh_of(2, BucketSpec("b", 10, 33), latency=0.02, gossip_interval=0.3)
    run(mesh, 10, at_random({"A": storm * 33.0}, 1))
    run(mesh, 2, at_random({"B": 33.0}, 2))
    seen = run(mesh, 10, at_random({"B": 33.0}, 3))
    assert seen.denied - seen.ideal_denied <= 0.06 * sum(seen.offered.values())


@pytest.mark.parametrize(("size", "capacity"), [(2, 20), (3, 20), (5, 5), (5, 10)])
def test_who_asks_once_a_second_beside_a_storm_does_not_wait_long(size: int, capacity: int) -> None:
    mesh = mesh_of(size, BucketSpec("b", capacity, 10), latency=0.04)
    rng = random.Random(1)
    turn = {name: k * 100 // size for k, name in enumerate(mesh.nodes)}

    def calls(now: float, name: str) -> int:
        if name == "A":
            return poisson(1_000 * STEP, rng)
        return int(round(now / STEP) % 100 == turn[name])

    run(mesh, 10, calls)
    seen = run(mesh, 60, calls)
    assert max(seen.waits.values()) <= 2.0 + STEP, seen.waits
    for name in list(mesh.nodes)[1:]:
        assert seen.admitted[name] >= 0.8 * 600 / (20 + size - 1), (name, seen.admitted)


@pytest.mark.parametrize("asks", [1, 2, 3.3])
@pytest.mark.parametrize(("size", "capacity", "rate"), [(3, 20, 10), (5, 10, 10), (5, 100, 100)])
def test_nobody_waits_long_while_a_storm_begins(
    size: int, capacity: int, rate: int, asks: float
) -> None:
    """The storm comes when all others have asked `asks` times a second for a while."""
    mesh = mesh_of(size, BucketSpec("b", capacity, rate), latency=0.08, jitter=0.5)
    rng = random.Random(1)
    phase = {name: rng.randrange(100) for name in mesh.nodes}
    every, storm = round(100 / asks), 0.0

    def calls(now: float, name: str) -> int:
        if name == "A":
            return poisson(storm * STEP, rng)
        return int((round(now / STEP) + phase[name]) % every == 0)

    run(mesh, 10, calls)
    storm = 100.0 * rate
    seen = run(mesh, 20, calls)
    assert max(seen.waits.values(), default=0) <= 2.0 + STEP, seen.waits


@pytest.mark.parametrize(("size", "latency"), [(3, 0.04), (5, 0.08)])
def test_bursts_in_step_are_expected_again(size: int, latency: float) -> None:
    """100 ms in every second, everywhere at once, twice the limit on the average."""
    mesh = mesh_of(size, BucketSpec("b", 200, 200), latency=latency, jitter=0.5)
    rng = random.Random(1)

    def calls(now: float, _name: str) -> int:
        return poisson(4_000 / size * STEP, rng) if now % 1 < 0.1 else 0

    run(mesh, 10, calls)
    seen = run(mesh, 20, calls)
    assert seen.worst <= 1.3 * 200
    assert sum(seen.admitted.values()) >= 0.98 * 20 * 200


def test_bursts_are_not_expected_under_a_light_load() -> None:
    """Everybody in one second, one node alone in the next, seven tenths of the limit: all pass."""
    mesh = mesh_of(3, BucketSpec("b", 200, 200), latency=0.04)

    def calls(now: float, name: str) -> int:
        step = round(now / STEP) % 200
        if step < 10:
            return 3
        return 190 if step == 100 and name == "A" else 0

    seen = run(mesh, 30, calls)
    assert seen.denied == seen.ideal_denied == 0


def large_calls(
    mesh: SimulatedMesh, seconds: float, every: float, cost: int, calls: int = 1
) -> dict[str, list[int]]:
    """Each node in turn makes so many calls of a cost at once, once in so many seconds: how many of
    them passed, each time."""
    passed: dict[str, list[int]] = {name: [] for name in mesh.nodes}
    for _ in range(round(seconds / every)):
        for name in mesh.nodes:
            mesh.advance(every / len(mesh.nodes))
            passed[name].append(mesh[name].take_burst("b", "k", calls, cost))
    return passed


def test_a_full_bucket_gives_all_it_has_although_its_token_takes_no_whole_ns() -> None:
    """What rounding leaves of a debt must not keep the reserve from a call of the whole bucket."""
    mesh = mesh_of(2, BucketSpec("b", 1000, 3333), gossip_interval=1.0)
    passed = large_calls(mesh, 100, 8, 1000, calls=22)
    assert min(sum(of_one) for of_one in passed.values()) >= 10, passed


@pytest.mark.parametrize("gossip_interval", [0.1, 3.0])
def test_calls_of_the_whole_bucket_pass_in_overload(gossip_interval: float) -> None:
    """The reserve that such a call needs fills up for many rounds."""
    mesh = mesh_of(3, BucketSpec("b", 10, 1), gossip_interval=gossip_interval)
    passed = large_calls(mesh, 300, 0.5, 10)
    for name, of_one in passed.items():
        assert sum(of_one) >= 5, (name, {n: sum(p) for n, p in passed.items()})
    assert 20 <= sum(map(sum, passed.values())) <= 31 + 3


def test_what_large_calls_were_kept_from_is_not_given_to_small_ones_once_all_has_refilled() -> None:
    """All ask for the whole bucket, five times a second, and some of them have a reserve for that
    when it is over. Then all ask for single tokens at the same moment: that reserve would give some
    of them the whole bucket each, whatever the others are predicted to take."""
    mesh = mesh_of(5, BucketSpec("b", 100, 100), latency=0.08)
    large_calls(mesh, 10, 0.2, 100)
    mesh.advance(1.2)
    passed = [node.take_burst("b", "k", 100) for node in mesh.nodes.values()]
    assert max(passed) <= 1.3 * min(passed), passed


@pytest.mark.parametrize(("size", "cost"), [(2, 100), (4, 50)])
def test_the_reserve_grows_again_after_a_call_that_passed(size: int, cost: int) -> None:
    """At half of the limit, where a call needs most of the bucket and comes between two rounds."""
    mesh = mesh_of(size, BucketSpec("b", 100, 100), gossip_interval=10.0)
    large_calls(mesh, 40, 4, cost)
    passed = large_calls(mesh, 120, 4, cost)
    assert all(all(of_one) for of_one in passed.values()), passed


def test_one_call_of_a_peer_does_not_count_for_many_where_rounds_are_slow() -> None:
    """A rate over the last 50 ms would stand until the next round, three seconds later."""
    mesh = mesh_of(4, BucketSpec("b", 1000, 100), gossip_interval=3.0)
    passed = large_calls(mesh, 120, 4, 50)
    assert all(all(of_one) for of_one in passed.values()), passed


def test_a_bucket_of_one_call_denies_nobody_below_the_limit() -> None:
    """Rounds are slow, so the prediction leaves less than a call. The reserve of each node passes
    its calls: while all ask for less than the limit, it refills faster than they do."""
    mesh = mesh_of(3, BucketSpec("b", 1, 10), gossip_interval=1.0)
    demand = dict.fromkeys("ABC", 5 / 3)
    drive(mesh, demand, 20.0)  # until rates are known
    assert [refused for _, refused, _ in drive(mesh, demand, 40.0).values()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("before", "after", "least", "most"), [(5.0, 0.5, 2.5, 3.5), (0.5, 5.0, 2.5, 3.6)]
)
def test_demand_that_moves_while_a_peer_is_silent_moves_no_level(
    before: float, after: float, least: float, most: float
) -> None:
    """Its credit goes on at another share. What it was before is no other one for that: with the
    part of it that has become the peer's, two nodes would get a third, and with the part that has
    become theirs all of the limit, as long as the silence has lasted."""
    mesh = mesh_of(3, BucketSpec("b", 50, 5), gossip_interval=1.0)
    drive(mesh, {"A": 5.0, "B": before, "C": 5.0}, 60.0)
    mesh.partition("AB", "C")
    drive(mesh, {"A": 5.0, "B": before}, 300.0)
    for _ in range(5):
        assert least <= total(drive(mesh, {"A": 5.0, "B": after}, 20.0)) / 20 <= most


@pytest.mark.parametrize(
    ("spec", "gossip", "period", "each", "denied"),
    [
        (BucketSpec("b", 100, 100), 0.3, 1.0, {"A": 2, "B": 2, "C": 2}, 8),
        (BucketSpec("b", 1000, 3333), 0.1, 0.5, {"A": 60, "B": 60, "C": 40}, 230),
    ],
)
def test_the_next_burst_after_a_cut_gets_its_part(
    spec: BucketSpec, gossip: float, period: float, each: dict[str, int], denied: int
) -> None:
    """B is cut off before the end of its burst is known, and is expected to go on. By the rate of
    its first calls each node seemed to have taken as much for just as long, and denied twice as
    many calls."""
    mesh = SimulatedMesh("ABC", [spec], latency=0.1, jitter=0.0, seed=1, gossip_interval=gossip)

    def bursts(seconds: float) -> Seen:
        began = mesh.now_ns / 1e9
        return run(
            mesh,
            seconds,
            lambda now, name: each[name] if (began + now) % period < 0.1 * period - 1e-9 else 0,
        )

    assert bursts(3.2).denied == 0
    mesh.partition("AC", "B")
    seen = bursts(2 * period)
    assert seen.ideal_denied == 0
    assert seen.denied <= denied


@pytest.mark.parametrize("predict", [True, False])
def test_who_is_cut_off_in_a_burst_is_left_what_it_may_take(predict: bool) -> None:
    """A burst of B goes on after it is cut off. What the others were given in the next burst,
    without what is left to B, would be given beyond the limit: 23 tokens of 100."""
    spec = BucketSpec("b", 100, 100)
    mesh = SimulatedMesh("ABC", [spec], latency=0.08, jitter=0.0, seed=1, gossip_interval=0.3)
    ideal, beyond = IdealBucket(spec, 1000), 0.0
    for node in mesh.nodes.values():
        node.table.nodes.configure(predict=predict)
    for step in range(1, 126):
        mesh.advance_to(round(step / 30 * 1e9))
        if step == 97:
            mesh.partition("AC", "B")
        for name, node in mesh.nodes.items():
            if step % 30 < 3 or (name == "B" and step > 90):
                ideal.charge(node.take_burst("b", "k", 5), mesh.now_ns)
        beyond = max(beyond, -ideal.level(mesh.now_ns))
    assert beyond <= 2 if predict else beyond >= 20


@pytest.mark.parametrize(("after", "passed"), [(0.29, 6), (0.32, 1), (0.42, 6)])
def test_a_burst_that_is_seen_late_is_expected_to_go_on_until_the_next_round(
    after: float, passed: int
) -> None:
    mesh = mesh_of(2, BucketSpec("b", 100, 100), latency=0.3, jitter=0.0)
    mesh.advance(2.0)
    assert mesh["A"].take_burst("b", "k", 20) == 20
    mesh.advance(after)
    assert mesh["B"].take_burst("b", "k", 6, 5) == passed


@pytest.mark.parametrize("rate", [3, 10])
def test_a_bucket_of_a_single_token_gives_it_soon_after_an_overload(rate: int) -> None:
    """Later than twenty seconds nothing of it is in the way, however little is remembered."""
    mesh = mesh_of(3, BucketSpec("b", 1, rate), latency=0.02)
    drive(mesh, {"A": 3.5 * rate, "B": 1.2 * rate, "C": 0.4 * rate}, 20)
    for second in range(60):
        mesh.advance(1.0)
        assert mesh["C"].take("b", "k", 1).allowed or second < 20
