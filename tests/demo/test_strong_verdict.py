"""The verdict of a run with a Redis finds what is wrong, on calls that are written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket import BucketSpec
from crdtbucket.demo.accounts import Accounts, DecidedCall
from crdtbucket.demo.limit_figures import Happened, fallback_limit
from crdtbucket.demo.traffic import Traffic
from crdtbucket.demo.verdict import RunVerdict, judge
from crdtbucket.demo.words import as_dict, verdict_lines
from crdtbucket.simulator.run_settings import Settings

S = 1_000_000_000
SPEC = BucketSpec("b", 100, 10)
ACTS_NS = {"slow": 10 * S, "gone": 20 * S, "back": 30 * S}
SWITCHES = [
    [11 * S, "strong", "eventual", "slow"],
    [21 * S, "eventual", "fallback", "gone"],
    [33 * S, "fallback", "strong", "back"],
]
CHECKS = [
    "modes", "admitted", "limit, strong", "limit, eventual", "limit, fallback", "every token",
    "no starvation",
]  # fmt: skip


def by_epoch(amounts: list[int]) -> dict[str, int]:
    return {f"e{place}": amount for place, amount in enumerate(amounts)}


def report(place: int, calls: list[list[Any]], held: list[int], **more: Any) -> dict[str, Any]:
    """The report of region `place`; calls as (at, cost, allowed, mode, known by region)."""
    rows = [[at, 0, cost, ok, 0.0, by_epoch(knew), mode] for at, cost, ok, mode, knew in calls]
    return {
        "at": 100 * S, "epoch": f"e{place}", "remaining": 0, "peers": {}, "room": 0.0,
        "known": by_epoch(held), "forgiven": 0, "done": True, "switches": SWITCHES, "calls": rows,
        **more,
    }  # fmt: skip


def verdict(
    *reports: dict[str, Any], records: list[int], expected: int | None = None
) -> RunVerdict:
    accounts = Accounts([f"r{place}" for place in range(len(reports))])
    for place, one in enumerate(reports):
        accounts.report(place, one)
    made = sum(len(one["calls"]) for one in reports)
    happened = Happened(ACTS_NS, [by_epoch(records)], 0.1)
    return judge(accounts, SPEC, S // 10, happened, made if expected is None else expected)


def failed(found: RunVerdict) -> list[str]:
    return [check.name for check in found.checks if not check.holds]


EU = [[0, 60, 1, "strong", [0, 0]], [22 * S, 9, 1, "fallback", [60, 40]]]
US = [[S, 40, 1, "strong", [0, 0]], [12 * S, 5, 1, "eventual", [60, 40]]]


def a_run(eu: list[list[Any]] = EU, us: list[list[Any]] = US, **more: Any) -> RunVerdict:
    held = [sum(cost * ok for _, cost, ok, *_ in calls) for calls in (eu, us)]
    fields: dict[str, Any] = {"records": held, **more}
    return verdict(report(0, eu, held), report(1, us, held), **fields)


def test_a_run_that_keeps_everything_holds() -> None:
    found = a_run()
    assert [check.name for check in found.checks] == CHECKS
    assert failed(found) == []
    assert found.holds
    assert (found.admitted, found.reported, found.records) == (114, (69, 45), [(69, 45)])
    lines = [line for line, _ in verdict_lines(found)]
    assert "every token" in lines[7]
    assert "69 + 45 = 114" in lines[7]


@pytest.mark.parametrize("records", [[68, 45], [69, 46], [69, 0], [70, 44]])
def test_a_token_more_or_less_in_redis_fails(records: list[int]) -> None:
    found = a_run(records=records)
    assert failed(found) == ["every token"]
    assert f"Redis holds {[*records, 0]}" in next(c.text for c in found.checks if not c.holds)


def test_records_of_nobody_fail() -> None:
    found = a_run(records=[69, 45, 1])
    assert failed(found) == ["every token"]
    assert found.records == [(69, 45)]


def test_a_token_more_or_less_in_a_node_or_a_call_that_was_not_made_fails() -> None:
    eu, us = report(0, EU, [69, 45]), report(1, US, [69, 44])
    assert failed(verdict(eu, us, records=[69, 45])) == ["every token"]
    assert failed(a_run(expected=5)) == ["every token"]


def test_a_strong_decision_may_not_pass_the_limit_unless_something_was_taken_without_redis() -> (
    None
):
    # r1 has not merged the 60 of r0 by the mesh, but Redis has them.
    over = [[S, 90, 1, "strong", [0, 0]]]
    found = a_run(us=over)
    assert failed(found) == ["limit, strong"]
    assert found.limits["limit, strong"].bound_percent == 0
    away = [[0, 60, 1, "eventual", [0, 0]]]
    assert failed(a_run(eu=away, us=over)) == []


def test_an_empty_redis_is_no_excuse_for_what_the_mesh_has_delivered() -> None:
    late = 31 * S
    eu = [[late, 60, 1, "strong", [0, 0]]]
    # Redis has come back and does not know r1 yet, which has not merged the takes of r0 either.
    assert failed(a_run(eu=eu, us=[[late + S, 90, 1, "strong", [0, 0]]])) == ["limit, strong"]
    us = [[30 * S, 60, 1, "strong", [0, 0]], [late + 1, 40, 1, "strong", [60, 60]]]
    assert failed(a_run(eu=eu, us=us)) == ["limit, strong"]


def test_an_eventual_decision_may_pass_the_limit_by_what_it_had_not_merged() -> None:
    over = [[S, 90, 1, "eventual", [0, 0]]]
    assert failed(a_run(us=over)) == []
    over[0][4] = [60, 0]
    assert failed(a_run(us=over)) == ["limit, eventual"]


def test_fallback_is_held_to_the_shares_of_all_and_no_more() -> None:
    # A tenth of 100 and of 10 a second for each of two.
    def away(at: float, region: int, cost: int) -> DecidedCall:
        return DecidedCall(round(at * S), region, cost, True, 0, {}, "fallback")

    settings = Settings.of_bucket(SPEC, regions=2)
    assert fallback_limit([away(0, 0, 10), away(0, 1, 10)], settings, 0.1).holds
    assert fallback_limit([away(0, 0, 20), away(1, 1, 2)], settings, 0.1).holds
    found = fallback_limit([away(0, 0, 20), away(1, 1, 3)], settings, 0.1)
    assert not found.holds
    assert found.over_admission_percent == pytest.approx(1)
    # Never more than 1 / nodes each: 100 together.
    assert fallback_limit([away(0, 0, 100)], settings, 0.8).holds
    assert not fallback_limit([away(0, 0, 101)], settings, 0.8).holds
    spent = [[22 * S, 21, 1, "fallback", [0, 0]]]
    assert failed(a_run(eu=spent)) == ["limit, fallback"]


def test_what_fallback_denies_is_neither_too_little_nor_starvation() -> None:
    denied = [[(22 + k) * S, 50, 0, "fallback", [60, 40]] for k in range(9)]
    assert failed(a_run(eu=EU + denied)) == []
    denied = [[(12 + k) * S, 50, 0, "eventual", [60, 40]] for k in range(9)]
    assert failed(a_run(eu=EU + denied)) == ["admitted", "no starvation"]


def test_modes_that_do_not_follow_fail() -> None:
    held = [69, 45]
    eu = report(0, EU, held, switches=SWITCHES[:2])
    found = verdict(eu, report(1, US, held), records=held)
    assert failed(found) == ["modes"]
    assert "r0 went strong -> eventual -> fallback: fallback at the end" in found.checks[0].text


def in_regions(*records: list[int]) -> RunVerdict:
    """A run with a Redis in each region, which hold these records."""
    accounts = Accounts(["r0", "r1", "r2"])
    for place, calls in enumerate((EU[:1], US[:1], [])):
        accounts.report(place, report(place, calls, [60, 40, 0], switches=[]))
    happened = Happened({"cut": 10 * S, "healed": 20 * S}, [by_epoch(list(one)) for one in records])
    return judge(accounts, SPEC, S // 10, happened, 2)


def test_each_region_s_redis_must_hold_every_token() -> None:
    found = in_regions([60, 40], [60, 40], [60, 40])
    assert failed(found) == []
    assert found.records == [(60, 40, 0)] * 3
    text = next(check.text for check in found.checks if check.name == "every token")
    assert "60 + 40 + 0 = 100: so say the callers, all three nodes, and the Redis of all 3" in text
    assert as_dict(found, 0, Traffic([], [], 1.0, 0, 1))["recorded"]["us"] == {
        "eu": 60,
        "us": 40,
        "ap": 0,
    }
    for wrong in ([60, 39, 0, 0], [60, 41, 0, 0], [60, 40, 0, 1]):
        found = in_regions([60, 40], wrong)
        assert failed(found) == ["every token"]
        assert f"Redis holds [60, 40, 0, 0]; {wrong}" in str(found.checks)


def test_each_region_s_redis_excuses_nothing_that_the_mesh_has_not_delivered() -> None:
    # Not merged by the mesh, and strong: with one Redis the bound would be what Redis did not know.
    found = in_regions([60, 40], [60, 40])
    assert found.limits["limit, links up"].bound_percent == 60


def test_the_verdict_for_programs() -> None:
    held = [69, 45, 0]
    told = [report(place, calls, held) for place, calls in enumerate((EU, US, []))]
    out = as_dict(verdict(*told, records=held), 3, Traffic([], [], 1.0, 0, 1))
    assert out["holds"] is True
    assert out["taken"] == out["recorded"] == {"eu": 69, "us": 45, "ap": 0}
    assert out["ratio"] == 1.0
    assert out["modes"]["us"]["delay_seconds"] == {"slow": 1.0, "gone": 1.0, "back": 3.0}
    assert list(out["checks"]) == CHECKS
    assert set(out["limits"]) == {"limit, strong", "limit, eventual", "limit, fallback"}
