"""The rules that can be compared, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crdtbucket.simulator.baselines import MaxOfTotals, StaticSplit
from crdtbucket.simulator.mesh_rule import MeshRule, RuledMesh
from crdtbucket.simulator.rule import SimulatedRule
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Scenario
from crdtbucket.simulator.simulation_errors import SimulationError

CRDTBUCKET = "crdtbucket"
NO_PREDICTION = "no-prediction"
SHARED_BURSTS = "partition-burst-share"
REPLICATED = "replicated"
NO_CREDIT = "replicated-no-credit"


def _with_prediction(scenario: Scenario, settings: Settings) -> RuledMesh:
    # Imported late: the baselines need no compiled core.
    from crdtbucket.simulator.library_mesh import with_prediction

    return with_prediction(scenario, settings)


def _without_prediction(scenario: Scenario, settings: Settings) -> RuledMesh:
    from crdtbucket.simulator.library_mesh import without_prediction

    return without_prediction(scenario, settings)


def _with_shared_bursts(scenario: Scenario, settings: Settings) -> RuledMesh:
    from crdtbucket.simulator.library_mesh import with_shared_bursts

    return with_shared_bursts(scenario, settings)


def _store(name: str) -> SimulatedRule:
    from crdtbucket.simulator.store_rule import ReplicatedStore

    return ReplicatedStore(name, credit=name != NO_CREDIT)


RULES: dict[str, Callable[[], SimulatedRule]] = {
    CRDTBUCKET: lambda: MeshRule(CRDTBUCKET, _with_prediction),
    NO_PREDICTION: lambda: MeshRule(NO_PREDICTION, _without_prediction),
    SHARED_BURSTS: lambda: MeshRule(SHARED_BURSTS, _with_shared_bursts),
    StaticSplit.name: StaticSplit,
    MaxOfTotals.name: MaxOfTotals,
    REPLICATED: lambda: _store(REPLICATED),
    NO_CREDIT: lambda: _store(NO_CREDIT),
}
STORE_RULES = (REPLICATED, NO_CREDIT)
"""The rules of a replicated store that are compared by default."""
COMPARED = tuple(name for name in RULES if name not in (SHARED_BURSTS, *STORE_RULES))
"""The rules of a mesh that are compared by default. `partition-burst-share` is left out: it differs
from `crdtbucket` in partitions alone."""


def make_rule(name: str) -> SimulatedRule:
    """A fresh rule. Raises SimulationError for a name that is none."""
    check_rules([name])
    return RULES[name]()


def check_rules(names: Sequence[str]) -> tuple[str, ...]:
    """The names without repetition, or SimulationError for the first that is none."""
    for name in names:
        if name not in RULES:
            raise SimulationError(f"no rule {name!r}; there are: {', '.join(RULES)}")
    return tuple(dict.fromkeys(names))
