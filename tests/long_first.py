"""Orders the tests: the longest come first in the part that each process runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

LONG = (
    "tests/simulated/test_faults.py::test_seeds",
    "tests/test_walk.py::test_the_walk",
    "tests/simulator/test_replay.py::test_a_trace_of_real_calls",
    "tests/demo/",
    "tests/test_packaging.py::test_what_is_built",
    "tests/simulated/test_deaths.py::test_who_replaces_a_dead_one",
    "tests/native/test_programs.py::test_every_token",
    "tests/test_docs.py::test_the_site_is_built",
)
"""Tests that run first, so that no process is left with one when all the others have ended. Those
of one folder run in one process: two demos at the same time would each have half a machine."""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Orders the tests that are left when the others have been deselected."""
    yield
    items[:] = long_first(items, getattr(config, "workerinput", {}).get("workercount", 1))


def long_first(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """The tests in equal parts, as processes that steal from each other get them at first. The long
    ones are at the beginnings of the parts, folder by folder."""
    long = [item for item in items if item.nodeid.startswith(LONG)]
    folders = [list(one) for _, one in itertools.groupby(long, lambda item: item.path.parent)]
    others = (item for item in items if not item.nodeid.startswith(LONG))
    order: list[pytest.Item] = []
    for number in range(processes):
        first = list(itertools.chain(*folders[number::processes]))
        size = (len(items) - len(order)) // (processes - number)
        order += [*first, *itertools.islice(others, max(0, size - len(first)))]
    return order + list(others)
