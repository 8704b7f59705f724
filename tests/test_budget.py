"""A test that uses too much processor time fails the run, unless its tier may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFTEST = """
from tests import budget

budget.UNITS = 1

def pytest_configure(config):
    config.addinivalue_line("markers", "slow: may use more")
    config.pluginmanager.register(budget.Budget())
"""
FILE = """
import pytest
from tests.budget import piece_of_work

def test_quick(): ...

{mark}
def test_long():
    for _ in range({times}):
        piece_of_work()
"""


@pytest.mark.parametrize(
    ("mark", "times", "status", "told"),
    [("", 12, 1, "FAILED"), ("@pytest.mark.slow", 12, 0, ""), ("", 0, 0, "")],
)
def test_beyond_the_budget(mark: str, times: int, status: int, told: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(FILE.format(mark=mark, times=times))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("the budget of processor time: test_it.py::test_long" in done.stdout) is bool(told)
    assert told in done.stdout
    assert "test_quick" not in done.stdout
