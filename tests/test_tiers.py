"""The lists of the tiers name tests that exist."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.long_first import long_first
from tests.slow_tests import SLOW, STILL_FAST
from tests.tiers import ROOT, tiers

FILE = ROOT / "tests" / "strong" / "test_chaos.py"


@functools.cache
def text_of(path: str) -> str:
    return (ROOT / path).read_text()


@pytest.mark.parametrize("name", [*SLOW, *STILL_FAST])
def test_what_is_named_is_there(name: str) -> None:
    path, _, test = name.partition("::")
    assert (ROOT / path).exists()
    if test:
        assert f"def {test.partition('[')[0]}" in text_of(path)
    assert name in SLOW or name.startswith(SLOW)


def test_place_and_names_decide() -> None:
    assert tiers(FILE, "test_an_outage_is_reported[silent]", {"socket"}) == ["slow", "processes"]
    assert tiers(FILE, "test_what_other_processes_took_is_known", set()) == []


def test_the_long_ones_begin_each_part() -> None:
    names = ["demo/test_a", "demo/test_b", "core/test_c", "core/test_d", "core/test_e", "test_walk"]
    tests = [f"tests/{name}.py::test_the_walk" for name in names]
    items = [SimpleNamespace(nodeid=name, path=Path(name)) for name in tests]

    def order(processes: int) -> str:
        long = long_first(cast(list[pytest.Item], items), processes)
        return "".join("abcdef"[tests.index(item.nodeid)] for item in long)

    assert [order(processes) for processes in (1, 2, 3)] == ["abfcde", "abcfde", "abfcde"]


def test_compiled_modules_are_kept_whatever_the_environment_says() -> None:
    done = subprocess.run(
        ["make", "--silent", "--eval", "shown: ; @env", "shown"],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PATH=" in done.stdout
    assert "PYTHONDONTWRITEBYTECODE" not in done.stdout
