"""Tests that need a real Redis, NATS or another program are skipped where it is not installed, and
counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server_process import NotInstalled
from tests.strong.redis_server import PROGRAMS

REASONS = ("is not installed", "empty parameter set")
"""Texts in the reason of such a skip; the last is that of a test for each kind of server."""


class MissingServers:
    """Turns the error of a program that is not installed into a skip."""

    def __init__(self) -> None:
        self.skipped = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        yield from self._skipping()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        yield from self._skipping()

    def _skipping(self) -> Iterator[None]:
        try:
            yield
        except NotInstalled as error:
            pytest.skip(str(error))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and any(reason in report.longreprtext for reason in REASONS):
            self.skipped += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            told = f"{self.skipped} tests were skipped because a program is not installed: "
            terminalreporter.write_line(told + "`make redis nats`, or see -rs", yellow=True)
        if PROGRAMS == ["redis-server"]:
            told = "No valkey-server is installed, so no test ran on one: run `make valkey`"
            terminalreporter.write_line(told)
