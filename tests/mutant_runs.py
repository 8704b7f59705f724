"""Runs the tests that pytest has collected on each mutant of `task.json`, for `tests.mutants`.

Each mutant is tried in a child of the process that has imported and collected everything, so it
costs what its tests cost and no more. The quickest tests come first, and the first that fails ends
it. A mutant that ends its process or uses many times the processor time counts as noticed.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

TASK, RESULTS = Path("task.json"), Path("results.json")
REAL_SECONDS = 300
"""A mutant that waits for ever uses no processor time."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """That an example fails is enough: nobody reads a smaller one."""
    phases = (Phase.explicit, Phase.generate)
    profile = settings.get_profile("quick")
    settings.register_profile("mutants", profile, phases=phases, database=None)
    settings.load_profile("mutants")


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Writes `RESULTS`, unless a test fails without any change."""
    seconds: list[float] = []
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.write(writing, json.dumps(_measured(session.items)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        seconds = json.loads(told.read() or b"[]")
    os.waitpid(child, 0)
    if len(seconds) < len(session.items):
        return True
    order = sorted(range(len(seconds)), key=seconds.__getitem__)
    items = [session.items[number] for number in order]
    limit = 2 + round(5 * sum(seconds))
    running: dict[int, str] = {}
    results: dict[str, bool] = {}

    def wait() -> None:
        pid, status = os.wait()
        results[running.pop(pid)] = status != 0

    for mutant in json.loads(TASK.read_text()):
        if len(running) >= (os.cpu_count() or 1):
            wait()
        pid = os.fork()
        if not pid:
            _try(mutant, items, limit)
        running[pid] = mutant
    while running:
        wait()
    RESULTS.write_text(json.dumps(results))
    return True


def _failed(items: list[pytest.Item], number: int) -> bool:
    following = items[number + 1] if number + 1 < len(items) else None
    reports = runtestprotocol(items[number], log=False, nextitem=following)
    return any(report.failed for report in reports)


def _measured(items: list[pytest.Item]) -> list[float]:
    """The processor time of each test (s), up to the first that fails."""
    seconds = []
    for number in range(len(items)):
        begun = time.process_time()
        if _failed(items, number):
            print(f"{items[number].nodeid} fails", file=sys.stderr, flush=True)
            break
        seconds.append(time.process_time() - begun)
    return seconds


def _try(mutant: str, items: list[pytest.Item], limit: int) -> None:
    """Ends this process: with 0 when no test fails."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(REAL_SECONDS)
    status = 1
    try:
        os.environ["MUTANT_UNDER_TEST"] = mutant
        status = int(any(_failed(items, number) for number in range(len(items))))
    finally:
        os._exit(status)
