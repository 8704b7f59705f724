"""A compiled copy plays what the checkout plays, and where there is none the checkout does."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from subprocess import CompletedProcess

import pytest

from tests import soak
from tests.compiled import FOLDER, ROOT, compiled_copy, traces

FAILS = (sys.executable, "-c", "import sys; sys.exit('no compiler')")
DOES_NOTHING = (sys.executable, "-c", "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_compiled_copy_plays_the_same() -> None:
    with compiled_copy() as place:
        assert place != ROOT
        assert [*(place / FOLDER).glob("gossip.*.so")]
        assert traces(place, 8) == traces(ROOT, 8)
        assert len(traces(place, 8)) == 8
    assert not place.exists()


def test_without_a_compiler_the_checkout_is_played(capsys: pytest.CaptureFixture[str]) -> None:
    with compiled_copy(FAILS) as place:
        assert place == ROOT
    said = capsys.readouterr().out.splitlines()
    assert said == ["played without being compiled, which takes longer: no compiler"]


def test_a_copy_that_plays_something_else_is_not_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.compiled.traces", lambda place, seeds: [str(place)])
    with compiled_copy(DOES_NOTHING) as place:
        assert place == ROOT
    assert "seed 0" in capsys.readouterr().out


def test_many_seeds_are_played_by_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(soak, "in_copy", lambda arguments: ran.append(arguments) or 3)
    many = ["--seeds", "1000000", "--start", "7"]
    assert soak.main(many) == 3
    assert ran == [many]


def test_a_copy_is_told_all_options_and_makes_no_other_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soak, "compiled_copy", lambda: nullcontext(ROOT / "copy"))
    ran: list[tuple[object, ...]] = []

    def run_in(*command: object) -> CompletedProcess[str]:
        ran.append(command)
        return CompletedProcess(command, 1)

    monkeypatch.setattr(soak, "run_in", run_in)
    assert soak.in_copy(["--seeds", "9000"]) == 1
    told = ("-m", "tests.soak", "--seeds", "9000", "--interpreted")
    assert ran == [(ROOT / "copy", sys.executable, *told)]


def test_what_is_left_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "failures", lambda start, count, jobs: iter([(25, []), (30, [])]))
    assert soak.main(["--seeds", "30", "--start", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("25 of 30 seeds, 0 failed")
    assert lines[0].endswith("--start 125 --seeds 5")
