"""Tests that depend on the machine's scheduling may fail beside others and are then run once more.

A test of real processes, sockets or servers (marker `processes`) can fail because the system gave
its processor to somebody else for too long. Such a test runs again, alone, after all the others,
and what passes then is listed at the end. More than `MOST` of them are no accident: then nothing
runs again, and the run fails. A test without the marker fails at once and for good, because it
depends on nothing but the code. In a run without parallel tests there is no second chance.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST = 3
"""The most tests of one run that may run again."""


def may_run_again(failed: dict[str, bool]) -> bool:
    """Whether a run is saved if its failed tests pass alone. The value of each test is true when it
    depends on scheduling."""
    return 0 < len(failed) <= MOST and all(failed.values())


class SecondChance:
    """Collects the tests that failed in parallel, and runs them again at the end."""

    def __init__(self) -> None:
        self.failed: dict[str, bool] = {}
        self.passed_alone: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Is also called for the reports that come from the parallel processes."""
        if report.failed:
            self.failed[report.nodeid] = "processes" in report.keywords

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Runs before the summary is written; the parallel processes are idle by now."""
        tests_failed = session.exitstatus == pytest.ExitCode.TESTS_FAILED
        root = session.config.rootpath
        if tests_failed and may_run_again(self.failed) and self._pass_alone(root):
            self.passed_alone = list(self.failed)
            session.exitstatus = pytest.ExitCode.OK
        return (yield)

    def _pass_alone(self, root: Path) -> bool:
        print(f"\n\nonce more, alone: {', '.join(self.failed)}", flush=True)
        command = [sys.executable, "-m", "pytest", "--quiet", "--numprocesses", "0", *self.failed]
        return subprocess.run(command, cwd=root, check=False).returncode == 0

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Lists the tests that passed alone, so that they are seen and mended."""
        for test in self.passed_alone:
            terminalreporter.write_line(f"failed beside others, passed alone: {test}", yellow=True)
