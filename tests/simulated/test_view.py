"""When the oracle knows that somebody is heard again that others had given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulated.drawing import draw
from tests.simulated.network import Network
from tests.simulated.view import View

SECOND = 10**9
WAYS = (("A", "C"), ("C", "A"), ("B", "C"), ("C", "B"))


def mistaken(how: str, after: float, *beside: str) -> bool:
    """C is cut off from A and B, and after so long D comes, beside these."""
    plan = replace(draw(0), forget_after=60.0)
    mesh = Network("ABC", [plan.main], linked=["AB", "AC", "BC"], seed=1)
    view = View(plan, mesh)
    view.happens("cut", (how, WAYS))
    if how == "resets":
        mesh.reset_pairs(WAYS)
    else:
        mesh.cut_ways(WAYS, times_out=False)
    mesh.advance(after)
    view.happens("come", ("D", beside, 0.0))
    return view.mistaken >= 0


@pytest.mark.parametrize(("how", "given_up"), [("resets", 10.0), ("silent", 60.0)])
def test_a_relay_that_comes_brings_back_whom_others_had_given_up(how: str, given_up: float) -> None:
    assert mistaken(how, given_up + 1.0, "A", "C")
    assert not mistaken(how, given_up - 1.0, "A", "C")


@pytest.mark.parametrize("beside", ["AB", "C"])
def test_who_comes_to_one_part_alone_brings_back_nobody(beside: str) -> None:
    assert not mistaken("resets", 30.0, *beside)
