"""A failing plan is made small, and printed with the command that runs it again."""

from __future__ import annotations

import pytest

from tests import soak
from tests.simulated import shrink as module
from tests.simulated.drawing import DIMENSIONS, draw
from tests.simulated.plan import Plan
from tests.simulated.shrink import shrink
from tests.simulated.view import Broken


def fails(what: str) -> int:
    """A seed whose plan has several kinds of events, this one among them."""
    plans = map(draw, range(10_000))
    return next(p.seed for p in plans if p.has(what) and len({e.what for e in p.events}) > 3)


def breaks_by(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(plan: Plan) -> None:
        if plan.has(what):
            raise Broken("rule", f"there is a {what}")
        if plan.drift:
            raise Broken("other", "there is drift")

    monkeypatch.setattr(module, "run", run)


def test_only_what_the_failure_needs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    breaks_by("pause", monkeypatch)
    seed = fails("pause")
    small = shrink(seed)
    assert small is not None
    assert set(DIMENSIONS) - set(small.plain) == {"pauses"}
    assert [event.what for event in draw(seed, small.plain, small.dropped).events] == ["pause"]
    assert small.command.startswith(f"python -m tests.soak --seed {seed} --plain ")


def test_events_are_dropped_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    breaks_by("cut", monkeypatch)
    plans = map(draw, range(1000))
    seed = next(p.seed for p in plans if sum(e.what == "cut" for e in p.events) > 1)
    small = shrink(seed)
    assert small is not None
    assert [event.what for event in draw(seed, small.plain, small.dropped).events] == ["cut"]
    assert " --drop " in small.command


def test_a_plan_that_holds_has_nothing_to_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run", lambda plan: None)
    assert shrink(1) is None


def test_one_plan_is_shown_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    plain = ",".join(DIMENSIONS)
    assert soak.main(["--seed", "1", "--plain", plain]) == 0
    shown = capsys.readouterr().out
    assert "gossip_interval = 0.1" in shown
    assert shown.endswith("holds\n")


def test_a_failing_seed_is_printed_with_its_smallest_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks_by("pause", monkeypatch)
    seed = fails("pause")
    soak.report(seed, "Broken")
    shown = capsys.readouterr().out
    assert f"seed {seed}" in shown
    assert "there is a pause\nagain: python -m tests.soak --seed" in shown
