"""The verdict finds what is wrong: figures and checks on calls that are written down by hand."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket import BucketSpec
from crdtbucket.demo.accounts import Accounts, DecidedCall
from crdtbucket.demo.limit_figures import LINKED, PARTED, Happened, UnsentTakes, least_unknown
from crdtbucket.demo.verdict import RunVerdict, judge
from crdtbucket.demo.words import verdict_lines
from crdtbucket.simulator.bound import UnknownTakes

S = 1_000_000_000
SPEC = BucketSpec("b", 100, 10)
NO_CUT = Happened({"cut": 10**18, "healed": 10**18})
GOSSIP = S // 10


def report(place: int, calls: list[list[Any]], known: list[int]) -> dict[str, Any]:
    """The report of region `place`; `known` by region, calls as (at, cost, allowed, known)."""
    return {
        "at": 100 * S,
        "epoch": f"e{place}",
        "remaining": 0,
        "peers": {},
        "known": by_epoch(known),
        "room": 0.0,
        "forgiven": 0,
        "done": True,
        "switches": [],
        "calls": [
            [at, 0, cost, ok, 0.0, by_epoch(knew), "eventual"] for at, cost, ok, knew in calls
        ],
    }


def by_epoch(known: list[int]) -> dict[str, int]:
    return {f"e{place}": taken for place, taken in enumerate(known)}


def verdict(*reports: dict[str, Any], expected: int | None = None, cut: Any = NO_CUT) -> RunVerdict:
    accounts = Accounts([f"r{place}" for place in range(len(reports))])
    for place, one in enumerate(reports):
        accounts.report(place, one)
    made = sum(len(one["calls"]) for one in reports)
    return judge(accounts, SPEC, GOSSIP, cut, made if expected is None else expected)


def failed(found: RunVerdict) -> list[str]:
    return [check.name for check in found.checks if not check.holds]


def test_one_limit_kept_holds() -> None:
    found = verdict(
        report(0, [[0, 60, 1, [0, 0]]], [60, 40]), report(1, [[S, 40, 1, [60, 0]]], [60, 40])
    )
    assert failed(found) == []
    assert found.holds
    assert (found.offered, found.admitted, found.ideal) == (100, 100, 100)
    # 100 in a second that allows 110.
    assert found.limits[LINKED].over_admission_percent == pytest.approx(-10)


def test_more_than_the_limit_is_allowed_as_far_as_it_was_not_merged() -> None:
    calls = [[S, 90, 1, [0, 0]]]
    found = verdict(report(0, [[0, 90, 1, [0, 0]]], [90, 90]), report(1, calls, [90, 90]))
    assert found.limits[LINKED].over_admission_percent == pytest.approx(70)
    assert found.limits[LINKED].bound_percent == pytest.approx(90)
    assert failed(found) == []


def test_more_than_the_limit_though_it_was_merged_fails() -> None:
    calls = [[S, 90, 1, [90, 0]]]
    found = verdict(report(0, [[0, 90, 1, [0, 0]]], [90, 90]), report(1, calls, [90, 90]))
    assert failed(found) == ["limit, links up"]
    assert not found.holds
    assert any("did not keep" in line for line, _ in verdict_lines(found))


def test_what_a_cut_allows_does_not_excuse_what_came_before() -> None:
    # In the cut more may be unknown than the over-admission before it.
    eu = [[0, 90, 1, [0, 0]], [20 * S, 100, 1, [90, 90]]]
    us = [[S, 90, 1, [90, 0]], [20 * S + 1, 80, 1, [90, 90]]]
    found = verdict(
        report(0, eu, [190, 170]),
        report(1, us, [190, 170]),
        cut=Happened({"cut": 19 * S, "healed": 21 * S}),
    )
    assert failed(found) == ["limit, links up"]
    assert found.limits[PARTED].over_admission_percent == pytest.approx(80, abs=0.1)
    # eu admitted a moment before us: what came since is less than all that us did not know.
    assert found.limits[PARTED].bound_percent == pytest.approx(80)


def test_room_and_forgiven_debt_and_slow_clocks_widen_the_bound() -> None:
    calls = [[S, 0, 90, 1, 30.0, by_epoch([90, 0]), "eventual"]]
    found = verdict(
        report(0, [[0, 90, 1, [0, 0]]], [90, 90]),
        {**report(1, [], [90, 90]), "calls": calls, "forgiven": 20, "room": 7.0},
    )
    assert found.limits[LINKED].bound_percent == pytest.approx(50)
    calls = [[S, S // 2, 90, 1, 0.0, by_epoch([90, 0]), "eventual"]]
    found = verdict(
        report(0, [[0, 90, 1, [0, 0]]], [90, 90]), {**report(1, [], [90, 90]), "calls": calls}
    )
    assert found.limits[LINKED].bound_percent == pytest.approx(5)


def test_a_lost_take_and_a_minted_one_fail() -> None:
    eu = report(0, [[0, 10, 1, [0, 0]]], [10, 5])
    us = [[0, 5, 1, [0, 0]]]
    assert failed(verdict(eu, report(1, us, [10, 5]))) == []
    for held in ([9, 5], [10, 6], [0, 5]):
        assert failed(verdict(eu, report(1, us, held))) == ["no take lost"]


def test_calls_that_were_not_made_fail() -> None:
    assert failed(verdict(report(0, [[0, 10, 1, [0]]], [10]), expected=2)) == ["no take lost"]


def test_a_region_that_gets_nothing_fails() -> None:
    hungry = [[k * S, 90, 0, [100, 0]] for k in range(5)]
    found = verdict(report(0, [[0, 100, 1, [0, 0]]], [100, 0]), report(1, hungry, [100, 0]))
    assert failed(found) == ["no starvation"]
    assert found.starved_seconds == {"r0": 0.0, "r1": 4.0}


def test_a_region_that_does_not_call_is_not_starved() -> None:
    calls = [[0, 100, 1, [0]], [1, 5, 0, [100]], [2, 5, 0, [100]], [2 * S, 5, 1, [100]]]
    calls += [[40 * S, 5, 1, [105]]]
    assert verdict(report(0, calls, [110])).starved_seconds == {"r0": pytest.approx(2.0)}


def test_admitting_too_little_fails() -> None:
    calls = [[0, 80, 1, [0]], [1, 20, 0, [80]]]
    found = verdict(report(0, calls, [80]))
    assert failed(found) == ["admitted"]
    assert found.ratio == pytest.approx(0.8)


def admission(at: int, region: int, cost: int) -> DecidedCall:
    return DecidedCall(at, region, cost, True, 0, {})


def test_the_best_informed_of_late_speaks_for_all() -> None:
    unknown = UnknownTakes(2, GOSSIP)
    assert least_unknown(unknown, admission(0, 0, 50), (0, 0)) == 0
    # Region 1 does not know the 50, but region 0 admitted a moment ago: what came since counts.
    assert least_unknown(unknown, admission(GOSSIP, 1, 7), (0, 0)) == 7
    assert least_unknown(unknown, admission(3 * GOSSIP, 1, 7), (0, 7)) == 50
    unknown.full()
    assert least_unknown(unknown, admission(9 * GOSSIP, 1, 7), (0, 14)) == 0


def strong(at: int, region: int, cost: int, waited: int = 0) -> DecidedCall:
    return DecidedCall(at, region, cost, True, waited, {}, "strong")


def test_redis_does_not_know_what_was_taken_without_it_until_its_taker_asks() -> None:
    unsent = UnsentTakes(2)
    assert unsent.admitted(strong(0, 0, 50)) == 0
    assert unsent.admitted(admission(1, 0, 7)) is None
    assert unsent.admitted(admission(5, 0, 20)) is None
    assert unsent.admitted(strong(6, 1, 1)) == 27
    # Sent at 4: it contains what was taken until then.
    assert unsent.admitted(strong(8, 0, 1, waited=4)) == 20
    assert unsent.admitted(strong(9, 1, 1)) == 20
    unsent.full()
    assert unsent.admitted(strong(9, 1, 1)) == 0


def test_an_empty_redis_says_nothing_until_everybody_has_asked() -> None:
    unsent = UnsentTakes(2)
    unsent.admitted(strong(0, 0, 50))
    unsent.lost()
    assert unsent.admitted(strong(1, 1, 5)) is None
    assert unsent.admitted(strong(2, 0, 5)) == 0
    unsent.lost()
    unsent.full()
    assert unsent.admitted(strong(3, 1, 5)) == 0


def test_own_calls_that_were_decided_while_one_waited_are_unknown_to_redis_too() -> None:
    unknown = UnknownTakes(2, GOSSIP)
    assert least_unknown(unknown, strong(0, 0, 30), (0, 0)) == 0
    assert least_unknown(unknown, strong(3 * GOSSIP, 0, 5, waited=4 * GOSSIP), (0, 0)) == 30


def test_a_restarted_process_is_the_same_region() -> None:
    accounts = Accounts(["r0", "r1"])
    accounts.report(0, report(0, [[0, 10, 1, [0, 0]]], [10, 0]))
    accounts.report(0, {**report(0, [[S, 5, 1, [10, 0]]], []), "epoch": "e9"})
    accounts.report(1, report(1, [], []))
    assert accounts.by_region({"e0": 10, "e9": 5, "e1": 3}) == (15, 3)
    assert accounts.each[0].total == 15


def test_lag_is_the_age_of_the_oldest_take_that_was_not_merged() -> None:
    accounts = Accounts(["r0", "r1"])
    calls = [[97 * S, 10, 1, [0, 0]], [98 * S, 10, 1, [10, 0]], [99 * S, 10, 1, [20, 0]]]
    accounts.report(0, report(0, calls, [30, 0]))
    accounts.report(1, report(1, [], [10, 0]))
    assert accounts.lag_ns(1, 0) == 2 * S
    assert accounts.lag_ns(1, 98 * S + 1) == S  # the second take is history
    assert accounts.lag_ns(0, 0) == 0
    assert accounts.full_at(SPEC) == 99 * S  # 10 a second is refilled, just enough each time
    assert accounts.rates(0, 99 * S + 1) == (10, 10)
