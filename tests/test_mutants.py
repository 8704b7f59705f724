"""The modules that `make mutants` tries exist, and a renamed one is noticed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.equivalent_mutants import EQUIVALENT
from tests.mutants import ROOT, TESTS


def test_each_module_and_its_tests_are_files() -> None:
    files = [f"crdtbucket/{module}.py" for module in TESTS]
    files += [f"tests/{name}.py" for tests in TESTS.values() for name in tests.split()]
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert EQUIVALENT.keys() <= TESTS.keys()


def test_each_change_that_means_the_same_is_of_lines_that_there_are() -> None:
    stale = []
    for module, changes in EQUIVALENT.items():
        source = (ROOT / f"crdtbucket/{module}.py").read_text()
        nameless = re.sub(r"def \w+\(", "def (", source)
        lines = " / ".join(line.strip() for line in nameless.splitlines())
        stale += [(module, one) for one in changes if one.partition(" => ")[0] not in lines]
    assert stale == []


CONFTEST = """
from hypothesis import settings

settings.register_profile("quick", max_examples=1)
"""
FILE = """
import os, threading

def test_it():
    mutant = os.environ.get("MUTANT_UNDER_TEST")
    while mutant == "spins":
        pass
    if mutant == "waits":
        threading.Event().wait()
    assert mutant != "differs"
"""


@pytest.mark.slow
@pytest.mark.processes
def test_a_mutant_that_never_ends_is_noticed_and_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(FILE)
    (tmp_path / "task.json").write_text(json.dumps(["waits", "spins", "differs", "equal"]))
    plugins = ["-p", "tests.mutant_runs", "-p", "no:xdist", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", *plugins, "test_it.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False, timeout=120, capture_output=True,
    )  # fmt: skip
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "waits": True,
        "spins": True,
        "differs": True,
        "equal": False,
    }
