"""Where no compiled copy can be made, or one behaves otherwise, the checkout is used.
tests/simulated/test_faults.py checks that a copy behaves the same."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from subprocess import CalledProcessError, CompletedProcess

import pytest

from tests import soak
from tests.compiled import ROOT, broken, compiled_copy

FAILS = (sys.executable, "-c", "import sys; sys.exit('no compiler')")
DOES_NOTHING = (sys.executable, "-c", "")
OTHER_SOAK = """
def failures(start, count, jobs):
    yield 1, [(start, f"of {count}")]
    if not count:
        raise SystemExit(3)
    yield 1, [(start + 1, f"by {jobs}")]
"""


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


@pytest.fixture
def other_soak(tmp_path: Path) -> Path:
    """A folder whose soak fails, and ends early when it has no seeds."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "soak.py").write_text(OTHER_SOAK)
    return tmp_path


def test_what_fails_in_a_copy_is_told(other_soak: Path) -> None:
    assert broken(other_soak, 40, 9, 2) == [(40, "of 9"), (41, "by 2")]


def test_a_copy_that_ends_early_is_not_one_in_which_all_hold(other_soak: Path) -> None:
    with pytest.raises(CalledProcessError):
        broken(other_soak, 40, 0, 2)


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
