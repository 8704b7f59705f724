"""What the oracle allows for in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulated.drawing import draw
from tests.simulated.ending import kept_for_the_dead
from tests.simulated.plan import Event
from tests.simulated.view import ENDED_NS

ENDED = ENDED_NS / 10**9


def die(at: float, name: str, *, ends: bool = True) -> Event:
    return Event(at, "die", (name, ends))


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        ((), 0.0),
        ((die(10.0, "n0"),), ENDED),
        ((die(10.0, "n0"), die(50.0, "n1")), 2 * ENDED),
        ((die(10.0, "n0"), die(11.0, "n1")), 1.0 + ENDED),
        ((die(10.0, "n0", ends=False),), 60.0),
        ((die(10.0, "n0", ends=False), die(20.0, "n1")), 60.0),
        ((die(10.0, "n0", ends=False), Event(30.0, "return", ("n0", False))), ENDED),
        ((die(60.0, "n0", ends=False),), ENDED),  # it is not forgotten yet
    ],
)
def test_room_is_kept_for_each_that_died_until_it_is_given_up(
    events: tuple[Event, ...], kept: float
) -> None:
    plan = replace(draw(0), events=events, forget_after=60.0)
    assert kept_for_the_dead(plan, 100.0) == pytest.approx(kept)
