from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from crdtbucket.cli.commands import cli
from crdtbucket.cli.main import main
from crdtbucket.cli.run_options import RunOptions, mesh_options
from crdtbucket.simulator import batch
from crdtbucket.simulator.rule_catalogue import STORE_RULES
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.store_scenarios import STORE_SCENARIOS

ROOT = Path(__file__).parents[2]
FAST = ["--duration-scale", "0.05", "--jobs", "1", "--rules", "static-split,max-of-totals"]


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments], catch_exceptions=False)


def _fails(capsys: pytest.CaptureFixture[str], monkeypatch: Any, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["crdtbucket", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith("crdtbucket: ")
    return output.err


def test_json_is_a_list_of_objects_and_the_same_each_time() -> None:
    arguments = ["simulate", "balanced", "square-*", *FAST, "--json", "--seed", "3", "--seeds", "2"]
    first = _run(*arguments)
    assert first.exit_code == 0
    rows = json.loads(first.stdout)
    assert len(rows) == 3 * 2 * 2
    assert {row["scenario"] for row in rows} == {"balanced", "square-1s", "square-5s"}
    assert {row["rule"] for row in rows} == {"static-split", "max-of-totals"}
    assert {row["seed"] for row in rows} == {3, 4}
    assert _run(*arguments).stdout == first.stdout


def test_processes_print_what_one_process_prints() -> None:
    arguments = ["simulate", "hot", "skewed", *FAST, "--json"]
    others = active_children()
    two = _run(*arguments, "--jobs", "2")
    assert active_children() == others  # none is left to end with the interpreter
    assert two.exit_code == 0
    assert two.stdout == _run(*arguments).stdout


def test_options_reach_the_simulation_and_the_table_has_a_row_for_each_rule() -> None:
    result = _run(
        "simulate", "balanced", *FAST, "--regions", "3", "--lag", "0.2", "--jitter", "0",
        "--gossip", "0.5", "--capacity", "50", "--rate", "10",
    )  # fmt: skip
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[1].split()[:3] == ["rule", "offered", "admitted"]
    assert len(lines) == 5


@pytest.mark.parametrize(("interrupted", "printed"), [(1, 1), (0, 0)])
def test_what_is_interrupted_prints_what_it_has(
    monkeypatch: pytest.MonkeyPatch, interrupted: int, printed: int
) -> None:
    begun = iter(range(10))

    def run_until_interrupted(job: Any) -> Any:
        if next(begun) == interrupted:
            raise KeyboardInterrupt
        return batch.Job.run(job)

    monkeypatch.setattr(batch, "run_job", run_until_interrupted)
    before = signal.getsignal(signal.SIGTERM)
    done = _run("simulate", "hot", *FAST, "--json")
    signal.signal(signal.SIGTERM, before)  # a second one is ignored by a process that ends
    assert done.exit_code == 130
    assert len(json.loads(done.stdout)) == printed
    assert done.stderr == f"crdtbucket: stopped after {printed} of 2 runs\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_several_processes_are_interrupted_too(number: signal.Signals) -> None:
    # As in a terminal, and from `timeout`: the signal reaches the whole group.
    running = subprocess.Popen(
        [sys.executable, "-m", "crdtbucket", "simulate", "hot", "--seeds", "2000",
         "--jobs", "2", "--rules", "static-split", "--duration-scale", "0.05"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        while len(_children(running.pid)) < 3:  # the workers, and what keeps track of them
            assert running.poll() is None
            time.sleep(0.02)
        os.killpg(running.pid, number)
        _, errors = running.communicate(timeout=200)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130, errors
    assert re.fullmatch(r"crdtbucket: stopped after \d+ of 2000 runs\n", errors)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_list_names_every_scenario() -> None:
    lines = _run("simulate", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(SCENARIOS)


def test_a_replicated_store_has_scenarios_and_rules_of_its_own() -> None:
    lines = _run("simulate", "--store", "replicated", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(STORE_SCENARIOS)
    small = ["--regions", "2", "--capacity", "100", "--rate", "20", "--duration-scale", "0.05"]
    arguments = ["apart-60s", "--store", "replicated", *small, "--json", "--jobs", "1"]
    rows = json.loads(_run("simulate", *arguments).stdout)
    assert [row["rule"] for row in rows] == list(STORE_RULES)
    assert [row["offered"] for row in rows] == [rows[0]["offered"]] * 2
    assert all(row["bound_percent"] is None for row in rows)


def test_plot(tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    assert _run("simulate", "hot", *FAST, "--plot", str(path)).exit_code == 0
    assert "<svg" in path.read_text()


def test_a_replayed_trace_offers_the_tokens_of_its_calls(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:15:{k // 10:02}.{k % 10}00,{k % 7},30" for k in range(600)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    arguments = [str(path), "--capacity", "400", "--rate", "100", "--rules", "static-split"]
    result = _run("replay", *arguments, "--json", "--jobs", "1")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    assert row["offered"] == sum(k % 7 + 30 for k in range(600))
    assert row["scenario"] == "replay"
    table = _run("replay", *arguments, "--jobs", "1")
    assert "600 calls were offered" in table.stdout


@pytest.mark.parametrize("kind", ["concurrency: {slots: 3}", "calendar: {limit: 100}"])
def test_only_buckets_that_refill_are_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, kind: str
) -> None:
    (tmp_path / "limits.yaml").write_text(f"services: {{jobs: {{{kind}}}}}\n")
    said = _fails(capsys, monkeypatch, "simulate", "hot", "--config", str(tmp_path / "limits.yaml"))
    assert f"bucket jobs is of kind {kind.partition(':')[0]}" in said


@pytest.mark.parametrize(
    ("debt", "words", "most"),
    [("", ["--capacity", "7"], 7), ("max_debt: 50, ", ["--capacity", "7"], 50),
     ("max_debt: 50, ", ["--rate", "3"], 50), ("", [], 100)],
)  # fmt: skip
def test_the_debt_of_the_file_stays_unless_it_follows_the_capacity(
    tmp_path: Path, debt: str, words: list[str], most: int
) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(f"services: {{a: {{bucket: {{{debt}capacity: 100, refill_rate: 1}}}}}}\n")
    seen: list[int | None] = []

    @click.command()
    @mesh_options
    def settings(runs: RunOptions) -> None:
        seen.extend(one.max_debt for one in runs.settings())

    CliRunner().invoke(settings, ["--config", str(file), *words], catch_exceptions=False)
    assert seen == [most]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "balancd"], "did you mean 'balanced'"),
        (["simulate", "apart-30s", "--store", "replicated"], "did you mean 'apart-300s'"),
        (["simulate", "apart-60s"], "no scenario 'apart-60s'"),
        (["simulate", "--store", "magic"], "--store"),
        (["simulate", "--rules", "magic"], "no rule 'magic'"),
        (["simulate", "--rules", ","], "--rules names none"),
        (["simulate", "--regions", "0"], "--regions"),
        (["simulate", "--bucket", "x"], "give --config"),
        (["simulate", "--capacity", str(2**60)], "capacity"),
        (["simulate", "hot", "--plot", "x.txt"], "ends in .png"),
        (["simulate", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["replay", "/nowhere.csv"], "/nowhere.csv"),
        (["replay", __file__], "--capacity and --rate"),
        (["replay", __file__, "--capacity", "1", "--rate", "1"], ":1: the header must be"),
        (["simulate", "hot", "--lag", "nan"], "'--lag': nan is not a finite number"),
        (["simulate", "hot", "--duration-scale", "nan"], "--duration-scale"),
        (["replay", __file__, "--speed", "inf"], "--speed"),
        (["demo", "--seconds", "nan"], "--seconds"),
        (["simulate", "hot", "--gossip", "0.001"], "--gossip"),
        (["unknown"], "unknown"),
    ],
)
def test_errors_are_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    assert message in _fails(capsys, monkeypatch, *arguments)


def test_command_without_arguments_shows_help() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "crdtbucket"], capture_output=True, text=True, check=True
    )
    assert "simulate" in run.stdout
    assert "replay" in run.stdout
