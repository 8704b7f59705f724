"""What the oracle counts in a window in which nothing happens."""

from __future__ import annotations

from dataclasses import replace

from tests.simulated.drawing import draw
from tests.simulated.network import Network
from tests.simulated.service import Service
from tests.simulated.view import View


def test_the_take_with_which_a_window_begins_counts_once() -> None:
    """It empties the bucket, and nothing is given beyond the limit."""
    plan = replace(draw(0), nodes=("A",), linked=(), events=(), clocks=((0.0, 0.0),))
    mesh = Network("A", [plan.main], linked=[], seed=1)
    service = Service(plan, mesh, View(plan, mesh))
    mesh.advance(service.settle_ns / 10**9 + 1.0)
    service.took(mesh["A"], 1, plan.main.capacity, 1)
    assert service.window is not None
    assert service.window.beyond == 0
    service.took(mesh["A"], 1, plan.main.capacity, 1)
    assert service.window.beyond == plan.main.capacity
