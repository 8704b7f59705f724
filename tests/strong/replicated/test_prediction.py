"""Decisions of a region while others are silent, and just after: the rules of prediction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.script import ScriptStatus
from tests.strong.replicated.region_model import LEVEL, Rules
from tests.strong.replicated.regions import MS, NAMES, SECOND, World

SPEC = BucketSpec("b", 20, 20, max_debt=20)
TICK = 10 * MS


@dataclass
class Play:
    """A world in ticks of 10 ms: copies and beats come at once, or not at all."""

    world: World
    cut: Callable[[int, int], bool] = lambda a, b: False
    relays: bool = True
    """Whether a beat has the other regions that its region has seen."""
    ticks: int = 0
    due: dict[int, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    admitted: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    denied: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    last: dict[int, int] = field(default_factory=dict)
    starved: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def run(self, seconds: float, **demand: float) -> None:
        """`p0=10`: process 0 asks for 10 tokens a second, one at a time."""
        rates = {int(name[1:]): rate for name, rate in demand.items()}
        self.last = dict.fromkeys(rates, self.world.t)
        for _ in range(round(seconds * 100)):
            self.ticks += 1
            self.world.wait(TICK)
            self.replicate()
            for i, rate in rates.items():
                self.due[i] += Fraction(rate) / 100
                while self.due[i] >= 1:
                    self.due[i] -= 1
                    self.ask(i)

    def ask(self, i: int) -> None:
        passed = self.world.take(i, 1)
        (self.admitted if passed else self.denied)[i] += 1
        if passed:
            self.last[i] = self.world.t
        self.starved[i] = max(self.starved[i], self.world.t - self.last[i])

    def replicate(self) -> None:
        regions = self.world.regions
        for a, one in enumerate(regions):
            for b, other in enumerate(regions):
                if a != b and not self.cut(a, b):
                    if self.ticks % 10 == 0:
                        one.beat(other, self.world.t)
                        for name, known in other.known.items() if self.relays else ():
                            mine = one.known.get(name)
                            if mine and known.stamp_us > mine.stamp_us:
                                one.known[name] = mine._replace(stamp_us=known.stamp_us)
                    one.receive(other)


def played(rules: Rules, spec: BucketSpec = SPEC) -> Play:
    return Play(World(spec, rules=rules, homes=(0, 1, 2)))


def apart(a: int, b: int) -> bool:
    return True


def together(a: int, b: int) -> bool:
    return False


def light_load(rules: Rules) -> float:
    """Two regions at .4 of the limit each are cut for 20 s: calls that are denied."""
    play = played(rules)
    play.run(5, p0=8, p1=8)
    play.cut = apart
    play.run(20, p0=8, p1=8)
    play.cut = together
    play.run(5, p0=8, p1=8)
    return sum(play.denied.values())


def beats_first(rules: Rules) -> float:
    """The same; after the cut, beats come for 1.5 s before the first key."""
    play = played(rules)
    play.run(5, p0=8, p1=8)
    play.cut = apart
    play.run(20, p0=8, p1=8)
    for _ in range(15):
        play.world.beats()
        play.run(0.1, p0=8, p1=8)
    play.cut = together
    play.run(5, p0=8, p1=8)
    return sum(play.denied.values())


def overload(rules: Rules) -> float:
    """Two regions at twice the limit are cut for 30 s: capacities admitted beyond the limit."""
    play = played(rules)
    play.run(10, p0=20, p1=20)
    before = sum(play.admitted.values())
    play.cut = apart
    play.run(30, p0=20, p1=20)
    return (sum(play.admitted.values()) - before - 600) / 20


def own_burst(rules: Rules) -> float:
    """A region that is cut off bursts after half a minute: what it admits within a second."""
    play = played(rules)
    play.run(10, p0=10, p1=10)
    play.cut = apart
    play.run(30, p0=10, p1=10)
    before = play.admitted[0]
    play.run(1, p0=400, p1=10)
    return play.admitted[0] - before


def broken_pair(rules: Rules) -> float:
    """Only one pair of three regions is cut, at twice the limit: the longest wait of a region."""
    play = played(rules)
    play.relays = False
    play.run(10, p0=13, p1=13, p2=13)
    play.cut = lambda a, b: {a, b} == {0, 1}
    play.run(30, p0=13, p1=13, p2=13)
    return max(play.starved.values()) / SECOND


def key_before_beat(rules: Rules) -> float:
    """B's key comes before its beat, in a bucket of a second at .8 of the limit: denied calls."""
    play = played(rules, BucketSpec("b", 10, 10, max_debt=10))
    play.run(10, p0=4, p1=4)
    play.cut = apart
    play.run(3, p0=1, p1=4)
    for _ in range(10):
        play.world.wait(TICK)
        play.world.regions[0].receive(play.world.regions[1])
        if play.ticks % 2:
            play.ask(0)
        play.ticks += 1
    return sum(play.denied.values())


def burst_at_the_end(rules: Rules) -> float:
    """B was predicted 10 s of refill, and empties the bucket as the cut ends: what A owes then."""
    play = played(rules)
    play.run(10, p0=0.1, p1=12)
    play.cut = apart
    play.run(30, p0=0.1)
    for _ in range(23):
        play.world.take(1, 1)
    play.cut = together
    play.run(0.1)
    play.world.regions[0].look(play.world.t)
    return float(play.world.regions[0].tokens(play.world.t))


