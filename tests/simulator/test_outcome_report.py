from __future__ import annotations

import builtins
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from crdtbucket.simulator import plot
from crdtbucket.simulator.baselines import MaxOfTotals, StaticSplit
from crdtbucket.simulator.outcome_report import as_json, print_table, table_lines
from crdtbucket.simulator.replay import Replayed
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import Outcome, simulate
from crdtbucket.simulator.simulation_errors import SimulationError

OUTCOME = Outcome(
    "balanced", "crdtbucket", 1, 2_000, 1_000, 0.9991234567, -0.04, 12.5, 0.25, 0, 0.98, 1.02
)
KEYS = [
    "scenario", "rule", "seed", "offered", "admitted", "ratio", "over_admission_percent",
    "bound_percent", "starved_seconds", "denied_light", "share_min", "share_max",
]  # fmt: skip


def test_json_has_the_keys_and_null_where_there_is_no_answer() -> None:
    nothing = replace(OUTCOME, ratio=None, bound_percent=None)
    rows = json.loads(as_json([OUTCOME, nothing]))
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert rows[0]["ratio"] == 0.999123
    assert rows[0]["over_admission_percent"] == -0.04
    assert rows[1]["ratio"] is None
    assert rows[1]["bound_percent"] is None
    assert json.loads(as_json([])) == []


def test_the_table_shows_the_worst_of_the_seeds() -> None:
    worse = replace(
        OUTCOME,
        seed=2,
        ratio=1.0,
        over_admission_percent=3.0,
        starved_seconds=1.0,
        share_min=0.5,
        offered=1,
    )
    lines = table_lines([OUTCOME, worse])
    assert len(lines) == 4
    assert lines[2] == "balanced"
    assert lines[3].split() == [
        "crdtbucket", "1..2,000", "1,000", "0.999..1.000", "3.0", "12.5", "1.00",
        "0.50..1.02", "0",
    ]  # fmt: skip


def test_a_tiny_negative_over_admission_is_no_negative_zero() -> None:
    assert "-0.0" not in table_lines([OUTCOME])[3]


def test_a_scenario_is_named_once_and_a_row_fits_in_80_columns() -> None:
    widest = replace(
        OUTCOME, scenario="partition-300s-light-90", rule="max-of-totals", offered=180_541,
        admitted=180_541, over_admission_percent=-100.0, bound_percent=1_600.0,
        starved_seconds=300.0, denied_light=99_999,
    )  # fmt: skip
    lines = table_lines([widest, replace(widest, rule="no-prediction"), OUTCOME])
    assert [line for line in lines if not line.startswith(" ")][1:] == [widest.scenario, "balanced"]
    assert max(map(len, lines)) <= 80


def test_the_remarks_say_what_a_replay_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Replayed(
        "replay", "crdtbucket", 1, 2_000, 1_000, 1.0, 0.0, None, 0.0, 0, 1.0, 1.0,
        calls_offered=20, calls_admitted=10, too_large=3, too_large_tokens=9_000, free=2,
    )  # fmt: skip
    print_table([outcome])
    text = capsys.readouterr().out
    assert "3 calls (9,000 tokens) cost more than the capacity" in text
    assert "2 calls cost nothing" in text
    assert "20 calls were offered; admitted: crdtbucket 10." in text
    print_table([outcome, replace(outcome, seed=2, calls_admitted=12)])
    assert "20 calls were offered; admitted: crdtbucket 10..12." in capsys.readouterr().out


def test_picture(tmp_path: Path) -> None:
    settings = Settings(seed=1)
    names = ["partition-30s", "suspend-60s"]
    scenarios = [SCENARIOS[name](settings, 0.05) for name in names]
    outcomes = [
        simulate(rule, scenario, settings, curve_every_ns=NS // 10)
        for scenario in scenarios
        for rule in (StaticSplit(), MaxOfTotals())
    ]
    path = tmp_path / "picture.png"
    plot.draw(outcomes, scenarios, settings, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_a_picture_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    settings, path = Settings(), tmp_path / "picture.png"
    path.mkdir()
    drawn = replace(OUTCOME, scenario="hot", curve=((0.0, 0, 0, 0), (1.0, 1, 1, 1)))
    with pytest.raises(SimulationError, match=r"picture.png cannot be written: Is a directory"):
        plot.draw([drawn], [SCENARIOS["hot"](settings, 0.05)], settings, path)


@pytest.mark.parametrize("name", ["isolated-by-reset", "partition-30s", "cut-pair"])
def test_the_time_in_which_regions_are_cut_off_is_shaded(name: str) -> None:
    spans: list[tuple[float, float]] = []
    axes = MagicMock()
    axes.axvspan = lambda start, end, **_: spans.append((start, end))
    plot._dress(axes, SCENARIOS[name](Settings(), 1.0))
    assert spans == [tuple(event.at_ns / NS for event in SCENARIOS[name](Settings(), 1.0).events)]


def test_picture_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="ends in"):
        plot.check_plot(tmp_path / "picture.txt")
    with pytest.raises(SimulationError, match="no such folder"):
        plot.check_plot(tmp_path / "none" / "picture.png")

    def no_matplotlib(name: str) -> Any:
        raise builtins.ImportError(name)

    monkeypatch.setattr("importlib.import_module", no_matplotlib)
    with pytest.raises(SimulationError, match=r"pip install 'crdtbucket\[plot\]'"):
        plot.check_plot(tmp_path / "picture.png")
