"""The rule of a replicated store: the real scripts keep one limit, also while no copy passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.simulator.arrivals import arrivals
from crdtbucket.simulator.rule_catalogue import (
    EVERY_CALL,
    NO_ADOPTION,
    NO_CREDIT,
    REPLICATED,
    SLOT_50_MS,
    make_rule,
)
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Scenario
from crdtbucket.simulator.scenario_run import Outcome, Run, simulate
from crdtbucket.simulator.store_rule import KEY, ReplicatedStore
from crdtbucket.simulator.store_scenarios import ALL_SCENARIOS
from crdtbucket.strong.redis.replicated import read_entry

SMALL = Settings(regions=2, capacity=200, refill_rate=40)


def run_of(name: str, scale: float, rule: str = REPLICATED, regions: int = 2) -> Outcome:
    settings = replace(SMALL, regions=regions)
    return simulate(make_rule(rule), ALL_SCENARIOS[name](settings, scale), settings)


@pytest.mark.parametrize("regions", [1, 2, 3])
def test_every_member_ends_with_what_every_region_has_admitted(regions: int) -> None:
    settings = replace(SMALL, regions=regions)
    scenario = ALL_SCENARIOS["apart-60s"](settings, 0.15)
    rule = ReplicatedStore(REPLICATED)
    run = Run(rule, scenario, settings)
    for block in arrivals(scenario, settings):
        run.step(block)
    end = scenario.duration_ns
    rule.advance(end + 10**9)  # the last copies arrive
    names = settings.node_names()
    for node in range(regions):
        rule.offer(node, 1, settings.capacity)  # a call that looks at the others, and is denied
    for node in range(regions):
        held = read_entry(rule.fields(node, KEY))
        assert held is not None
        taken = {owner.partition(b":")[2]: one.taken for owner, one in held.records.items()}
        assert taken == dict(zip((n.encode() for n in names), run.admitted, strict=True))
    assert min(run.admitted) > 0


def test_what_was_taken_in_a_cut_arrives_when_it_is_healed_and_not_before() -> None:
    rule = ReplicatedStore(REPLICATED)
    rule.start(ALL_SCENARIOS["balanced"](SMALL, 1.0), SMALL)

    def taken_by_the_first(node: int) -> int:
        rule.advance(rule.now + 10**9)
        assert rule.offer(node, 1, 1) == 1
        entry = read_entry(rule.fields(node, KEY))
        assert entry is not None
        return sum(one.taken for owner, one in entry.records.items() if owner.endswith(b"-1"))

    assert taken_by_the_first(0) == 1
    rule.advance(rule.now + 10**9)
    rule.partition([[0], [1]])
    assert taken_by_the_first(0) == 2
    assert taken_by_the_first(1) == 1
    rule.heal()
    assert taken_by_the_first(1) == 2


def test_no_copy_passes_and_the_limit_is_kept_by_what_the_others_are_taken_to_use() -> None:
    kept, lost = run_of("apart-60s", 0.5), run_of("apart-60s", 0.5, NO_CREDIT)
    assert kept.offered == lost.offered
    assert kept.ratio == pytest.approx(1.0, abs=0.01)
    # A small bucket: rates of a few calls a second are known to some per cent.
    assert kept.over_admission_percent < 80
    assert kept.starved_seconds < 4
    assert lost.over_admission_percent > 300
    assert lost.starved_seconds > 4.5


@pytest.mark.parametrize(
    "name", ["apart-60s-light-50", "apart-60s-overtaken", "apart-60s-pair-light-90"]
)
def test_a_light_load_is_never_denied(name: str) -> None:
    regions = 3 if "pair" in name else 2
    assert run_of(name, 0.5, regions=regions).denied_light == 0


def test_without_beats_late_copies_after_a_cut_deny_a_light_load() -> None:
    assert run_of("apart-60s-light-50", 0.5, NO_CREDIT).denied_light > 0


def test_clocks_of_members_may_be_wrong() -> None:
    scenario = ALL_SCENARIOS["balanced"](SMALL, 0.2)
    wrong = replace(scenario, clock_offsets_ns={0: 3600 * 10**9, 1: -3600 * 10**9})
    outcome = simulate(make_rule(REPLICATED), wrong, SMALL)
    assert outcome.ratio == pytest.approx(1.0, abs=0.03)
    assert outcome.over_admission_percent < 10


def test_a_process_that_restarts_takes_the_others_nothing() -> None:
    scenario: Scenario = ALL_SCENARIOS["restart-hot"](SMALL, 0.2)
    outcome = simulate(make_rule(REPLICATED), scenario, SMALL)
    assert outcome.ratio == pytest.approx(1.0, abs=0.03)
    assert outcome.over_admission_percent < 5


def test_calls_that_look_at_the_other_regions_less_often_know_later_what_those_took() -> None:
    found = [run_of("balanced", 0.1, rule) for rule in (EVERY_CALL, SLOT_50_MS)]
    assert found[0].offered == found[1].offered
    assert found[0].over_admission_percent < found[1].over_admission_percent


def test_without_adoption_the_region_whose_clock_is_slower_starves() -> None:
    scenario = replace(ALL_SCENARIOS["balanced"](SMALL, 0.25), drift_ppm={0: -20_000, 1: 20_000})
    found = [simulate(make_rule(rule), scenario, SMALL) for rule in (REPLICATED, NO_ADOPTION)]
    assert found[0].offered == found[1].offered
    assert found[0].starved_seconds < 1 < 2 < found[1].starved_seconds


def test_the_same_arguments_give_the_same_outcome() -> None:
    assert run_of("cold-20x", 0.5) == run_of("cold-20x", 0.5)