def one_alone(rules: Rules) -> float:
    """The largest of three regions is cut off, at twice the limit: the smallest one's longest wait
    (s)."""
    play = played(rules)
    play.run(10, p0=27.7, p1=8.1, p2=4.3)
    play.starved.clear()
    play.cut = lambda a, b: (a == 0) != (b == 0)
    play.run(40, p0=27.7, p1=8.1, p2=4.3)
    return play.starved[2] / SECOND


def moved(rules: Rules) -> Play:
    """All of twice the limit moves, in the middle of a cut of 40 s, to a region that has never had
    the key; 12 s after the cut."""
    play = played(rules, BucketSpec("b", 100, 20, max_debt=100))
    play.run(25, p0=40)
    play.cut = apart
    play.run(20, p0=40)
    play.run(20, p1=40)
    play.cut = together
    play.admitted.clear()
    play.run(12, p1=40)
    return play


def key_made_in_a_silence(rules: Rules) -> float:
    """The longest wait of the region that all demand has moved to (s)."""
    return moved(rules).starved[1] / SECOND


def credit_that_is_left(rules: Rules) -> float:
    """The tokens that region admits within 12 s after the cut, beyond the refill, in capacities."""
    return (moved(rules).admitted[1] - 240) / 100


TRACES: list[tuple[Callable[[Rules], float], str | None, float, float]] = [
    (light_load, None, 0, 0),
    (light_load, "predicts", 1, 1_000),
    (overload, None, 0, 1),
    (overload, "predicts", 20, 40),
    (beats_first, None, 0, 0),
    (beats_first, "keeps_credit", 1, 1_000),
    (own_burst, None, 20, 45),
    (own_burst, "adds_up", 100, 1_000),
    (key_before_beat, None, 0, 0),
    (key_before_beat, "counts_relayed", 1, 1_000),
    (burst_at_the_end, None, 19, 21),
    (burst_at_the_end, "keeps_bursts", 0, 1),
    (key_made_in_a_silence, None, 0, 0.6),
    (key_made_in_a_silence, "starts_with_credit", 4, 6),
    (key_made_in_a_silence, "tells_first_sight", 4, 6),
    (credit_that_is_left, None, 0.8, 1.25),
    (credit_that_is_left, "ends_credit", 1.4, 4),
    (one_alone, None, 0, 0.6),
    (one_alone, "has_reserve", 1.5, 100),
    (broken_pair, None, 0, 0.6),
]


@pytest.mark.parametrize(
    ("trace", "off", "least", "most"),
    TRACES,
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_each_rule_of_prediction_is_needed(
    trace: Callable[[Rules], float], off: str | None, least: float, most: float
) -> None:
    rules = Rules() if off is None else replace(Rules(), **{off: False})
    assert least <= trace(rules) <= most


def cut_off(forget_us: int = 0) -> Play:
    """B was at half the limit, and has been silent for 5 s."""
    play = played(Rules())
    play.world.regions[0].define(SPEC, NAMES, forget_us=forget_us)
    play.run(10, p0=1, p1=10)
    play.cut = apart
    play.run(5, p0=1)
    return play


def test_a_region_that_is_silent_for_too_long_is_predicted_no_longer() -> None:
    play = cut_off(forget_us=6 * SECOND)
    level = play.world.regions[0].held[LEVEL]
    ((name, used, _),) = level.far
    assert name == b"B"
    assert used > 2 * SECOND * 1_000
    play.run(2.6, p0=1)
    after = play.world.regions[0].held[LEVEL]
    assert not after.far
    assert play.world.regions[0].debt(play.world.t) >= 0
    assert play.denied[0] == 0


def test_a_region_that_is_removed_is_predicted_no_longer() -> None:
    """What it was predicted to have used is owed, so that its share does not come back at once."""
    play = cut_off()
    a = play.world.regions[0]
    before = play.world.regions[0].held[LEVEL]
    hold = before.far[0][1]
    a.define(SPEC, "AC")
    play.world.wait(TICK)
    answer = a.look(play.world.t)
    after = a.held[LEVEL]
    assert not after.far
    assert answer.hold_ns == 0
    assert after.debt == before.debt + hold - 1_000 * (after.at_us - before.at_us)


def test_denied_calls_are_counted_as_offered() -> None:
    """One in eight is sampled and counts eight times: a region that is denied everything is known
    to ask."""
    world = World(SPEC, homes=(0,))
    for _ in range(20):
        world.take(0, 1)
    offered = world.regions[0].held[LEVEL].offered
    for _ in range(800):
        world.wait(1)
        world.take(0, 1)
    level = world.regions[0].held[LEVEL]
    assert level.offered - offered == pytest.approx(800_000, rel=0.02)


def test_a_denied_caller_learns_what_silent_regions_hold() -> None:
    play = cut_off()
    play.cut = apart
    for _ in range(40):
        play.ask(0)
    answer = play.world.call(play.world.processes[0], 1)
    assert answer.status is ScriptStatus.DENIED
    assert answer.hold_ns > 0
    assert answer.debt_ns < 20 * play.world.unit
