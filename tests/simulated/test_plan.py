"""Every dimension of a plan is really drawn, each by itself, and a plan can be made smaller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.simulated.drawing import DIMENSIONS, EVENTS, draw
from tests.simulated.given_up import ASKED, NEEDS_S
from tests.simulated.lied import AFTER
from tests.simulated.plan import ENDINGS, Plan


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [draw(seed) for seed in range(1000)]


def share(of: Callable[[Plan], bool], among: list[Plan]) -> float:
    return sum(map(of, among)) / len(among)


def cuts(plan: Plan) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    return [event.args[:2] for event in plan.events if event.what == "cut"]


def dies(plan: Plan, *, ends: bool) -> bool:
    return any(event.what == "die" and event.args[1] == ends for event in plan.events)


def reloads(plan: Plan) -> list[int]:
    """Capacities that the limit is changed to."""
    return [event.args[0].capacity for event in plan.events if event.what == "reload"]


def times(plan: Plan, what: str) -> list[float]:
    """Seconds from one such event to the next one; and a day at the end."""
    at = [event.at for event in plan.events if event.what == what]
    return [*(b - a for a, b in pairwise(at)), 1e5]


def behind(plan: Plan) -> list[float]:
    """For how long the last node waits for a new limit."""
    return [event.args[4] for event in plan.events if event.what == "reload" and event.args[4]]


def begins_behind(plan: Plan) -> bool:
    """Whether any node may begin anew while another limit is under way."""
    waits = [(e.at, e.at + e.args[4]) for e in plan.events if e.what == "reload"]
    return any(a < e.at < b for e in plan.events if e.what == "return" for a, b in waits)


def stalls(plan: Plan) -> list[tuple[float, float]]:
    """Seconds for which links hold frames, and in which these come afterwards."""
    return [event.args[:2] for event in plan.events if event.what == "stall"]


def lies(plan: Plan) -> set[str]:
    return {event.args[0] for event in plan.events if event.what == "lie"}


def one_way(plan: Plan) -> bool:
    return any(way[::-1] not in ways for _, ways in cuts(plan) for way in ways)


def degrees(plan: Plan) -> list[int]:
    return sorted(sum(name in pair for pair in plan.linked) for name in plan.nodes)


def chain(plan: Plan) -> bool:
    size = len(plan.nodes)
    return size > 3 and degrees(plan) == [1, 1, *[2] * (size - 2)]


def snapshot_ages(plan: Plan) -> list[float]:
    """Seconds from saving to returning."""
    saved = {e.args[0]: e.at for e in plan.events if e.what == "save"}
    back = [(e.args[0], e.at) for e in plan.events if e.what == "return" and e.args[1]]
    return [at - saved[name] for name, at in back if name in saved]


WANTED: dict[str, tuple[Callable[[Plan], bool], float]] = {
    "two nodes": (lambda p: len(p.nodes) == 2, 0.1),
    "five nodes or more": (lambda p: len(p.nodes) >= 5, 0.05),
    "a chain": (chain, 0.01),
    "a ring": (lambda p: len(p.nodes) > 3 and degrees(p) == [2] * len(p.nodes), 0.01),
    "a star": (lambda p: len(p.nodes) > 3 and degrees(p)[-2:] == [1, len(p.nodes) - 1], 0.01),
    "another graph": (lambda p: not p.complete, 0.15),
    "lost frames": (lambda p: p.loss[0] > 0, 0.1),
    "ways cut": (lambda p: bool(cuts(p)), 0.3),
    "one way cut alone": (one_way, 0.08),
    "several cuts": (lambda p: len(cuts(p)) > 1, 0.1),
    "cut and silent": (lambda p: any(how == "silent" for how, _ in cuts(p)), 0.1),
    "cut and given up": (lambda p: any(how == "times out" for how, _ in cuts(p)), 0.1),
    "cut by resets": (lambda p: any(how == "resets" for how, _ in cuts(p)), 0.1),
    "a node comes": (lambda p: p.has("come"), 0.1),
    "a node leaves": (lambda p: p.has("leave"), 0.08),
    "a node ends": (lambda p: dies(p, ends=True), 0.2),
    "a node is lost": (lambda p: dies(p, ends=False), 0.05),
    "a node returns": (lambda p: p.has("return"), 0.2),
    "a node is replaced": (lambda p: p.has("come") and p.has("die", "leave"), 0.05),
    "pods come and go": (lambda p: sum(e.what == "come" for e in p.events) > 5, 0.002),
    "a young snapshot": (lambda p: any(age < 2 for age in snapshot_ages(p)), 0.02),
    "an old snapshot": (lambda p: any(age > 20 for age in snapshot_ages(p)), 0.02),
    "a reload upwards": (lambda p: any(c > p.main.capacity for c in reloads(p)), 0.03),
    "a reload downwards": (lambda p: any(c < p.main.capacity for c in reloads(p)), 0.05),
    "a reload of the rate alone": (lambda p: p.main.capacity in reloads(p), 0.03),
    "two reloads at once": (lambda p: min(times(p, "reload")) < 1.0, 0.01),
    "a node that is behind": (lambda p: any(behind(p)), 0.03),
    "and begins anew with the old limit": (begins_behind, 0.002),
    "ways that flap": (lambda p: len(cuts(p)) > 5, 0.02),
    "a node that stands still again and again": (lambda p: len(times(p, "pause")) > 3, 0.005),
    "one direction slower than back": (lambda p: bool(p.slow), 0.03),
    "a node is forgotten soon": (lambda p: p.forget_after < 100, 0.1),
    "drift": (lambda p: p.drift > 0, 0.3),
    "drift to be taken for a jump": (lambda p: p.drift * p.seconds > 1.0, 0.005),
    "a pause": (lambda p: p.has("pause"), 0.1),
    "links stall": (lambda p: p.has("stall"), 0.1),
    "and drain slowly": (lambda p: any(held and drain for held, drain in stalls(p)), 0.05),
    "and news are too old": (lambda p: any(held > 5 for held, _ in stalls(p)), 0.02),
    "rounds every 50 ms": (lambda p: p.gossip_interval == 0.05, 0.05),
    "rounds every 10 s": (lambda p: p.gossip_interval == 10.0, 0.05),
    "a bucket of one": (lambda p: p.main.capacity == 1, 0.03),
    "a bucket of 10^9": (lambda p: p.main.capacity == 10**9, 0.03),
    "a light load": (lambda p: all(0 < phase.amount <= 0.6 for phase in p.phases), 0.2),
    "a load as high as the limit": (lambda p: any(phase.amount == 1.0 for phase in p.phases), 0.05),
    "a heavy load": (lambda p: any(phase.amount >= 2 for phase in p.phases), 0.3),
    "a storm of retries": (lambda p: p.storm is not None, 0.05),
    "a load that moves": (lambda p: len(p.phases) > 1, 0.2),
    "bursts": (lambda p: p.arrivals[0] == "bursts", 0.1),
    "calls of the whole bucket": (lambda p: p.cost == p.main.capacity > 1, 0.05),
    "refunds": (lambda p: p.returns and p.scattered > 0, 0.2),
    "a flood of keys": (lambda p: p.keys > p.max_keys, 0.03),
    "a member lies": (lambda p: p.has("lie"), 0.05),
    "and nothing else happens": (lambda p: {e.what for e in p.events} == {"lie"}, 0.03),
    "in one way": (lambda p: len(lies(p)) == 1, 0.03),
    "in many ways": (lambda p: len(lies(p)) > 10, 0.01),
    "two members lie": (lambda p: p.bad == 2 and p.has("lie"), 0.015),
    "an observer looks": (lambda p: p.has("look"), 0.01),
    "an observer writes": (lambda p: p.has("write"), 0.005),
    "a clock jumps": (lambda p: p.has("jump"), 0.005),
    "while a way is cut": (lambda p: p.has("jump", "still") and p.has("cut"), 0.005),
    "a machine stands still with its clock": (lambda p: p.has("still"), 0.004),
    "a key is reset": (lambda p: p.has("reset"), 0.01),
    "a surge": (lambda p: p.has("surge"), 0.01),
    "one table is full": (lambda p: p.has("flood"), 0.01),
    "a roll-out": (lambda p: p.has("stage"), 0.01),
    "and nodes that end meanwhile": (lambda p: p.has("stage") and p.has("die", "leave"), 0.003),
    "between slow rounds": (lambda p: p.has("stage") and p.gossip_interval >= 3, 0.015),
    "a bucket that comes later": (lambda p: p.has("add"), 0.01),
    "between such rounds": (lambda p: p.has("add") and p.gossip_interval >= 3, 0.015),
    "and has another limit then": (lambda p: p.has("limit"), 0.004),
    "processes that share a table": (lambda p: bool(p.hosts), 0.01),
    "idle in the end": (lambda p: p.idle, 0.05),
    "nothing happens": (lambda p: not p.events, 0.08),
}  # fmt: skip


def test_every_dimension_is_drawn(plans: list[Plan]) -> None:
    """The least part of the plans that must have it."""
    rare = {
        what: share(of, plans) for what, (of, least) in WANTED.items() if share(of, plans) < least
    }
    assert not rare


@pytest.mark.parametrize(
    "first", ["a chain", "ways cut", "a node returns", "drift", "a storm of retries"]
)
def test_dimensions_are_drawn_independently(first: str, plans: list[Plan]) -> None:
    """What one dimension drew says nothing about another one."""
    of = WANTED[first][0]
    among = [plan for plan in plans if of(plan)]
    for second in ("lost frames", "a pause", "rounds every 10 s", "bursts", "refunds"):
        whole, part = share(WANTED[second][0], plans), share(WANTED[second][0], among)
        assert abs(part - whole) < 4 * (whole * (1 - whole) / len(among)) ** 0.5 + 0.01, second


def gone_behind(plan: Plan) -> bool:
    """Whether a cut lasts until the epoch of a node that ends in it has its tombstone, in a bucket
    that does not fill meanwhile."""
    cuts = [event for event in plan.events if event.what == "cut"]
    mends = {event.args: event.at for event in plan.events if event.what == "mend"}
    ends = [e for e in plan.events if e.what in ("die", "leave")]
    return plan.main.capacity / plan.main.rate_per_second > 3000 and any(
        mends[cut.args] - cut.at >= NEEDS_S[cut.args[0]]
        and any(cut.at < end.at < mends[cut.args] for end in ends)
        for cut in cuts
        if cut.args in mends
    )


def test_who_is_given_up_behind_a_cut_is_gone_by_its_end() -> None:
    """By chance that is drawn in one plan of a thousand, in which no node takes what it may
    lose."""
    made = [plan for plan in map(draw, range(3000)) if ASKED in (p.amount for p in plan.phases)]
    assert 10 <= len(made) <= 60
    assert all(map(gone_behind, made))
    kinds = {event.what for plan in made for event in plan.events}
    assert kinds == {"cut", "mend", "save", "die", "leave", "return"}


def test_some_roll_outs_and_added_buckets_last_until_they_are_judged(plans: list[Plan]) -> None:
    """Those that come by chance hardly ever do."""
    made = [plan for plan in plans if plan != draw(plan.seed, plain=("reloaded",))]
    assert 5 <= len(made) <= 30
    for plan in made:
        times = {event.what: event.at for event in plan.events}
        assert plan.has("stage") != plan.has("add")
        if plan.has("stage"):
            rounds = 10 * len(plan.nodes)
            assert times["unstage"] - times["stage"] > rounds * plan.gossip_interval
        else:
            owed = plan.side.capacity / plan.side.rate_per_second
            assert times["add"] + 4 * plan.gossip_interval < times["spend"] + owed


def test_some_lies_come_before_a_process_is_met_and_long_before_the_end(plans: list[Plan]) -> None:
    """By chance that is hardly ever drawn."""
    made = [plan for plan in plans if plan != draw(plan.seed, plain=("lied",))]
    assert 3 <= len(made) <= 30
    for plan in made:
        changes = [event.at for event in plan.events if event.what != "lie"]
        lies = [event.at for event in plan.events if event.what == "lie"]
        assert plan.has("return", "mend")
        assert plan.seconds > max(changes) + AFTER
        early = 3 * plan.latency + 0.002
        assert all(any(0 < lie - at < early for lie in lies) for at in changes)


def test_some_lies_are_of_processes_that_have_never_met(plans: list[Plan]) -> None:
    """Each begins while two sides are cut off from each other, and is lied to before that ends."""
    made = [plan for plan in plans if plan != draw(plan.seed, plain=("mutual",))]
    assert 3 <= len(made) <= 40
    for plan in made:
        back = {event.args[0]: event.at for event in plan.events if event.what == "return"}
        cut, mend = (next(e.at for e in plan.events if e.what == w) for w in ("cut", "mend"))
        assert set(back) == set(plan.nodes)
        assert cut < min(back.values()) < max(back.values()) < mend < plan.seconds - AFTER
        assert any(e.what == "lie" and max(back.values()) < e.at < mend for e in plan.events)


def test_some_lies_go_on_while_frames_are_lost_or_the_limit_changes(plans: list[Plan]) -> None:
    made = [plan for plan in plans if plan != draw(plan.seed, plain=("pressed",))]
    assert 3 <= len(made) <= 40
    for plan in made:
        assert (plan.loss[0] > 0) != plan.has("reload")
        assert len([e for e in plan.events if e.what == "lie"]) >= 30
        assert len(lies(plan)) <= 2


def test_every_length_is_about_as_costly(plans: list[Plan]) -> None:
    frames = [2 * len(p.linked) * p.seconds / p.gossip_interval for p in plans if p.linked]
    assert sorted(frames)[len(frames) // 2] < 1000


def test_a_plain_dimension_changes_nothing_but_itself() -> None:
    for seed in range(50):
        whole, without = draw(seed), draw(seed, plain=("storm", "drift", "idle"))
        assert (without.storm, without.drift, without.idle) == (None, 0, False)
        assert without.events == whole.events
        assert (without.main, without.phases) == (whole.main, whole.phases)


def test_events_are_left_out_by_number(plans: list[Plan]) -> None:
    plan = next(plan for plan in plans if len(plan.events) > 3)
    assert draw(plan.seed, dropped=(1, 2)).events == (plan.events[0], *plan.events[3:])


def test_all_plain_is_one_plan() -> None:
    plain = draw(7, plain=tuple(DIMENSIONS))
    assert (plain.events, plain.complete, plain.drift) == ((), True, 0)
    assert str(plain).splitlines()[1:] == str(draw(8, plain=tuple(DIMENSIONS))).splitlines()[1:]


def test_events_are_in_order_and_within_the_run(plans: list[Plan]) -> None:
    assert set(EVENTS) < set(DIMENSIONS)
    for plan in plans:
        times = [event.at for event in plan.events]
        assert times == sorted(times)
        assert all(at >= 0 for at in times)
    kinds = Counter(event.what for plan in plans for event in plan.events)
    assert kinds.keys() == {
        "cut", "mend", "save", "die", "leave", "return", "come", "pause", "reload",
        "stall", "flow", "lie", "look", "write", "jump", "still", "reset", "surge", "flood",
        "stage", "unstage", "add", "spend", "limit",
    }  # fmt: skip


def test_some_plans_have_no_endings(plans: list[Plan]) -> None:
    assert 0.5 < share(lambda plan: not plan.endings, plans) < 0.7
    assert 0.2 < share(lambda plan: plan.endings == ENDINGS, plans) < 0.4
    assert share(lambda plan: plan.endings == ENDINGS[:1], plans) > 0.05
