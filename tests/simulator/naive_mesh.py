"""The simplest rule for which the bound holds: counters of each node, merged by maximum, no
prediction.

It shares nothing with the library but the small network. Each round has the whole state, levels are
counted late, debt is capped, and a newcomer adopts the debt of its first sender and serves its
share until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from crdtbucket.simulator.node_network import Gossip
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Scenario


@dataclass
class _State:
    columns: dict[tuple[int, int], int] = field(default_factory=dict)
    debt: int = 0
    then: int = 0
    life: int = 0
    blind: bool = False
    blind_left: int = 0


class NaiveMesh(Gossip):
    name = "naive-mesh"

    def __init__(self, forget: float = 0.0) -> None:
        self.forget = forget
        """A planted bug: the fraction of merged takes that is charged to nobody."""

    def start(self, scenario: Scenario, settings: Settings) -> None:
        self._nodes = [_State() for _ in range(settings.regions)]
        self._lives = 0
        super().start(scenario, settings)

    def reset(self, node: int) -> None:
        self._lives += 1
        self._nodes[node] = _State(life=self._lives, then=self.clock(node))

    def restart(self, node: int) -> None:
        super().restart(node)
        state = self._nodes[node]
        state.blind = self.settings.regions > 1
        state.blind_left = self.settings.capacity // self.settings.regions

    def _advance(self, node: int) -> _State:
        state, clock = self._nodes[node], self.clock(node)
        state.debt = max(0, state.debt - self.settings.refill_rate * (clock - state.then))
        state.then = clock
        return state

    def offer(self, node: int, calls: int, cost: int) -> int:
        state, settings = self._advance(node), self.settings
        level = settings.capacity * settings.interval_ns - state.debt
        passed = max(0, min(calls, level // (cost * settings.interval_ns)))
        if state.blind:
            passed = min(passed, state.blind_left // cost)
            state.blind_left -= passed * cost
        state.debt += passed * cost * settings.interval_ns
        own = (node, state.life)
        state.columns[own] = state.columns.get(own, 0) + passed * cost
        return passed

    def message(self, node: int) -> object:
        state = self._advance(node)
        return dict(state.columns), None if state.blind else state.debt

    def receive(self, node: int, source: int, message: object) -> None:
        columns, debt = cast("tuple[dict[tuple[int, int], int], int | None]", message)
        if debt is None:
            return
        state = self._advance(node)
        gain = sum(max(0, n - state.columns.get(who, 0)) for who, n in columns.items())
        lacks = sum(max(0, n - columns.get(who, 0)) for who, n in state.columns.items())
        unit = self.settings.interval_ns
        counted = state.debt + round(gain * (1 - self.forget)) * unit
        state.debt = debt + lacks * unit if state.blind else min(counted, debt + lacks * unit)
        cap = (self.settings.capacity + self.settings.debt_limit) * unit
        state.debt, state.blind = min(state.debt, cap), False
        for who, tokens in columns.items():
            state.columns[who] = max(tokens, state.columns.get(who, 0))

    def known(self, node: int) -> Sequence[int] | None:
        state = self._nodes[node]
        if state.blind:
            return None
        totals = [0] * self.settings.regions
        for (owner, _), tokens in state.columns.items():
            totals[owner] += tokens
        return totals

    def room(self, node: int) -> int:
        return 0

    def guaranteed(self, node: int) -> int:
        return 0
