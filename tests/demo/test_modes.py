"""Whether modes followed what was done to Redis is read off their changes."""

from __future__ import annotations

import pytest

from crdtbucket.demo.modes import ACTS, PATIENCE, Switch, follow
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


def test_each_region_is_looked_at_by_itself_whatever_the_order_of_what_was_told() -> None:
    told = switches(1, *RIGHT)[::-1] + switches(0, *RIGHT[:2])
    first, second = follow(told, ACTS_NS, 2)
    assert first.fault() == (
        "went strong -> eventual -> fallback, not strong -> eventual -> fallback -> strong"
    )
    assert second.fault() == ""
    assert follow([], ACTS_NS, 1)[0].fault().startswith("went strong, not")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ([(12.5, "eventual"), *RIGHT[1:]], "was eventual 2.5 s after Redis was slow, not within 2"),
        ([*RIGHT[:2], (36.5, "strong")], "was strong 6.5 s after Redis was back, not within 6 s"),
        ([(9, "eventual"), *RIGHT[1:]], "was eventual -1.0 s after Redis was slow"),
        ([(11, "fallback"), (13, "eventual"), *RIGHT[1:]], "went strong -> fallback -> eventual"),
        ([*RIGHT, (34, "eventual")], "-> strong -> eventual, not"),
    ],
)
def test_what_is_late_early_or_out_of_order_is_told(
    changes: list[tuple[float, str]], fault: str
) -> None:
    (found,) = follow(switches(0, *changes), ACTS_NS, 1)
    assert fault in found.fault()


def test_the_settings_can_be_used_and_the_times_are_above_what_they_take() -> None:
    settings = ControllerSettings(**PATIENCE)  # type: ignore[arg-type]
    within = {act.name: act.within_s for act in ACTS}
    assert within["slow"] > settings.latency_window
    assert within["gone"] > 2 * settings.outage_after
    assert within["back"] > settings.stable_after + settings.longest_probe_interval
