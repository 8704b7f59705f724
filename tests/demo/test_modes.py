"""Whether the modes of the regions followed what was done to Redis, read from their changes."""

from __future__ import annotations

import pytest

from crdtbucket.demo.modes import DEADLINE_S, PATIENCE, SLOW_S, Switch, follow
from crdtbucket.strong.controller.controller_settings import ControllerSettings

S = 1_000_000_000
ACTS_NS = {"slow": 10 * S, "gone": 20 * S, "back": 30 * S}
RIGHT = [(11, "eventual"), (21, "fallback"), (33, "strong")]


def switches(region: int, *changes: tuple[float, str]) -> list[Switch]:
    befores = ["strong", *(after for _, after in changes)]
    return [
        Switch(round(at * S), region, before, after, "why")
        for before, (at, after) in zip(befores, changes, strict=False)
    ]


def test_modes_that_follow_have_their_delays() -> None:
    (found,) = follow(switches(0, *RIGHT), ACTS_NS, 1)
    assert found.fault() == ""
    assert found.path == ("strong", "eventual", "fallback", "strong")
    assert found.delays == {"slow": 1, "gone": 1, "back": 3}


def test_each_region_is_looked_at_by_itself_whatever_the_order_of_its_reports() -> None:
    told = switches(1, *RIGHT)[::-1] + switches(0, *RIGHT[:2])
    first, second = follow(told, ACTS_NS, 2)
    assert first.fault() == (
        "went strong -> eventual -> fallback: fallback at the end of back and not strong"
    )
    assert second.fault() == ""
    assert "strong at the end of slow and not eventual" in follow([], ACTS_NS, 1)[0].fault()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ([(20.5, "eventual"), *RIGHT[1:]], "strong at the end of slow and not eventual"),
        ([(11, "eventual"), (30.5, "fallback"), (33, "strong")], "eventual at the end of gone"),
        ([*RIGHT[:2], (29, "strong")], "strong at the end of gone and not fallback"),
        ([(11, "fallback"), (33, "strong")], "fallback at the end of slow and not eventual"),
        ([*RIGHT, (34, "eventual")], "eventual at the end of back and not strong"),
    ],
)
def test_a_mode_that_is_not_reached_before_the_next_act_is_reported(
    changes: list[tuple[float, str]], fault: str
) -> None:
    (found,) = follow(switches(0, *changes), ACTS_NS, 1)
    assert fault in found.fault()


def test_a_machine_that_is_late_itself_is_no_fault() -> None:
    """A region left strong mode before Redis was slow, or came back by way of eventual."""
    late = [(9, "eventual"), RIGHT[1], (32, "eventual"), (40, "strong")]
    (found,) = follow(switches(0, *late), ACTS_NS, 1)
    assert found.fault() == ""
    assert found.delays == {"slow": 0, "gone": 1, "back": 10}


def test_the_settings_can_be_used_and_a_slow_redis_is_neither_quick_nor_gone() -> None:
    settings = ControllerSettings(**PATIENCE)  # type: ignore[arg-type]
    assert settings.latency_limit < 2 * SLOW_S < DEADLINE_S < settings.outage_after
