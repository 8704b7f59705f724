from __future__ import annotations

import pytest

from crdtbucket.simulator.mesh_rule import MeshRule, absent
from crdtbucket.simulator.rule_catalogue import (
    CRDTBUCKET,
    NO_PREDICTION,
    RULES,
    check_rules,
    make_rule,
)
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import Outcome, simulate

SETTINGS = Settings(seed=1)


def _run(rule: str, name: str, scale: float, settings: Settings = SETTINGS) -> Outcome:
    return simulate(make_rule(rule), SCENARIOS[name](settings, scale), settings)


def test_rules_are_made_by_name() -> None:
    assert [make_rule(name).name for name in RULES] == list(RULES)
    assert check_rules(["static-split", "crdtbucket", "static-split"]) == (
        "static-split",
        "crdtbucket",
    )


@pytest.mark.parametrize("rule", [CRDTBUCKET, NO_PREDICTION])
@pytest.mark.parametrize(
    "name",
    ["balanced", "skewed", "cold-20x", "late-joiner", "loss-30", "restart-skewed", "wall-clocks",
     "partition-30s", "partition-30s-light-50", "square-1s", "cut-pair", "cut-way",
     "joiner-beside-dead", "joiner-beside-silent", "late-frames", "suspend-60s"],
)  # fmt: skip
def test_no_run_of_the_library_exceeds_its_bound(rule: str, name: str) -> None:
    outcome = _run(rule, name, 0.1)
    assert outcome.bound_percent is not None
    assert outcome.over_admission_percent <= outcome.bound_percent


def test_what_is_guaranteed_is_part_of_the_bound() -> None:
    """One region takes what there is; another one asks for more than its share now and then."""
    settings = Settings(regions=2, lag_ns=0, jitter=0.0, capacity=40, refill_rate=4, seed=1)

    def demand(t: float, node: int) -> float:
        return 20.0 if node == 0 else 30_000.0 if t > 10 and (t - 10) % 6 < 0.01 else 0.0

    outcome = simulate(make_rule(CRDTBUCKET), Scenario("x", "", 66 * NS, demand), settings)
    assert outcome.bound_percent is not None
    assert 1 < outcome.over_admission_percent <= outcome.bound_percent


def test_same_seed_same_outcome() -> None:
    assert _run(CRDTBUCKET, "loss-30", 0.1) == _run(CRDTBUCKET, "loss-30", 0.1)


def test_prediction_takes_most_of_a_cold_burst_away() -> None:
    without, with_it = (_run(rule, "cold-20x", 0.5) for rule in (NO_PREDICTION, CRDTBUCKET))
    assert without.over_admission_percent > 20
    assert with_it.over_admission_percent < without.over_admission_percent / 4


def test_frames_that_come_late_cost_little() -> None:
    """News of a peer is as old as it is: half the round trip would admit a fifth of the capacity
    more than the limit."""
    outcome = _run(CRDTBUCKET, "late-frames", 0.5)
    assert outcome.over_admission_percent <= 4
    assert outcome.ratio is not None
    assert outcome.ratio > 0.999
    assert outcome.starved_seconds < 0.5


def test_a_region_alone_is_the_ideal_bucket() -> None:
    outcome = _run(CRDTBUCKET, "burst-5x", 0.2, Settings(regions=1))
    assert outcome.ratio == 1
    assert outcome.over_admission_percent <= 0


def test_a_late_joiner_was_never_there_before() -> None:
    scenario = SCENARIOS["late-joiner"](SETTINGS, 1.0)
    names = SETTINGS.node_names()
    assert absent(scenario, names) == {names[1]}
    rule = MeshRule(CRDTBUCKET)
    rule.start(scenario, SETTINGS)
    rule.crash(1)
    rule.advance(NS)
    assert names[1] not in rule.mesh[names[0]].node.links
    rule.restart(1)
    assert rule.known(1) is None
    rule.advance(3 * NS)
    assert rule.known(1) is not None


def test_room_grows_with_the_silence_of_a_peer_that_was_taking() -> None:
    names = SETTINGS.node_names()
    rule = MeshRule(CRDTBUCKET)
    rule.start(SCENARIOS["balanced"](SETTINGS, 1.0), SETTINGS)
    for step in range(1, 201):
        rule.advance(step * NS // 100)
        for node in range(len(names)):
            rule.offer(node, 8, 1)
    assert rule.room(0) == 0
    rule.partition(((0,), range(1, len(names))))
    rule.advance(4 * NS)
    early = rule.room(0)
    rule.advance(6 * NS)
    late = rule.room(0)
    # At most the refill since the last round, less the near horizon.
    assert 0 < early < late <= SETTINGS.refill_rate * (4 * NS - NS // 2 + 300_000_000) // NS
