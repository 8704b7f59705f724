"""Only tests that depend on the scheduling of the machine run again, and those that pass then are
listed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.second_chance import MOST, may_run_again

ROOT = Path(__file__).parents[1]
# The others cost each of the five processes of a run more than its tests do.
ONLY_XDIST = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
CONFTEST = """
from tests.second_chance import SecondChance

def pytest_configure(config):
    config.addinivalue_line("markers", "processes: of the machine")
    if not hasattr(config, "workerinput") and config.option.numprocesses:
        config.pluginmanager.register(SecondChance())
"""
FILE = """
import os, pytest

@pytest.mark.processes
def test_moody():
    assert "PYTEST_XDIST_WORKER" not in os.environ

{more}
def test_plain():
    assert "PYTEST_XDIST_WORKER" not in os.environ
"""


def run(folder: Path, more: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(FILE.format(more=more))
    command = [sys.executable, "-m", "pytest", "-n", "2", "--rootdir", str(folder)]
    command += ["-p", "no:cacheprovider", "-c", "/dev/null", str(folder)]
    return subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", **ONLY_XDIST},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_depends_on_scheduling_may_pass_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "@pytest.mark.skip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed beside others, passed alone: test_it.py::test_moody" in done.stdout


def test_what_does_not_fails_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "passed alone" not in done.stdout


@pytest.mark.parametrize(
    ("failed", "may"),
    [
        ({}, False),
        ({"a": True}, True),
        ({"a": True, "b": False}, False),
        (dict.fromkeys(map(str, range(MOST)), True), True),
        (dict.fromkeys(map(str, range(MOST + 1)), True), False),
    ],
)
def test_how_many_may_run_again(failed: dict[str, bool], may: bool) -> None:
    assert may_run_again(failed) is may
