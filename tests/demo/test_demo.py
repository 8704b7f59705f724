"""The demo as people run it: real processes, a cut, a heal, a verdict, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crdtbucket.demo import demo_run
from crdtbucket.demo.demo_network import RegionNetwork
from crdtbucket.demo.demo_run import Options, run_demo
from crdtbucket.demo.view import SilentRunView
from tests.demo.programs import anybody_listens, children, gone, listening, run, start, verdict
from tests.waits import until

CHECKS = ["admitted", "limit, links up", "limit in the cut", "no take lost", "no starvation"]


def test_three_processes_keep_one_limit_through_a_cut(tmp_path: Path) -> None:
    out = run("--seconds", "12", "--console", tmp=tmp_path)
    assert "The regions kept one limit." in verdict(out, CHECKS, "no take lost")
    assert "eventual mode" in out
    assert re.findall(r"(\w+) http://127\.0\.0\.1:\d+/console", out) == ["eu", "us", "ap"]
    lines = [line for line in out.splitlines() if re.match(r" *\d+\.\ds ", line)]
    assert 12 <= len(lines) <= 20  # one a second, and the wait for the last updates
    ages = [max(map(float, re.findall(r" (\d+\.\d)(?= \||$)", line))) for line in lines]
    assert max(ages) > 1.0  # during the cut nobody knows the newest takes of all
    assert ages[-1] < 1.0
    assert list(tmp_path.iterdir()) == []


def test_the_verdict_as_json_in_a_checkout_that_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "crdtbucket").mkdir()
    (tmp_path / "crdtbucket" / "__init__.py").write_text("raise ImportError('not built')\n")
    words = ("--seconds", "8", "--json", "--seed", "5")
    found = json.loads(run(*words, tmp=tmp_path, cwd=tmp_path))
    assert found["holds"] is True
    assert list(found["checks"]) == CHECKS
    assert found["seed"] == 5
    assert sum(found["taken"].values()) == found["admitted"]
    assert found["ratio"] == pytest.approx(found["admitted"] / found["ideal"])


def test_a_region_that_stays_cut_off_fails_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RegionNetwork, "heal", lambda *_: None)
    monkeypatch.setattr(demo_run, "SETTLE_S", 10.0)  # nothing more comes, for however long
    opened: list[str] = []
    view = SilentRunView()
    monkeypatch.setattr(view, "open_page", opened.append)
    verdict = run_demo(Options(seconds=8, console=True), view).verdict
    assert [re.sub(r"\d{4,}", "PORT", url) for url in opened] == ["http://127.0.0.1:PORT/console"]
    assert not verdict.holds
    assert "no take lost" in [check.name for check in verdict.checks if not check.holds]
    assert len(set(verdict.columns)) > 1


@contextmanager
def in_the_middle(tmp: Path) -> Iterator[tuple[subprocess.Popen[str], list[int], set[str]]]:
    """The demo with its traffic going, its children, all sockets of both."""
    program = start("--plain", "--seconds", "40", tmp=tmp)
    regions: list[int] = []
    try:
        assert program.stdout is not None
        while not re.match(r" *[1-9]\.\ds ", line := program.stdout.readline()):
            assert line, program.communicate()
        regions = children(program.pid)
        sockets = set().union(*map(listening, [program.pid, *regions]))
        assert len(regions) == 3
        assert len(sockets) == 9  # six proxies, three regions
        yield program, regions, sockets
    finally:
        program.kill()
        program.communicate()
        for pid in regions:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.usefixtures("nobody_handles_hangups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """The tests of the demos with a Redis do the same by Ctrl-C."""
    with in_the_middle(tmp_path) as (program, regions, sockets):
        program.send_signal(number)
        program.send_signal(number)  # an impatient second one breaks nothing off
        _, err = program.communicate(timeout=120)
        assert program.returncode == 128 + number
        assert err == f"crdtbucket: stopped by {number.name}\n"
        assert all(gone(pid) for pid in regions)
        assert not anybody_listens(sockets)
        assert list(tmp_path.iterdir()) == []


def test_a_region_that_dies_is_reported_and_ends_the_demo(tmp_path: Path) -> None:
    with in_the_middle(tmp_path) as (program, regions, sockets):
        os.kill(regions[1], signal.SIGKILL)
        out, err = program.communicate(timeout=120)
        assert program.returncode == 1
        assert re.search(r"the process of region (eu|us|ap) was killed by SIGKILL", err)
        assert "Verdict" not in out
        assert all(gone(pid) for pid in regions)
        assert not anybody_listens(sockets)


def test_regions_do_not_outlive_a_demo_that_is_killed(tmp_path: Path) -> None:
    with in_the_middle(tmp_path) as (program, regions, sockets):
        program.kill()
        until(lambda: all(gone(pid) for pid in regions))
        assert not anybody_listens(sockets)


def test_a_reader_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    with in_the_middle(tmp_path) as (program, regions, sockets):
        assert program.stdout is not None
        program.stdout.close()
        assert program.wait(timeout=120) != 0
        assert all(gone(pid) for pid in regions)
        assert not anybody_listens(sockets)


def test_a_trace_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "calls.csv"
    file.write_text("a,b\n1,2\n")
    program = start("--trace", str(file), tmp=tmp_path)
    out, err = program.communicate(timeout=120)
    assert program.returncode == 2
    assert "TIMESTAMP,ContextTokens,GeneratedTokens" in err
    assert out == ""
