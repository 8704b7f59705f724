"""What `make mutants` tries is there, and a module that gets another name is not forgotten."""

from __future__ import annotations

import re

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
