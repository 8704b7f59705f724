"""Each test has a budget of processor time; only the marked tiers may use more.

The time counts that its process and the children that ended during it had a processor, so a busy
machine makes little difference. A slow machine needs more for the same work: the budget is stated
in units, and a unit is the time that a fixed piece of work takes here and now. Tests beyond the
budget are listed, and the run fails when one uses more than `FACTOR` times as much.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

UNITS = 50
"""One second where `piece_of_work` takes 20 ms."""
FACTOR = 2
"""The most by which a busy machine multiplies the processor time of a test."""
EXEMPT = ("processes", "slow")
EXAMPLES = 100
"""The budget of a property is for so many examples; a profile with more examples allows more."""
PROPERTY = "share of the budget"


def used() -> float:
    """Processor seconds of this process and its ended children so far."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def piece_of_work() -> float:
    """Processor seconds of a fixed piece of work."""
    begin = time.thread_time()
    table = {str(number): number for number in range(100_000)}
    sum(table[name] for name in table)
    return time.thread_time() - begin


class Budget:
    """Measures each test in the process that runs it, and judges in the process that reports."""

    def __init__(self) -> None:
        self._unit = min(piece_of_work() for _ in range(3))
        self.over: dict[str, float] = {}
        """Tests beyond the budget, and how many times the budget they used."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        before = used()
        try:
            return (yield)
        finally:
            spent = used() - before
            if spent > UNITS * self._unit and not any(map(item.get_closest_marker, EXEMPT)):
                unit = max(self._unit, piece_of_work())  # the machine may be slower by now
                is_property = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
                examples = settings.default.max_examples if is_property else EXAMPLES
                share = spent / (UNITS * unit * max(1.0, examples / EXAMPLES))
                item.user_properties.append((PROPERTY, share))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        share = dict(report.user_properties).get(PROPERTY, 0.0)
        if isinstance(share, float) and share > 1:
            self.over[report.nodeid] = share

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        too_much = any(share > FACTOR for share in self.over.values())
        if too_much and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for test, share in sorted(self.over.items(), key=lambda one: -one[1]):
            fails = share > FACTOR
            told = f"{share:.1f} x the budget of processor time: {test}"
            terminalreporter.write_line(f"FAILED {told}" if fails else told, yellow=True, red=fails)
