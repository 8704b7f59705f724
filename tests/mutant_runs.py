"""Runs the tests that pytest has collected on each mutant of `task.json`, for `tests.mutants`.

Each mutant is tried in a child of the process that has imported and collected everything, so it
costs what its tests cost and no more. The quickest tests come first, and the first that fails ends
it. A mutant counts as noticed, too, when it ends its process, uses many times the processor time,
or waits for ever. None of these depends on how busy the machine is.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

TASK, RESULTS = Path("task.json"), Path("results.json")
LOOKS, LOOK_S = 8, 0.25
"""A process waits for ever if it is asleep at so many looks in a row, this far apart, and uses no
processor time between them. These tests wait for nothing, and a process that merely gets no
processor is not asleep."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Turns shrinking off: one failing example is enough, since nobody reads it."""
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
    running: dict[int, _Child] = {}
    results: dict[str, bool] = {}

    def wait() -> None:
        while not (ended := os.waitpid(-1, os.WNOHANG))[0]:
            time.sleep(0.005)
            for pid, child in running.items():
                child.look(pid)
        results[running.pop(ended[0]).mutant] = ended[1] != 0

    for mutant in json.loads(TASK.read_text()):
        if len(running) >= (os.cpu_count() or 1):
            wait()
        pid = os.fork()
        if not pid:
            _try(mutant, items, limit)
        running[pid] = _Child(mutant)
    while running:
        wait()
    RESULTS.write_text(json.dumps(results))
    return True


@dataclass
class _Child:
    """A process that tries a mutant."""

    mutant: str
    looked: float = 0.0
    used: str = ""
    asleep: int = 0
    """The number of looks in a row that have found it waiting."""

    def look(self, pid: int) -> None:
        """Kills it when it waits for ever."""
        if time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        before, self.used = self.used, " ".join(fields[10:12])  # ticks in its code and the kernel's
        self.asleep = self.asleep + 1 if state == "S" and self.used == before else 0
        if self.asleep == LOOKS:
            os.kill(pid, signal.SIGKILL)


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
    """Runs the tests on a mutant, and ends this process: with 0 when no test fails."""
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    status = 1
    try:
        os.environ["MUTANT_UNDER_TEST"] = mutant
        status = int(any(_failed(items, number) for number in range(len(items))))
    finally:
        os._exit(status)
