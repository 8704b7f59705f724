"""Finds the tier of a test by its place and by the names that its module uses.

`slow`: only `make check` runs them. `processes`: real processes, sockets, servers or threads decide
when something happens, so a test depends on the machine's scheduling as well as on the code.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from tests.slow_tests import SLOW, STILL_FAST

ROOT = Path(__file__).parents[1]
SLOW_TIMEOUT_S = 900
OF_THE_MACHINE = {
    "NatsServer",
    "Server",
    "ThreadPoolExecutor",
    "fake",
    "fake_node",
    "free_port",
    "multiprocessing",
    "running",
    "serving",
    "socket",
    "subprocess",
    "threading",
    "in_threads",
}
"""A test module that uses one of these names depends on scheduling."""


@functools.cache
def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tiers(path: Path, test: str, names: set[str]) -> list[str]:
    """The markers of a test."""
    where = f"{_place(path)}::{test}"
    slow = where.startswith(SLOW) and not where.startswith(STILL_FAST)
    slow |= "valkey-server" in test  # quick runs need only one kind of server
    return ["slow"] * slow + ["processes"] * bool(names & OF_THE_MACHINE)


@pytest.hookimpl(tryfirst=True)  # before those of other tiers are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    used: dict[object, set[str]] = {}
    for item in items:
        module = getattr(item, "module", item)
        if module not in used:
            used[module] = OF_THE_MACHINE & vars(module).keys()
        for marker in tiers(item.path, item.name, used[module]):
            item.add_marker(marker)
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))  # a decorator's stays the closest
