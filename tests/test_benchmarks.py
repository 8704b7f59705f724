"""Every benchmark runs, and says what it measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import environment, measure, peers, runner, strong
from benchmarks.measure import Case, Comparison


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test process stays on all its cores."""
    monkeypatch.setattr(environment, "pin", lambda: None)


@pytest.mark.usefixtures("unpinned")
@pytest.mark.parametrize("name", runner.QUESTIONS)
def test_every_benchmark_runs_and_reports(name: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    result = CliRunner().invoke(
        runner.main, [name, "--smoke", "--json", str(file)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    assert {"commit", "processor", "python", "versions", "date"} <= written["environment"].keys()
    (answer,) = written["answers"]
    assert answer["name"] == name
    for comparison in answer["comparisons"]:
        assert comparison["title"] in result.output.replace("\n", " ")
        first, *others = comparison["rows"]
        assert others, "a baseline alone compares nothing"
        assert first["values"][0]["ratio"] == 1
        for row in comparison["rows"]:
            assert row["values"][0]["least"] > 0
            for value in row["values"]:
                assert value["least"] <= value["median"] <= value["most"]


def test_every_file_with_a_question_is_run() -> None:
    folder = Path(runner.__file__).parent
    asked = {path.stem for path in folder.glob("*.py") if "\nQUESTION = " in path.read_text()}
    assert asked == set(runner.QUESTIONS)


def test_a_peer_that_is_not_installed_is_shown_as_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("limits", "throttled", "pyrate_limiter", "token_bucket"):
        monkeypatch.setitem(sys.modules, module, None)
    takes, missing = peers.installed(peers.ALLOWED, 100)
    assert not takes
    assert [name for name, _ in missing] == list(peers.PEERS)


@pytest.mark.usefixtures("unpinned")
def test_without_a_redis_strong_mode_is_told_to_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strong, "PROGRAMS", [])
    result = CliRunner().invoke(runner.main, ["strong", "--smoke"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "no redis-server is installed: make redis" in result.output


def test_the_cases_take_turns_and_the_middle_is_told() -> None:
    order: list[str] = []
    values = {"a": iter([3.0, 1.0, 2.0]), "b": iter([10.0, 30.0, 20.0])}

    def run(name: str) -> tuple[float]:
        order.append(name)
        return (next(values[name]),)

    comparison = Comparison(
        "t", ("ns",), [Case("a", lambda: run("a")), Case("b", lambda: run("b"))], repeats=3
    )
    rows, failed = measure.measure(comparison, measure.SCALES["smoke"])
    assert not failed
    assert order == ["a", "b"] * 3
    assert [row.medians for row in rows] == [(2.0,), (20.0,)]
    assert rows[0].values == ((3.0, 1.0, 2.0),)
