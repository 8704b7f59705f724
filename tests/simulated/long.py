"""Traces that must be long: short in the suite, long in `python -m tests.soak --long`."""

from __future__ import annotations

from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import NAMES, TRACE, drive, mesh_of, total


def drifting(seconds: int) -> None:
    """Trace n: clocks are 400 ppm apart under overload; nobody is starved, and the mesh admits r
    t."""
    mesh = mesh_of(3, clock_drift_ppm={"A": 200.0, "B": -200.0})
    demand = {"A": 90.0, "B": 60.0, "C": 50.0}
    drive(mesh, demand, 5)
    result = drive(mesh, demand, seconds)
    assert abs(total(result) / seconds - 100) <= 0.1 + 100 / seconds
    for name, (allowed, _, starved) in result.items():
        assert starved < 2.0, (name, starved)
        assert allowed >= 0.5 * total(result) * demand[name] / 200


class RingMesh(SimulatedMesh):
    """Frames to the next node in a ring take 16 ms, the others 144 ms, more or less 95 %."""

    def _arrival(self, way: tuple[str, str]) -> int:
        source, target = (NAMES.index(name) for name in way)
        mean = 0.016 if (target - source) % len(self.nodes) == 1 else 0.144
        return self.now_ns + round(mean * (0.05 + 1.9 * self.random.random()) * 10**9)


def jittering(seconds: int, tolerance: float) -> None:
    """Trace y: the mesh admits the rate, however different the distances between its nodes are."""
    mesh = RingMesh(NAMES[:4], [TRACE], seed=3)
    demand = {"A": 80.0, "B": 60.0, "C": 40.0, "D": 20.0}
    drive(mesh, demand, 5)
    result = drive(mesh, demand, seconds)
    assert abs(total(result) / seconds / 100 - 1) <= tolerance
    trips = {name: mesh["A"].node.links[name].round_trip / 10**9 for name in "BC"}
    assert trips["B"] < 0.25 < trips["C"]  # they are that far from each other


LONG = {
    "n, an hour": lambda: drifting(3600),
    "y, ten minutes": lambda: jittering(600, 0.001 + 1 / 600),
}
