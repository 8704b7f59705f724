"""The rules that can be compared, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crdtbucket.simulator.baselines import MaxOfTotals, StaticSplit
from crdtbucket.simulator.mesh_rule import MeshRule
from crdtbucket.simulator.rule import SimulatedRule
from crdtbucket.simulator.simulation_errors import SimulationError

CRDTBUCKET = "crdtbucket"
NO_PREDICTION = "no-prediction"
SHARED_BURSTS = "partition-burst-share"
REPLICATED = "replicated"
NO_CREDIT = "replicated-no-credit"
NO_ADOPTION = "replicated-no-adoption"
EVERY_CALL = "replicated-every-call"
SLOT_50_MS = "replicated-slot-50ms"


def _store(name: str, **changes: Any) -> SimulatedRule:
    # Imported late: no other rule needs the scripts.
    from crdtbucket.simulator.store_rule import ReplicatedStore

    return ReplicatedStore(name, **changes)


RULES: dict[str, Callable[[], SimulatedRule]] = {
    CRDTBUCKET: lambda: MeshRule(CRDTBUCKET),
    NO_PREDICTION: lambda: MeshRule(NO_PREDICTION, prediction=False),
    SHARED_BURSTS: lambda: MeshRule(SHARED_BURSTS, partition_burst="share"),
    StaticSplit.name: StaticSplit,
    MaxOfTotals.name: MaxOfTotals,
    REPLICATED: lambda: _store(REPLICATED),
    NO_CREDIT: lambda: _store(NO_CREDIT, credit=False),
    NO_ADOPTION: lambda: _store(NO_ADOPTION, adoption=False),
    EVERY_CALL: lambda: _store(EVERY_CALL, slot_us=1),
    SLOT_50_MS: lambda: _store(SLOT_50_MS, slot_us=50_000),
}
STORE_RULES = (REPLICATED, NO_CREDIT)
"""The rules of a replicated store that are compared by default."""
COMPARED = (CRDTBUCKET, NO_PREDICTION, StaticSplit.name, MaxOfTotals.name)
"""The rules of a mesh that are compared by default. `partition-burst-share` is left out: it differs
from `crdtbucket` in partitions alone."""


def make_rule(name: str) -> SimulatedRule:
    """A new rule. Raises SimulationError for a name that no rule has."""
    check_rules([name])
    return RULES[name]()


def check_rules(names: Sequence[str]) -> tuple[str, ...]:
    """The names without repetition. Raises SimulationError for the first that no rule has."""
    for name in names:
        if name not in RULES:
            raise SimulationError(f"no rule {name!r}; there are: {', '.join(RULES)}")
    return tuple(dict.fromkeys(names))
