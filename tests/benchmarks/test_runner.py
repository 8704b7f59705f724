"""Every benchmark runs, and its rows name what it measured."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from benchmarks import environment, peers, runner, sidecar, strong, workers
from benchmarks.measure import SCALES, Case, Comparison
from benchmarks.take import OURS
from benchmarks.ways import WAYS

NUMBER = {"type": "number"}
TEXT = {"type": "string", "minLength": 1}


def exactly(**properties: Any) -> dict[str, Any]:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def several(items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


def maybe(kind: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [kind, {"type": "null"}]}


VALUE = exactly(
    median=NUMBER, least=NUMBER, most=NUMBER, ratio=maybe(NUMBER), repeats=several(NUMBER, 1)
)
COMPARISON = exactly(
    title=TEXT,
    units=several(TEXT, 1),
    note={"type": "string"},
    versus=maybe(TEXT),
    ratios={"type": "boolean"},
    at=maybe(NUMBER),
    rows=several(exactly(label=TEXT, at=maybe(NUMBER), values=several(VALUE, 1))),
    missing=several(exactly(label=TEXT, reason=TEXT)),
)
ANSWER = exactly(name=TEXT, question=TEXT, seconds=NUMBER, comparisons=several(COMPARISON, 1))
ENVIRONMENT = exactly(
    date=TEXT,
    commit=maybe({"type": "string", "pattern": "^[0-9a-f]{40}$"}),
    changed_files=maybe({"type": "integer"}),
    processor=TEXT,
    cores={"type": "integer"},
    load=NUMBER,
    system=TEXT,
    python=TEXT,
    versions={"type": "object", "additionalProperties": maybe(TEXT)},
    programs={"type": "object", "additionalProperties": maybe(TEXT)},
    pinned_to_core=maybe({"type": "integer"}),
    **{"pass": {"enum": ["full", "quick", "smoke"]}},
)
FORMAT = {"const": runner.FORMAT}
WRITTEN = exactly(format=FORMAT, environment=ENVIRONMENT, answers=several(ANSWER, 1))
KEPT = exactly(format=FORMAT, environment=ENVIRONMENT, answer=ANSWER)
# What may be missing although all peers are installed; nothing else may, so that none rots.
EXPECTED = {"it waits, and does not deny", "this version has none"}


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test process stays on all its cores."""
    monkeypatch.setattr(environment, "pin", lambda: None)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(runner.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("unpinned")
@pytest.mark.parametrize("name", [*runner.QUESTIONS, *runner.SCALING])
def test_every_benchmark_runs_and_reports(name: str, tmp_path: Path) -> None:
    if name == "sidecar" and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed: make wrk")
    file = tmp_path / "results.json"
    output = run(name, "--smoke", "--json", str(file)).replace("\n", " ")
    written = json.loads(file.read_text())
    jsonschema.validate(written, WRITTEN)
    (answer,) = written["answers"]
    assert answer["name"] == name
    for told in answer["comparisons"]:
        assert told["title"] in output
        check_comparison(told)


def check_comparison(told: dict[str, Any]) -> None:
    reasons = {missing["reason"] for missing in told["missing"]}
    assert {one for one in reasons if not one.startswith("cannot be: ")} <= EXPECTED
    first, *others = told["rows"]
    assert others, "a baseline alone compares nothing"
    assert first["values"][0]["ratio"] == 1
    # A peer that denies while its lock is held may admit nothing at all beside other processes.
    may_admit_nothing = {name for name, way in WAYS.items() if way.peer}
    for row in told["rows"]:
        assert len(row["values"]) == len(told["units"])
        assert row["values"][0]["least"] > 0 or row["label"] in may_admit_nothing
        for value in row["values"]:
            assert value["least"] <= value["median"] <= value["most"]


@pytest.mark.parametrize("name", runner.QUESTIONS)
def test_what_is_kept_is_a_full_pass(name: str) -> None:
    kept = json.loads((runner.RESULTS / f"{name}.json").read_text())
    jsonschema.validate(kept, KEPT)
    assert kept["answer"]["name"] == name
    assert kept["environment"]["pass"] == "full"
    assert kept["environment"]["commit"]


def test_every_file_with_a_question_is_run() -> None:
    folder = Path(runner.__file__).parent
    asked = {path.stem for path in folder.glob("*.py") if "\nQUESTION = " in path.read_text()}
    assert asked == {*runner.QUESTIONS, *runner.SCALING}


def small(monkeypatch: pytest.MonkeyPatch, *cases: Case) -> None:
    """One question with one table, in place of `take`."""
    from benchmarks import take

    told = Comparison("a table", ("ns",), list(cases), repeats=1)
    monkeypatch.setattr(take, "comparisons", lambda scale: (one for one in [told]))


@pytest.mark.usefixtures("unpinned")
def test_a_peer_that_fails_is_reported_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken() -> tuple[float, ...]:
        raise ZeroDivisionError("of\na peer")

    small(monkeypatch, Case("ours", lambda: (1.0,)), Case("theirs", broken, peer=True))
    file = tmp_path / "results.json"
    output = run("take", "--json", str(file))
    (told,) = json.loads(file.read_text())["answers"][0]["comparisons"]
    reason = "failed: ZeroDivisionError: of a peer"
    assert told["missing"] == [{"label": "theirs", "reason": reason}]
    assert [row["label"] for row in told["rows"]] == ["ours"]
    assert f"theirs: {reason}" in output
    assert re.search(r"^ +\d+\.\d s  a table: 2 rows, 1 times$", output, re.MULTILINE)


@pytest.mark.usefixtures("unpinned")
def test_saved_results_are_one_file_a_question(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small(monkeypatch, Case("ours", lambda: (1.0,)))
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "new")
    run("take", "--save")
    (file,) = (tmp_path / "new").iterdir()
    assert file.name == "take.json"
    jsonschema.validate(json.loads(file.read_text()), KEPT)


@pytest.mark.parametrize("size", ["--quick", "--smoke"])
def test_a_short_pass_is_not_kept(size: str) -> None:
    result = CliRunner().invoke(runner.main, ["take", size, "--save"])
    assert result.exit_code == 2
    assert "full pass" in result.output


def test_a_peer_that_is_not_installed_is_shown_as_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("limits", "throttled", "pyrate_limiter", "token_bucket", "aiolimiter"):
        monkeypatch.setitem(sys.modules, module, None)
    takes, missing = peers.installed(peers.ALLOWED, 100)
    assert not takes
    assert [name for name, _ in missing] == list(peers.PEERS)
    assert all(reason.endswith("is not installed") for _, reason in missing)
    assert peers.attempt(lambda: peers.Awaiting(peers.ALLOWED)) == "aiolimiter is not installed"


def test_a_peer_that_cannot_be_set_up_is_reported() -> None:
    def broken() -> None:
        raise TypeError("no such option")

    made = peers.attempt(broken)
    assert made == "failed: TypeError: no such option"


@pytest.mark.usefixtures("unpinned")
def test_without_a_redis_the_report_says_that_its_rows_were_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strong, "PROGRAMS", [])
    monkeypatch.setattr(workers, "PROGRAMS", [])
    reason = "no redis-server is installed: make redis"
    assert reason in run("strong", "--smoke")
    for told in workers.comparisons(SCALES["smoke"]):
        absent = [label for label, why in told.missing if why == reason]
        assert absent == [label for label in WAYS if label.endswith("Redis")]


@pytest.mark.usefixtures("unpinned")
def test_without_wrk_the_report_says_that_the_sidecar_was_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sidecar.shutil, "which", lambda name: None)
    assert "wrk is not installed: make wrk" in run("sidecar", "--smoke")


def test_our_own_row_has_the_name_that_others_are_compared_with() -> None:
    kept = json.loads((runner.RESULTS / "take.json").read_text())
    compared = [told for told in kept["answer"]["comparisons"] if told["versus"] is not None]
    assert compared
    for told in compared:
        assert told["versus"] == OURS
        assert OURS in [row["label"] for row in told["rows"]]
