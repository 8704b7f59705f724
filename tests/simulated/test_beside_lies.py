"""The limit and the shares are judged beside lies also where ways are cut and nodes begin again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulated.bounded import Bounded
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.plan import Event
from tests.simulated.run import MAIN, Run, play
from tests.simulated.view import Broken

CUT = ("silent", (("n0", "n1"), ("n1", "n0"), ("n0", "n2"), ("n2", "n0")))
LIE = Event(1.0, "lie", ("noise", 1))
EVENTS = {
    "a cut": (LIE, Event(2.0, "cut", CUT)),
    "a cut that is mended": (LIE, Event(2.0, "cut", CUT), Event(3.0, "mend", CUT)),
    "a restart": (LIE, Event(2.0, "die", ("n0", True)), Event(2.2, "return", ("n0", False))),
}


def after(what: str, seconds: float) -> tuple[Run, Bounded]:
    """A run, so long after these events; nobody has asked for anything."""
    plan = replace(draw(1, plain=tuple(DIMENSIONS)), events=EVENTS[what], seconds=30.0)
    played = Run(plan)
    oracle = played.oracle
    assert isinstance(oracle, Bounded)
    for event in plan.events:
        played.mesh.advance_to(round(event.at * 10**9))
        played._happens(event.what, event.args)
    played.mesh.advance(seconds)
    return played, oracle


@pytest.mark.parametrize("seed", [1621922, 1622382])
def test_what_is_said_of_processes_that_begin_again_gives_nothing_out(seed: int) -> None:
    """Without the rule that an owner's word stands, the limit was broken long after all had met."""
    play(seed)


@pytest.mark.parametrize(
    ("what", "seconds", "groups", "settled"),
    [
        ("a cut", 1.0, 3, False),
        ("a cut", 20.0, 2, True),
        ("a cut that is mended", 1.0, 3, False),
        ("a cut that is mended", 20.0, 1, True),
        ("a restart", 1.0, 3, False),
        ("a restart", 20.0, 1, True),
    ],
)
def test_each_group_of_nodes_has_the_limit(
    what: str, seconds: float, groups: int, settled: bool
) -> None:
    """Nobody knows more while an event has effects; and then, who is connected with all others."""
    played, oracle = after(what, seconds)
    time = oracle.limit.time
    assert (len(time.groups), time.settled) == (groups, settled)
    assert sum(map(len, time.groups)) == len(played.mesh.nodes) == 3


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_more_than_the_groups_may_admit_is_found(groups: int) -> None:
    """Of a bucket of 100 that refills as many a second, a bad member gives a fifth more out."""
    what, seconds = {1: ("a restart", 20.0), 2: ("a cut", 20.0), 3: ("a cut", 1.0)}[groups]
    played, oracle = after(what, seconds)
    started = played.mesh.now_ns
    oracle.limit.took(1)

    def give() -> None:
        while played.mesh.now_ns < started + 60 * 10**9:
            oracle.limit.took(groups * 15)
            played.mesh.advance(0.1)

    with pytest.raises(Broken, match=r"^limit: "):
        give()
    steps = (played.mesh.now_ns - started) / 10**8
    allowed = groups * 1.2 * (100 + 10 * steps)
    assert allowed < groups * 15 * (steps + 1) < allowed + groups * 120 + 60


@pytest.mark.parametrize("what", ["a restart", "a cut that is mended"])
def test_who_gets_less_than_its_guaranteed_share_after_it_is_found(what: str) -> None:
    played, oracle = after(what, 20.0)
    for _ in range(600):
        for node in played.mesh.nodes.values():
            oracle.took(node, MAIN, 5, 1, int(node.name != "n1"))
        played.mesh.advance(0.1)
    with pytest.raises(Broken, match=r"^share: n1 got 0 tokens"):
        oracle._check_share()
