from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from crdtbucket.simulator.mesh_rule import MeshRule
from crdtbucket.simulator.rule import WatchedRule
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import simulate
from crdtbucket.testing import SimulatedMesh
from tests.simulator.naive_mesh import NaiveMesh


class _Node:
    up = True
    suspended_until = 0

    def __init__(self, rule: NaiveMesh, number: int, names: tuple[str, ...]) -> None:
        self._rule, self._number, self._names = rule, number, names

    def take_burst(self, bucket: str, key: str, calls: int, cost: int) -> int:
        return self._rule.offer(self._number, calls, cost)

    def columns(self, bucket: str, key: str) -> Mapping[str, tuple[int, int]]:
        heard = self._rule.known(self._number) or []
        return {n: (t, 0) for n, t in zip(self._names, heard, strict=True) if t}

    @property
    def node(self) -> SimpleNamespace:
        complete = self._rule.known(self._number) is not None
        return SimpleNamespace(memory=SimpleNamespace(complete=complete))

    def bucket(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            credit=lambda key: self._rule.room(self._number), counters=lambda: {"guaranteed": 0}
        )


class _Mesh:
    """The naive mesh behind the interface of a mesh of the library."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        self._rule, self._names = NaiveMesh(), settings.node_names()
        self._rule.start(scenario, settings)

    def __getitem__(self, name: str) -> _Node:
        return _Node(self._rule, self._names.index(name), self._names)

    @property
    def now_ns(self) -> int:
        return self._rule.now

    def advance_to(self, until: int) -> None:
        self._rule.advance(until)

    def partition(self, *groups: set[str]) -> None:
        self._rule.partition([[self._names.index(name) for name in group] for group in groups])

    def drop_frames(self, *ways: tuple[str, str]) -> None:
        self._rule.cut([(self._names.index(a), self._names.index(b)) for a, b in ways])

    def stall(self, seconds: float, drain: float) -> None:
        self._rule.stall(round(seconds * NS), round(drain * NS))

    def heal(self) -> None:
        self._rule.heal()

    def crash(self, node: str) -> None:
        self._rule.crash(self._names.index(node))

    def restart(self, node: str) -> None:
        self._rule.restart(self._names.index(node))

    def suspend(self, node: str, seconds: float) -> None:
        self._rule.suspend(self._names.index(node), round(seconds * NS))


class _NaiveRule(MeshRule):
    def made(self, scenario: Scenario, settings: Settings) -> SimulatedMesh:
        return cast(SimulatedMesh, _Mesh(scenario, settings))


@pytest.mark.parametrize(
    "name",
    [
        "partition-30s-skewed",
        "restart-hot",
        "suspend-60s",
        "late-joiner",
        "loss-30",
        "cut-way",
        "late-frames",
    ],
)
def test_a_mesh_behind_the_adapter_shows_what_it_shows_without(name: str) -> None:
    settings = Settings(seed=2, capacity=1_000, refill_rate=300)
    scenario = SCENARIOS[name](settings, 0.1)
    direct = simulate(NaiveMesh(), scenario, settings)
    adapter = _NaiveRule("naive-mesh")
    assert isinstance(adapter, WatchedRule)
    assert simulate(adapter, scenario, settings) == replace(direct, rule="naive-mesh")
